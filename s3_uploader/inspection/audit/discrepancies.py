"""The findings of an audit, and pure functions that compare a row of the ledger with an entry of the destination."""

from __future__ import annotations

import enum
import re

import msgspec

from s3_uploader.core.model import Proof
from s3_uploader.ledger import ShippedRow
from s3_uploader.stores.listing import Entry

CLOCKS_DIFFER = 15 * 60.0
"""Seconds by which the clocks of this machine and of the destination may differ. S3 refuses requests with more."""

_MD5 = re.compile("[0-9a-f]{32}")
_MD5_OF_PARTS = re.compile("[0-9a-f]{32}-[0-9]+")


class Kind(enum.Enum):
    """The kind of a finding, as JSON has it. Some kinds are notes."""

    MISSING = "missing"
    """There is nothing under the key."""
    SIZE = "size"
    """There is something of another size."""
    CONTENT = "content"
    """There is other content of the same size."""
    REPLACED = "replaced"
    """It was put there later, and whether the content is the same is unknown."""
    UNREADABLE = "unreadable"
    """The destination gave no answer about the key."""
    REWRITTEN = "rewritten"
    """A note: the same content was put there again, for example by a copy into another storage class."""
    STILL_THERE = "still_there"
    """A note: the local file was shipped with this content, and is still there."""
    LOCAL = "local_file"
    """A file in the spool has the size and time of the shipped one, but other content."""

    @property
    def is_note(self) -> bool:
        """Whether the finding is a note and not a problem."""
        return self in (Kind.REWRITTEN, Kind.STILL_THERE)


class Discrepancy(msgspec.Struct, frozen=True, kw_only=True):
    """One finding; ``entry`` is what is at the destination, ``None`` if that is nothing or unknown."""

    kind: Kind
    row: ShippedRow
    address: str
    entry: Entry | None = None
    detail: str = ""


class Summary(msgspec.Struct, kw_only=True):
    """The number of audited keys, and the results.

    :ivar same: the content is the one that was shipped, by checksum or ETag.
    :ivar size_only: there with the recorded size, and nothing else could be compared.
    :ivar is_deep: whether each key was looked up, so that more cannot be compared.
    :ivar findings: by kind.
    :ivar looks: requests for single keys.
    :ivar local_files: examined files of the spool.
    :ivar not_audited: keys that were not audited because the time was over.
    :ivar first_not_audited: the first of them, in the order of their bytes; empty if there are none.
    :ivar left_spool_unfinished: not all files of the spool were examined, for the same reason.
    :ivar taken_at: when the inventory in place of a listing was made, seconds since the epoch; else ``None``.
    :ivar unreadable: paths of the ledgers, of several, that could not be read, or not to the end.
    """

    keys: int = 0
    same: int = 0
    size_only: int = 0
    is_deep: bool = False
    findings: dict[Kind, int] = {}
    looks: int = 0
    local_files: int = 0
    not_audited: int = 0
    first_not_audited: str = ""
    left_spool_unfinished: bool = False
    taken_at: float | None = None
    unreadable: list[str] = []

    def count(self, kind: Kind) -> None:
        """Count a finding of that kind."""
        self.findings[kind] = self.findings.get(kind, 0) + 1

    @property
    def is_complete(self) -> bool:
        """Whether everything was audited that could be read."""
        return not self.not_audited and not self.left_spool_unfinished

    @property
    def is_of_all(self) -> bool:
        """Whether everything was audited that was to be."""
        return self.is_complete and not self.unreadable

    @property
    def problems(self) -> int:
        """The number of findings that are problems."""
        return sum(number for kind, number in self.findings.items() if not kind.is_note)


class Judgement(msgspec.Struct, frozen=True):
    """The result of comparing a row with an entry.

    :param kind: ``None`` if all is well.
    :param same: whether the content is the same; ``None`` if unknown.
    """

    kind: Kind | None
    same: bool | None


_ALL_IS_WELL = Judgement(None, True)


def judge(row: ShippedRow, entry: Entry | None) -> Judgement:
    """Compare a shipped file with the entry at the destination."""
    if entry is None:
        return Judgement(Kind.MISSING, None)
    if entry.size != size_there(row):
        return Judgement(Kind.SIZE, False)
    same = same_content(row, entry)
    if same is False:
        return Judgement(Kind.CONTENT, False)
    # A copy in a directory has the time of its file, which may lie in the future.
    written_at = max(row.shipped_at, row.mtime_ns / 1e9)
    later = entry.modified is not None and entry.modified > written_at + CLOCKS_DIFFER
    other_version = bool(entry.version_id and row.version_id) and entry.version_id != row.version_id
    if same:
        return Judgement(Kind.REWRITTEN, True) if later or other_version else _ALL_IS_WELL
    if later or other_version or _is_other_etag(row.etag, entry.etag):
        return Judgement(Kind.REPLACED, None)
    return Judgement(None, None)


def size_there(row: ShippedRow) -> int:
    """The size that the object must have: that of the file, or of its compressed form."""
    return row.size if row.stored_size is None else row.stored_size


def same_content(row: ShippedRow, entry: Entry) -> bool | None:
    """Compare the content by checksums and ETags; ``None`` if they do not tell."""
    if row.etag and row.etag == entry.etag and not entry.checksums:
        return True
    algorithm, _, checksum = row.checksum.partition(":")
    theirs = entry.checksums.get(algorithm)
    if checksum and theirs:
        return checksum == theirs
    ours, etag = row.etag.lower(), entry.etag.lower()
    if ours and ours == etag:
        return True
    # If an ETag only looks like an MD5 (SSE-KMS), a difference proves nothing. One that has been a proof is an MD5.
    known = checksum if algorithm == "md5" else ours if row.proof is Proof.MD5 and _MD5.fullmatch(ours) else ""
    if known and _MD5.fullmatch(etag):
        return True if known == etag else False if row.proof is Proof.MD5 else None
    return None


def is_comparable(row: ShippedRow) -> bool:
    """Whether the ledger has a checksum or ETag to compare with."""
    return bool(row.checksum or row.etag)


def _is_other_etag(ours: str, theirs: str) -> bool:
    """Whether two ETags belong to different objects. ETags of different forms may belong to the same one.

    Some servers answer an upload in parts with one form and show another afterwards.
    """
    if not ours or not theirs or ours.lower() == theirs.lower():
        return False
    return _form(ours) == _form(theirs)


def _form(etag: str) -> str:
    etag = etag.lower()
    return "md5" if _MD5.fullmatch(etag) else "parts" if _MD5_OF_PARTS.fullmatch(etag) else "other"
