"""The pure parts of the S3 store: keys, headers, digests, proof, what errors mean, when to try again."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.model import Proof
from s3_uploader.stores.base import PutOptions
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3 import errors as s3_errors
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import Comparison, Digest, combine_crc32, compare, digest_of, evidence
from s3_uploader.stores.s3.engines.base import Answer, Failure, TransportFailure, xml_leaves

BODY = b"the bytes that were sent"
DIGEST = digest_of(BODY)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER_MD5 = hashlib.md5(b"other bytes").hexdigest()
KMS = {"x-amz-server-side-encryption": "aws:kms"}


# Keys and headers


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("bedroom/2020/11/29/20/46-topic.dat", "bedroom/2020/11/29/20/46-topic.dat"),
        ("a b+c%20d", "a%20b%2Bc%2520d"),
        ("~tilde*star'quote(1)", "~tilde%2Astar%27quote%281%29"),
        ("line\nbreak", "line%0Abreak"),
        ("ü/日", "%C3%BC/%E6%97%A5"),
        ("//a/../b/.", "//a/../b/."),
    ],
)
def test_a_key_is_encoded_once_and_never_normalised(key: str, path: str) -> None:
    """Every byte but the unreserved ones and the slash is percent-encoded, and nothing else happens to a key."""
    assert requests.encode_key(key) == path


@pytest.mark.parametrize("key", ["", "a\0b", "latin-\udce9", "x" * 1025, "é" * 513])
def test_a_key_that_s3_cannot_have_is_refused(key: str) -> None:
    """Empty, NUL, undecodable bytes and more than 1,024 bytes are refused with a sentence that can be printed."""
    with pytest.raises(KeyRefused) as caught:
        requests.encode_key(key)
    caught.value.message.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_an_encoded_key_decodes_to_the_key(key: str) -> None:
    """What goes into the URL is ASCII and stands for exactly the key's bytes."""
    from urllib.parse import unquote

    if "\0" not in key:
        path = requests.encode_key(key)
        assert path.isascii()
        assert unquote(path) == key


def test_metadata_that_no_header_can_carry_is_an_error() -> None:
    """A line break in a value cannot smuggle in a header, and other than ASCII is refused, not mangled."""
    for value in ("a\r\nx-amz-acl: public-read", "ü", " padded "):
        headers = requests.ObjectHeaders(
            storage_class=None,
            acl=None,
            sse=None,
            sse_kms_key_id=None,
            metadata={"m": value},
            tags={},
            content_type=None,
        )
        with pytest.raises(StoreError) as caught:
            headers.of("key", PutOptions())
        assert caught.value.scope is Scope.DESTINATION


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("a/b.json", "application/json"),
        ("a/b.JPG", "image/jpeg"),
        ("a/b.dat", "application/octet-stream"),
        ("a/b", "application/octet-stream"),
        ("a/b.tar.gz", "application/octet-stream"),
        ("a/.json", "application/octet-stream"),
        (".json", "application/octet-stream"),
        ("a/..json", "application/octet-stream"),
        ("a.json/b", "application/octet-stream"),
    ],
)
def test_a_content_type_is_guessed_from_the_ending(key: str, kind: str) -> None:
    """What the ending does not tell is application/octet-stream."""
    assert requests.content_type_of(key) == kind


@given(st.integers(1, 5 * 2**40))
def test_parts_are_never_more_than_ten_thousand(size: int) -> None:
    """The part size grows with the file where it must."""
    part = requests.part_size_for(size, 8 * 2**20)
    assert part >= 8 * 2**20
    assert -(-size // part) <= 10_000


# Proof


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_combine(first: bytes, second: bytes) -> None:
    """The checksum of the whole follows from those of its parts."""
    assert combine_crc32(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@pytest.mark.parametrize(
    ("headers", "proof"),
    [
        ({}, Proof.NONE),
        ({"etag": '"something-else"'}, Proof.NONE),
        ({"etag": f'"{MD5}"'}, Proof.MD5),
        ({"etag": f'"{MD5.upper()}"'}, Proof.MD5),
        ({"etag": MD5}, Proof.MD5),
        ({"etag": f'W/"{MD5}"'}, Proof.NONE),
        ({"x-amz-checksum-crc32": DIGEST.crc32}, Proof.CHECKSUM),
        ({"x-amz-checksum-crc32": DIGEST.crc32, "etag": f'"{MD5}"'}, Proof.CHECKSUM),
        ({"x-amz-checksum-crc32": DIGEST.crc32, "etag": f'"{OTHER_MD5}"', **KMS}, Proof.CHECKSUM),
        ({"etag": f'"{OTHER_MD5}"', **KMS}, Proof.NONE),
        ({"x-amz-checksum-sha256": "whatever"}, Proof.NONE),
    ],
)
def test_what_an_answer_proves(headers: dict[str, str], proof: Proof) -> None:
    """A checksum counts most, an MD5 where the ETag is one, and nothing else counts."""
    found = evidence(headers, DIGEST)
    assert (found.proof, found.contradiction) == (proof, "")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-crc32": "AAAAAA=="},
        {"x-amz-checksum-crc32": "AAAAAA==", "etag": f'"{MD5}"'},
        {"etag": f'"{OTHER_MD5}"'},
        {"x-amz-checksum-crc32": DIGEST.crc32, "etag": f'"{OTHER_MD5}"'},
    ],
)
def test_a_contradiction_is_never_a_proof(headers: dict[str, str]) -> None:
    """If one of the two says that other bytes are there, the other does not count."""
    found = evidence(headers, DIGEST)
    assert found.contradiction
    assert found.proof is Proof.NONE


def test_where_the_length_is_enough_an_etag_may_be_anything() -> None:
    """With minimum_proof: size an ETag that only looks like an MD5 is no contradiction."""
    assert not evidence({"etag": OTHER_MD5}, DIGEST, etag_counts=False).contradiction
    assert evidence({"x-amz-checksum-crc32": "AAAAAA=="}, DIGEST, etag_counts=False).contradiction


SIZE = {"content-length": str(len(BODY))}
OF_PARTS = Digest(size=len(BODY), crc32=DIGEST.crc32, md5=f"{MD5}-2")


@pytest.mark.parametrize(
    ("headers", "digest", "comparison"),
    [
        ({"content-length": "1", "etag": MD5}, DIGEST, Comparison.DIFFERENT),
        ({**SIZE, "etag": MD5}, DIGEST, Comparison.SAME),
        ({**SIZE, "etag": OTHER_MD5}, DIGEST, Comparison.DIFFERENT),
        ({**SIZE, "etag": OTHER_MD5, **KMS}, DIGEST, Comparison.UNKNOWN),
        ({**SIZE, "etag": f"{OTHER_MD5}-3"}, DIGEST, Comparison.UNKNOWN),
        ({**SIZE, "etag": f"{OTHER_MD5}-3"}, OF_PARTS, Comparison.UNKNOWN),
        ({**SIZE, "etag": f"{MD5}-2"}, OF_PARTS, Comparison.SAME),
        ({**SIZE, "etag": OTHER_MD5}, OF_PARTS, Comparison.UNKNOWN),
        ({**SIZE, "x-amz-checksum-crc32": DIGEST.crc32}, DIGEST, Comparison.UNKNOWN),
        ({**SIZE, "x-amz-checksum-crc32": DIGEST.crc32, "etag": MD5}, DIGEST, Comparison.SAME),
        ({**SIZE, "x-amz-checksum-crc32": DIGEST.crc32, "etag": f"{OTHER_MD5}-3"}, OF_PARTS, Comparison.UNKNOWN),
        ({**SIZE, "x-amz-checksum-crc32": "AAAAAA=="}, DIGEST, Comparison.DIFFERENT),
        ({**SIZE, "x-amz-checksum-crc32": "AAAAAA==-3", "etag": f"{OTHER_MD5}-3"}, DIGEST, Comparison.UNKNOWN),
        (SIZE, DIGEST, Comparison.UNKNOWN),
    ],
)
def test_how_an_object_compares(headers: dict[str, str], digest: Digest, comparison: Comparison) -> None:
    """Same and different are said only where a header tells; an ETag of other parts or 32 bits tell nothing."""
    assert compare(headers, digest)[0] is comparison


def test_a_checksum_is_enough_for_what_was_just_written() -> None:
    """What we have just written is not mistaken for another file: there the checksum tells of the way it took."""
    headers = {**SIZE, "x-amz-checksum-crc32": DIGEST.crc32}
    assert compare(headers, DIGEST, just_written=True) == (Comparison.SAME, Proof.CHECKSUM)


# Errors


def answer(code: str, *, status: int = 400, headers: dict[str, str] | None = None, extra: str = "") -> Answer:
    """An error as S3 sends it."""
    document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>It&apos;s &lt;so&gt;</Message>{extra}</Error>"
    return Answer(status=status, headers=headers or {}, body=document.encode())


@pytest.mark.parametrize(
    ("code", "status", "retryable", "scope"),
    [
        ("SlowDown", 503, True, Scope.FILE),
        ("InternalError", 500, True, Scope.FILE),
        ("AnythingNew", 500, True, Scope.FILE),
        ("AnythingNew", 429, True, Scope.FILE),
        ("AnythingNew", 400, False, Scope.FILE),
        ("NotImplemented", 501, False, Scope.FILE),
        ("RequestTimeout", 400, True, Scope.FILE),
        ("NoSuchKey", 404, True, Scope.FILE),
        ("NoSuchBucket", 404, False, Scope.DESTINATION),
        ("InvalidAccessKeyId", 403, False, Scope.DESTINATION),
        ("RequestTimeTooSkewed", 403, False, Scope.DESTINATION),
        ("ExpiredToken", 400, False, Scope.DESTINATION),
    ],
)
def test_what_an_error_means(code: str, status: int, retryable: bool, scope: Scope) -> None:
    """Each code is worth retrying or not, and concerns one file or every one."""
    error = s3_errors.answered(answer(code, status=status), "PutObject", now=0, proven_useful=False).error
    assert (error.code, error.retryable, error.scope) == (code, retryable, scope)
    assert error.message == f"An error occurred ({code}) when calling the PutObject operation: It's <so>"


def test_an_answer_without_a_document_is_named_by_its_status() -> None:
    """HEAD has no body; botocore then takes the status for the code."""
    error = s3_errors.answered(Answer(status=403, headers={}), "HeadObject", now=0, proven_useful=True).error
    assert error.message == "An error occurred (403) when calling the HeadObject operation: Forbidden"
    assert "s3:GetObject" in error.hint


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("Fri, 20 Nov 2026 13:16:50 GMT", 50.0),
        ("Fri, 20 Nov 2026 13:15:50 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("Fri, 20 Foo 2026 13:16:50 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    """Both forms are understood, and nonsense is ignored."""
    now = s3_errors.parse_http_date("Fri, 20 Nov 2026 13:16:00 GMT")
    assert now is not None
    assert s3_errors.retry_after(Answer(status=503, headers={"retry-after": value}), now) == seconds


@pytest.mark.parametrize(("offset", "words"), [(3600, "3600 s ahead of"), (-7200, "7200 s behind")])
def test_a_wrong_clock_is_measured(offset: int, words: str) -> None:
    """The hint says by how much and in which direction our clock is wrong."""
    date = "Fri, 20 Nov 2026 13:16:00 GMT"
    now = (s3_errors.parse_http_date(date) or 0) + offset
    skewed = answer("RequestTimeTooSkewed", status=403, headers={"date": date})
    assert words in s3_errors.answered(skewed, "PutObject", now=now, proven_useful=True).error.hint


@pytest.mark.parametrize("kind", [kind for kind in TransportFailure if kind is not TransportFailure.CANCELLED])
def test_every_failure_has_words(kind: TransportFailure) -> None:
    """Whatever keeps an answer from us is a sentence with a code and, where a person can act, a hint."""
    error = s3_errors.failed(Failure(kind, "detail"), "PutObject", endpoint="https://s3.example.com").error
    assert error.code
    assert "detail" in error.message
    assert error.hint or kind is TransportFailure.OTHER


def test_xml_is_read_without_a_parser() -> None:
    """Names are taken without prefix, the first of equal names counts, entities are resolved once."""
    leaves = xml_leaves(b"<s:A><s:B>1 &amp;lt; &#x41;&#66; &unknown;</s:B><B>2</B><C/></s:A>")
    assert leaves == {"B": "1 &lt; AB &unknown;"}


# Retries


def pause(policy: RetryPolicy, **arguments: float | bool | None) -> float | None:
    """The pause with a random number that is always 1."""
    given: dict[str, float | bool | None] = {"attempts": 1, "since_first_failure": 0.0, "remaining": 1000.0}
    return policy.pause(random=lambda: 1.0, **{**given, **arguments})  # type: ignore[arg-type]


def test_pauses_double_up_to_a_limit() -> None:
    """The limit of a pause doubles, and no pause is longer than the longest."""
    policy = RetryPolicy(max_attempts=10, base_pause=0.2, max_pause=5)
    assert [pause(policy, attempts=attempts) for attempts in (1, 2, 3, 6, 9)] == [0.2, 0.4, 0.8, 5.0, 5.0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": 5},
        {"attempts": 3, "corrupted": True},
        {"since_first_failure": 30.0},
        {"since_first_failure": 4.0, "no_connection": True},
        {"remaining": 0.1},
        {"retry_after": 60.0},
    ],
)
def test_retries_end(arguments: dict[str, float | bool]) -> None:
    """Retries are bounded by count, by time, by the deadline, and by what the server asks for."""
    assert pause(RetryPolicy(), **arguments) is None


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    """Retry-After comes on top of the jitter, so that not everybody returns at the same moment."""
    assert pause(RetryPolicy(), retry_after=3.0) == 3.2


@given(st.integers(1, 4), st.floats(0, 1))
def test_jitter_is_full(attempts: int, random: float) -> None:
    """Any pause between nothing and the limit may come out."""
    policy = RetryPolicy()
    drawn = policy.pause(attempts=attempts, since_first_failure=0, remaining=100, random=lambda: random)
    assert drawn is not None
    assert 0 <= drawn <= min(5.0, 0.2 * 2 ** (attempts - 1))
