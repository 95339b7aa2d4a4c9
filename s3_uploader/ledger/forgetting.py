"""Forgets old records, and says beforehand how many files that would be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from s3_uploader.ledger.records import OUTDATED_OBJECTS, behind
from s3_uploader.ledger.rows import Fate

if TYPE_CHECKING:
    import sqlite3

    from s3_uploader.ledger.pages import Read


def fate(read: Read, *, begin: float, most_files: int) -> Fate:
    """Count the files that :func:`prune` forgets when called until nothing is left to do."""
    ((files, old),) = read("SELECT count(*), count(*) FILTER (WHERE shipped_at < ?) FROM shipped", (begin,))
    forgotten = max(old, min(files, files - most_files))
    if forgotten <= old:
        return Fate(files=files, forgotten=old, end=begin)
    return Fate(files=files, forgotten=forgotten, end=_right_behind(read, forgotten))


def _right_behind(read: Read, number: int) -> float:
    """The moment right after the last of the ``number`` oldest files; more files may have been shipped at that time."""
    rows = read("SELECT shipped_at FROM shipped ORDER BY shipped_at LIMIT 1 OFFSET ?", (number - 1,))
    return math.nextafter(rows[0][0], math.inf) if rows else math.inf


def prune(connection: sqlite3.Connection, *, begin: float, most_files: int, chunk: int) -> int:
    """Forget some files, runs and failures from before ``begin``, and some of the oldest files above ``most_files``.

    An object that has been outdated for that long is forgotten as such too: no upload has replaced it.

    Returns the number of rows removed, at most three times ``chunk``.
    """
    (excess,) = connection.execute("SELECT shipped_rows - ? FROM totals", (most_files,)).fetchone()
    files = connection.execute(
        "DELETE FROM shipped WHERE id IN (SELECT id FROM shipped WHERE shipped_at < ? ORDER BY shipped_at LIMIT ?)",
        (begin, chunk),
    ).rowcount
    more = min(excess, chunk) - files
    if more > 0:
        files += connection.execute(
            "DELETE FROM shipped WHERE id IN (SELECT id FROM shipped ORDER BY shipped_at LIMIT ?)", (more,)
        ).rowcount
    connection.execute("UPDATE totals SET shipped_rows = shipped_rows - ?", (files,))
    # Only the first rows are examined: they are in the order of time as long as the clock is right.
    runs = connection.execute(
        "DELETE FROM runs WHERE id IN (SELECT id FROM runs ORDER BY id LIMIT ?)"
        " AND coalesce(finished_at, started_at) < ?",
        (chunk, begin),
    ).rowcount
    hours = connection.execute(
        "DELETE FROM failures WHERE (hour, code, location) IN"
        " (SELECT hour, code, location FROM failures WHERE hour < ? ORDER BY hour LIMIT ?)",
        (begin / 3600 - 1, chunk),
    ).rowcount
    connection.execute(
        "DELETE FROM memory WHERE name >= :names AND name < :behind AND (noted_at < :begin OR value = '')",
        {"names": OUTDATED_OBJECTS, "behind": behind(OUTDATED_OBJECTS), "begin": begin},
    )
    if not files and not runs and not hours:
        # Somebody removed rows by hand, so that there are fewer than were counted.
        connection.execute("UPDATE totals SET shipped_rows = (SELECT count(*) FROM shipped)")
    return files + runs + hours
