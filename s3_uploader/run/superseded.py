"""Remembers outdated objects of this program: their file was changed or replaced during the upload.

Such an object, and no other, may be replaced by the next upload of its key whatever ``on_conflict`` says. It is
identified by its ETag, and forgotten as soon as it is up to date again, because it is then the only copy of its
content. Another uploader may have made it so, or this one after its ledger was copied, and neither is in the ledger. So
an object that is younger than what the ledger says of it is protected, too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Protocol

from s3_uploader.core.errors import ConflictError
from s3_uploader.core.model import Fingerprint, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.records import OUTDATED_OBJECTS
from s3_uploader.spool.open_file import OpenFile

_MOST_READ = 64 * 2**20
_CHUNK = 2**20
_ONE_TICK_NS = 10_000_000
"""The longest clock tick of a file system: times stamped by one system call differ by no more."""
_NOTED_BEFORE_SECONDS = 300.0
"""How long before an object is stored, by the clock of its server, it may seem to have been noted."""


class FactMemory(Protocol):
    """Keeps small facts for later runs. All methods raise ``StateError``."""

    def remember(self, name: str, value: str, *, now: float) -> None:
        """Keep a small fact for later runs; an empty one forgets it."""

    def recall(self, name: str, *, now: float, max_age: float) -> str | None:
        """Return a fact of an earlier run."""

    def knows_any(self, prefix: str) -> bool:
        """Whether there is a fact that is not empty under a name that begins with ``prefix``."""


class Superseded:
    """The outdated objects of one destination.

    :param address: the full address of the key, which distinguishes destinations.
    :param now: wall-clock time in seconds since the epoch.
    """

    def __init__(self, facts: FactMemory, *, address: Callable[[str], str], now: Callable[[], float]) -> None:
        self._facts = facts
        self._address = address
        self._now = now

    def add(self, receipt: Receipt) -> None:
        """Remember an object as outdated: its file has changed since the receipt."""
        if receipt.etag:
            self._facts.remember(self._name(receipt.key), receipt.etag, now=self._now())

    def forget(self, key: str) -> None:
        """Forget an outdated object: the object under the key is up to date."""
        if self._etag(key):
            self._facts.remember(self._name(key), "", now=self._now())

    def has(self, key: str, conflict: ConflictError) -> bool:
        """Whether the object in the way is an outdated one."""
        max_age = float("inf") if conflict.age is None else conflict.age + _NOTED_BEFORE_SECONDS
        return bool(conflict.existing) and self._etag(key, max_age=max_age) == conflict.existing

    def _etag(self, key: str, *, max_age: float = float("inf")) -> str:
        return self._facts.recall(self._name(key), now=self._now(), max_age=max_age) or ""

    def _name(self, key: str) -> str:
        # A name of a file may be no text, and a fact's name is one.
        return f"{OUTDATED_OBJECTS}{shown_name(self._address(key))}"


def is_outdated(file: OpenFile, receipt: Receipt) -> bool:
    """Whether the object of a changed file has other content than its producer left under that name.

    A producer that renames a new file over the old one does not need the old one, and the object of this upload is in
    the new one's way. An object that was there before is another delivery. A rename, a removal or a new mode changes
    only the file's ctime, and the object stays valid: another uploader may have delivered and removed the same file. If
    only the ctime has changed, a write may be hidden by a reset mtime, so the content is read once more. In doubt the
    object is not outdated: the result is a conflict, and nothing is lost.
    """
    if receipt.already_there:
        return False
    if file.has_new_content() or was_replaced(file):
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


def was_replaced(file: OpenFile) -> bool:
    """Whether the producer of a file has replaced it by renaming another over its name.

    Another uploader of the same spool leaves no such trace: it removes a file under a private name, which is then its
    last name for this kernel, or at another time than the next file arrives. A rename over a name stamps both files at
    once. In doubt, and where a network file system keeps a replaced file under a name of its own, the answer is
    ``False``.
    """
    name = file.candidate.name
    try:
        gone = os.fstat(file.descriptor)
        if gone.st_nlink or os.path.basename(os.readlink(f"/proc/self/fd/{file.descriptor}")) != f"{name} (deleted)":
            return False
        new = file.home.stat(file.candidate.directory, name)
    except OSError:
        return False
    # Where times are whole seconds they tell nothing.
    is_at_once = abs(new.st_ctime_ns - gone.st_ctime_ns) < _ONE_TICK_NS and not Fingerprint.of(gone).counts_seconds
    return stat.S_ISREG(new.st_mode) and is_at_once


def _looks_like(algorithm: str, digest: str) -> bool:
    """Whether a value is a digest in one of the spellings of :func:`_digests`; an ETag may be anything."""
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
