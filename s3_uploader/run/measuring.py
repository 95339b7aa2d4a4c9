"""What those who count are told of a run: what it measured, or that it could not begin."""

from __future__ import annotations

from collections.abc import Mapping

from s3_uploader.config.schema import Config
from s3_uploader.core.errors import LockHeld, StateError, UploaderError
from s3_uploader.core.events import MOST_LOCATIONS, RunFinished, RunMeasured, RunNotBegun, measured_problems
from s3_uploader.core.model import Problem
from s3_uploader.health import notices
from s3_uploader.ledger import Ledger


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


def not_begun(
    config: Config,
    error: UploaderError,
    *,
    at: float,
    environ: Mapping[str, str],
    problems: tuple[Problem, ...] | None = None,
) -> RunNotBegun:
    """Why a run could not begin.

    :param problems: what is wrong; found out here if it is not given, unless another run has the spool.
    """
    is_held = isinstance(error, LockHeld)
    if problems is None and not is_held:
        problems = notices.prevented(config, error, environ=environ, now=at)
    return RunNotBegun(
        base_dir=config.base_dir,
        at=at,
        message=str(error),
        is_held=is_held,
        held_since=error.held_since if isinstance(error, LockHeld) else None,
        problems=None if problems is None else measured_problems(problems, now=at),
    )
