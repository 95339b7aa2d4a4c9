"""The composition root: a configuration becomes a wired run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core import descriptors
from s3_uploader.core.control import Clock, ScanTrigger, StopRequest
from s3_uploader.core.counters import RunCounters, RunEnd
from s3_uploader.core.errors import LockHeld, SpoolError, StateError, UploaderError
from s3_uploader.core.events import (
    MOST_LOCATIONS,
    Emit,
    Measure,
    Notice,
    RunFinished,
    RunMeasured,
    RunNotBegun,
    RunStarted,
    measured_problems,
)
from s3_uploader.core.model import Problem, RunReport, Strangers
from s3_uploader.core.text import counted, shown_name
from s3_uploader.health import notices
from s3_uploader.health.said import Sayings
from s3_uploader.ledger import Ledger, create_state_directory, reserve
from s3_uploader.run.assembly import (
    ENDPOINT_MEMORY,
    SIGHTINGS,
    MakeStore,
    Place,
    build_globs,
    build_plan,
    build_store,
    failure_policy,
    open_claims,
    open_place,
    shipping_store,
    success_policy,
    verify_mounts,
)
from s3_uploader.run.disposition import FailurePolicy
from s3_uploader.run.pipeline import Limits, Pipeline
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.lock import Lock, acquire
from s3_uploader.spool.removable import refuse_read_only
from s3_uploader.spool.sightings import Sightings, unseen_in_words

if TYPE_CHECKING:
    from s3_uploader.spool.claims import Claims

_DELIVERED = "delivered"
_CLOSE_SECONDS = 5.0
_TIDY_SECONDS = 1.0
_STRANGERS_SECONDS = 0.5
_LONG_HELD_SECONDS = 60.0
"""Seconds for which a lock may be held before anybody wonders; when it is too long is found out then."""


def _random() -> float:
    # Only a file that failed needs a random number; the module costs 2 ms.
    import random

    return random.random()


def _no_beat() -> None:
    pass


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is given from outside beside its configuration; tests and ``watch`` give something else.

    :param beat: called often by the thread that leads the run, to show that it is alive.
    :param make_store: makes the store; the run opens and closes it.
    :param is_rehearsal: failures are made up, so that no file may be moved or deleted for them.
    :param news: see :class:`~s3_uploader.run.pipeline.Pipeline`.
    :param says_again: somebody looks on: what earlier runs have told of lasting troubles is told again.
    :param is_one_of_many: a timer starts one after the other: what earlier runs have told is not told by each.
    :param retries: files that failed are tried although their pauses are not over.
    :param measure: told once what the run measured, or that it could not begin. Where nobody wants to know, the ledger
        is asked for less.
    """

    emit: Emit
    stop: StopRequest = msgspec.field(default_factory=StopRequest)
    clock: Clock = Clock()
    environ: Mapping[str, str] = os.environ
    random: Callable[[], float] = _random
    beat: Callable[[], None] = _no_beat
    make_store: MakeStore = build_store
    is_rehearsal: bool = False
    news: ScanTrigger | None = None
    measure: Measure | None = None
    says_again: bool = False
    is_one_of_many: bool = False
    retries: bool = False


def run_once(
    config: Config,
    context: RunContext,
    *,
    wait_for_lock_seconds: float = 0.0,
    max_runtime_seconds: float | None = None,
) -> RunReport:
    """One pass over the spool.

    A spool that another run has is left to it: the report then says ``ended_by: another run has the spool``.

    :param max_runtime_seconds: instead of the configuration's own.
    :raises SpoolError: if the spool cannot be used.
    :raises StateError: if the ledger cannot be opened, so that nothing may be shipped.
    :raises LockHeld: if another run still has the spool after ``wait_for_lock_seconds``, and that was not zero.
    """
    began_at = context.clock.now()
    try:
        return _run_once(config, context, wait_for_lock_seconds, max_runtime_seconds)
    except (SpoolError, StateError, LockHeld) as error:
        if context.is_one_of_many and isinstance(error, SpoolError):
            error.is_repeated = notices.is_no_news(config, error, environ=context.environ, now=began_at)
        _measure_not_begun(config, context, began_at, error)
        raise


def _run_once(
    config: Config, context: RunContext, wait_for_lock_seconds: float, max_runtime_seconds: float | None
) -> RunReport:
    emit, clock = context.emit, context.clock
    if not os.path.isdir(config.base_dir):
        verify_mounts(config, environ=context.environ)  # it has perhaps gone with its disk
    with open_place(config, environ=context.environ) as place:
        if config.on_success != "keep":
            refuse_read_only(place.root)
        create_state_directory(place.state_dir)
        verify_mounts(config, environ=context.environ, note=True)
        began = clock.monotonic()
        started_at = clock.now()
        stop = context.stop
        try:
            lock = _lock(place, emit, _stoppable(clock, stop), wait_for_lock_seconds)
        except LockHeld as held:
            if wait_for_lock_seconds:
                raise
            _step_aside(place, held, context, started_at)
            return _empty_report(config, RunEnd.LOCKED, started_at, clock.monotonic() - began, message=str(held))
        except _StoppedWaiting:
            seconds = clock.monotonic() - began
            return _empty_report(config, RunEnd.SIGNAL, started_at, seconds, signal_number=stop.signal_number)
        try:
            return _locked_run(place, context, max_runtime_seconds, lock)
        finally:
            lock.release()


class _StoppedWaiting(Exception):
    """The stop was requested while the run waited for the lock."""


def _stoppable(clock: Clock, stop: StopRequest) -> Clock:
    """The same clock, but its sleep ends in ``_StoppedWaiting`` once a stop is requested."""

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if stop.requests:
            raise _StoppedWaiting

    return Clock(now=clock.now, monotonic=clock.monotonic, sleep=sleep)


def _lock(place: Place, emit: Emit, clock: Clock, wait_seconds: float) -> Lock:
    return acquire(
        place.root.descriptor,
        base_dir=place.config.base_dir,
        state_dir=place.state_dir,
        wait_seconds=wait_seconds,
        clock=clock.monotonic,
        now=clock.now,
        sleep=clock.sleep,
        # Uploaders that claim files keep apart by that, and share the spool; one that does not must have it alone.
        shared=place.config.claim_dir is not None,
        notice=lambda sentence: emit(Notice("warning", sentence)),
    )


def _locked_run(place: Place, context: RunContext, max_runtime_seconds: float | None, lock: Lock) -> RunReport:
    config = place.config
    emit, clock = context.emit, context.clock
    with Ledger.open(
        place.ledger_path, notice=lambda sentence: emit(Notice("warning", sentence)), clock=clock.now
    ) as ledger:
        memory = ledger.endpoint_memory(prefix=notices.MEMORY_PREFIX)
        sayings = Sayings(notices.Seen.recalled(memory).said, now=clock.now(), says_again=context.says_again)
        if context.is_one_of_many:
            from s3_uploader.health.telling import Telling

            emit = Telling(emit, sayings)
        store = shipping_store(
            config,
            make_store=context.make_store,
            notice=lambda level, sentence: emit(Notice(level, sentence)),
            memory=ledger.endpoint_memory(prefix=ENDPOINT_MEMORY),
            state_dir=place.state_dir,
        )
        run = ledger.begin_run(
            started_at=clock.now(), pid=os.getpid(), host=os.uname().nodename, destination=store.properties.name
        )
        emit(RunStarted(config.base_dir, store.properties.name))
        if config.on_failure == "delete" and not context.is_rehearsal:
            emit(
                Notice(
                    "warning",
                    "on_failure is delete: a file that cannot be shipped is deleted, and is nowhere else. "
                    "A file whose key is taken by other content is kept.",
                )
            )
        settlement = Settlement(
            root=place.root,
            layout=place.layout,
            store=store,
            records=ledger,
            run=run,
            emit=emit,
            clock=clock,
            on_success=success_policy(config),
            on_failure=FailurePolicy() if context.is_rehearsal else failure_policy(config),
            prune=config.prune_empty_dirs if config.prune_empty_dirs is not None else config.layout == "dated",
            random=context.random,
            is_rehearsal=context.is_rehearsal,
            confirm_lock=lock.confirm,
        )
        sightings = Sightings(
            place.root,
            settle_seconds=config.settle_seconds,
            known=ledger.recall(SIGHTINGS, now=clock.now()),
        )
        settlement.second_copies.load(ledger.recall(_DELIVERED, now=clock.now()))
        if ledger.any_failing:
            from s3_uploader.run.pauses import end_pauses

            end_pauses(config, ledger, environ=context.environ, now=clock.now(), emit=emit)
        claims = _claims(place, emit)
        pipeline = Pipeline(
            root=place.root,
            layout=place.layout,
            store=store,
            settlement=settlement,
            emit=emit,
            clock=clock,
            stop=context.stop,
            beat=context.beat,
            limits=_limits(config, max_runtime_seconds),
            plan=build_plan(config),
            claims=claims,
            sightings=sightings,
            news=context.news,
            retries=context.retries,
        )
        try:
            report = pipeline.run()
        finally:
            # What is claimed is given back only when no upload can be under way any more.
            store.close(timeout=_CLOSE_SECONDS)
            if claims is not None:
                claims.close()
        problems: tuple[Problem, ...] = ()
        try:
            reserve.keep(place.state_dir)
            _tidy(ledger, place, clock)
            _note_sightings(ledger, place, sightings, emit, clock)
            delivered = settlement.second_copies.dump()
            if delivered:
                ledger.remember(_DELIVERED, delivered, now=clock.now())
            if ledger.any_failing:
                from s3_uploader.run.pauses import note

                note(config, ledger, environ=context.environ, now=clock.now())
            noticed = notices.Noticing(
                ledger,
                settlement.counters,
                report,
                now=clock.now(),
                emit=emit,
                layout=config.layout,
                look=lambda: _strangers(place, settlement.counters, clock),
                memory=memory,
                sayings=sayings,
            )
            ledger.finish_run(run, report, failures=settlement.failures.counted)
            problems = noticed.problems()
            finished = RunFinished(report, ledger.totals(), ledger.failing_count(attempts=1))
        except StateError as error:
            # A full disk, for one, has been reported by the run already; metrics and ping hear of it all the same.
            if report.ended_by != RunEnd.STATE.value:
                emit(Notice("warning", f"The run is not in the history: {error}"))
            finished = RunFinished(report)
            problems = _problems_without_ledger(report)
        emit(finished)
        if context.measure is not None:
            context.measure(_measured(ledger, finished, problems))
        return report


def _strangers(place: Place, counters: RunCounters, clock: Clock) -> Strangers:
    """What the entries are that the layout did not recognise, looked at for a moment at most."""
    from s3_uploader.spool.layouts.strangers import look_at

    until = clock.monotonic() + _STRANGERS_SECONDS
    return look_at(
        place.root,
        counters.strangers,
        layout=place.config.layout,
        globs=build_globs(place.config),
        now=clock.now(),
        go_on=lambda: clock.monotonic() < until,
        is_complete=not counters.more_strangers,
    )


def _limits(config: Config, max_runtime_seconds: float | None) -> Limits:
    open_files, connections = descriptors.share(descriptors.room(), connections=config.destination.max_concurrency)
    return Limits(
        settle_seconds=config.settle_seconds,
        upload_timeout_seconds=config.upload_timeout_seconds,
        drain_seconds=config.drain_seconds,
        max_runtime_seconds=max_runtime_seconds or config.max_runtime_seconds,
        max_in_flight=connections,
        max_open_files=open_files,
    )


def _note_sightings(ledger: Ledger, place: Place, sightings: Sightings, emit: Emit, clock: Clock) -> None:
    """Remember what was seen of files whose writers may be elsewhere; say once that such files are shipped."""
    now = clock.now()
    seen = sightings.dump()
    if seen:
        ledger.remember(SIGHTINGS, seen, now=now)
    for reason, path in sightings.unseen.items():
        name = f"unseen writers:{reason}"
        if ledger.recall(name, now=now, max_age=float("inf")) is None:
            emit(Notice("warning", unseen_in_words(reason, shown_name(place.root.shown((), path)))))
            ledger.remember(name, "said", now=now)


def _problems_without_ledger(report: RunReport) -> tuple[Problem, ...]:
    return notices.problems_without_ledger(report)


def _measured(ledger: Ledger, finished: RunFinished, problems: tuple[Problem, ...]) -> RunMeasured:
    try:
        locations = tuple(ledger.location_totals(limit=MOST_LOCATIONS))
    except StateError:
        locations = None
    return RunMeasured(
        report=finished.report,
        totals=finished.totals,
        failing_files=finished.failing_files,
        locations=locations,
        problems=measured_problems(problems, now=finished.report.started_at),
    )


def _measure_not_begun(
    config: Config,
    context: RunContext,
    at: float,
    error: UploaderError,
    problems: tuple[Problem, ...] | None = None,
) -> None:
    """Tell those who count.

    :param problems: what is wrong; found out here if it is not given, unless another run has the spool.
    """
    if context.measure is None:
        return
    is_held = isinstance(error, LockHeld)
    if problems is None and not is_held:
        problems = notices.prevented(config, error, environ=context.environ, now=at)
    context.measure(
        RunNotBegun(
            base_dir=config.base_dir,
            at=at,
            message=str(error),
            is_held=is_held,
            held_since=error.held_since if isinstance(error, LockHeld) else None,
            problems=None if problems is None else measured_problems(problems, now=at),
        )
    )


def _step_aside(place: Place, held: LockHeld, context: RunContext, at: float) -> None:
    """Leave the spool to the run that has it, and say so: louder, if it has had it for too long."""
    problems: tuple[Problem, ...] | None = None
    if held.is_stranger:
        context.emit(Notice("warning", str(held)))
    elif held.held_since is None or at - held.held_since < _LONG_HELD_SECONDS:
        context.emit(Notice("info", str(held)))
    else:
        problems = notices.step_aside(place.config, held, state_dir=place.state_dir, now=at, emit=context.emit)
    _measure_not_begun(place.config, context, at, held, problems or None)


def _claims(place: Place, emit: Emit) -> Claims | None:
    claims = open_claims(place)
    if claims is None:
        return None
    recovered = claims.recover()
    if recovered:
        emit(
            Notice(
                "warning", f"{counted(recovered, 'file')} that another uploader left claimed went back to the spool."
            )
        )
    return claims


def _tidy(ledger: Ledger, place: Place, clock: Clock) -> None:
    """Let the ledger forget what is gone and what is old, for a moment at most; the rest is for the next run."""

    def exists(path: str) -> bool:
        try:
            # Claimed, a file is elsewhere; and between the two looks it may have been given back.
            return is_there(path) or is_claimed(path) or is_there(path)
        except OSError:
            return True  # there is no telling now

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
    ledger.prune(
        now=clock.now(),
        history_days=place.config.history_days,
        history_max_files=place.config.history_max_files,
        go_on=lambda: clock.monotonic() < until,
    )


def _empty_report(
    config: Config,
    end: RunEnd,
    started_at: float,
    duration: float,
    *,
    message: str = "",
    signal_number: int | None = None,
) -> RunReport:
    return RunCounters().report(
        end,
        base_dir=config.base_dir,
        destination="",
        started_at=started_at,
        duration=duration,
        message=message,
        signal_number=signal_number,
    )
