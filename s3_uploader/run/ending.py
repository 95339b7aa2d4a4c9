"""The end of a run: when it is due, the report, the record in the ledger, and the pruning of old history."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.errors import StateError, StoreError
from s3_uploader.core.events import Emit, Notice, RunFinished
from s3_uploader.core.model import FailureBucket, Left, RunCounters, RunEnd, RunReport, overdue
from s3_uploader.core.origins import of_every_file
from s3_uploader.core.text import shown_duration, shown_name
from s3_uploader.health import MEMORY_NAME, NOTE_OF_FULL_DISK, NOTHING_SEEN
from s3_uploader.ledger import EndpointMemory, Ledger
from s3_uploader.ledger.state_directory import keep_reserve
from s3_uploader.run.context import RunContext
from s3_uploader.run.place import Place

if TYPE_CHECKING:
    from s3_uploader.core.findings import Problem
    from s3_uploader.health.said import Sayings

ENDPOINT_MEMORY = "endpoint:"
"""The prefix of names in the ledger for what a store learned about its endpoint."""
SIGHTINGS = "sightings"
"""The name in the ledger for what runs have seen of files whose writers may be on other hosts."""
DELIVERED = "delivered"
"""The name in the ledger for some deliveries, to recognise them in the spool."""
_TIDY_SECONDS = 1.0


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
            level = "info" if reason is RunEnd.DESTINATION_BUSY else "error"
            emit(Notice(level, _sentence(reason, error), about=reason.value))
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


def _sentence(reason: RunEnd, error: Exception) -> str:
    if reason is RunEnd.DESTINATION:
        return f"The run was abandoned, all files are kept: {error}"
    if reason is RunEnd.STATE:
        return f"The run was ended, because shipped files cannot be recorded. Files are kept: {error}"
    return str(error)


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


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a run, and what the next runs need to know of them.

    :param failures: how many uploads failed, by kind.
    :param delivered: some of what was delivered (:meth:`s3_uploader.run.second_copy.SecondCopies.dump`).
    :param sightings: see :meth:`s3_uploader.spool.open_file.Sightings.dump`.
    :param unseen: see :attr:`s3_uploader.spool.open_file.Sightings.unseen`.
    """

    report: RunReport
    failures: Mapping[FailureBucket, int] = {}
    delivered: str = ""
    sightings: str = ""
    unseen: Mapping[str, str] = {}


def conclude(
    place: Place,
    context: RunContext,
    ledger: Ledger,
    run: int,
    done: Done,
    *,
    counters: RunCounters,
    memory: EndpointMemory,
    sayings: Sayings | None,
) -> tuple[RunFinished, tuple[Problem, ...]]:
    """Record a run in the ledger; returns the event of its end, and the problems of the spool.

    :param run: its number in the ledger.
    :param counters: what it has counted.
    :param memory: the ledger's memory of notices.
    :param sayings: what this run has reported already.
    """
    emit, clock, report = context.emit, context.clock, done.report
    try:
        if keep_reserve(place.state_dir):
            _report_room(place.state_dir, emit, clock)
        told = _warn_of_unaudited(ledger, place, report, emit, clock)
        # After the warning there is time for an audit until the next run, even if this run alone filled the ledger.
        _tidy(ledger, place, clock, forgets=not told)
        _note_sightings(ledger, place, done, emit, clock)
        if done.delivered:
            ledger.remember(DELIVERED, done.delivered, now=clock.now())
        if ledger.any_failing:
            from s3_uploader.run.pauses import note

            note(place.config, ledger, environ=context.environ, now=clock.now())
        problems_found: Callable[[], tuple[Problem, ...]] = tuple
        told = sayings is not None and bool(sayings.said)
        if told or _is_noticeable(report, counters, memory, clock.now()):
            from s3_uploader.run.noticing import notice

            # Before the run is recorded in the ledger, so that these facts are committed together with it.
            problems_found = notice(place, context, ledger, report, counters=counters, memory=memory, sayings=sayings)
        ledger.finish_run(run, report, failures=done.failures)
        problems = problems_found()
        return RunFinished(report, ledger.totals(), ledger.failing_count(attempts=1)), problems
    except StateError as error:
        from s3_uploader.health.notices import problems_without_ledger

        # The run itself has reported a full disk, but the metrics and the ping need it too.
        if report.ended_by != RunEnd.STATE.value:
            emit(Notice("warning", f"The run is not in the history: {error}"))
        return RunFinished(report), problems_without_ledger(report)


def _is_noticeable(report: RunReport, counters: RunCounters, memory: EndpointMemory, now: float) -> bool:
    """Whether there is, or was before, anything to report. If not, the rules are not imported."""
    return bool(
        report.exit_code
        or report.ended_by != RunEnd.DONE.value
        or counters.from_future
        or counters.strangers
        or overdue(counters.not_finished, now)
        or (memory.get(MEMORY_NAME) or NOTHING_SEEN) != NOTHING_SEEN
    )


def _report_room(state_dir: str, emit: Emit, clock: Clock) -> None:
    if not os.path.lexists(os.path.join(state_dir, NOTE_OF_FULL_DISK)):
        return  # the full disk was never reported
    from s3_uploader.health.notes import over

    noted = over(state_dir, NOTE_OF_FULL_DISK)
    if noted is not None:
        lasted = shown_duration(max(0.0, clock.now() - noted.since))
        emit(Notice("info", f"Resolved after {lasted}: the disk of the state directory is full."))


def _note_sightings(ledger: Ledger, place: Place, done: Done, emit: Emit, clock: Clock) -> None:
    """Remember what was seen of files whose writers may be on other hosts; report once that such files are shipped."""
    now = clock.now()
    if done.sightings:
        ledger.remember(SIGHTINGS, done.sightings, now=now)
    for reason, path in done.unseen.items():
        from s3_uploader.spool.open_file import unseen_in_words

        name = f"unseen writers:{reason}"
        if ledger.recall(name, now=now, max_age=float("inf")) is None:
            emit(Notice("warning", unseen_in_words(reason, shown_name(place.root.shown((), path)))))
            ledger.remember(name, "said", now=now)


def _warn_of_unaudited(ledger: Ledger, place: Place, report: RunReport, emit: Emit, clock: Clock) -> bool:
    """Say, once until the next audit, that the ledger is about to forget files that nobody has audited.

    Returns whether it was said.
    """
    days, files = place.config.history_days, place.config.history_max_files
    told = ledger.about_to_forget(
        now=clock.now(), history_days=days, history_max_files=files, destination=report.destination
    )
    if told:
        sentence = (
            f"The ledger forgets files {days:g} days after they were shipped, and more than {files:,} (history_days, "
            "history_max_files). No audit has covered those that it forgets next. Run s3-uploader-cli audit first. "
            "This is reported once until the next audit."
        )
        emit(Notice("warning", sentence))
    return told


def _tidy(ledger: Ledger, place: Place, clock: Clock, *, forgets: bool) -> None:
    """Let the ledger forget vanished files and old history, for a moment at most; the next run continues.

    :param forgets: whether it may forget history.
    """

    def exists(path: str) -> bool:
        try:
            # A claimed file is in claim_dir. Between the two checks it may have been given back.
            return is_there(path) or is_claimed(path) or is_there(path)
        except OSError:
            return True  # unknown for now

    def is_there(path: str) -> bool:
        names = tuple(path.split("/"))
        try:
            place.root.stat(names[:-1], names[-1])
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_claimed(path: str) -> bool:
        if place.config.claim_dir is None:
            return False
        from s3_uploader.spool import claims

        return claims.is_claimed(os.path.abspath(place.config.claim_dir), path)

    until = clock.monotonic() + _TIDY_SECONDS
    ledger.sweep_failed(exists, now=clock.now())
    if place.config.on_success == "keep":
        ledger.sweep_kept(exists, now=clock.now())
    if forgets:
        ledger.prune(
            now=clock.now(),
            history_days=place.config.history_days,
            history_max_files=place.config.history_max_files,
            go_on=lambda: clock.monotonic() < until,
        )
