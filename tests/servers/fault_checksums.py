"""The checksums of S3: CRC32, CRC32C, CRC64NVME, SHA1 and SHA256, in the form in which they travel (base64)."""

from __future__ import annotations

import base64
import functools
import hashlib
import zlib
from collections.abc import Callable, Iterable

ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")

_CRC32C_POLYNOMIAL = 0x82F63B78
_CRC64NVME_POLYNOMIAL = 0x9A6C9329AC4BC9B5


@functools.cache
def _table(polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ polynomial if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


def reflected_crc(data: bytes, polynomial: int, width: int) -> int:
    """Return a reflected CRC with all-ones at both ends, a byte at a time: the slow way that works everywhere."""
    table = _table(polynomial)
    ones = (1 << width) - 1
    value = ones
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ ones


def _crc32c(data: bytes) -> int:
    try:
        from awscrt.checksums import crc32c  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return reflected_crc(data, _CRC32C_POLYNOMIAL, 32)
    return int(crc32c(data))


def _crc64nvme(data: bytes) -> int:
    try:
        from awscrt.checksums import crc64nvme  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return reflected_crc(data, _CRC64NVME_POLYNOMIAL, 64)
    return int(crc64nvme(data))


_DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": lambda data: _crc32c(data).to_bytes(4, "big"),
    "crc64nvme": lambda data: _crc64nvme(data).to_bytes(8, "big"),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}


def checksum(algorithm: str, data: bytes) -> str:
    """Return the checksum of some bytes as it stands in a header."""
    return base64.b64encode(_DIGESTS[algorithm](data)).decode()


def composite_checksum(algorithm: str, parts: Iterable[bytes]) -> str:
    """Return the checksum of the parts' checksums, as S3 gives it for a multipart object of type COMPOSITE."""
    digests = [_DIGESTS[algorithm](part) for part in parts]
    return f"{base64.b64encode(_DIGESTS[algorithm](b''.join(digests))).decode()}-{len(digests)}"


def multipart_etag(parts: Iterable[str]) -> str:
    """Return the ETag of a multipart object, without quotes: the MD5 of the parts' MD5s, which are given in hex."""
    digests = list(map(bytes.fromhex, parts))
    return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
