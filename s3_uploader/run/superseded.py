"""Objects that we put there ourselves and that are out of date: their file was written to, or replaced, meanwhile.

Such an object, and no other, may be replaced by the next upload of its key whatever ``on_conflict`` says. It is known
by its ETag, and forgotten as soon as it is up to date again: from then on it is the only copy of what it holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from s3_uploader.core.errors import ConflictError
from s3_uploader.core.model import Receipt
from s3_uploader.spool.open_file import OpenFile

_MOST_READ = 64 * 2**20
_CHUNK = 2**20


class FactMemory(Protocol):
    """Where small facts are kept for later runs. Both methods raise ``StateError``."""

    def remember(self, name: str, value: str, *, now: float) -> None:
        """Keep a small fact for later runs."""

    def recall(self, name: str, *, now: float, max_age: float) -> str | None:
        """A fact that an earlier run kept."""


class Superseded:
    """The outdated objects of one destination.

    :param address: the key as the destination writes it in full, which tells destinations apart.
    :param now: wall-clock time in seconds since the epoch.
    """

    def __init__(self, facts: FactMemory, *, address: Callable[[str], str], now: Callable[[], float]) -> None:
        self._facts = facts
        self._address = address
        self._now = now

    def add(self, receipt: Receipt) -> None:
        """The content of the file, or the file of that name, is another one since this receipt was given."""
        if receipt.etag:
            self._facts.remember(self._name(receipt.key), receipt.etag, now=self._now())

    def forget(self, key: str) -> None:
        """The object under the key is what its file holds."""
        if self._etag(key):
            self._facts.remember(self._name(key), "", now=self._now())

    def has(self, key: str, conflict: ConflictError) -> bool:
        """Whether the object that is in the way is one of these."""
        return bool(conflict.existing) and self._etag(key) == conflict.existing

    def _etag(self, key: str) -> str:
        return self._facts.recall(self._name(key), now=self._now(), max_age=float("inf")) or ""

    def _name(self, key: str) -> str:
        return f"superseded:{self._address(key)}"


def is_outdated(file: OpenFile, receipt: Receipt) -> bool:
    """Whether the object of a file that has changed holds another content than its producer left under that name.

    A producer that puts a new file over the old one has done with the old one, and the object that this very upload
    has made of it is all that is in the new one's way. An object that was there before is somebody's delivery.

    A rename, a removal or new rights change a file too (its ctime), and leave the object as good as it was: another
    uploader may have delivered the same file by it, and removed it. A ctime that alone has changed may hide a write,
    where somebody has put the mtime back; then the content is read once more. In doubt the object is not outdated:
    what is in its way then is a conflict, and nothing is lost.
    """
    if file.has_new_content():
        return True
    if not receipt.already_there and file.was_replaced():
        return True
    if receipt.encoding or file.fingerprint.size > _MOST_READ:
        return False
    algorithm, _, digest = receipt.checksum.partition(":")
    if algorithm not in ("sha256", "md5", "crc32"):
        algorithm, digest = "md5", receipt.etag
    try:
        found = _digests(file.descriptor, algorithm)
    except OSError:
        return False
    return _looks_like(algorithm, digest) and digest.lower() not in found


def _looks_like(algorithm: str, digest: str) -> bool:
    """Whether it is a digest in one of the spellings that :func:`_digests` gives; an ETag may be anything."""
    if algorithm == "md5":
        return len(digest) == 32 and all(character in "0123456789abcdefABCDEF" for character in digest)
    return bool(digest)


def _digests(descriptor: int, algorithm: str) -> tuple[str, ...]:
    """The digest of an open file, in hexadecimal digits and as base64, in lower case.

    :raises OSError: if it cannot be read.
    """
    import base64
    import hashlib
    import zlib

    crc, other = 0, hashlib.new("md5" if algorithm == "crc32" else algorithm, usedforsecurity=False)
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        offset += len(chunk)
        if algorithm == "crc32":
            crc = zlib.crc32(chunk, crc)
        else:
            other.update(chunk)
    raw = crc.to_bytes(4, "big") if algorithm == "crc32" else other.digest()
    return raw.hex(), base64.b64encode(raw).decode().lower()
