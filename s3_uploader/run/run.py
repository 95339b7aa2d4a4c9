"""One run of a configuration: opens the spool, takes the lock, scans, ships what is ready, records how it ended."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.errors import LockHeld, SpoolError, StateError
from s3_uploader.core.events import Emit, Notice, RunStarted
from s3_uploader.core.model import RunCounters, RunEnd, RunReport
from s3_uploader.core.text import counted
from s3_uploader.health import MEMORY_PREFIX
from s3_uploader.ledger import Ledger, create_state_directory
from s3_uploader.run.context import RunContext
from s3_uploader.run.ending import Done, Ending, conclude, report_of
from s3_uploader.run.place import Place, directories_of, open_claims, open_place, verify_mounts
from s3_uploader.run.scan import SpoolScan
from s3_uploader.spool.lock import Lock, acquire
from s3_uploader.spool.lock_file import Extent
from s3_uploader.spool.mounts import SILENCE_SECONDS, refuse_silent
from s3_uploader.spool.root import refuse_read_only

if TYPE_CHECKING:
    from s3_uploader.health.said import Sayings
    from s3_uploader.spool.claims import Claims

_STRANGERS = "entries of claim_dir that are not claims"
_CLAIM_DIR = "claim_dir of the last run"
_TOLD_AGAIN_SECONDS = 86400.0


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
    emit, clock = context.emit, context.clock
    with _reporting_failed_start(config, context), _open(config, context, max_runtime_seconds) as place:
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
            if wait_for_lock_seconds or held.is_refusal:
                raise
            from s3_uploader.run.not_begun import step_aside

            step_aside(place, held, context, started_at)
            return _empty_report(config, RunEnd.LOCKED, started_at, clock.monotonic() - began, message=str(held))
        except _StoppedWaiting:
            seconds = clock.monotonic() - began
            return _empty_report(config, RunEnd.SIGNAL, started_at, seconds, signal_number=stop.signal_number)
        try:
            return _locked_run(place, context, max_runtime_seconds, lock)
        finally:
            lock.release()


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
    seconds = min(SILENCE_SECONDS, max_runtime_seconds or config.max_runtime_seconds or SILENCE_SECONDS)
    refuse_silent(directories_of(config), seconds=seconds, stopped=lambda: context.stop.requests)
    if not os.path.isdir(config.base_dir):
        verify_mounts(config, environ=context.environ)  # perhaps its disk is not mounted
    return open_place(config, environ=context.environ)


class _StoppedWaiting(Exception):
    """Raised if a stop was requested while the run waited for the lock."""


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


def _empty_report(
    config: Config,
    end: RunEnd,
    started_at: float,
    duration: float,
    *,
    message: str = "",
    signal_number: int | None = None,
) -> RunReport:
    return report_of(
        RunCounters(),
        end,
        base_dir=config.base_dir,
        destination="",
        started_at=started_at,
        duration=duration,
        message=message,
        signal_number=signal_number,
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
        if context.is_one_of_many:
            from s3_uploader.health.telling import Telling

            telling = Telling.recalled(emit, memory, now=clock.now(), says_again=context.says_again)
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
        with _claims(place, ledger, context.emit, clock) as claims:
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
        finished, problems = conclude(
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


def _tell_of_strangers(place: Place, ledger: Ledger, emit: Emit, clock: Clock) -> None:
    """Report once a day files in claim_dir that nobody ships."""
    from s3_uploader.spool.claim_dir import strangers, strangers_in_words

    claim_dir = os.path.abspath(place.config.claim_dir or "")
    found = strangers(claim_dir, place.root)
    if found and ledger.recall(_STRANGERS, now=clock.now(), max_age=_TOLD_AGAIN_SECONDS) is None:
        ledger.remember(_STRANGERS, "said", now=clock.now())
        emit(Notice("warning", "claim_dir " + " ".join(strangers_in_words(claim_dir, found))))


def _tell_of_recovered(files: int, emit: Emit) -> None:
    if files:
        emit(Notice("warning", f"{counted(files, 'file')} of an abandoned claim returned to the spool."))


def _recover_former(place: Place, ledger: Ledger, emit: Emit, clock: Clock) -> None:
    """Put back what a killed run had claimed, if ``claim_dir`` was changed or removed after that."""
    claim_dir = place.config.claim_dir
    # Escaped, because a path need not be valid text.
    present = "" if claim_dir is None else os.path.abspath(claim_dir).encode("unicode_escape").decode()
    former = ledger.recall(_CLAIM_DIR, now=clock.now(), max_age=math.inf) or ""
    if former == present:
        return
    if former:
        from s3_uploader.spool.claim_dir import claims_in
        from s3_uploader.spool.claims import recover

        directory = former.encode().decode("unicode_escape")
        _tell_of_recovered(recover(directory, place.root), emit)
        if claims_in(directory, place.root):
            return  # those of uploaders that are still at work: a later run looks again
    ledger.remember(_CLAIM_DIR, present, now=clock.now())


@contextmanager
def _claims(place: Place, ledger: Ledger, emit: Emit, clock: Clock) -> Iterator[Claims | None]:
    """Open the claims, if the configuration has a directory for them; at the end they are given back."""
    _recover_former(place, ledger, emit, clock)
    claims = open_claims(place)
    if claims is None:
        yield None
        return
    _tell_of_recovered(claims.recover(), emit)
    _tell_of_strangers(place, ledger, emit, clock)
    try:
        yield claims
    finally:
        claims.close()


def _warn_of_deletion(config: Config, context: RunContext) -> None:
    if config.on_failure == "delete" and not context.is_rehearsal:
        sentence = (
            "on_failure is delete: a file that cannot be shipped is deleted and lost. "
            "A file whose key is taken by other content is kept."
        )
        context.emit(Notice("warning", sentence))
