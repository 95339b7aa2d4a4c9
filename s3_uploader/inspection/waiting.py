"""Counts what waits in a spool, by location, within a few seconds."""

from __future__ import annotations

import contextlib
from collections import Counter

import msgspec

from s3_uploader.core.control import Clock
from s3_uploader.core.findings import Strangers
from s3_uploader.core.model import Candidate, Left
from s3_uploader.health.left_files import FUTURE_SECONDS, LONG_READY_SECONDS
from s3_uploader.health.observations import FutureFiles, ReadyFiles
from s3_uploader.inspection.preview import look
from s3_uploader.ledger import LedgerReader
from s3_uploader.run.place import Place, build_globs
from s3_uploader.spool.layouts.base import ScanStopped
from s3_uploader.spool.layouts.strangers import look_at
from s3_uploader.spool.root import Names, is_hidden

_LOOK_SECONDS = 3.0
_MOST_NOT_FINISHED = 100
_MOST_STRANGERS = 5000


class Backlog(msgspec.Struct):
    """What waits in one location."""

    location: str
    files: int = 0
    bytes: int = 0
    ready: int = 0
    oldest: float | None = None


class Waiting(msgspec.Struct, kw_only=True):
    """What waits in the spool, and what is left there for good.

    :param foreign: number of files or other entries that are not shipped, by reason.
    :param strangers: the files that the layout does not recognise.
    :param is_complete: whether the whole spool was scanned in time.
    """

    by_location: dict[str, Backlog] = {}
    foreign: dict[str, int] = {}
    not_finished: list[tuple[Candidate, Left]] = []
    future: FutureFiles | None = None
    ready: ReadyFiles | None = None
    strangers: Strangers | None = None
    is_complete: bool = True

    @property
    def files(self) -> int:
        """The number of files that wait."""
        return sum(row.files for row in self.by_location.values())

    @property
    def oldest(self) -> float | None:
        """The data time of the oldest, seconds since the epoch."""
        return min((row.oldest for row in self.by_location.values() if row.oldest is not None), default=None)


def waiting_in(place: Place, ledger: LedgerReader | None, clock: Clock) -> Waiting:
    """Scan the spool as a run does, without files that the ledger remembers as shipped."""
    found = Waiting()
    foreign: Counter[str] = Counter()
    strangers: list[tuple[Names, str]] = []

    def skip(names: Names, name: str, reason: Left, detail: str) -> None:
        is_stranger = reason is Left.UNMATCHED
        if is_stranger and not is_hidden(name) and len(strangers) < _MOST_STRANGERS:
            strangers.append((names, name))
        elif not is_stranger or not is_hidden(name):
            foreign[reason.value] += 1
        if clock.monotonic() > until:
            raise ScanStopped

    verdicts = look(place, ledger=ledger, clock=clock, skip=skip)
    # The ledgers of thousands of shares may take as long as the whole look at the spool.
    until = clock.monotonic() + _LOOK_SECONDS
    try:
        for verdict in verdicts:
            if clock.monotonic() > until:
                raise ScanStopped
            if verdict.reason in (Left.REMEMBERED, Left.VANISHED, Left.SPECIAL):
                continue
            now = clock.now()
            _count(found, verdict.candidate, verdict.reason, now)
            if verdict.reason is None:
                _count_ready(found, place, verdict.candidate, now)
    except ScanStopped:
        found.is_complete = False
    if strangers:
        # Also if the scan has used up its time, because this says why a foreign tree is not shipped.
        until = max(until, clock.monotonic() + _LOOK_SECONDS / 3)
        found.strangers = look_at(
            place.root,
            strangers,
            layout=place.config.layout,
            globs=build_globs(place.config),
            now=clock.now(),
            go_on=lambda: clock.monotonic() < until,
            is_complete=found.is_complete and len(strangers) < _MOST_STRANGERS,
        )
        foreign[Left.UNMATCHED.value] += found.strangers.files
    found.foreign = {reason: number for reason, number in foreign.items() if number}
    return found


def _count(found: Waiting, candidate: Candidate, reason: Left | None, now: float) -> None:
    row = found.by_location.setdefault(candidate.location, Backlog(candidate.location))
    row.files += 1
    row.bytes += candidate.size
    row.ready += reason is None
    since = candidate.period_begin if candidate.period_begin is not None else candidate.mtime_ns / 1e9
    row.oldest = since if row.oldest is None else min(row.oldest, since)
    if reason in (Left.BUSY, Left.FRESH) and len(found.not_finished) < _MOST_NOT_FINISHED:
        found.not_finished.append((candidate, reason))
    ahead = candidate.mtime_ns / 1e9 - now
    if ahead > FUTURE_SECONDS:
        before = found.future
        found.future = FutureFiles(
            files=1 if before is None else before.files + 1,
            path=candidate.path if before is None else before.path,
            seconds=ahead if before is None else before.seconds,
        )


def _count_ready(found: Waiting, place: Place, candidate: Candidate, now: float) -> None:
    since = max(candidate.mtime_ns / 1e9, candidate.period_end or 0.0) + place.config.settle_seconds
    if now - since <= LONG_READY_SECONDS:
        return
    # It may have been moved into the spool long after it was written to, which its ctime tells.
    with contextlib.suppress(OSError):
        since = max(since, place.root.stat(candidate.directory, candidate.name).st_ctime)
        if now - since > LONG_READY_SECONDS:
            before = found.ready
            found.ready = ReadyFiles(
                files=1 if before is None else before.files + 1,
                path=candidate.path if before is None or since < before.since else before.path,
                since=since if before is None else min(since, before.since),
            )
