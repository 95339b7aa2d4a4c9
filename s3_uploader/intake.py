"""Whether a candidate is shipped in this run: the one sequence of questions that a run and a rehearsal both ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from s3_uploader.ledger.rows import FailingRow
from s3_uploader.model import Candidate, Left
from s3_uploader.spool.layout import EmptyDirectory, Layout, Skip
from s3_uploader.spool.readiness import still_settling
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.spool.source import OpenFile, open_candidate


class Intake:
    """Decides about candidates and opens those that are ready.

    :param known_failure: the record of a file that failed before, if there is one.
    :param is_remembered: whether this very file was shipped before and kept.
    """

    def __init__(
        self,
        root: SpoolRoot,
        *,
        settle_seconds: float,
        known_failure: Callable[[str], FailingRow | None],
        is_remembered: Callable[[OpenFile], bool],
    ) -> None:
        self._root = root
        self._settle_seconds = settle_seconds
        self._known_failure = known_failure
        self._is_remembered = is_remembered

    def admit(self, candidate: Candidate, *, now: float) -> OpenFile | tuple[Left, str]:
        """The open file if it is ready, else why it is left, with a detail for people."""
        detail = self._settling(candidate, candidate.mtime_ns, now)
        if detail:
            return Left.FRESH, detail
        failing = self._known_failure(candidate.path)
        if failing is not None and failing.waits(size=candidate.size, mtime_ns=candidate.mtime_ns, now=now):
            return Left.WAITING, f"failed {failing.attempts} times, last with: {failing.message}"
        file = open_candidate(self._root, candidate)
        if not isinstance(file, OpenFile):
            return file
        # The scan's look at the file is a moment old by now.
        if file.fingerprint.mtime_ns != candidate.mtime_ns:
            detail = self._settling(candidate, file.fingerprint.mtime_ns, now)
            if detail:
                file.close()
                return Left.FRESH, detail
        if self._is_remembered(file):
            file.close()
            return Left.REMEMBERED, ""
        return file

    def _settling(self, candidate: Candidate, mtime_ns: int, now: float) -> str:
        return still_settling(
            period_begin=candidate.period_begin,
            period_end=candidate.period_end,
            mtime=mtime_ns / 1e9,
            now=now,
            settle_seconds=self._settle_seconds,
        )


class Verdict(msgspec.Struct, frozen=True):
    """What a run would do with a candidate now: ship it (``reason`` is ``None``) or leave it."""

    candidate: Candidate
    reason: Left | None
    detail: str


def survey(
    root: SpoolRoot, layout: Layout, intake: Intake, *, now: Callable[[], float], skip: Skip
) -> Iterator[Verdict]:
    """What a run would do with each candidate, without doing anything. Reads no content."""
    for found in layout.scan(root, skip):
        if isinstance(found, EmptyDirectory):
            continue
        file = intake.admit(found, now=now())
        if isinstance(file, OpenFile):
            file.close()
            yield Verdict(found, None, "")
        else:
            yield Verdict(found, *file)
