"""The whole history of a span of time, for a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from s3_uploader.core.model import FailureBucket
from s3_uploader.ledger.columns import RUN_COLUMNS, restored
from s3_uploader.ledger.history import SHIPPED_AND_NAME, SHIPPED_WITH_NAME
from s3_uploader.ledger.pages import Read, pages
from s3_uploader.ledger.rows import RunRow, ShippedRow, run_row, shipped_row

_PIECE = 5000

Delivery = tuple[float, int, float, "str | bytes", "float | None", int, int]
"""When it was shipped, the row's number, seconds of the upload, location as stored, data time, mtime_ns, size."""


class PastRun(NamedTuple):
    """A run, or ``ticks`` runs without work. Times are seconds since the epoch."""

    number: int
    started_at: float
    finished_at: float | None
    ticks: int
    exit_code: int | None
    shipped: int
    failed: int
    backlog: int
    backlog_bytes: int
    oldest_waiting: float | None
    ended_by: str
    code: str


class Survey:
    """Reads the rows of a span of time. Rows that other processes write meanwhile may be missing.

    Every method raises :class:`~s3_uploader.core.errors.StateError` if the ledger cannot be read.

    :param read: one query's rows.
    :param since: first moment of the span, ``until`` the first one after it; both in seconds since the epoch.
    """

    def __init__(self, read: Read, *, since: float, until: float) -> None:
        self._read = read
        self._since = since
        self._until = until

    def first_moment(self) -> float | None:
        """When the span's first file was shipped or its first run began; ``None`` if there was neither."""
        ((shipped, run),) = self._read(
            "SELECT (SELECT min(shipped_at) FROM shipped WHERE shipped_at >= ? AND shipped_at < ?),"
            " (SELECT started_at FROM runs WHERE coalesce(finished_at, started_at) >= ? AND started_at < ?"
            " ORDER BY id LIMIT 1)",
            (self._since, self._until) * 2,
        )
        moments = [moment for moment in (shipped, run) if moment is not None]
        return max(min(moments), self._since) if moments else None

    def deliveries(self) -> Iterator[Delivery]:
        """The shipped files, in the order of time."""
        return chain.from_iterable(self.pieces())

    def pieces(self, *, of: int = 1, place: int = 0) -> Iterator[list[Delivery]]:
        """The shipped files, in the order of time and in lists of bounded size: a report may read millions of them.

        :param of: how many ledgers are read as one, and ``place`` which of them this is. The number of a row also
            identifies its ledger.
        """
        sql = (
            f"SELECT shipped_at, id * {of} + {place}, seconds, location, period_begin, mtime_ns, size FROM shipped"
            " WHERE (shipped_at, id) > (?, ?) AND shipped_at < ? ORDER BY shipped_at, id LIMIT ?"
        )
        after = (self._since, 0)
        while True:
            rows: list[Delivery] = self._read(sql, (*after, self._until, _PIECE))
            if rows:
                yield rows
            if len(rows) < _PIECE:
                return
            after = rows[-1][0], rows[-1][1] // of

    def files(self, numbers: Sequence[int]) -> list[ShippedRow]:
        """The shipped files with these numbers, in their order; those that are forgotten by now are left out."""
        found = {}
        for number in numbers:
            for row in self._read(
                f"SELECT {SHIPPED_WITH_NAME} FROM {SHIPPED_AND_NAME} WHERE shipped.id = ?", (number,)
            ):
                found[number] = shipped_row(row)
        return [found[number] for number in numbers if number in found]

    def runs(self) -> Iterator[PastRun]:
        """The runs, in the order in which they were recorded. Several without work may be one row; see ``ticks``."""
        sql = (
            "SELECT id, started_at, finished_at, ticks, exit_code, shipped, failed, backlog, backlog_bytes,"
            " oldest_waiting, ended_by, code, id FROM runs WHERE id > ? ORDER BY id LIMIT ?"
        )
        for run in map(PastRun._make, pages(self._read, sql, after=(0,), size=_PIECE)):
            last_at = run.started_at if run.finished_at is None else run.finished_at
            if run.started_at < self._until and last_at >= self._since:
                yield run

    def last_runs(self, limit: int) -> list[RunRow]:
        """The last runs of the span, the latest first."""
        rows = self._read(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE coalesce(finished_at, started_at) >= ? AND started_at < ?"
            " ORDER BY id DESC LIMIT ?",
            (self._since, self._until, limit),
        )
        return [run_row(row) for row in rows]

    def failures(self) -> dict[FailureBucket, int]:
        """Count the failed uploads by kind, in the hours that overlap with the span, oldest first."""
        if not self._read("SELECT 1 FROM sqlite_master WHERE name = 'failures'", ()):
            return {}  # opened for reading only, and no run of this version has migrated it yet
        rows = self._read(
            "SELECT hour, code, location, uploads FROM failures WHERE hour > ? AND hour < ? ORDER BY hour",
            (self._since / 3600 - 1, self._until / 3600),
        )
        return {FailureBucket(hour, code, restored(location)): uploads for hour, code, location, uploads in rows}
