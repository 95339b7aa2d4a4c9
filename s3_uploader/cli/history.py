"""The command ``history``: shipped files, failures and sums from the ledger."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import starmap
from typing import Any

import msgspec

from s3_uploader.cli.arguments import AuditOptions, HistoryOptions
from s3_uploader.cli.frame import load
from s3_uploader.cli.missing_ledgers import tell_of_missing_ledger, tell_of_missing_shares
from s3_uploader.cli.output import (
    columns,
    local_time,
    print_json_line,
    print_lines,
    print_note,
    sources,
    utc_time,
    with_source,
    write_text,
    zone_name,
    zoned_time,
)
from s3_uploader.cli.times import parse_period
from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.model import FailureBucket
from s3_uploader.core.text import counted, shown_duration, shown_name, shown_size, shown_text
from s3_uploader.ledger import FailingRow, HistoryTotals, LedgerReader, RunRow, ShippedRow
from s3_uploader.ledger.history import matches
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.ledger.together import open_together
from s3_uploader.monitoring.words import end_words

SHIPPED_FIELDS = (
    "shipped_at", "path", "destination", "key", "size", "data_time", "modified_at", "seconds", "proof", "checksum",
    "etag", "version_id", "already_there", "location",
)  # fmt: skip
FAILED_FIELDS = (
    "kind", "failed_at", "location", "failed_uploads", "path", "key", "size", "attempts", "first_failed_at",
    "next_try_at", "run", "failed_files", "exit_code", "ended_by", "code", "message",
)  # fmt: skip
TOTALS_FIELDS = ("day", "location", "files", "bytes", "already_there", "first_shipped_at", "last_shipped_at")

_NARROW = 72
"""Columns of a terminal below which a key has a line of its own."""

GROUPINGS = ("day", "location", "day,location")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """A selection of rows of the ledger. Times are seconds since the epoch; see :meth:`Ledger.history`."""

    since: float | None = None
    until: float | None = None
    match: str | None = None
    location: str | None = None
    limit: int | None = None

    @classmethod
    def of(cls, options: HistoryOptions | AuditOptions) -> Selection:
        """Make the selection of a command's options.

        :raises UsageProblem: if a time cannot be understood, or if there is nothing between the two.
        """
        since, until = parse_period(options.since, options.until, now=time.time())
        return cls(
            since=since,
            until=until,
            match=options.match,
            # A shell completes the name of a directory with a slash.
            location=None if options.location is None else options.location.removesuffix("/"),
            limit=options.limit if isinstance(options, HistoryOptions) else None,
        )


def history(config_file: str, options: HistoryOptions) -> int:
    """Print shipped files, failures or sums, the oldest first."""
    selection, failed, totals, form = Selection.of(options), options.failed, options.totals, options.form
    if options.as_json and options.format == "csv":
        raise UsageProblem("--json and --format csv contradict each other.", hint="Use one of them.")
    if failed and totals is not None:
        raise UsageProblem("--failed and --totals contradict each other.", hint="Use one of them.")
    if selection.limit is not None and (failed or totals is not None):
        raise UsageProblem("--limit is for lists of shipped files.", hint="Narrow it with --since and --until.")
    configuration = load(config_file, options)
    # The ledger outlives its spool: history must be readable when base_dir is gone.
    path = ledger_path(configuration, environ=os.environ)
    with open_together(path) as ledger:
        tell_of_missing_ledger(path)
        tell_of_missing_shares(ledger)
        if failed:
            _print_failed(ledger, selection, form)
        elif totals is not None:
            _print_totals(ledger, selection, totals, form)
        else:
            _print_shipped(ledger, selection, form)
    return 0


# -------------------------------------------------------------------------------------------------- shipped files


def _print_shipped(ledger: LedgerReader, selection: Selection, form: str) -> None:
    rows: Iterator[ShippedRow] = ledger.history(
        since=selection.since,
        until=selection.until,
        match=selection.match,
        location=selection.location,
        limit=selection.limit,
        newest_first=selection.limit is not None,
    )
    if selection.limit is not None:
        rows = iter(list(rows)[::-1])
    if form == "table":
        _print_shipped_table(rows)
    else:
        _print_for_machines(map(shipped_for_machines, rows), SHIPPED_FIELDS, form)


def shipped_for_machines(row: ShippedRow) -> dict[str, Any]:
    """Convert a shipped file to a flat record."""
    return {
        "shipped_at": utc_time(row.shipped_at),
        "path": row.path,
        "destination": row.destination,
        "key": row.key,
        "size": row.size,
        "data_time": utc_time(row.period_begin),
        "modified_at": utc_time(row.mtime_ns / 1e9),
        "seconds": round(row.seconds, 6),
        "proof": row.proof.label,
        "checksum": row.checksum,
        "etag": row.etag,
        "version_id": row.version_id,
        "already_there": row.already_there,
        "location": row.location,
    }


def _print_shipped_table(rows: Iterator[ShippedRow]) -> None:
    files = size = 0
    width = columns()
    between = "\n  " if width is not None and width < _NARROW else "  "
    for row in rows:
        if not files:
            print_lines([f"{f'shipped ({zone_name()})':19}  {'size':>8}  {'proof':8}{between}key"])
        files, size = files + 1, size + row.size
        key = shown_name(f"{row.destination}/{row.key}")
        print_lines([f"{local_time(row.shipped_at)}  {shown_size(row.size):>8}  {row.proof.label:8}{between}{key}"])
    print_note(f"{counted(files, 'file')}, {shown_size(size)}.")


# -------------------------------------------------------------------------------------------------- failures


def _print_failed(ledger: LedgerReader, selection: Selection, form: str) -> None:
    """Print failed uploads by hour, then runs with failures, then files that keep failing."""
    uploads = _failed_uploads(ledger, selection)
    # Of a run it is known how many files failed, not which.
    narrowed = selection.match is not None or selection.location is not None
    runs = iter(()) if narrowed else ledger.failed_runs(since=selection.since, until=selection.until)
    files = (row for row in ledger.failing_rows() if _is_selected(row, selection))
    if form == "table":
        _print_failed_table(uploads, runs, files, time.time())
        return
    parts = (starmap(_uploads_record, uploads), map(_run_record, runs), map(_file_record, files))
    records = (record for part in parts for record in part)
    _print_for_machines(records, FAILED_FIELDS, form)


def _failed_uploads(ledger: LedgerReader, selection: Selection) -> list[tuple[FailureBucket, int]]:
    """Count failures by hour, error and location. An hour that is selected in part counts as a whole."""
    if selection.match is not None:
        return []  # which files they were is not known
    since = float("-inf") if selection.since is None else selection.since
    until = float("inf") if selection.until is None else selection.until
    counts = ledger.survey(since=since, until=until).failures()
    return [(kind, count) for kind, count in counts.items() if selection.location in (None, kind.location)]


def _is_selected(row: FailingRow, selection: Selection) -> bool:
    if not row.attempts:  # Nothing more than suspected, when the destination failed altogether.
        return False
    if selection.since is not None and row.last_failed_at < selection.since:
        return False
    if selection.until is not None and row.last_failed_at >= selection.until:
        return False
    directory, slash, _ = row.path.partition("/")
    if selection.location not in (None, directory if slash else ""):
        return False
    return selection.match is None or any(matches(name, selection.match) for name in (row.path, row.key))


def _uploads_record(kind: FailureBucket, uploads: int) -> dict[str, Any]:
    return {
        "kind": "uploads",
        "failed_at": utc_time(kind.hour * 3600.0),
        "location": kind.location,
        "failed_uploads": uploads,
        "code": kind.code,
    }


def _run_record(row: RunRow) -> dict[str, Any]:
    return {
        "kind": "run",
        "failed_at": utc_time(row.started_at),
        "run": row.id,
        "failed_files": row.failed,
        "exit_code": row.exit_code,
        "ended_by": row.ended_by,
        "message": row.message,
    }


def _file_record(row: FailingRow) -> dict[str, Any]:
    return {
        "kind": "file",
        "failed_at": utc_time(row.last_failed_at),
        "path": row.path,
        "key": row.key,
        "size": row.size,
        "attempts": row.attempts,
        "first_failed_at": utc_time(row.first_failed_at),
        "next_try_at": utc_time(row.next_try_at),
        "code": row.code,
        "message": row.message,
    }


def _print_failed_table(
    uploads: list[tuple[FailureBucket, int]], runs: Iterator[RunRow], files: Iterator[FailingRow], now: float
) -> None:
    run_count = file_count = 0
    if uploads:
        print_lines([f"{f'hour ({zone_name()})':16}  {'failed':>14}  error, location"])
    for kind, count in uploads:
        error = ", ".join(filter(None, (shown_text(kind.code), shown_name(kind.location))))
        print_lines([f"{local_time(kind.hour * 3600.0)[:16]}  {counted(count, 'upload'):>14}  {error}"])
    for run in runs:
        if not run_count:
            print_lines(
                [*([""] if uploads else []), f"{f'run began ({zone_name()})':19}  {'failed':>9}  {'exit':>4}  outcome"]
            )
        run_count += 1
        code = "-" if run.exit_code is None else str(run.exit_code)
        outcome = shown_text(end_words(run.ended_by) + (f": {run.message}" if run.message else ""))
        print_lines([f"{local_time(run.started_at)}  {counted(run.failed, 'file'):>9}  {code:>4}  {outcome}"])
    for file in files:
        if not file_count:
            print_lines([*([""] if uploads or run_count else []), "still failing, or gone since its last try:"])
        file_count += 1
        due = "at the next run" if file.next_try_at <= now else f"in {shown_duration(file.next_try_at - now)}"
        tries = f"{counted(file.attempts, 'attempt')} since {zoned_time(file.first_failed_at)}, next {due}"
        print_lines([f"  {shown_name(file.path)}: {tries}", f"    {shown_text(file.message)}"])
    print_note(f"{counted(run_count, 'run')} with failures, {counted(file_count, 'file')} failing now.")


# -------------------------------------------------------------------------------------------------- sums


def _print_totals(ledger: LedgerReader, selection: Selection, grouping: str, form: str) -> None:
    by = grouping.split(",")
    sums = ledger.history_totals(
        by_day="day" in by,
        by_location="location" in by,
        since=selection.since,
        until=selection.until,
        match=selection.match,
        location=selection.location,
    )
    if form == "table":
        _print_totals_table(sums, by)
        return
    fields = tuple(name for name in TOTALS_FIELDS if name not in GROUPINGS or name in by)
    records = ({name: value for name, value in _totals_record(row).items() if name in fields} for row in sums)
    _print_for_machines(records, fields, form)


def _totals_record(row: HistoryTotals) -> dict[str, Any]:
    return {
        "day": row.day,
        "location": row.location,
        "files": row.files,
        "bytes": row.bytes,
        "already_there": row.already_there,
        "first_shipped_at": utc_time(row.first_shipped_at),
        "last_shipped_at": utc_time(row.last_shipped_at),
    }


def _print_totals_table(sums: Iterator[HistoryTotals], by: list[str]) -> None:
    files = size = 0
    for row in sums:
        if not files:
            print_lines([_totals_line(by, "day", "files", "size", "location")])
        files, size = files + row.files, size + row.bytes
        print_lines(
            [_totals_line(by, row.day, f"{row.files:,}", shown_size(row.bytes), shown_name(row.location) or "-")]
        )
    print_note(f"{counted(files, 'file')}, {shown_size(size)}.")


def _totals_line(by: list[str], day: str, files: str, size: str, location: str) -> str:
    # The location comes last: it is the one column whose width is not known before the last row.
    begin = f"{day:10}  " if "day" in by else ""
    end = f"  {location}" if "location" in by else ""
    return f"{begin}{files:>13}  {size:>8}{end}"


# -------------------------------------------------------------------------------------------------- forms


def _print_for_machines(records: Iterable[dict[str, Any]], fields: tuple[str, ...], form: str) -> None:
    write: Callable[[Iterable[dict[str, Any]], tuple[str, ...]], None] = _print_csv if form == "csv" else _print_json
    write(records, fields)


def _print_json(records: Iterable[dict[str, Any]], fields: tuple[str, ...]) -> None:
    for record in records:
        print_json_line(record)


def _print_csv(records: Iterable[dict[str, Any]], fields: tuple[str, ...]) -> None:
    buffer = io.StringIO()
    several = sources()
    writer = csv.DictWriter(buffer, fields if several is None else ("config", *fields), lineterminator="\n")
    if several is None or not several.is_headed:
        writer.writeheader()
    if several is not None:
        several.is_headed = True  # it is one table
    for record in map(with_source, records):
        writer.writerow(
            {name: shown_name(value) if isinstance(value, str) else value for name, value in record.items()}
        )
        write_text(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
    write_text(buffer.getvalue())
