"""The tables of the page: locations, failures, files that stand out, the last runs."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Sequence

from s3_uploader.core.text import counted, shown_duration, shown_name, shown_size, shown_text
from s3_uploader.inspection.report.data import Report
from s3_uploader.ledger import FailingRow, RunRow, ShippedRow
from s3_uploader.monitoring.words import end_words

_NUMBER = "n"
_TEXT = ""
_DASH = "–"
_UNFINISHED = "did not finish, or is still running"
_TOP = "(top directory)"
_LEFT_OUT_NAMED = 5

Column = tuple[str, str]
"""Head and kind of a column."""


def tables(report: Report) -> str:
    """Make all tables, one card each; empty ones are left out."""
    return "\n".join(
        card
        for card in (
            _instances(report),
            _locations(report),
            _failing(report),
            _failures(report),
            _files("latest", "Longest on the way", "From data time to arrival.", report.latest),
            _files("slowest", "Slowest uploads", "From the start of the upload to the proof.", report.slowest),
            _files("largest", "Largest files", "", report.largest),
            _endings(report),
            _runs(report.runs),
        )
        if card
    )


def _instances(report: Report) -> str:
    rows = [
        (
            shown_name(each.name),
            f"{each.files:,}",
            shown_size(each.bytes),
            _DASH if each.last_shipped_at is None else _moment(each.last_shipped_at),
            _DASH if each.last_run_at is None else _moment(each.last_run_at),
            _DASH if each.exit_code is None else str(each.exit_code),
            _DASH if each.backlog is None else f"{each.backlog:,}",
            _duration(each.oldest_waiting),
            f"{each.failing_files:,}",
        )
        for each in report.instances
    ]
    columns = (
        ("Uploader", _TEXT), ("Files", _NUMBER), ("Size", _NUMBER), ("Last arrival", _NUMBER), ("Last run", _NUMBER),
        ("Exit", _NUMBER), ("Waiting", _NUMBER), ("Oldest", _NUMBER), ("Failing", _NUMBER),
    )  # fmt: skip
    note = "By name, as each stood after its last run."
    if report.left_out:
        note += f" {counted(len(report.left_out), 'ledger')} could not be read, and nothing of it is included here: "
        note += ", ".join(map(shown_name, report.left_out[:_LEFT_OUT_NAMED]))
        note += " and others." if len(report.left_out) > _LEFT_OUT_NAMED else "."
    return _card("instances", "Uploaders", note, columns, rows)


def _locations(report: Report) -> str:
    rows = [
        (
            shown_name(each.location) or _TOP,
            f"{each.files:,}",
            shown_size(each.bytes),
            _duration(each.delay_median),
            _duration(each.delay_p95),
            _moment(each.last_shipped_at),
        )
        for each in report.locations
    ]
    note = f"The {counted(len(rows), 'location')} with the most files; {report.other_locations:,} more are left out."
    columns = (
        ("Location", _TEXT), ("Files", _NUMBER), ("Size", _NUMBER), ("Median delay", _NUMBER), ("95 of 100", _NUMBER),
        ("Last arrival", _NUMBER),
    )  # fmt: skip
    return _card("locations", "Locations", note if report.other_locations else "", columns, rows)


def _failing(report: Report) -> str:
    def row(each: FailingRow) -> Sequence[str]:
        return (
            shown_name(each.path),
            f"{each.attempts:,}",
            _moment(each.first_failed_at),
            _moment(each.next_try_at),
            shown_text(each.message),
        )

    total = report.summary.failing_files
    note = f"{counted(total, 'file')}; each waits for its next try."
    if total > len(report.failing):
        note += f" The next {len(report.failing)} are shown."
    columns = (("File", _TEXT), ("Tries", _NUMBER), ("Since", _NUMBER), ("Next try", _NUMBER), ("Why", _TEXT))
    return _card("failing", "Failing now", note, columns, [row(each) for each in report.failing])


def _failures(report: Report) -> str:
    rows = [
        (
            shown_name(each.code),
            shown_name(each.location) or _TOP,
            f"{each.uploads:,}",
            _moment(each.first_hour),
            _moment(each.last_hour),
        )
        for each in report.failures
    ]
    columns = (
        ("Kind", _TEXT), ("Location", _TEXT), ("Failed uploads", _NUMBER), ("First hour", _NUMBER),
        ("Last hour", _NUMBER),
    )  # fmt: skip
    return _card(
        "failures", "Failures by kind and location", "Every try counts; the most frequent ones.", columns, rows
    )


def _files(name: str, title: str, note: str, files: Sequence[ShippedRow]) -> str:
    rows = [
        (
            shown_name(each.path),
            shown_size(each.size),
            _duration(each.seconds),
            _duration(each.shipped_at - _data_time(each)),
            _moment(each.shipped_at),
        )
        for each in files
    ]
    columns = (
        ("File", _TEXT), ("Size", _NUMBER), ("Upload took", _NUMBER), ("Delay", _NUMBER), ("Arrived", _NUMBER),
    )  # fmt: skip
    return _card(name, title, note, columns, rows)


def _endings(report: Report) -> str:
    rows = [
        (
            shown_text(end_words(each.ended_by) + (f": {each.code}" if each.code else "")) or _UNFINISHED,
            _DASH if each.exit_code is None else str(each.exit_code),
            f"{each.runs:,}",
            _moment(each.last_at),
        )
        for each in report.endings
    ]
    columns = (("Ended by", _TEXT), ("Exit code", _NUMBER), ("Runs", _NUMBER), ("Last time", _NUMBER))
    return _card("endings", "How runs ended", "", columns, rows)


def _runs(runs: Sequence[RunRow]) -> str:
    def row(each: RunRow) -> Sequence[str]:
        ended = each.finished_at is not None
        outcome = end_words(each.ended_by) if ended else _UNFINISHED
        return (
            _moment(each.started_at),
            f"{each.ticks:,}",
            _duration(each.duration) if ended else _DASH,
            f"{each.shipped:,}",
            shown_size(each.shipped_bytes),
            f"{each.failed:,}",
            f"{each.backlog:,}",
            _DASH if each.exit_code is None else str(each.exit_code),
            shown_text(outcome + (f": {each.message}" if each.message else "")),
        )

    columns = (
        ("Started", _TEXT), ("Times", _NUMBER), ("Took", _NUMBER), ("Shipped", _NUMBER), ("Size", _NUMBER),
        ("Failed", _NUMBER), ("Left", _NUMBER), ("Exit", _NUMBER), ("Outcome", _TEXT),
    )  # fmt: skip
    note = "Runs that found nothing to do share a row, for a day at most."
    return _card("runs", "The last runs", note, columns, [row(each) for each in runs])


def _card(name: str, title: str, note: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    caption = f"<caption>{html.escape(note)}</caption>" if note else ""
    heads = "".join(f'<th scope="col"{_class(kind)}>{title}</th>' for title, kind in columns)
    body = "\n".join(_row(columns, row) for row in rows)
    return (
        f'<section class="card" aria-labelledby="table-{name}"><h2 id="table-{name}">{title}</h2>'
        f'<table class="rows" data-table="{name}">{caption}<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></section>"
    )


def _row(columns: Sequence[Column], cells: Iterable[str]) -> str:
    first, *others = zip(columns, map(html.escape, cells), strict=True)
    text = f'<th scope="row">{first[1]}</th>'
    for (title, kind), cell in others:
        text += f'<td data-label="{title}"{_class(kind)}>{cell}</td>'
    return f"<tr>{text}</tr>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _data_time(row: ShippedRow) -> float:
    return row.mtime_ns / 1e9 if row.period_begin is None else row.period_begin


def _duration(seconds: float | None) -> str:
    return _DASH if seconds is None else shown_duration(seconds)


def _moment(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(epoch))
