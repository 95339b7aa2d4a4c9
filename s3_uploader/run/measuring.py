"""What a run that has ended reports to the metrics."""

from __future__ import annotations

from s3_uploader.core.errors import StateError
from s3_uploader.core.events import MOST_LOCATIONS, RunFinished, RunMeasured, measured_problems
from s3_uploader.core.findings import Problem
from s3_uploader.ledger import Ledger


def measured(ledger: Ledger, finished: RunFinished, problems: tuple[Problem, ...]) -> RunMeasured:
    """Make the measurement of a run, without the totals of locations if the ledger cannot be read."""
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
