"""What is reported about a run that could not begin because of the spool, its state or the lock."""

from __future__ import annotations

from s3_uploader.config.schema import Config
from s3_uploader.core.errors import LockHeld, SpoolError, StateError, UploaderError
from s3_uploader.core.events import Notice, RunNotBegun, measured_problems
from s3_uploader.core.findings import Problem
from s3_uploader.core.model import RunCounters, RunEnd, RunReport
from s3_uploader.health import notices
from s3_uploader.run.context import RunContext
from s3_uploader.run.place import Place
from s3_uploader.run.scan import report_of

_LONG_HELD_SECONDS = 60.0
"""A lock that is held for less is normal; only then is it examined whether that is too long."""


def tell_not_begun(config: Config, context: RunContext, error: UploaderError, *, at: float) -> None:
    """Measure an error that the caller raises. If an earlier run reported it recently, it is marked as repeated."""
    if context.is_one_of_many and isinstance(error, SpoolError | StateError):
        error.is_repeated = notices.is_no_news(config, error, environ=context.environ, now=at, emit=context.emit)
    _measure(config, context, error, at=at)


def step_aside(place: Place, held: LockHeld, context: RunContext, at: float) -> None:
    """Leave the spool to the run that has it, and say so: as a warning if it has had it for too long."""
    problems: tuple[Problem, ...] | None = None
    if held.is_stranger:
        context.emit(Notice("warning", str(held)))
    elif held.held_since is None or at - held.held_since < _LONG_HELD_SECONDS:
        context.emit(Notice("info", str(held)))
    else:
        problems = notices.step_aside(place.config, held, state_dir=place.state_dir, now=at, emit=context.emit)
    _measure(place.config, context, held, at=at, problems=problems or None)


def empty_report(
    config: Config,
    end: RunEnd,
    started_at: float,
    duration: float,
    *,
    message: str = "",
    signal_number: int | None = None,
) -> RunReport:
    """The report of a run that never had the spool."""
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


def _measure(
    config: Config, context: RunContext, error: UploaderError, *, at: float, problems: tuple[Problem, ...] | None = None
) -> None:
    """Report to the metrics why a run could not begin.

    :param problems: what is wrong; determined here if it is not given, unless another run has the spool.
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
