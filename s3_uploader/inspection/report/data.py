"""The numbers of the report, summed up in one pass over the ledger's history in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice

import msgspec

from s3_uploader.core.model import FailureBucket
from s3_uploader.health import MEMORY_PREFIX
from s3_uploader.health.notices import Seen
from s3_uploader.inspection.report import delays
from s3_uploader.inspection.report.deliveries import Deliveries, Location
from s3_uploader.inspection.report.levels import HOUR, Level, levels
from s3_uploader.ledger import FailingRow, LedgerReader, RunRow, ShippedRow
from s3_uploader.ledger.survey import Survey

MOST_LOCATIONS = 10
"""Most locations with a series of their own. The others share one."""
OTHERS = None
"""The series of all locations without one of their own."""
_MOST_KINDS = 8
_MOST_ROWS = 100
_FAILURE_ROWS = 30
_RUNS = 25
_FAILING = 25
MOST_FAILING = 2 * _FAILING
"""Most failing files that are examined for a report."""
OTHER_KINDS = "other kinds"
UNKNOWN_KIND = "kind not recorded"
_LONGEST_ROW = 36 * HOUR  # runs without work share a row for at most a day


class Failures(msgspec.Struct, kw_only=True):
    """Uploads of one location that failed with one code; times are the beginnings of hours."""

    code: str
    location: str
    uploads: int
    first_hour: int
    last_hour: int


class Ending(msgspec.Struct, kw_only=True):
    """The number of runs that ended in one way; ``exit_code`` is ``None`` for runs that have not ended.

    ``code`` names the error that ended them.
    """

    ended_by: str
    code: str
    exit_code: int | None
    runs: int
    last_at: float


class Summary(msgspec.Struct, kw_only=True):
    """The key figures of the report; sizes in bytes, times in seconds since the epoch, durations in seconds.

    ``unmatched_files`` are those that the last run found and the layout did not recognise.
    ``undated`` files name no data time in their path: their delay counts from their last modification.
    """

    files: int = 0
    bytes: int = 0
    undated: int = 0
    delay_median: float | None = None
    delay_p95: float | None = None
    delay_longest: float | None = None
    last_shipped_at: float | None = None
    runs: int = 0
    runs_failed: int = 0
    failed_uploads: int = 0
    failing_files: int = 0
    unmatched_files: int = 0
    backlog: int | None = None
    backlog_bytes: int | None = None
    oldest_waiting: float | None = None
    last_run_at: float | None = None


class Instance(msgspec.Struct, kw_only=True):
    """One of several uploaders: what it shipped in the time that is shown, and how it stood after its last run."""

    name: str
    files: int
    bytes: int
    last_shipped_at: float | None
    last_run_at: float | None
    exit_code: int | None
    backlog: int | None
    backlog_bytes: int | None
    oldest_waiting: float | None
    failing_files: int


class Report(msgspec.Struct, kw_only=True):
    """Everything on the page.

    :param since: begin of the period, ``until`` its end; bins of the levels may reach beyond both.
    :param series: the locations of the levels; the last one may be :data:`OTHERS`, which is several.
    :param kinds: the kinds of failures of the levels.
    :param instances: where it is about several uploaders, each of them.
    :param left_out: paths of ledgers that could not be read, so that nothing of them is included.
    """

    generated_at: float
    since: float
    until: float
    base_dir: str
    destination: str
    summary: Summary
    series: list[str | None]
    kinds: list[str]
    instances: list[Instance] = []
    left_out: list[str] = []
    locations: list[Location]
    other_locations: int
    failures: list[Failures]
    failing: list[FailingRow]
    endings: list[Ending]
    runs: list[RunRow]
    slowest: list[ShippedRow]
    largest: list[ShippedRow]
    latest: list[ShippedRow]
    levels: list[Level]


class Standing(msgspec.Struct, kw_only=True):
    """What ledgers know beside the history: how things stand after the last runs.

    :param files: how many files each location has shipped, ever.
    :param failing: the files that fail, in the order of their next try; more than the report shows are not needed.
    """

    files: dict[str, int]
    failing_files: int
    unmatched_files: int
    failing: list[FailingRow]
    instances: list[Instance] = []


def standing_of(ledger: LedgerReader) -> Standing:
    """Read how things stand.

    :raises StateError: if the ledger cannot be read.
    """
    strangers = Seen.recalled(ledger.endpoint_memory(prefix=MEMORY_PREFIX)).strangers
    return Standing(
        files={each.location: each.files for each in ledger.location_totals()},
        failing_files=ledger.failing_count(attempts=1),
        unmatched_files=0 if strangers is None else strangers.files,
        failing=list(islice(ledger.failing_rows(), MOST_FAILING)),
    )


def gather(
    ledger: LedgerReader, *, base_dir: str, destination: str, since: float | None, until: float | None, now: float
) -> Report:
    """Read the numbers from the ledger.

    :param since: only events at this time or later; ``until``: only events before.
    :raises StateError: if the ledger cannot be read.
    """
    end = now if until is None else min(until, now)
    survey = ledger.survey(since=float("-inf") if since is None else since, until=end)
    return numbers(survey, standing_of(ledger), base_dir=base_dir, destination=destination, end=end, now=now)


def numbers(survey: Survey, standing: Standing, *, base_dir: str, destination: str, end: float, now: float) -> Report:
    """Make the numbers of a history that ends at ``end``."""
    first = survey.first_moment()
    begin = end - HOUR if first is None else min(first, end - 60)
    failures = survey.failures()
    kinds = [code for code, _ in _by_code(failures).most_common(_MOST_KINDS)]
    series = _series(standing.files)
    grids = levels(begin, end, locations=max(len(series), 1), kinds=len(kinds) + 2)
    deliveries = Deliveries(grids, series)
    deliveries.take(survey.deliveries())
    locations = deliveries.locations()
    summary = _summary(deliveries, locations)
    summary.failing_files = standing.failing_files
    summary.unmatched_files = standing.unmatched_files
    recorded_since = min(kind.hour for kind in failures) * HOUR if failures else end
    endings = _take_runs(survey, grids, summary, recorded_since=recorded_since)
    instances = standing.instances
    if instances:
        # Not what the last run of one of them has left.
        summary.backlog = sum(each.backlog or 0 for each in instances)
        summary.backlog_bytes = sum(each.backlog_bytes or 0 for each in instances)
        summary.oldest_waiting = max(
            (e.oldest_waiting for e in instances if e.oldest_waiting is not None), default=None
        )
    _take_failures(failures, grids, kinds)
    summary.failed_uploads += sum(failures.values())
    return Report(
        generated_at=now,
        since=begin,
        until=end,
        base_dir=base_dir,
        destination=destination,
        summary=summary,
        series=series,
        kinds=[*kinds, OTHER_KINDS, UNKNOWN_KIND],
        instances=instances,
        locations=locations[:_MOST_ROWS],
        other_locations=max(len(locations) - _MOST_ROWS, 0),
        failures=_failure_rows(failures)[:_FAILURE_ROWS],
        failing=[row for row in standing.failing if row.attempts][:_FAILING],
        endings=endings,
        runs=survey.last_runs(_RUNS),
        slowest=survey.files(deliveries.slowest.numbers()),
        largest=survey.files(deliveries.largest.numbers()),
        latest=survey.files(deliveries.latest.numbers()),
        levels=grids,
    )


def _series(files: Mapping[str, int]) -> list[str | None]:
    """The locations that shipped most, sorted by name, and one series for the others."""
    most = sorted(files, key=lambda location: (-files[location], location))
    named = sorted(most[:MOST_LOCATIONS])
    return [*named, OTHERS] if len(most) > MOST_LOCATIONS or not named else [*named]


def _summary(deliveries: Deliveries, locations: list[Location]) -> Summary:
    together = deliveries.all_delays()
    return Summary(
        files=sum(each.files for each in locations),
        bytes=sum(each.bytes for each in locations),
        undated=deliveries.undated,
        delay_median=delays.quantile(together, 0.5),
        delay_p95=delays.quantile(together, 0.95),
        delay_longest=delays.quantile(together, 1.0),
        last_shipped_at=max((each.last_shipped_at for each in locations), default=None),
    )


def _take_runs(survey: Survey, grids: list[Level], summary: Summary, *, recorded_since: float) -> list[Ending]:
    """Sort the runs into the bins of the levels, with failures from before kinds were recorded."""
    endings: dict[tuple[str, str, int | None], Ending] = {}
    for run in survey.runs():
        end = run.finished_at
        moment = run.started_at if end is None else end
        summary.runs += run.ticks
        summary.runs_failed += run.ticks if run.exit_code else 0
        kind = (run.ended_by, run.code, run.exit_code)
        ending = endings.get(kind)
        if ending is None:
            ending = Ending(ended_by=run.ended_by, code=run.code, exit_code=run.exit_code, runs=0, last_at=0.0)
            endings[kind] = ending
        ending.runs += run.ticks
        ending.last_at = max(ending.last_at, moment)
        unknown = run.failed if moment < recorded_since else 0
        summary.failed_uploads += unknown
        if end is not None:
            age = None if run.oldest_waiting is None else max(end - run.oldest_waiting, 0.0)
            summary.backlog, summary.backlog_bytes, summary.oldest_waiting = run.backlog, run.backlog_bytes, age
            summary.last_run_at = end
            first = run.started_at if run.ticks > 1 and end - run.started_at < _LONGEST_ROW else end
            for level in grids:
                _fill(level, first, end, run.backlog, run.backlog_bytes, age or 0.0)
        if unknown or (run.exit_code or 0) > 1:
            _count(grids, moment, abandoned=(run.exit_code or 0) > 1, unknown=unknown)
    return sorted(endings.values(), key=lambda each: -each.runs)


def _fill(level: Level, begin: float, end: float, backlog: int, backlog_bytes: int, age: float) -> None:
    for index in level.indexes(begin, end):
        before = level.backlog[index]
        if before is None:
            level.backlog[index], level.backlog_bytes[index], level.oldest[index] = backlog, backlog_bytes, round(age)
            continue
        level.backlog[index] = max(before, backlog)
        level.backlog_bytes[index] = max(level.backlog_bytes[index] or 0, backlog_bytes)
        level.oldest[index] = max(level.oldest[index] or 0, round(age))


def _count(grids: list[Level], moment: float, *, abandoned: bool, unknown: int) -> None:
    for level in grids:
        for index in level.indexes(moment, moment):
            level.abandoned[index] += abandoned
            if level.failures:
                level.failures[-1][index] += unknown


def _take_failures(failures: dict[FailureBucket, int], grids: list[Level], kinds: list[str]) -> None:
    numbers = {code: number for number, code in enumerate(kinds)}
    for kind, uploads in failures.items():
        for level in grids:
            for index in level.indexes(kind.hour * HOUR, kind.hour * HOUR) if level.failures else ():
                level.failures[numbers.get(kind.code, len(kinds))][index] += uploads


def _by_code(failures: dict[FailureBucket, int]) -> Counter[str]:
    codes: Counter[str] = Counter()
    for kind, uploads in failures.items():
        codes[kind.code] += uploads
    return codes


def _failure_rows(failures: dict[FailureBucket, int]) -> list[Failures]:
    rows: dict[tuple[str, str], Failures] = {}
    for kind, uploads in failures.items():
        hour = kind.hour * HOUR
        row = rows.get((kind.code, kind.location))
        if row is None:
            row = rows[kind.code, kind.location] = Failures(
                code=kind.code, location=kind.location, uploads=0, first_hour=hour, last_hour=hour
            )
        row.uploads += uploads
        row.last_hour = hour
    return sorted(rows.values(), key=lambda each: -each.uploads)
