"""Records runs in the ledger, and merges runs without work to one row of ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.model import FailureBucket, RunReport
from s3_uploader.core.text import shown_text
from s3_uploader.ledger.columns import stored, stored_message

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

_DAY = 86400.0
_LONGEST_CODE = 100

Begun = tuple[float, int, str | bytes, str | bytes]
"""Start, process, host and destination of a run, as stored."""


def insert(connection: sqlite3.Connection, begun: Begun) -> int:
    """Record that a run begins; returns its number."""
    cursor = connection.execute("INSERT INTO runs (started_at, pid, host, destination) VALUES (?, ?, ?, ?)", begun)
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def finish(connection: sqlite3.Connection, run: int, begun: Begun, report: RunReport) -> None:
    """Record how a run ended, in its own row or in that of the preceding ticks."""
    idle = _is_idle(report)
    outcome = {
        "finished_at": report.started_at + report.duration,
        "duration": report.duration,
        "exit_code": report.exit_code,
        "shipped": report.shipped,
        "shipped_bytes": report.shipped_bytes,
        "already_there": report.already_there,
        "failed": report.failed,
        "left": msgspec.json.encode(report.left).decode(),
        "backlog": report.backlog,
        "backlog_bytes": report.backlog_bytes,
        "oldest_waiting": report.oldest_waiting,
        "pruned_directories": report.pruned_directories,
        "ended_by": report.ended_by,
        "message": stored_message(report.message),
        "code": report.code,
        "origin": report.origin,
        "idle": idle,
    }
    row = run
    before = _tick_before(connection, run, begun) if idle else None
    if before is not None:
        connection.execute("DELETE FROM runs WHERE id = ?", (run,))
        connection.execute("UPDATE runs SET ticks = ticks + 1, pid = ? WHERE id = ?", (begun[1], before))
        row = before
    # Where the ledger that the run began with has been lost, it is noted now.
    connection.execute(
        "INSERT OR IGNORE INTO runs (id, started_at, pid, host, destination) VALUES (?, ?, ?, ?, ?)", (row, *begun)
    )
    assignments = ", ".join(f'"{column}" = ?' for column in outcome)
    connection.execute(f"UPDATE runs SET {assignments} WHERE id = ?", (*outcome.values(), row))
    connection.execute(
        "UPDATE totals SET runs = runs + 1, last_run_at = :at,"
        " last_success_at = CASE WHEN :success THEN :at ELSE last_success_at END",
        {"at": outcome["finished_at"], "success": report.exit_code == 0},
    )


def count_failures(connection: sqlite3.Connection, failures: Mapping[FailureBucket, int]) -> None:
    """Add failed uploads to the counts of their hours."""
    connection.executemany(
        "INSERT INTO failures (hour, code, location, uploads) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (hour, code, location) DO UPDATE SET uploads = uploads + excluded.uploads",
        [
            (kind.hour, shown_text(kind.code)[:_LONGEST_CODE], stored(kind.location), uploads)
            for kind, uploads in failures.items()
        ],
    )


def _is_idle(report: RunReport) -> bool:
    moved = report.shipped or report.failed or report.pruned_directories
    return not moved and not report.message and report.exit_code == 0


def _tick_before(connection: sqlite3.Connection, run: int, begun: Begun) -> int | None:
    """Find the row right before this run's, if it is one of ticks that began less than a day before."""
    started_at, _, host, destination = begun
    rows = connection.execute(
        "SELECT id, idle AND started_at BETWEEN :at - :day AND :at AND host = :host AND destination = :destination"
        " FROM runs WHERE id < :run ORDER BY id DESC LIMIT 1",
        {"at": started_at, "day": _DAY, "host": host, "destination": destination, "run": run},
    ).fetchall()
    return rows[0][0] if rows and rows[0][1] else None
