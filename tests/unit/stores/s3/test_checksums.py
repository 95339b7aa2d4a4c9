"""Checksums: how they combine, what an answer proves, how an object compares."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.model import Proof
from s3_uploader.stores.s3.checksums import (
    Comparison,
    Digest,
    Evidence,
    combine_crc32,
    compare,
    crc32_text,
    digest_of,
    digest_of_parts,
    evidence,
    plan_parts,
)

BODY = b"the bytes that were sent"
DIGEST = digest_of(BODY)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER_MD5 = hashlib.md5(b"other bytes").hexdigest()
KMS = {"x-amz-server-side-encryption": "aws:kms"}


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
        {"x-amz-checksum-crc32": "AAAAAA==", "etag": "opaque"},
    ],
)
def test_a_contradiction_is_never_a_proof(headers: dict[str, str]) -> None:
    """If the checksum says that other bytes are there, an ETag does not count."""
    found = evidence(headers, DIGEST)
    assert found.contradiction
    assert found.proof is Proof.NONE


def test_an_etag_that_is_another_md5_is_a_doubt() -> None:
    """Where ETags have been MD5s, another one is a doubt, else nothing; a checksum stays proof."""
    both = {"x-amz-checksum-crc32": DIGEST.crc32, "etag": f'"{OTHER_MD5}"'}
    assert (evidence(both, DIGEST).proof, bool(evidence(both, DIGEST).doubt)) == (Proof.CHECKSUM, True)
    assert evidence(both, DIGEST, etag_counts=False) == Evidence(Proof.CHECKSUM, etag=OTHER_MD5)
    assert evidence({"etag": OTHER_MD5}, DIGEST).doubt
    assert evidence({"etag": OTHER_MD5}, DIGEST, etag_counts=False) == Evidence(etag=OTHER_MD5)


def test_a_checksum_of_the_parts_checksums_is_proof() -> None:
    """A service without checksums of the whole answers one of the parts' (R2), which is as good."""
    parts = plan_parts(len(BODY), 10)
    for part in parts:
        part.crc32 = zlib.crc32(BODY[part.first : part.first + part.size])
    digest = digest_of_parts(parts, len(BODY))
    composite = zlib.crc32(b"".join(part.crc32.to_bytes(4, "big") for part in parts))
    assert digest.composite == f"{crc32_text(composite)}-{len(parts)}"
    assert evidence({"x-amz-checksum-crc32": digest.composite}, digest).proof is Proof.CHECKSUM
    assert evidence({"x-amz-checksum-crc32": f"AAAAAA==-{len(parts)}"}, digest).contradiction


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


@pytest.mark.parametrize(
    ("joined", "agrees"), [(f"{DIGEST.crc32}, {DIGEST.crc32}", True), (f"{DIGEST.crc32},AA==", False)]
)
def test_a_repeated_checksum(joined: str, agrees: bool) -> None:
    """A checksum that came twice counts once. Two different ones are a contradiction."""
    found = evidence({"x-amz-checksum-crc32": joined}, DIGEST)
    assert (found.proof is Proof.CHECKSUM, bool(found.contradiction)) == (agrees, not agrees)


def test_a_checksum_is_enough_for_what_was_just_written() -> None:
    """What we have just written is not mistaken for another file: there the checksum tells of the way it took."""
    headers = {**SIZE, "x-amz-checksum-crc32": DIGEST.crc32}
    assert compare(headers, DIGEST, just_written=True) == (Comparison.SAME, Proof.CHECKSUM)
