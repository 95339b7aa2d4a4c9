"""One run of a configuration: opens the spool, takes the lock, scans, ships what is ready, records how it ended."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.errors import (
    FAILING_DISK,
    LockHeld,
    NotMounted,
    SpoolError,
    StateError,
    is_of_a_failing_disk,
)
from s3_uploader.core.events import Emit, Notice, RunFinished, RunStarted
from s3_uploader.core.model import RunCounters, RunEnd, RunReport, overdue
from s3_uploader.core.text import shown_duration, shown_name
from s3_uploader.health import MEMORY_NAME, MEMORY_PREFIX, NOTE_OF_FULL_DISK, NOTHING_SEEN
from s3_uploader.ledger import EndpointMemory, Ledger, create_state_directory
from s3_uploader.ledger.state_directory import keep_reserve
from s3_uploader.run.context import CLAIM_DIR, DELIVERED, SIGHTINGS, Done, RunContext
from s3_uploader.run.place import Place, directories_of, open_place, verify_mounts
from s3_uploader.run.scan import Ending, Leftovers, SpoolScan
from s3_uploader.spool.lock import Lock, acquire
from s3_uploader.spool.lock_file import Extent
from s3_uploader.spool.mounts import patience, refuse_read_only, refuse_silent

if TYPE_CHECKING:
    from s3_uploader.core.findings import Problem
    from s3_uploader.health.said import Sayings
    from s3_uploader.spool.claims import Claims

_TIDY_SECONDS = 1.0


def run_once(
    config: Config,
    context: RunContext,
    *,
    wait_for_lock_seconds: float = 0.0,
    max_runtime_seconds: float | None = None,
) -> RunReport:
    """Run one pass over the spool.

    If another run has the spool, this one steps aside: the report then says ``ended_by: locked``.

    :param max_runtime_seconds: replaces the configuration's own.
    :raises SpoolError: if the spool cannot be used.
    :raises StateError: if the ledger cannot be opened, so that nothing may be shipped.
    :raises LockHeld: if another run still has the spool after ``wait_for_lock_seconds``, and that was not zero.
    """
    clock, stop = context.clock, context.stop
    began, started_at = clock.monotonic(), clock.now()
    try:
        with _reporting_failed_start(config, context), _open(config, context, max_runtime_seconds) as place:
            if config.on_success != "keep":
                refuse_read_only(place.root)
            create_state_directory(place.state_dir)
            verify_mounts(config, environ=context.environ, note=True)
            try:
                lock = _lock(place, context.emit, _stoppable(clock, stop), wait_for_lock_seconds)
            except LockHeld as held:
                if wait_for_lock_seconds or held.is_refusal:
                    raise
                from s3_uploader.run.not_begun import empty_report, step_aside

                step_aside(place, held, context, started_at)
                return empty_report(config, RunEnd.LOCKED, started_at, clock.monotonic() - began, message=str(held))
            except OSError as error:
                if not is_of_a_failing_disk(error):
                    raise
                fact = f"base_dir {place.root.base_dir} cannot be locked: {error.strerror}."
                raise SpoolError(fact, hint=FAILING_DISK) from error
            try:
                return _locked_run(place, context, max_runtime_seconds, lock)
            finally:
                lock.release()
    except _StoppedWaiting:
        from s3_uploader.run.not_begun import empty_report

        seconds = clock.monotonic() - began
        return empty_report(config, RunEnd.SIGNAL, started_at, seconds, signal_number=stop.signal_number)


@contextmanager
def _reporting_failed_start(config: Config, context: RunContext) -> Iterator[None]:
    began_at = context.clock.now()
    try:
        yield
    except (SpoolError, StateError, LockHeld) as error:
        from s3_uploader.run.not_begun import tell_not_begun

        tell_not_begun(config, context, error, at=began_at)
        raise


def _open(config: Config, context: RunContext, max_runtime_seconds: float | None) -> AbstractContextManager[Place]:
    seconds = patience(max_runtime_seconds or config.max_runtime_seconds)
    try:
        refuse_silent(directories_of(config), seconds=seconds, stopped=lambda: context.stop.requests)
    except NotMounted as error:
        if not context.stop.requests:
            raise
        # What the stop has cut short is told all the same.
        context.emit(Notice("error", str(error)))
        raise _StoppedWaiting from error
    if not os.path.isdir(config.base_dir):
        verify_mounts(config, environ=context.environ)  # perhaps its disk is not mounted
    return open_place(config, environ=context.environ)


class _StoppedWaiting(Exception):
    """Raised if a stop was requested while the run waited for the lock, or for a directory to answer."""


def _stoppable(clock: Clock, stop: StopRequest) -> Clock:
    """The same clock, but its sleep raises ``_StoppedWaiting`` when a stop is requested."""

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if stop.requests:
            raise _StoppedWaiting

    return Clock(now=clock.now, monotonic=clock.monotonic, sleep=sleep)


def _lock(place: Place, emit: Emit, clock: Clock, wait_seconds: float) -> Lock:
    return acquire(
        place.root.descriptor,
        base_dir=place.config.base_dir,
        state_dir=place.common_state_dir,
        note_dir=place.state_dir,
        wait_seconds=wait_seconds,
        clock=clock.monotonic,
        now=clock.now,
        sleep=clock.sleep,
        # Uploaders that claim files may share the spool. Any other uploader needs it for itself.
        extent=Extent(
            share=place.share,
            by_location=place.config.share_by == "location",
            claims=place.config.claim_dir is not None,
        ),
        notice=lambda sentence: emit(Notice("warning", sentence)),
    )


def _locked_run(place: Place, context: RunContext, max_runtime_seconds: float | None, lock: Lock) -> RunReport:
    """Run one pass over the locked spool.

    :raises StateError: if the ledger cannot be opened.
    """
    config, clock, emit = place.config, context.clock, context.emit
    with Ledger.open(
        place.ledger_path, notice=lambda sentence: emit(Notice("warning", sentence)), clock=clock.now
    ) as ledger:
        memory = ledger.endpoint_memory(prefix=MEMORY_PREFIX)
        sayings: Sayings | None = None
        if context.is_one_of_many or (memory.get(MEMORY_NAME) or NOTHING_SEEN) != NOTHING_SEEN:
            from s3_uploader.health.telling import Telling

            telling = Telling.recalled(
                emit, memory, now=clock.now(), says_again=context.says_again, marks=context.is_one_of_many
            )
            sayings, context = telling.sayings, msgspec.structs.replace(context, emit=telling)
        destination = config.destination.name
        run = ledger.begin_run(
            started_at=clock.now(), pid=os.getpid(), host=os.uname().nodename, destination=destination
        )
        context.emit(RunStarted(config.base_dir, destination))
        _warn_of_deletion(config, context)
        if ledger.any_failing:
            from s3_uploader.run.pauses import end_pauses

            end_pauses(config, ledger, environ=context.environ, now=clock.now(), emit=context.emit)
        scan = scan_of(place, context, max_runtime_seconds or config.max_runtime_seconds)
        # Claimed files are given back only after all uploads have ended.
        with _claims(place, ledger, scan.leftovers, context.emit, clock) as claims:
            if context.scan_trigger is not None:
                context.scan_trigger.forget()
            begun = scan.find()
            if begun is None:
                done = _nothing_to_ship(place, context, scan)
            else:
                # Half of the program is needed only if there is a file to ship. Most runs, one each minute, find none,
                # so it is imported here and not before.
                from s3_uploader.run.assembly import ship_as_leader

                done = ship_as_leader(place, context, ledger, scan, begun, run=run, lock=lock, claims=claims)
        finished, problems = _conclude(
            place, context, ledger, run, done, counters=scan.counters, memory=memory, sayings=sayings
        )
        context.emit(finished)
        if context.measure is not None:
            from s3_uploader.run.measuring import measured

            context.measure(measured(ledger, finished, problems))
        return done.report


def scan_of(place: Place, context: RunContext, max_runtime_seconds: float | None) -> SpoolScan:
    """Make the scan of a spool. The time of the run counts from here."""
    config, clock = place.config, context.clock
    return SpoolScan(
        place.root,
        place.layout,
        settle_seconds=config.settle_seconds,
        prune=config.prune_empty_dirs if config.prune_empty_dirs is not None else config.layout == "dated",
        ending=Ending(context.stop, clock=clock, max_runtime_seconds=max_runtime_seconds),
        emit=context.emit,
        clock=clock,
        beat=context.beat,
    )


def _nothing_to_ship(place: Place, context: RunContext, scan: SpoolScan) -> Done:
    report = scan.ending.report(
        scan.counters, base_dir=place.root.base_dir, destination=place.config.destination.name, emit=context.emit
    )
    return Done(report=report)


def _claims(
    place: Place, ledger: Ledger, leftovers: Leftovers, emit: Emit, clock: Clock
) -> AbstractContextManager[Claims | None]:
    """The claims of the run: ``None`` unless it has a directory for them, or the last run had one."""
    former = ledger.recall(CLAIM_DIR, now=clock.now(), max_age=math.inf) or ""
    if place.config.claim_dir is None and not former:
        return nullcontext()
    from s3_uploader.run.claiming import claimed

    return claimed(place, ledger, former, leftovers, emit, clock)


def _warn_of_deletion(config: Config, context: RunContext) -> None:
    if config.on_failure == "delete" and not context.is_rehearsal:
        sentence = (
            "on_failure is delete: a file that the destination refuses is deleted and lost. Conflicts, missing "
            "permissions and errors that may pass, such as a lost connection, delete nothing."
        )
        context.emit(Notice("warning", sentence))


def _conclude(
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
        name = f"unseen writers:{reason}"
        if ledger.recall(name, now=now, max_age=float("inf")) is None:
            from s3_uploader.spool.check import unseen_in_words

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
        from s3_uploader.spool import claim_dir

        return claim_dir.is_claimed(os.path.abspath(place.config.claim_dir), path)

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
