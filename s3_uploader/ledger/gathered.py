"""The history of many ledgers as one, for a report: each is read once, one after the other, into a temporary file.

However many there are, one is open at a time. SQLite sorts in a few megabytes of memory and in temporary files
(``SQLITE_TMPDIR``, ``TMPDIR``, ``/var/tmp``).
"""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import FailureBucket
from s3_uploader.ledger.queries import LedgerReader
from s3_uploader.ledger.rows import RunRow, ShippedRow
from s3_uploader.ledger.survey import Delivery, PastRun, Survey

_PIECE = 5000
_MOST_RUNS = 100
_DELIVERIES = "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?)"
_RUNS = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class GatheredSurvey(Survey):
    """The surveys of many ledgers. Add each of them, and then ask.

    :param of: the maximum number of ledgers.
    :param opened: opens the ledger of a place once more.
    """

    def __init__(self, *, of: int, opened: Callable[[int], AbstractContextManager[LedgerReader]]) -> None:
        self._of = of
        self._opened = opened
        self._first: float | None = None
        self._failures: dict[FailureBucket, int] = {}
        self._last: list[RunRow] = []
        # Without a name it is a temporary file, which is gone when it is closed.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(
            "CREATE TABLE deliveries (shipped_at, number, seconds, location, data_time, mtime, size)"
        )
        self._connection.execute(f"CREATE TABLE runs ({', '.join(PastRun._fields)})")
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Remove the temporary file."""
        self._connection.close()

    def add(self, survey: Survey, place: int) -> None:
        """Read the survey of one ledger. If that fails, nothing of it was added.

        :param place: the number of the ledger, below ``of``.
        :raises StateError: if the ledger cannot be read, or there is no room for the copy.
        """
        before = [self._ask(f"SELECT coalesce(max(rowid), 0) FROM {table}")[0][0] for table in ("deliveries", "runs")]
        try:
            first, failures, last = survey.first_moment(), survey.failures(), survey.last_runs(_MOST_RUNS)
            for piece in survey.pieces(of=self._of, place=place):
                self._insert(_DELIVERIES, piece)
            self._insert(_RUNS, survey.runs())
        except StateError:
            for table, row in zip(("deliveries", "runs"), before, strict=True):
                self._ask(f"DELETE FROM {table} WHERE rowid > {row}")
            raise
        self._first = min((each for each in (self._first, first) if each is not None), default=None)
        for bucket, uploads in failures.items():
            self._failures[bucket] = self._failures.get(bucket, 0) + uploads
        self._last = heapq.nlargest(_MOST_RUNS, [*self._last, *last], key=_moment)

    def first_moment(self) -> float | None:
        """See :meth:`Survey.first_moment`."""
        return self._first

    def pieces(self, *, of: int = 1, place: int = 0) -> Iterator[list[Delivery]]:
        """See :meth:`Survey.pieces`."""
        yield from self._sorted("SELECT * FROM deliveries ORDER BY shipped_at, rowid")

    def files(self, numbers: Sequence[int]) -> list[ShippedRow]:
        """See :meth:`Survey.files`; those of ledgers that cannot be read any more are left out too."""
        found: list[ShippedRow] = []
        for each in numbers:
            number, place = divmod(each, self._of)
            with contextlib.suppress(StateError), self._opened(place) as ledger:
                found += ledger.survey().files([number])
        return found

    def runs(self) -> Iterator[PastRun]:
        """See :meth:`Survey.runs`."""
        for rows in self._sorted("SELECT * FROM runs ORDER BY coalesce(finished_at, started_at), rowid"):
            yield from map(PastRun._make, rows)

    def last_runs(self, limit: int) -> list[RunRow]:
        """See :meth:`Survey.last_runs`; at most a hundred."""
        return self._last[:limit]

    def failures(self) -> dict[FailureBucket, int]:
        """See :meth:`Survey.failures`."""
        return dict(sorted(self._failures.items()))

    def _insert(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise _no_room(error) from error

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise _no_room(error) from error

    def _sorted(self, sql: str) -> Iterator[list[tuple[Any, ...]]]:
        try:
            cursor = self._connection.execute(sql)
            while rows := cursor.fetchmany(_PIECE):
                yield rows
        except sqlite3.Error as error:
            raise _no_room(error) from error


def _no_room(error: sqlite3.Error) -> StateError:
    return StateError(
        f"There is no room for a sorted copy of the ledgers in the directory for temporary files: {error}.",
        hint="Name another one in SQLITE_TMPDIR; it takes about 100 bytes a file.",
        code="DiskFull",
    )


def _moment(run: RunRow) -> float:
    return run.started_at if run.finished_at is None else run.finished_at
