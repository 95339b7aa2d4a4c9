"""What those who count are told of a run: what it measured, or that it could not begin."""

from __future__ import annotations

from s3_uploader.config.schema import Config
from s3_uploader.core.errors import LockHeld, StateError, UploaderError
from s3_uploader.core.events import MOST_LOCATIONS, RunFinished, RunMeasured, RunNotBegun, measured_problems
from s3_uploader.core.model import Problem
from s3_uploader.health import notices
from s3_uploader.ledger import Ledger
from s3_uploader.run.context import RunContext


def measured(ledger: Ledger, finished: RunFinished, problems: tuple[Problem, ...]) -> RunMeasured:
    """What a run measured; without the sums of locations where the ledger cannot be read."""
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


def measure_not_begun(
    config: Config,
    context: RunContext,
    error: UploaderError,
    *,
    at: float,
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
