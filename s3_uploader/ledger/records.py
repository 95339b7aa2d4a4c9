"""What a run records in the ledger, in the form in which SQLite stores it, and which records are old."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from s3_uploader.core.model import NOT_JSON, FailureBucket, Fingerprint, Proof, RunReport
from s3_uploader.core.text import shown_text
from s3_uploader.ledger.columns import FAILING_COLUMNS, SHIPPED_COLUMNS

if TYPE_CHECKING:
    import sqlite3

    from s3_uploader.ledger.pages import Read
    from s3_uploader.ledger.rows import FailingRow, ShippedRow

_DAY = 86400.0
_CLOCKS_DIFFER = 86400
"""Seconds by which the clocks of two hosts may differ."""
_LONGEST_STEP = 45 * _DAY
_LONGEST_TRIAL = 30 * _DAY
_LONGEST_CODE = 100
_LONGEST_MESSAGE = 4000
_PROOF_LABELS = {proof: proof.label for proof in Proof}
OUTDATED_OBJECTS = "superseded:"
"""How the names of facts about outdated objects begin (:mod:`s3_uploader.run.superseded`)."""

Begun = tuple[float, int, str | bytes, str | bytes]
"""Start, process, host and destination of a run, as stored."""

# ------------------------------------------------------------------------------------------------------------ values


def stored(name: str) -> str | bytes:
    """The name as the ledger stores it: text if it is valid, else its bytes."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return _bytes_of(name)
    return name


def behind(prefix: str) -> str | bytes:
    """A value that SQLite sorts after all texts that begin with ``prefix``: any blob comes after any text."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else b""


def stored_message(text: str) -> str | bytes:
    """A message, cut to a readable length."""
    return stored(text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…")


def int64(value: int) -> int:
    """Convert a 64-bit integer to SQLite's range: inode numbers, and times after 2262, use the sign bit too."""
    return value if -(2**63) <= value < 2**63 else (value + 2**63) % 2**64 - 2**63


def kept_values(fingerprint: Fingerprint) -> tuple[int, int, int, int]:
    """The values that identify a kept file in the ledger."""
    return int64(fingerprint.inode), fingerprint.size, int64(fingerprint.mtime_ns), int64(fingerprint.ctime_ns)


def shipped_values(row: ShippedRow, destination: int) -> tuple[Any, ...]:
    """Convert a row to the order of ``SHIPPED_COLUMNS``. A key that is the path is not stored twice."""
    return (
        stored(row.path),
        None if row.key == row.path else stored(row.key),
        stored(row.location),
        destination,
        row.size,
        int64(row.mtime_ns),
        row.period_begin,
        row.shipped_at,
        row.seconds,
        _PROOF_LABELS[row.proof],
        row.checksum,
        row.etag,
        row.version_id,
        int(row.already_there),  # sqlite3 looks for an adapter of anything but plain types
        row.run,
        row.stored_size,
        row.encoding,
    )


def failing_values(row: FailingRow) -> tuple[Any, ...]:
    """Convert a row to the order of ``FAILING_COLUMNS``."""
    return (
        stored(row.path),
        stored(row.key),
        row.size,
        int64(row.mtime_ns),
        row.attempts,
        row.first_failed_at,
        row.last_failed_at,
        row.next_try_at,
        stored_message(row.code),
        stored_message(row.message),
        row.origin,
    )


def _bytes_of(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Not the name of a file: for example a key with half a UTF-16 pair, which the destination has refused.
        return name.encode("utf-8", "surrogatepass")


# ------------------------------------------------------------------------------------------------------------- files


def add_shipped(connection: sqlite3.Connection, rows: Sequence[ShippedRow], *, destinations: dict[str, int]) -> None:
    """Write shipped files, and add them to the totals.

    :param destinations: numbers of the known destinations; new ones are added.
    """
    for name in {row.destination for row in rows}.difference(destinations):
        connection.execute("INSERT OR IGNORE INTO destinations (name) VALUES (?)", (stored(name),))
        ((number,),) = connection.execute("SELECT id FROM destinations WHERE name = ?", (stored(name),)).fetchall()
        destinations[name] = number
    connection.executemany(
        f"INSERT INTO shipped ({SHIPPED_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [shipped_values(row, destinations[row.destination]) for row in rows],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO kept (path, destination, inode, size, mtime_ns, ctime_ns) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (stored(row.kept_path or row.path), destinations[row.destination], *kept_values(row.kept))
            for row in rows
            if row.kept is not None
        ],
    )
    connection.execute(
        "UPDATE totals SET shipped_rows = shipped_rows + :files, shipped_files = shipped_files + :files,"
        " shipped_bytes = shipped_bytes + :bytes, already_there = already_there + :there,"
        f" last_shipped_at = {_latest('last_shipped_at', ':latest')}",
        {
            "files": len(rows),
            "bytes": sum([row.size for row in rows]),
            "there": sum([row.already_there for row in rows]),
            "latest": max([row.shipped_at for row in rows]),
        },
    )
    connection.executemany(
        "INSERT INTO locations VALUES (?, ?, ?, ?, ?) ON CONFLICT (location) DO UPDATE SET"
        " files = files + excluded.files, bytes = bytes + excluded.bytes,"
        f" last_shipped_at = {_latest('last_shipped_at', 'excluded.last_shipped_at')},"
        " last_period_begin = max(coalesce(last_period_begin, excluded.last_period_begin),"
        " coalesce(excluded.last_period_begin, last_period_begin))",
        _by_location(rows),
    )


def add_failing(connection: sqlite3.Connection, rows: Sequence[FailingRow]) -> None:
    """Write files that failed, or are suspected."""
    connection.executemany(
        f"INSERT OR REPLACE INTO failing ({FAILING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        map(failing_values, rows),
    )


def _latest(before: str, now: str) -> str:
    """The later of two times, in SQL. A time far in the future was written by a wrong clock and is replaced."""
    return f"CASE WHEN {before} <= {now} + {_CLOCKS_DIFFER} THEN max({before}, {now}) ELSE {now} END"


def _by_location(rows: Sequence[ShippedRow]) -> list[tuple[Any, ...]]:
    sums: dict[str, list[Any]] = {}
    for row in rows:
        entry = sums.setdefault(row.location, [0, 0, row.shipped_at, row.period_begin])
        entry[0] += 1
        entry[1] += row.size
        entry[2] = max(entry[2], row.shipped_at)
        if row.period_begin is not None:
            entry[3] = row.period_begin if entry[3] is None else max(entry[3], row.period_begin)
    return [(stored(location), *entry) for location, entry in sums.items()]


# -------------------------------------------------------------------------------------------------------------- runs


def begin_run(connection: sqlite3.Connection, begun: Begun) -> int:
    """Record that a run begins; returns its number."""
    cursor = connection.execute("INSERT INTO runs (started_at, pid, host, destination) VALUES (?, ?, ?, ?)", begun)
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def finish_run(connection: sqlite3.Connection, run: int, begun: Begun, report: RunReport) -> None:
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
    # If the ledger in which its beginning was noted has been lost, the run is noted now.
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
    """Add failed uploads to the counts of their hours, and to the totals."""
    connection.executemany(
        "INSERT INTO failures (hour, code, location, uploads) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (hour, code, location) DO UPDATE SET uploads = uploads + excluded.uploads",
        [
            (kind.hour, shown_text(kind.code)[:_LONGEST_CODE], stored(kind.location), uploads)
            for kind, uploads in failures.items()
        ],
    )
    connection.execute("UPDATE totals SET failed_uploads = failed_uploads + ?", (sum(failures.values()),))


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


# ------------------------------------------------------------------------------------------------------- what is old


def has_prunable(
    read: Callable[[str, Mapping[str, Any]], list[tuple[Any, ...]]], *, begin: float, most_files: int
) -> bool:
    """Whether :func:`~s3_uploader.ledger.forgetting.prune` has something to do; reads only the ends of the tables."""
    ((found,),) = read(
        "SELECT (SELECT shipped_rows FROM totals) > :most"
        " OR (SELECT min(shipped_at) FROM shipped) < :begin"
        " OR (SELECT coalesce(finished_at, started_at) FROM runs ORDER BY id LIMIT 1) < :begin"
        " OR (SELECT min(hour) FROM failures) < :begin / 3600 - 1",
        {"most": most_files, "begin": begin},
    )
    return bool(found)


def end_of_old(read: Read, *, begin: float, most_files: int) -> float | None:
    """The moment before which shipped files are old: older than ``begin``, or above the number; ``None`` if none is.

    Reads only the ends of the tables. Files above the number are counted by the numbers of their rows, which rise with
    time and have few gaps: a run that asks for this must not read a tenth of a large history.
    """
    ((rows, first),) = read("SELECT shipped_rows, (SELECT min(shipped_at) FROM shipped) FROM totals", ())
    end = begin
    if rows > most_files:
        last = read(
            "SELECT shipped_at FROM shipped WHERE id >= (SELECT min(id) FROM shipped) + ? ORDER BY id LIMIT 1",
            (rows - most_files - 1,),
        )
        end = max(begin, math.nextafter(last[0][0], math.inf) if last else math.inf)
    return end if first is not None and first < end else None


class BelievedClock(msgspec.Struct, frozen=True, kw_only=True):
    """The time by which the history ages: a clock that is wrong or jumps must not empty it.

    Records carry the time of the machine's clock, and there is no other source. So the clock is trusted as long as it
    advances from one recorded day to the next. A clock that jumps further is trusted after it has advanced from there
    for a while. Until then nothing is forgotten. This errs on the long side: a machine that was off for months keeps
    its history for some weeks more. Times are seconds since the epoch.

    :param until: the clock is trusted up to this time.
    :param other_from: where a clock that jumped was first seen, ``None`` if there is none.
    :param other_until: where it was last seen.
    """

    until: float
    other_from: float | None = None
    other_until: float = 0.0

    @classmethod
    def recalled(cls, text: str | None, *, otherwise: float) -> BelievedClock:
        """Parse a noted state; if there is none or it is damaged, the clock is trusted up to ``otherwise``."""
        if text:
            try:
                return msgspec.json.decode(text, type=cls)
            except NOT_JSON:
                pass
        return cls(until=otherwise)

    def noted(self) -> str:
        """Format the state for :meth:`recalled`."""
        return msgspec.json.encode(self).decode()

    def time(self, now: float, *, history_seconds: float) -> float:
        """The time from which ages count, when the clock says ``now``."""
        return now if abs(now - self.until) <= _longest_step(history_seconds) else min(now, self.until)

    def at(self, now: float, *, history_seconds: float) -> BelievedClock:
        """The state when the clock says ``now``; the same object as long as nothing new has to be noted.

        :param history_seconds: how long the history is kept: the shorter it is, the smaller the jumps that matter.
        """
        step = _longest_step(history_seconds)
        if abs(now - self.until) <= step:
            # Noted once a day, so that a tick has nothing to write.
            if now - self.until < _DAY and self.other_from is None:
                return self
            return BelievedClock(until=max(now, self.until))
        if self.other_from is None or abs(now - self.other_until) > step:
            return BelievedClock(until=self.until, other_from=now, other_until=now)
        trial = max(_DAY, min(_LONGEST_TRIAL, history_seconds))
        if now - self.other_from >= trial:
            return BelievedClock(until=now)
        if now - self.other_until < _DAY:
            return self
        return msgspec.structs.replace(self, other_until=now)


def _longest_step(history_seconds: float) -> float:
    return max(_DAY, min(_LONGEST_STEP, history_seconds / 4))
