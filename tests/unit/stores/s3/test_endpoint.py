"""Where a bucket is, and which proxy is on the way to it."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Endpoint, find_proxy, locate, proxy_setting

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1369353600.0  # Fri, 24 May 2013 00:00:00 GMT


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


@pytest.mark.parametrize("url", ["http://host/?token=T0KEN", "http://host#T0KEN", "http://me:T0/KEN#@host/?x=T0KEN"])
def test_what_may_be_a_token_is_not_repeated(url: str) -> None:
    """The message about an endpoint names neither its password nor what follows the path."""
    with pytest.raises(StoreError) as caught:
        located(endpoint_url=url)
    assert "host" in caught.value.message
    assert "T0" not in str(caught.value)
    assert "KEN" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("https://bucket.fra1.digitaloceanspaces.com", "https://fra1.digitaloceanspaces.com"),
        ("https://bucket.s3.example.com:9000/", "https://s3.example.com:9000"),
        ("https://bucket.s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"),
        ("https://account.r2.cloudflarestorage.com/bucket", "https://account.r2.cloudflarestorage.com"),
        ("http://127.0.0.1:9000/base/bucket/", "http://127.0.0.1:9000/base"),
    ],
)
@pytest.mark.parametrize("style", ["auto", "path", "virtual"])
def test_the_bucket_stands_in_the_endpoint(url: str, right: str, style: str) -> None:
    """An endpoint with the bucket in it is taken without, or everything would land under ``bucket/bucket/``."""
    endpoint = located(bucket="bucket", endpoint_url=url, addressing_style=style)
    assert endpoint.doubled_bucket
    assert endpoint.url == right


@pytest.mark.parametrize(
    "url", ["https://bucket.example.com", "https://bucket", "https://s3.example.com/bucket-2", "https://mybucket.s3.io"]
)
def test_a_server_that_is_called_like_the_bucket(url: str) -> None:
    """Where it may be the server's own name nothing is left out."""
    endpoint = located(bucket="bucket", endpoint_url=url)
    assert endpoint.url == url
    assert not endpoint.doubled_bucket


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
    proxy = find_proxy(proxy_setting("s3.example.com", 9000, tls=False, environment=environment))
    assert (proxy and (proxy.host, proxy.port)) == expected


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "192.168.0.0/16, 10.1.2.3/32", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[2001:db8::1]", "2001:db8::/32", True),
        ("[2001:db8::1]", "[2001:db8::]/32", True),
        ("[2001:db9::1]", "[2001:db8::]/32", False),
        ("10.1.2.3", "localhost 10.0.0.0/8 .example.com", True),
        ("s3.example.com", "localhost\t.example.com", True),
        ("s3.example.com", "localhost .example", False),
        ("[2001:db8::1]", "2001:DB8:0::1", True),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("[2001:db8::1]", "[2001:db8::1]:9000", True),
        ("[2001:db8::1]", "[2001:db8::1]:9001", False),
        ("s3.example.com", "*.example.com", True),
        ("s3.example.com", "s3.example.com:443", False),
        ("s3.example.com", "10.0.0.0/8,nonsense/99,/", False),
    ],
)
def test_hosts_that_need_no_proxy(host: str, no_proxy: str, direct: bool) -> None:
    """Names, ports, addresses in any spelling, and networks are known in NO_PROXY, as curl knows them."""
    environment = {"http_proxy": "http://proxy:3128", "no_proxy": no_proxy}
    assert (find_proxy(proxy_setting(host, 9000, tls=False, environment=environment)) is None) == direct


def test_a_proxy_may_want_a_password() -> None:
    """Name and password of the proxy's URL become its header."""
    proxy = find_proxy(proxy_setting("h", 80, tls=False, environment={"http_proxy": "http://me:p%40ss@proxy"}))
    assert proxy is not None
    assert proxy.authorization == "Basic bWU6cEBzcw=="
