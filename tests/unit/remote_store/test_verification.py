"""What a download is verified by: checksums of the whole, and ETags where they are MD5s."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest

import s3_uploader as s3
from s3_uploader.remote_store.verification import Verification, has_proof

CONTENT = b"some content" * 100
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
CRC32 = base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()
SHA256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
SHA1 = base64.b64encode(hashlib.sha1(CONTENT, usedforsecurity=False).digest()).decode()
RIGHT = [
    {"etag": f'"{MD5}"'},
    {"etag": '"x-3"', "x-amz-checksum-crc32": CRC32},
    {"etag": '"x-3"', "x-amz-checksum-sha256": SHA256},
    {"etag": '"x-3"', "x-amz-checksum-sha1": SHA1},
]


def verify(headers: dict[str, str], content: bytes, *, etag_counts: bool = True) -> None:
    """Verify some content."""
    verification = Verification(headers, etag_counts=etag_counts)
    for first in range(0, len(content), 7):
        verification.update(content[first : first + 7])
    verification.conclude()


@pytest.mark.parametrize("headers", RIGHT)
def test_the_right_bytes(headers: dict[str, str]) -> None:
    """The bytes that an object has are taken, by whatever the server names of them."""
    assert has_proof(headers, etag_counts=True)
    verify(headers, CONTENT)


@pytest.mark.parametrize("headers", RIGHT)
def test_other_bytes(headers: dict[str, str]) -> None:
    """Other bytes are refused, by each of them."""
    with pytest.raises(s3.RemoteStoreError, match="The received bytes have the"):
        verify(headers, CONTENT[:-1] + b"x")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"etag": '"x-3"'},
        {"etag": f'"{"0" * 32}"', "x-amz-server-side-encryption": "aws:kms"},
        {"etag": f'"{"0" * 32}"', "x-amz-server-side-encryption-customer-algorithm": "AES256"},
        {"x-amz-checksum-crc32": "AAAAAA==-3"},
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="},
    ],
)
def test_what_says_nothing(headers: dict[str, str]) -> None:
    """An ETag that is no MD5 and a checksum of checksums decide nothing."""
    assert not has_proof(headers, etag_counts=True)
    verify(headers, CONTENT)


def test_an_etag_of_another_kind() -> None:
    """An ETag that looks like an MD5 does not count where a checksum is right, or where it is known to be none."""
    other = {"etag": f'"{"0" * 32}"'}
    verify({**other, "x-amz-checksum-crc32": CRC32}, CONTENT)
    assert not has_proof(other, etag_counts=False)
    verify(other, CONTENT, etag_counts=False)
