"""The audit of the spool: files that were shipped and are still there."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator

from s3_uploader.core.control import Clock
from s3_uploader.core.model import Left
from s3_uploader.inspection.audit.discrepancies import Discrepancy, Kind, Summary
from s3_uploader.inspection.preview import look
from s3_uploader.ledger import ShippedRow
from s3_uploader.ledger.snapshot import Snapshot, SpoolFile
from s3_uploader.ledger.together import open_together
from s3_uploader.monitoring.words import left_words
from s3_uploader.run.place import Place
from s3_uploader.spool.root import Names

_CHUNK = 1 << 20
_NOT_FILES = (Left.VANISHED, Left.SPECIAL)


def audit_spool(
    place: Place,
    snapshot: Snapshot,
    *,
    deep: bool,
    address: Callable[[str], str],
    tell: Callable[[Discrepancy], None],
    summary: Summary,
    until: float = math.inf,
) -> None:
    """Report every file that is still there with the content that was shipped, and why it is.

    A file that is kept on purpose is not a finding. With ``deep`` each file is read, and must have the content that was
    shipped.

    :param until: the end of the audit, by the monotonic clock.
    """
    for file, row in snapshot.shipped_and_there(_files(place, summary, until)):
        if time.monotonic() >= until:
            summary.left_spool_unfinished = True
            return
        if (row.size, row.mtime_ns) != (file.size, file.mtime_ns):
            continue  # changed since: it waits to be shipped again
        try:
            detail = _difference(place, row, until) if deep else ""
        except TimeoutError:
            summary.left_spool_unfinished = True
            return
        if detail is None:
            continue  # a run has just removed it
        kind = Kind.LOCAL
        if not detail:
            if file.reason == Left.REMEMBERED.value:
                continue
            kind = Kind.STILL_THERE
            detail = _why_there(file)
        summary.count(kind)
        tell(Discrepancy(kind=kind, row=row, address=address(row.key), detail=detail))


def _files(place: Place, summary: Summary, until: float) -> Iterator[SpoolFile]:
    def skip(names: Names, name: str, reason: Left, detail: str) -> None:
        pass

    with open_together(place.ledger_path) as ledger:
        for verdict in look(place, ledger=ledger, clock=Clock(), skip=skip):
            if time.monotonic() >= until:
                summary.left_spool_unfinished = True
                return
            if verdict.reason in _NOT_FILES:
                continue
            summary.local_files += 1
            candidate = verdict.candidate
            reason = verdict.reason.value if verdict.reason is not None else ""
            yield SpoolFile(candidate.path, candidate.size, candidate.mtime_ns, reason, verdict.detail)


def _why_there(file: SpoolFile) -> str:
    if not file.reason:
        return "it is ready. The next run finds it shipped and deletes it"
    return left_words(file.reason) + (f": {file.detail}" if file.detail else "")


def _difference(place: Place, row: ShippedRow, until: float) -> str | None:
    """How the content of a local file differs from the shipped one: empty if it does not, ``None`` if the file is gone.

    Of a compressed file the ledger has only the checksum of the compressed bytes.

    :raises TimeoutError: if the file was not read to its end in time.
    """
    if row.encoding:
        return ""
    known = {}
    algorithm, _, value = row.checksum.partition(":")
    if value:
        known[algorithm] = value
    *names, name = row.path.split("/")
    try:
        descriptor = place.root.open_file(tuple(names), name)
        try:
            there = _digests(descriptor, until)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except TimeoutError:
        raise
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    for algorithm, value in known.items():
        if algorithm in there and there[algorithm] != value:
            return f"its {algorithm} is {there[algorithm]}, that of the shipped content is {value}"
    return ""


def _digests(descriptor: int, until: float) -> dict[str, str]:
    crc = 0
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    while chunk := os.read(descriptor, _CHUNK):
        crc = zlib.crc32(chunk, crc)
        md5.update(chunk)
        sha256.update(chunk)
        if time.monotonic() >= until:
            raise TimeoutError
    return {
        "crc32": base64.b64encode(crc.to_bytes(4, "big")).decode(),
        "md5": md5.hexdigest(),
        "sha256": sha256.hexdigest(),
    }
