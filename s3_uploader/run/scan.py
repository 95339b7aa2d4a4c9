"""Scans the spool until the run has to end: finds what is ready, and counts, reports and prunes everything else.

A run begins with :meth:`SpoolScan.find`. Most runs end there, because no file is old enough. What was counted, and why
the run ended (:class:`Ending`), is its report.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from s3_uploader.core.control import Clock, StopRequest, why_settling
from s3_uploader.core.errors import FAILING_DISK, StateError, StoreError, UploaderError
from s3_uploader.core.events import DirectoryPruned, Emit, FileLeft, LocalTrouble
from s3_uploader.core.model import Candidate, Left, RunCounters, RunEnd, RunReport, Untouchable
from s3_uploader.core.origins import of_every_file
from s3_uploader.spool.layouts.base import EmptyDirectory, Found, Layout, NoCandidate
from s3_uploader.spool.root import Names, SpoolRoot, is_hidden, original_name

_COUNT_SECONDS = 1.0
_MOST_SAID = 1000
"""Directories that are remembered to be reported only once."""
_DENIED = (os.strerror(errno.EACCES), os.strerror(errno.EPERM))
_NOT_EMPTY = (
    errno.ENOTEMPTY,
    errno.EEXIST,
    errno.ENOENT,
    errno.ESTALE,
    errno.EBUSY,
    errno.ENOTDIR,
    errno.ELOOP,
)


class RunEnded(Exception):
    """The run takes in no more files."""


class Ending:
    """Knows whether a run takes in more files.

    The first reason to end it counts, except that a requested stop replaces it.

    :param max_runtime_seconds: the run's time budget, starting now.
    :ivar began: monotonic time at which the run began, as ``started_at`` in seconds since the epoch.
    :ivar reason: why the run ends; ``None`` while it goes on.
    :ivar error: the error that ended the run.
    """

    def __init__(self, stop: StopRequest, *, clock: Clock, max_runtime_seconds: float | None) -> None:
        self._stop = stop
        self._clock = clock
        self._max_runtime_seconds = max_runtime_seconds
        self.began = clock.monotonic()
        self.started_at = clock.now()
        self.reason: RunEnd | None = None
        self.error: Exception | None = None

    def is_due(self) -> bool:
        """Whether the run takes in no more files."""
        if self.reason is None:
            if self._stop.requests:
                self.reason = RunEnd.SIGNAL
            elif (
                self._max_runtime_seconds is not None
                and self._clock.monotonic() - self.began >= self._max_runtime_seconds
            ):
                self.reason = RunEnd.BUDGET
        return self.reason is not None

    def seconds_left(self) -> float | None:
        """The seconds left of the time budget, always more than zero; ``None`` without a budget."""
        if self._max_runtime_seconds is None:
            return None
        return max(0.01, self._max_runtime_seconds - (self._clock.monotonic() - self.began))

    def end(self, reason: RunEnd) -> None:
        """End the run without an error; may be called from another thread."""
        self.reason = self.reason or reason

    def abandon(self, reason: RunEnd, error: Exception) -> None:
        """End the run for an error; the first one counts."""
        self.is_due()
        if self.error is None:
            self.error = error
            # A requested stop is reported as such, even if an error follows.
            if self.reason is not RunEnd.SIGNAL:
                self.reason = reason

    def report(self, counters: RunCounters, *, base_dir: str, destination: str, emit: Emit) -> RunReport:
        """Make the report of the finished run; an error that ended it is reported."""
        reason, error = self.reason or RunEnd.DONE, self.error
        if error is not None:
            from s3_uploader.core.meanings import notice_of_end

            emit(notice_of_end(reason, error))
        return report_of(
            counters,
            reason,
            base_dir=base_dir,
            destination=destination,
            started_at=self.started_at,
            duration=self._clock.monotonic() - self.began,
            message="" if error is None else str(error),
            code=error.code if isinstance(error, (StoreError, StateError)) else "",
            origin=of_every_file(error.origin).value if isinstance(error, StoreError) else "",
            signal_number=self._stop.signal_number,
        )


def report_of(
    counters: RunCounters,
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
    """Make the report of a run with these counts and this end."""
    failed = counters.failures + counters.troubles
    waiting = counters.waiting.values()
    return RunReport(
        base_dir=base_dir,
        destination=destination,
        started_at=started_at,
        duration=duration,
        exit_code=exit_code(end, failing=failed + counters.left[Left.WAITING.value], signal_number=signal_number),
        shipped=counters.shipped,
        shipped_bytes=counters.shipped_bytes,
        already_there=counters.already_there,
        failed=failed,
        left=dict(counters.left),
        backlog=sum(there.files for there in waiting),
        backlog_bytes=sum(there.bytes for there in waiting),
        oldest_waiting=min((there.oldest for there in waiting), default=None),
        pruned_directories=counters.pruned,
        ended_by=end.value,
        message=message,
        waiting=dict(counters.waiting),
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


class Leftovers:
    """Counts and reports the entries that a run leaves."""

    def __init__(self, root: SpoolRoot, *, counters: RunCounters, emit: Emit) -> None:
        self._root = root
        self._counters = counters
        self._emit = emit
        self._said_stuck: set[Names] = set()
        self._above: tuple[Names | None, str] = None, ""  # of the last file: thousands come from one directory

    def shown(self, candidate: Candidate) -> str:
        """The absolute path of a candidate, for messages."""
        if candidate.directory is not self._above[0]:
            self._above = candidate.directory, self._root.shown((*candidate.directory, ""))
        return self._above[1] + candidate.name

    def skip(self, names: Names, name: str, reason: Left, detail: str) -> None:
        """Handle an entry that is not a candidate (:data:`~s3_uploader.spool.root.Skip`)."""
        if reason is Left.VANISHED and original_name(name) != name:
            # A private name that this run, or another share, has given to a file since the listing began.
            return
        if reason is Left.UNMATCHED and name.startswith("s3-uploader-"):
            from s3_uploader.spool.probe import remove_left

            if remove_left(self._root, names, name):
                return
        path = self._root.shown(names, name).rstrip("/")
        if reason is Left.UNREADABLE:
            self.cannot(Untouchable(path, "read", detail, _hint_of_reading(detail)))
            return
        self._counters.count_left(reason)
        if reason is Left.UNMATCHED and not is_hidden(name):
            self._counters.note_stranger(names, name)
        if reason is Left.UNDECODABLE:
            self._counters.troubles += 1
            self._emit(LocalTrouble(path, "ship", detail))
        else:
            self._emit(FileLeft(path, reason, detail, 0))

    def leave(self, candidate: Candidate, reason: Left, detail: str) -> None:
        """Handle a candidate that is left without a failure."""
        self._counters.count_left(reason, candidate)
        self._emit(FileLeft(self.shown(candidate), reason, detail, candidate.size))

    def cannot_read(self, candidate: Candidate, message: str) -> None:
        """Handle a candidate that cannot be read on this machine."""
        self.cannot(Untouchable(self.shown(candidate), "read", message, _hint_of_reading(message)), candidate)

    def cannot_remove(self, candidate: Candidate, why: str, hint: str) -> None:
        """Handle a candidate that could not be removed after its upload; reported once for its directory."""
        entry = Untouchable(self.shown(candidate), "remove", why, hint)
        self._counters.count_untouchable(entry, candidate)
        if candidate.directory not in self._said_stuck:
            if len(self._said_stuck) < _MOST_SAID:
                self._said_stuck.add(candidate.directory)
            message = f"{why}, so it is not uploaded, and neither are the files beside it"
            self._emit(LocalTrouble(entry.path, entry.action, message, hint))

    def cannot(self, entry: Untouchable, candidate: Candidate | None = None) -> None:
        """Handle an entry that cannot be read, removed or returned."""
        self._counters.count_untouchable(entry, candidate)
        self._emit(LocalTrouble(entry.path, entry.action, entry.why, entry.hint))


def _hint_of_reading(why: str) -> str:
    if any(each in why for each in _DENIED):
        return "Let the user that runs this program read it, and write its directory."
    return FAILING_DISK if os.strerror(errno.EIO) in why else ""


def prune_upwards(
    root: SpoolRoot, layout: Layout, names: Names, *, now: float, pruned: Callable[[Names], None], child: Names | None
) -> OSError | None:
    """Remove ``names`` if it is empty and may go, then the directory above it, and so on; never the spool itself.

    ``rmdir`` decides what is empty, so a file that a producer creates meanwhile is safe.

    :param pruned: called for each directory that was removed.
    :param child: an entry of it that was just removed; ``None`` if it was found empty.
    :returns: the error that stopped it where that was not simply a directory that is not empty.
    """
    while names:
        try:
            parent = root.directory(names[:-1])
            mtime = os.stat(names[-1], dir_fd=parent, follow_symlinks=False).st_mtime
            if not layout.may_prune(names, now=now, child=child, mtime=mtime):
                return None
            os.rmdir(names[-1], dir_fd=parent)
        except OSError as error:
            return None if error.errno in _NOT_EMPTY else error
        root.forget(names)
        pruned(names)
        child, names = names, names[:-1]
    return None


class Directories:
    """Counts the files in flight in each directory, and removes directories that have become empty.

    :param prune: whether directories are removed at all.
    """

    def __init__(
        self, root: SpoolRoot, layout: Layout, *, counters: RunCounters, emit: Emit, clock: Clock, prune: bool
    ) -> None:
        self._root = root
        self._layout = layout
        self._counters = counters
        self._emit = emit
        self._clock = clock
        self._prune = prune
        self._files_in: Counter[Names] = Counter()

    def begin(self, names: Names) -> None:
        """Count a file of the directory as in flight."""
        self._files_in[names] += 1

    def settle(self, names: Names, *, removed: bool) -> None:
        """Count a file of the directory as no longer in flight."""
        self._files_in[names] -= 1
        if self._files_in[names] <= 0:
            del self._files_in[names]
            if removed:
                self.prune_upwards(names, child=(*names, ""))

    def prune_upwards(self, names: Names, *, child: Names | None = None) -> None:
        """Remove a directory if it is empty and may be pruned, and then its empty parents."""
        if not self._prune or names in self._files_in:
            return
        now = self._clock.now()
        error = prune_upwards(self._root, self._layout, names, now=now, pruned=self._pruned, child=child)
        if error is not None:
            self._emit(LocalTrouble(self._root.shown(names), "prune", error.strerror or str(error)))

    def _pruned(self, names: Names) -> None:
        self._counters.pruned += 1
        self._emit(DirectoryPruned(self._root.shown(names)))


class SpoolScan:
    """Scans one spool, and counts what a run does there. Belongs to the thread that owns the spool.

    :param settle_seconds: how long a file must have been left alone.
    :param prune: whether to remove directories that became empty.
    :param ending: knows whether the run goes on.
    :ivar layout: how the spool is read.
    :ivar beat: called for each entry that is passed over, to show that the run is alive.
    :ivar counters: the counts of the run.
    :ivar leftovers: handles what stays in the spool.
    :ivar directories: counts files in flight by directory.
    """

    def __init__(
        self,
        root: SpoolRoot,
        layout: Layout,
        *,
        settle_seconds: float,
        prune: bool,
        ending: Ending,
        emit: Emit,
        clock: Clock,
        beat: Callable[[], None],
    ) -> None:
        self.root = root
        self.layout = layout
        self._settle_seconds = settle_seconds
        self.ending = ending
        self._clock = clock
        self.beat = beat
        self.counters = RunCounters()
        self.leftovers = Leftovers(root, counters=self.counters, emit=emit)
        self.directories = Directories(root, layout, counters=self.counters, emit=emit, clock=clock, prune=prune)
        self._is_counting = False

    def begin(self) -> Iterator[Found]:
        """Scan the whole spool anew. Raises :class:`RunEnded` if the run ends while entries are passed over."""
        # Another process of this run may have removed a directory that is open here, and a producer made it again.
        self.root.refresh()
        return self.layout.scan(self.root, self._skipped)

    def find(self) -> Iterator[Found] | None:
        """Look for a file that is old enough; returns the scan from that file on, or ``None`` if there is none.

        Opens nothing. If the run has to end meanwhile, the remaining files are counted.
        """
        scan = self.begin()
        try:
            for found in scan:
                if not isinstance(found, NoCandidate):
                    detail = why_settling(found, found.mtime_ns, self._clock.now(), self._settle_seconds)
                    if not detail:
                        return itertools.chain((found,), scan)
                    self.leftovers.leave(found, Left.FRESH, detail)
                elif isinstance(found, EmptyDirectory):
                    self.directories.prune_upwards(found.names)
                self.beat()
                if self.ending.is_due():
                    break
        except RunEnded:
            pass
        self.count_rest(scan)
        return None

    def count_rest(self, scan: Iterator[Found], others: Iterable[Candidate] = ()) -> None:
        """Count, for a moment at most, what a run did not reach before it was ended.

        :param others: files that were deferred.
        """
        if self.ending.reason is None:
            return
        self._is_counting = True
        until = self._clock.monotonic() + _COUNT_SECONDS / (5 if self.ending.reason is RunEnd.SIGNAL else 1)
        for candidate in others:
            self.counters.count_left(Left.POSTPONED, candidate)
        # What cannot be read, because too many files are open for example, is not counted.
        with contextlib.suppress(OSError, UploaderError):
            for found in itertools.takewhile(lambda _: self._clock.monotonic() < until, scan):
                if not isinstance(found, NoCandidate):
                    self.counters.count_left(Left.POSTPONED, found)

    def _skipped(self, names: Names, name: str, reason: Left, detail: str) -> None:
        self.leftovers.skip(names, name, reason, detail)
        if not self._is_counting:
            self.beat()
            if self.ending.is_due():
                raise RunEnded
