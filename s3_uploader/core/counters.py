"""The counts of a run, and its exit code."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable

from s3_uploader.core.model import OTHER_LOCATIONS, Candidate, Left, Receipt, RunEnd, RunReport, Untouchable, Waiting

_MOST_LOCATIONS = 500
"""Most locations that are kept in memory and reported; a spool may have any number."""
_MOST_NOT_FINISHED = 100
_MOST_STRANGERS = 5000
_STILL_SETTLING_SECONDS = 60.0
_NOT_FINISHED = (Left.BUSY, Left.FRESH)
_NOT_WAITING = (Left.VANISHED, Left.SPECIAL, Left.UNMATCHED, Left.EXCLUDED, Left.REMEMBERED)


def overdue(left: Iterable[tuple[Candidate, Left]], now: float) -> list[tuple[Candidate, Left]]:
    """Of files that were left as fresh or busy, select those that should be finished by now.

    These are files that are open, and files that still change although the period in their path is long over. A file
    without a period may grow for any time.
    """
    return [
        (candidate, reason)
        for candidate, reason in left
        if reason is Left.BUSY
        or (candidate.period_end is not None and candidate.period_end + _STILL_SETTLING_SECONDS < now)
    ]


class RunCounters:
    """Counts of one run."""

    def __init__(self) -> None:
        self.shipped = 0
        self.shipped_bytes = 0
        self.already_there = 0
        self.failures = 0
        self.troubles = 0
        self.pruned = 0
        self.left: Counter[str] = Counter()
        self.waiting: dict[str, Waiting] = {}
        self.not_finished: list[tuple[Candidate, Left]] = []
        self.strangers: list[tuple[tuple[str, ...], str]] = []
        self.more_strangers = False
        self.untouchable: Untouchable | None = None
        self.from_future = 0
        self.future_example: tuple[Candidate, float] | None = None

    def count_shipped(self, receipt: Receipt) -> None:
        """Count a file that is at the destination, recorded and disposed of."""
        self.shipped += 1
        self.shipped_bytes += receipt.size
        self.already_there += receipt.already_there

    def count_future(self, candidate: Candidate, seconds: float) -> None:
        """Count a file whose time is this many seconds in the future."""
        self.from_future += 1
        if self.future_example is None:
            self.future_example = candidate, seconds

    def absorb(self, other: RunCounters) -> None:
        """Add the counts of another process of the same run."""
        self.shipped += other.shipped
        self.shipped_bytes += other.shipped_bytes
        self.already_there += other.already_there
        self.failures += other.failures
        self.troubles += other.troubles
        self.pruned += other.pruned
        self.left.update(other.left)
        for name, there in other.waiting.items():
            location = name if name in self.waiting or len(self.waiting) < _MOST_LOCATIONS else OTHER_LOCATIONS
            here = self.waiting.setdefault(location, Waiting(0, 0, there.oldest))
            here.files += there.files
            here.bytes += there.bytes
            here.oldest = min(here.oldest, there.oldest)
        self.not_finished = [*self.not_finished, *other.not_finished][:_MOST_NOT_FINISHED]
        strangers = [*self.strangers, *other.strangers]
        self.more_strangers |= other.more_strangers or len(strangers) > _MOST_STRANGERS
        self.strangers = strangers[:_MOST_STRANGERS]
        self.untouchable = self.untouchable or other.untouchable
        self.from_future += other.from_future
        self.future_example = self.future_example or other.future_example

    def begin_scan(self) -> None:
        """Prepare for another scan in the same run: files that are left are counted again, shipped files are not."""
        self.troubles = 0
        self.left.clear()
        self.waiting.clear()
        self.not_finished.clear()
        self.strangers.clear()
        self.more_strangers = False
        self.untouchable = None

    def count_left(self, reason: Left, candidate: Candidate | None = None) -> None:
        """Count an entry that was left; a candidate still has to be shipped later."""
        self.left[reason.value] += 1
        if candidate is not None and reason not in _NOT_WAITING:
            self.count_waiting(candidate)
            # Scans begin with the oldest files, so the first ones have been in this state for longest.
            if reason in _NOT_FINISHED and len(self.not_finished) < _MOST_NOT_FINISHED:
                self.not_finished.append((candidate, reason))

    def count_untouchable(self, entry: Untouchable, candidate: Candidate | None = None) -> None:
        """Count an entry that cannot be read or removed; the first is remembered as an example."""
        self.count_left(Left.UNREADABLE, candidate)
        self.troubles += 1
        if self.untouchable is None:
            self.untouchable = entry

    def note_stranger(self, directory: tuple[str, ...], name: str) -> None:
        """Take note of an entry that is outside the layout; it may be a directory full of files."""
        if len(self.strangers) < _MOST_STRANGERS:
            self.strangers.append((directory, name))
        else:
            self.more_strangers = True

    def count_waiting(self, candidate: Candidate) -> None:
        """Count a candidate that stays in the spool and still has to be shipped."""
        since = candidate.data_time
        waiting = self.waiting.get(candidate.location)
        if waiting is None:
            location = candidate.location if len(self.waiting) < _MOST_LOCATIONS else OTHER_LOCATIONS
            waiting = self.waiting.setdefault(location, Waiting(0, 0, since))
        waiting.files += 1
        waiting.bytes += candidate.size
        if since < waiting.oldest:
            waiting.oldest = since

    def report(
        self,
        end: RunEnd,
        *,
        base_dir: str,
        destination: str,
        started_at: float,
        duration: float,
        message: str = "",
        code: str = "",
        origin: str = "",
        signal_number: int | None = None,
    ) -> RunReport:
        """Make the report of a run with this end."""
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
            backlog=sum(waiting.files for waiting in self.waiting.values()),
            backlog_bytes=sum(waiting.bytes for waiting in self.waiting.values()),
            oldest_waiting=min((waiting.oldest for waiting in self.waiting.values()), default=None),
            pruned_directories=self.pruned,
            ended_by=end.value,
            message=message,
            waiting=dict(self.waiting),
            code=code,
            origin=origin,
        )


def exit_code(end: RunEnd, *, failing: int, signal_number: int | None) -> int:
    """The exit code of a run.

    A file that waits for its next try keeps the code at 1, because it is still not shipped.
    """
    if end is RunEnd.SIGNAL:
        return 128 + (signal_number or signal.SIGTERM)
    if end is RunEnd.DESTINATION:
        return 3
    if end is RunEnd.STATE or failing:
        return 1
    return 0
