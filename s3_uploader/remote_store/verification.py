"""The verification of downloaded bytes against the checksums of the server."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping

from s3_uploader.core.text import quoted_code
from s3_uploader.remote_store.errors import RemoteStoreError
from s3_uploader.stores.s3.checksums import clean_etag, crc32_text, etag_is_md5, md5_of

_CRC32 = "x-amz-checksum-crc32"
_HASHES: dict[str, Callable[[], hashlib._Hash]] = {
    "x-amz-checksum-sha256": hashlib.sha256,
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
}


def has_proof(headers: Mapping[str, str], *, etag_counts: bool) -> bool:
    """Whether the headers of an object have a checksum that its bytes can be verified with."""
    return (etag_counts and _md5(headers) != "") or any(_checksum(headers, name) for name in (_CRC32, *_HASHES))


class Verification:
    """Digests the bytes of an object as they arrive, and compares the result at the end.

    :param headers: of an answer about the object as a whole: its ETag, and checksums if the server has any.
    :param etag_counts: whether an ETag that looks like an MD5 is one here.
    """

    def __init__(self, headers: Mapping[str, str], *, etag_counts: bool) -> None:
        self._md5_text = _md5(headers) if etag_counts else ""
        self._md5 = md5_of(b"") if self._md5_text else None
        self._crc_text = _checksum(headers, _CRC32)
        self._crc = 0
        self._hashes = {name: (text, make()) for name, make in _HASHES.items() if (text := _checksum(headers, name))}

    def update(self, data: bytes | memoryview) -> None:
        """Digest the next bytes."""
        if self._md5 is not None:
            self._md5.update(data)
        if self._crc_text:
            self._crc = zlib.crc32(data, self._crc)
        for _, digest in self._hashes.values():
            digest.update(data)

    def conclude(self) -> None:
        """Compare the digests after the last bytes.

        :raises RemoteStoreError: if the bytes are not those of the object.
        """
        proven = False
        pairs = [("CRC32", self._crc_text, crc32_text(self._crc))] if self._crc_text else []
        for name, (text, digest) in self._hashes.items():
            pairs.append((name.rpartition("-")[2].upper(), text, base64.b64encode(digest.digest()).decode()))
        for kind, expected, found in pairs:
            if expected != found:
                raise _is_other(kind, found, expected)
            proven = True
        # A matching checksum is decisive. The ETag need not be an MD5.
        if not proven and self._md5 is not None and self._md5.hexdigest() != self._md5_text:
            raise _is_other("MD5", self._md5.hexdigest(), self._md5_text)


def _is_other(kind: str, found: str, expected: str) -> RemoteStoreError:
    return RemoteStoreError(
        f"The received bytes have the {kind} {found}, but the object has {quoted_code(expected)}.", code="NotProven"
    )


def _md5(headers: Mapping[str, str]) -> str:
    etag = clean_etag(headers.get("etag", ""))
    return etag.lower() if etag_is_md5(etag, headers) else ""


def _checksum(headers: Mapping[str, str], name: str) -> str:
    """A checksum of the whole object. A checksum of checksums is useless without the sizes of the parts."""
    value = headers.get(name, "")
    return "" if "-" in value or headers.get("x-amz-checksum-type", "").upper() == "COMPOSITE" else value
