"""What goes over the wire: signatures, the parser of answers, the pace, the endpoint."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.s3.endpoint import Credentials, Endpoint, find_proxy, locate, resolve
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer, request_head
from s3_uploader.stores.s3.engines.sigv4 import Signer
from s3_uploader.stores.s3.engines.throttle import Pace
from s3_uploader.stores.threads import ByteBudget

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1369353600.0  # Fri, 24 May 2013 00:00:00 GMT


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "payload_hash", "signature"),
    [
        (
            "GET",
            "/test.txt",
            "",
            {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"},
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            "",
            {
                "host": "examplebucket.s3.amazonaws.com",
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            "max-keys=2&prefix=J",
            {"host": "examplebucket.s3.amazonaws.com"},
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_of_the_reference_are_signed_as_printed(
    method: str, path: str, query: str, headers: dict[str, str], payload_hash: str, signature: str
) -> None:
    """Signatures are those of the examples in Amazon's own documentation."""
    signer = Signer(region="us-east-1", credentials=lambda: EXAMPLE, wall_clock=lambda: EXAMPLE_TIME)
    signer.sign(method=method, path=path, query=query, headers=headers, payload_hash=payload_hash)
    assert headers["authorization"].endswith(f"Signature={signature}")
    assert headers["x-amz-date"] == "20130524T000000Z"


def test_temporary_credentials_send_their_token_signed() -> None:
    """The session token travels and is part of the signature; new credentials take effect at once."""
    current = Credentials("A", "B", "token-1")
    signer = Signer(region="us-east-1", credentials=lambda: current, wall_clock=lambda: EXAMPLE_TIME)
    first: dict[str, str] = {"host": "h"}
    signer.sign(method="GET", path="/", query="", headers=first, payload_hash="x")
    assert first["x-amz-security-token"] == "token-1"
    assert "x-amz-security-token" in first["authorization"]
    current = Credentials("A2", "B2")
    second: dict[str, str] = {"host": "h"}
    signer.sign(method="GET", path="/", query="", headers=second, payload_hash="x")
    assert "Credential=A2/" in second["authorization"]
    assert "x-amz-security-token" not in second


# Answers


ANSWERS = [
    b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 5\r\n\r\nhello',
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello",
    b"HTTP/1.1 200\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
]


@pytest.mark.parametrize("data", ANSWERS)
@given(cuts=st.lists(st.integers(0, 120), max_size=6))
def test_an_answer_is_read_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    """The pieces in which an answer arrives make no difference."""
    parser = AnswerParser()
    borders = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    complete = [parser.feed(data[a:b]) for a, b in itertools.pairwise(borders)]
    assert complete == [False] * (len(complete) - 1) + [True]
    assert parser.answer is not None
    assert (parser.answer.status, parser.answer.body) == (200, b"hello")
    assert parser.reusable == (b"close" not in data)


def test_an_answer_to_head_has_no_body() -> None:
    """A length in the answer to HEAD is that of the object, not of a body to wait for."""
    parser = AnswerParser(to_head=True)
    assert parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    assert parser.reusable


def test_an_answer_that_ends_with_the_connection() -> None:
    """Without a length the end of the connection is the end of the body, and the connection is not used again."""
    parser = AnswerParser()
    assert not parser.feed(b"HTTP/1.0 200 OK\r\n\r\nhel")
    assert not parser.feed(b"lo")
    assert parser.end()
    assert parser.answer is not None
    assert parser.answer.body == b"hello"
    assert not parser.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"",
    ],
)
def test_an_answer_cut_short_is_none(data: bytes) -> None:
    """What ends before its end is never taken for an answer."""
    parser = AnswerParser()
    assert not parser.feed(data)
    assert not parser.end()


@pytest.mark.parametrize(
    "data",
    [
        b"220 ftp.example.com ready\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    ],
)
def test_what_is_no_http_is_said_to_be_none(data: bytes) -> None:
    """Another protocol, or nonsense, ends the exchange."""
    with pytest.raises(InvalidAnswer):
        AnswerParser().feed(data)


def test_the_head_of_a_request_is_what_was_signed() -> None:
    """Target and headers go out as they are."""
    assert request_head("PUT", "/b/a%20b?x=", {"host": "h"}) == b"PUT /b/a%20b?x= HTTP/1.1\r\nhost: h\r\n\r\n"


# Bounds


def test_the_pace_is_kept() -> None:
    """What is handed out over ten seconds is the limit, give or take the burst."""
    now = 0.0
    pace = Pace(1000, clock=lambda: now)
    sent = 0
    while now < 10:
        sent += pace.take(600)
        now += max(0.001, pace.delay(600))
    assert 10_000 <= sent <= 10_200


def test_bytes_in_memory_are_bounded_and_served_in_order() -> None:
    """Who finds no room waits, the first first; one who needs more than there is goes alone."""
    budget = ByteBudget(100)
    order: list[str] = []
    assert budget.try_acquire(60)
    budget.acquire(50, lambda: order.append("second"))
    budget.acquire(10, lambda: order.append("third"))
    assert not budget.try_acquire(1)
    assert order == []
    budget.release(60)
    assert order == ["second", "third"]
    budget.acquire(1000, lambda: order.append("giant"))
    budget.release(50)
    assert order == ["second", "third"]
    budget.release(10)
    assert order == ["second", "third", "giant"]


# Endpoints


def located(**settings: object) -> Endpoint:
    """An endpoint with the usual settings."""
    given: dict[str, object] = {
        "bucket": "my-bucket",
        "endpoint_url": None,
        "region": "eu-west-1",
        "addressing_style": "auto",
        "ca_bundle": None,
        "special": "",
        "environment": {},
    }
    return locate(**{**given, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "host_header", "path"),
    [
        ({}, "my-bucket.s3.eu-west-1.amazonaws.com", ""),
        ({"region": None}, "my-bucket.s3.us-east-1.amazonaws.com", ""),
        ({"region": "cn-north-1"}, "my-bucket.s3.cn-north-1.amazonaws.com.cn", ""),
        ({"addressing_style": "path"}, "s3.eu-west-1.amazonaws.com", "/my-bucket"),
        ({"bucket": "with.dots"}, "s3.eu-west-1.amazonaws.com", "/with.dots"),
        ({"bucket": "Capital"}, "s3.eu-west-1.amazonaws.com", "/Capital"),
        ({"endpoint_url": "http://127.0.0.1:9000"}, "127.0.0.1:9000", "/my-bucket"),
        ({"endpoint_url": "http://127.0.0.1:9000", "addressing_style": "virtual"}, "127.0.0.1:9000", "/my-bucket"),
        ({"endpoint_url": "https://s3.example.com/base/"}, "s3.example.com", "/base/my-bucket"),
        ({"endpoint_url": "https://S3.example.com:443"}, "s3.example.com", "/my-bucket"),
        ({"endpoint_url": "http://s3.example.com", "addressing_style": "virtual"}, "my-bucket.s3.example.com", ""),
        ({"endpoint_url": "http://[::1]:9000"}, "[::1]:9000", "/my-bucket"),
    ],
)
def test_where_a_bucket_is(settings: dict[str, object], host_header: str, path: str) -> None:
    """Host and path are those that boto3 would use."""
    endpoint = located(**settings)
    assert (endpoint.host_header, endpoint.path) == (host_header, path)


def test_amazon_is_recognised() -> None:
    """Only Amazon's own names are trusted to honour conditional writes."""
    assert located().is_aws
    assert located(endpoint_url="https://s3.dualstack.eu-west-1.amazonaws.com").is_aws
    assert not located(endpoint_url="https://amazonaws.com.example.org").is_aws


@pytest.mark.parametrize("url", ["s3.example.com", "ftp://s3.example.com", "http://", "http://host:port"])
def test_an_endpoint_that_is_no_url(url: str) -> None:
    """Such a setting is an error with an example."""
    with pytest.raises(StoreError) as caught:
        located(endpoint_url=url)
    assert "https://" in caught.value.hint


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"http_proxy": "http://proxy:3128"}, ("proxy", 3128)),
        ({"HTTP_PROXY": "proxy:3128"}, ("proxy", 3128)),
        ({"HTTP_PROXY": "http://proxy:3128", "REQUEST_METHOD": "GET"}, None),
        ({"http_proxy": "", "HTTP_PROXY": "http://proxy:3128"}, None),
        ({"https_proxy": "http://proxy:3128"}, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "other, .example.com"}, None),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "example.com:9000"}, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "ample.com"}, ("proxy", 3128)),
    ],
)
def test_which_proxy_is_used(environment: dict[str, str], expected: tuple[str, int] | None) -> None:
    """The usual variables count, in the way they do for everybody else."""
    proxy = find_proxy("s3.example.com", 9000, tls=False, environment=environment)
    assert (proxy and (proxy.host, proxy.port)) == expected


def test_a_proxy_may_want_a_password() -> None:
    """Name and password of the proxy's URL become its header."""
    proxy = find_proxy("h", 80, tls=False, environment={"http_proxy": "http://me:p%40ss@proxy"})
    assert proxy is not None
    assert proxy.authorization == "Basic bWU6cEBzcw=="


def test_static_credentials_in_the_environment_are_enough() -> None:
    """With them nothing of botocore is imported, and what the environment says of the endpoint counts."""
    access = resolve(
        bucket="b",
        endpoint_url=None,
        region=None,
        profile=None,
        addressing_style="auto",
        environment={
            "AWS_ACCESS_KEY_ID": "A",
            "AWS_SECRET_ACCESS_KEY": "B",
            "AWS_SESSION_TOKEN": "C",
            "AWS_DEFAULT_REGION": "eu-north-1",
            "AWS_ENDPOINT_URL": "http://general",
            "AWS_ENDPOINT_URL_S3": "http://special:9000",
            "AWS_CA_BUNDLE": "/ca.pem",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/does/not/exist",
        },
    )
    assert access.session is None
    assert access.credentials() == Credentials("A", "B", "C")
    assert (access.endpoint.url, access.endpoint.region) == ("http://special:9000", "eu-north-1")
    assert access.endpoint.ca_file == "/ca.pem"


@pytest.mark.parametrize(
    ("bucket", "variables", "words"),
    [
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/mine", {}, "ARN"),
        ("mine--use1-az4--x-s3", {}, "directory bucket"),
        ("mine", {"AWS_USE_FIPS_ENDPOINT": "true"}, "FIPS"),
        ("mine", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "dual-stack"),
        ("mine", {"AWS_REGION": "us-iso-east-1"}, "partition"),
    ],
)
def test_what_only_boto3_can_reach(bucket: str, variables: dict[str, str], words: str) -> None:
    """Such buckets are left to boto3, and the reason is one that can be told."""
    access = resolve(
        bucket=bucket,
        endpoint_url=None,
        region=None,
        profile=None,
        addressing_style="auto",
        environment={
            "AWS_ACCESS_KEY_ID": "A",
            "AWS_SECRET_ACCESS_KEY": "B",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            **variables,
        },
    )
    assert words in access.endpoint.only_boto3
