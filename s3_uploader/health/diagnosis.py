"""Diagnoses why a spool is not emptied: the causes, since when, and what to do about each.

Pure functions of values. A run calls them at its end, for the metrics and the log. ``status`` calls them at any time
and knows more: what waits now, which run has the lock, which disk is full.

Since when something is wrong comes from what was recorded (the first failure of a file, the first of an unbroken row of
runs that ended alike, the moment a lock was taken), so that it outlives every process.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.health import left_files, standstill
from s3_uploader.health.observations import HUNG_SECONDS, Observations

_HUNG_MARGIN = 300.0
_LOOKED_AT_RUNS = 5000


def diagnose(facts: Observations) -> tuple[Problem, ...]:
    """Find everything that is wrong, the worst first, with at most one problem for each cause."""
    runs = list(islice(facts.runs, _LOOKED_AT_RUNS))
    found = [
        *standstill.prevented(facts, runs),
        *standstill.full(facts, runs),
        *standstill.abandoned(facts, runs),
        *standstill.hung(facts),
        *standstill.claimed(facts),
        *standstill.not_run(facts, runs),
        *standstill.dying(facts, runs),
        *standstill.full_spool(facts),
        *left_files.unreadable(facts, runs),
        *left_files.clock(facts, runs),
        *left_files.failing(facts),
        *left_files.open_writer(facts),
        *left_files.falling_behind(runs),
    ] or list(left_files.left_behind(facts, runs))
    found += left_files.unmatched(facts)
    first: dict[Cause, Problem] = {}
    for problem in found:
        first.setdefault(problem.cause, msgspec.structs.replace(problem, since=_known(problem.since, facts.now)))
    return tuple(sorted(first.values(), key=lambda problem: problem.severity is not Severity.ERROR))


def _known(since: float | None, now: float) -> float | None:
    """The same moment, or unknown if a clock that was wrong has recorded it."""
    if since is None or since > now + left_files.FUTURE_SECONDS:
        return None
    return min(since, now)


def hung_after(*, max_runtime_seconds: float | None, drain_seconds: float) -> float:
    """Seconds after which a run that holds the lock is suspected to hang."""
    if max_runtime_seconds is None:
        return HUNG_SECONDS
    return max_runtime_seconds + drain_seconds + _HUNG_MARGIN
