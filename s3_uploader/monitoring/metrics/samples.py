"""Converts the measurements of a run to samples of the metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from s3_uploader._version import __version__
from s3_uploader.core.events import (
    MOST_LOCATIONS,
    ActiveProblem,
    LocationTotals,
    Measurement,
    RunInProgress,
    RunMeasured,
    Totals,
)
from s3_uploader.core.findings import Cause
from s3_uploader.core.model import OTHER_LOCATIONS, Left, RunReport, Waiting
from s3_uploader.core.text import shown_name
from s3_uploader.monitoring.metrics.exposition import Blocks, Samples, blocks, blocks_of, joined

CAUSES = tuple(cause.value for cause in Cause)
RAN, STEPPED_ASIDE, COULD_NOT_BEGIN = OUTCOMES = ("ran", "stepped_aside", "could_not_begin")


def exposition(measurement: Measurement, *, before: str = "", now: float | None = None, share: str = "") -> str:
    """Format all metrics of a spool.

    :param before: the text so far. Families that this measurement lacks are taken from there, so that a run that steps
        aside, or whose ledger is damaged, does not erase what is known.
    :param now: end of the age of the oldest file; by default the end of the run.
    :param share: the share of the files that is measured; empty for all.
    """
    if isinstance(measurement, RunMeasured):
        report = measurement.report
        spool = shown_name(report.base_dir)
        samples = run_samples(measurement, now=now) | attempt_samples(measurement)
    else:
        spool = shown_name(measurement.base_dir)
        samples = attempt_samples(measurement)
    return joined(
        blocks(samples, spool=spool, share=share), blocks_of(before, spool=spool), nothing_yet(spool, share=share)
    )


def progress_exposition(progress: RunInProgress, *, before: str, share: str = "") -> str:
    """Format all metrics of a spool while a run is at work. Values that only its end can tell stay as they are."""
    spool = shown_name(progress.base_dir)
    samples: dict[str, Samples] = {"run_in_progress_since_timestamp_seconds": [((), progress.since)]}
    if progress.is_news:
        # Only once: another run that steps aside for this one writes more about its attempt.
        samples |= _attempt(progress.since, RAN) | samples
    ledger = progress.ledger
    if ledger is not None and ledger.totals is not None:
        samples |= _totals(ledger.totals)
        by_location = _locations(ledger.totals, ledger.locations or (), {})
        samples |= {name: by_location[name] for name in by_location if name.startswith("location_shipped_")}
    return joined(
        blocks(samples, spool=spool, share=share), blocks_of(before, spool=spool), nothing_yet(spool, share=share)
    )


def nothing_yet(spool: str, *, share: str = "") -> Blocks:
    """Make every series, as before the first run."""
    report = RunReport(base_dir=spool, destination="", started_at=0, duration=0, exit_code=0)
    empty = RunMeasured(report=report, totals=Totals(), failing_files=0, locations=())
    attempt: dict[str, Samples] = attempt_samples(empty)
    attempt["last_attempt_outcome"] = [((("outcome", outcome),), 0) for outcome in OUTCOMES]
    return blocks(run_samples(empty) | attempt, spool=spool, share=share)


def run_samples(measured: RunMeasured, *, now: float | None = None) -> dict[str, Samples]:
    """The samples of a run's result, the backlog and the totals."""
    samples = _last_run(measured.report, now)
    if measured.failing_files is not None:
        samples["failing_files"] = [((), measured.failing_files)]
    if measured.totals is not None:
        samples |= _totals(measured.totals)
    if measured.totals is not None and measured.locations is not None:
        samples |= _locations(measured.totals, measured.locations, measured.report.waiting)
    return samples


def attempt_samples(measurement: Measurement) -> dict[str, Samples]:
    """The samples of the last attempt and of the problems."""
    if isinstance(measurement, RunMeasured):
        samples = _attempt(measurement.report.started_at, RAN)
    else:
        outcome = STEPPED_ASIDE if measurement.is_held else COULD_NOT_BEGIN
        samples = _attempt(measurement.at, outcome, held_since=measurement.held_since)
        if measurement.is_held:
            # Only the other run can tell whether it is still at work.
            del samples["run_in_progress_since_timestamp_seconds"]
    if measurement.problems is not None:
        samples |= problem_samples(measurement.problems)
    return samples


def _attempt(at: float, outcome: str, *, held_since: float | None = None) -> dict[str, Samples]:
    return {
        "build_info": [((("version", __version__),), 1)],
        "last_attempt_timestamp_seconds": [((), at)],
        "last_attempt_outcome": [((("outcome", each),), int(each == outcome)) for each in OUTCOMES],
        "lock_held_since_timestamp_seconds": [((), held_since or 0)],
        "run_in_progress_since_timestamp_seconds": [((), 0)],
    }


def problem_samples(problems: Iterable[ActiveProblem]) -> dict[str, Samples]:
    """The samples of all causes, 0 for those that do not apply."""
    since = {problem.cause: problem.since for problem in problems}
    return {
        "problem": [((("cause", cause),), int(cause in since)) for cause in CAUSES],
        "problem_since_timestamp_seconds": [((("cause", cause),), since.get(cause, 0)) for cause in CAUSES],
    }


def _last_run(report: RunReport, now: float | None) -> dict[str, Samples]:
    finished_at = report.started_at + report.duration
    oldest = report.oldest_waiting
    left = {reason.value: 0 for reason in Left} | report.left
    return {
        "last_run_timestamp_seconds": [((), finished_at)],
        "last_run_duration_seconds": [((), report.duration)],
        "last_run_exit_code": [((), report.exit_code)],
        "last_run_shipped_files": [((), report.shipped)],
        "last_run_shipped_bytes": [((), report.shipped_bytes)],
        "last_run_failed_files": [((), report.failed)],
        "left_entries": [((("reason", reason),), number) for reason, number in left.items()],
        "backlog_files": [((), report.backlog)],
        "backlog_bytes": [((), report.backlog_bytes)],
        **oldest_samples(oldest, now=finished_at if now is None else now),
    }


def oldest_samples(oldest: float | None, *, now: float) -> dict[str, Samples]:
    """The samples of the oldest waiting file. Its age is 0 if its time is in the future."""
    return {
        "oldest_waiting_timestamp_seconds": [((), math.nan if oldest is None else oldest)],
        "oldest_waiting_age_seconds": [((), 0 if oldest is None else max(now - oldest, 0.0))],
    }


def _totals(totals: Totals) -> dict[str, Samples]:
    return {
        "shipped_files_total": [((), totals.shipped_files)],
        "shipped_bytes_total": [((), totals.shipped_bytes)],
        "already_there_files_total": [((), totals.already_there)],
        "failed_uploads_total": [((), totals.failed_uploads)],
        "runs_total": [((), totals.runs)],
        "last_success_timestamp_seconds": [((), totals.last_success_at or 0)],
        "last_shipped_timestamp_seconds": [((), totals.last_shipped_at or 0)],
    }


# ---------------------------------------------------------------------------------------------------- by location


def _locations(totals: Totals, shipped: Sequence[LocationTotals], waiting: Mapping[str, Waiting]) -> dict[str, Samples]:
    """The samples of the first locations, and of the rest together."""
    # Those that have shipped come first: which locations have series must not change with what waits at the moment.
    names = dict.fromkeys([each.location for each in shipped] + sorted(waiting))
    labels = {name: _label(name) for name in list(names)[:MOST_LOCATIONS]}
    labels.pop(OTHER_LOCATIONS, None)
    files = dict.fromkeys([*labels.values(), OTHER_LOCATIONS], 0)
    size, waiting_files, waiting_size = files.copy(), files.copy(), files.copy()
    oldest = dict.fromkeys(files, math.nan)
    for each in shipped:
        label = labels.get(each.location, OTHER_LOCATIONS)
        files[label] += each.files
        size[label] += each.bytes
    files[OTHER_LOCATIONS] += max(totals.shipped_files - sum(files.values()), 0)
    size[OTHER_LOCATIONS] += max(totals.shipped_bytes - sum(size.values()), 0)
    for name, here in waiting.items():
        label = labels.get(name, OTHER_LOCATIONS)
        waiting_files[label] += here.files
        waiting_size[label] += here.bytes
        oldest[label] = here.oldest if math.isnan(oldest[label]) else min(oldest[label], here.oldest)
    return {
        "location_shipped_files_total": _by_location(files),
        "location_shipped_bytes_total": _by_location(size),
        "location_backlog_files": _by_location(waiting_files),
        "location_backlog_bytes": _by_location(waiting_size),
        "location_oldest_waiting_timestamp_seconds": _by_location(oldest),
    }


def _label(location: str) -> str:
    # To Prometheus an empty label is a missing one.
    return shown_name(location) or "."


def _by_location(values: Mapping[str, float]) -> Samples:
    return [((("location", location),), value) for location, value in values.items()]
