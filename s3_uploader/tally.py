"""What a run has done so far, in numbers, and what its end means for the caller."""

from __future__ import annotations

import enum
import signal
from collections import Counter

from s3_uploader.model import Candidate, Left, Receipt, RunReport


class End(enum.Enum):
    """What ended a run."""

    DONE = "done"
    BUDGET = "time budget"
    SIGNAL = "signal"
    DESTINATION = "destination unusable"
    DESTINATION_BUSY = "destination busy"
    STATE = "ledger unusable"
    LOCKED = "another run has the spool"


_NOT_WAITING = (Left.VANISHED, Left.SPECIAL, Left.UNDATED, Left.REMEMBERED)


class Tally:
    """Counts of one run."""

    def __init__(self) -> None:
        self.shipped = 0
        self.shipped_bytes = 0
        self.already_there = 0
        self.failures = 0
        self.troubles = 0
        self.pruned = 0
        self.left: Counter[str] = Counter()
        self.backlog = 0
        self.backlog_bytes = 0
        self.oldest_waiting: float | None = None

    def count_shipped(self, receipt: Receipt) -> None:
        """A file is at the destination, recorded and disposed of."""
        self.shipped += 1
        self.shipped_bytes += receipt.size
        self.already_there += receipt.already_there

    def begin_scan(self) -> None:
        """The spool is scanned anew in the same run: what was left is counted again, what was done is not."""
        self.troubles = 0
        self.left.clear()
        self.backlog = 0
        self.backlog_bytes = 0
        self.oldest_waiting = None

    def count_left(self, reason: Left, candidate: Candidate | None = None) -> None:
        """An entry was left; a candidate still has to be shipped one day."""
        self.left[reason.value] += 1
        if candidate is not None and reason not in _NOT_WAITING:
            self.count_waiting(candidate)

    def count_waiting(self, candidate: Candidate) -> None:
        """A candidate stays in the spool and still has to be shipped."""
        self.backlog += 1
        self.backlog_bytes += candidate.size
        since = candidate.period_begin if candidate.period_begin is not None else candidate.mtime_ns / 1e9
        if self.oldest_waiting is None or since < self.oldest_waiting:
            self.oldest_waiting = since

    def report(
        self,
        end: End,
        *,
        base_dir: str,
        destination: str,
        started_at: float,
        duration: float,
        message: str = "",
        signal_number: int | None = None,
    ) -> RunReport:
        """The counts as the report of a run that ended so."""
        failing = self.failures + self.troubles + self.left[Left.WAITING.value]
        return RunReport(
            base_dir=base_dir,
            destination=destination,
            started_at=started_at,
            duration=duration,
            exit_code=exit_code(end, failing=failing, signal_number=signal_number),
            shipped=self.shipped,
            shipped_bytes=self.shipped_bytes,
            already_there=self.already_there,
            failed=self.failures + self.troubles,
            left=dict(self.left),
            backlog=self.backlog,
            backlog_bytes=self.backlog_bytes,
            oldest_waiting=self.oldest_waiting,
            pruned_directories=self.pruned,
            ended_by=end.value,
            message=message,
        )


def exit_code(end: End, *, failing: int, signal_number: int | None) -> int:
    """The exit code of a run.

    A file that waits for its next try keeps the code at 1: it is still not shipped.
    """
    if end is End.SIGNAL:
        return 128 + (signal_number or signal.SIGTERM)
    if end is End.DESTINATION:
        return 3
    if end is End.STATE or failing:
        return 1
    return 0
