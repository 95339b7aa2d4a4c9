"""One run of a configuration: opens the spool, takes the lock, runs, reports."""

from __future__ import annotations

import os

from s3_uploader.config.schema import Config
from s3_uploader.config.share import share_of
from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.counters import RunCounters
from s3_uploader.core.ends import RunEnd
from s3_uploader.core.errors import LockHeld, SpoolError, StateError
from s3_uploader.core.events import Emit, Notice
from s3_uploader.core.model import RunReport
from s3_uploader.ledger import create_state_directory
from s3_uploader.run.context import RunContext
from s3_uploader.run.locked_run import locked_run
from s3_uploader.run.place import Place, open_place, verify_mounts
from s3_uploader.spool.extent import Extent
from s3_uploader.spool.lock import Lock, acquire
from s3_uploader.spool.root import refuse_read_only


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
    began_at = context.clock.now()
    try:
        return _run_once(config, context, wait_for_lock_seconds, max_runtime_seconds)
    except (SpoolError, StateError, LockHeld) as error:
        from s3_uploader.run.not_begun import tell_not_begun

        tell_not_begun(config, context, error, at=began_at)
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
            if wait_for_lock_seconds or held.is_refusal:
                raise
            from s3_uploader.run.not_begun import step_aside

            step_aside(place, held, context, started_at)
            return _empty_report(config, RunEnd.LOCKED, started_at, clock.monotonic() - began, message=str(held))
        except _StoppedWaiting:
            seconds = clock.monotonic() - began
            return _empty_report(config, RunEnd.SIGNAL, started_at, seconds, signal_number=stop.signal_number)
        try:
            return locked_run(place, context, max_runtime_seconds, lock)
        finally:
            lock.release()


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
        # Uploaders that claim files keep apart by that, and share the spool; one that does not must have it alone.
        extent=Extent(
            share=share_of(place.config),
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
    return RunCounters().report(
        end,
        base_dir=config.base_dir,
        destination="",
        started_at=started_at,
        duration=duration,
        message=message,
        signal_number=signal_number,
    )
