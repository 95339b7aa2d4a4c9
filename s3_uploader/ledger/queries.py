"""The queries of a ledger, for people and for runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from s3_uploader.core.events import LocationTotals, Totals
from s3_uploader.core.model import Fingerprint
from s3_uploader.ledger.columns import FAILING_COLUMNS, RUN_COLUMNS, restored
from s3_uploader.ledger.records import BelievedClock, behind, kept_values, stored

if TYPE_CHECKING:
    from s3_uploader.ledger.coverage import Coverage
    from s3_uploader.ledger.database import Database
    from s3_uploader.ledger.read_only import ReadOnlyDatabase
    from s3_uploader.ledger.rows import FailingGroup, FailingRow, Fate, HistoryTotals, RunRow, ShippedRow
    from s3_uploader.ledger.survey import Survey

CLOCK = "clock"
"""The name under which the ledger keeps what it knows about the clock."""
MAX_AGE = 7 * 86400.0
"""Seconds after which knowledge about an endpoint expires: servers are upgraded."""
_PIECE = 500
_SMALLEST_PIECE = 8
_FIRST_PIECE = 8
"""Of the last runs hardly any reader needs more than a few."""
_ROWS_AT_ONCE = 40 * _PIECE
"""Most rows that several ledgers together hold for one query."""

Self = TypeVar("Self", bound="LedgerReader")


class EndpointMemory:
    """What a store learned about its endpoint, remembered from one run to the next: a small mapping of text to text.

    Any thread may use it. It does not touch the ledger: it is filled when it is made, and the ledger writes new values
    with its next transaction, so that a store's threads never use SQLite.
    """

    def __init__(self, known: dict[str, str], *, prefix: str = "") -> None:
        self.prefix = prefix
        self._known = known
        self._new: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """The value of ``key``; ``None`` if there is none or it is too old."""
        return self._known.get(key)

    def all(self) -> dict[str, str]:
        """All values."""
        return self._known.copy()

    def set(self, key: str, value: str) -> None:
        """Remember ``value`` under ``key``."""
        self._known[key] = value
        self._new[key] = value

    def unwritten(self) -> dict[str, str]:
        """The values to be written. They stay pending until :meth:`written` is called."""
        return self._new.copy()  # one step for the interpreter, so that no other thread can come in between

    def written(self, values: dict[str, str]) -> None:
        """Take note that ``values`` are durable in the ledger."""
        for key, value in values.items():
            if self._new.get(key) == value:
                self._new.pop(key, None)


class LedgerReader:
    """An open ledger, for reading; see :class:`~s3_uploader.ledger.Ledger` for what a run writes.

    Belongs to the thread that opened it. Every method raises :class:`~s3_uploader.core.errors.StateError` if the ledger
    cannot be read.
    """

    def __init__(self, database: Database | ReadOnlyDatabase, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._read = database.read
        self._clock = clock
        self._any_failing = has_failing(database.read)
        self._piece = _PIECE

    def hold_less(self, *, of: int) -> None:
        """Read in smaller pieces, because this is one of several ledgers that are read at the same time."""
        self._piece = max(_SMALLEST_PIECE, min(_PIECE, _ROWS_AT_ONCE // of))

    def close(self) -> None:
        """Close it; may be called twice."""
        self._database.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Files

    def failing_count(self, *, attempts: int = 0) -> int:
        """How many files keep failing.

        :param attempts: only files that failed at least this often. 0 also counts files that are only suspected,
            because they were in flight when the whole destination failed.
        """
        ((count,),) = self._read("SELECT count(*) FROM failing WHERE attempts >= ?", (attempts,))
        self._any_failing = self._any_failing or count > 0
        return int(count)

    def failing(self, path: str) -> FailingRow | None:
        """The row of a file that failed before; :meth:`FailingRow.waits` says whether its pause is over.

        Costs nothing while no file is failing. In another process, a file that begins to fail is seen from the next
        commit or :meth:`failing_count` on.
        """
        if not self._any_failing:
            return None
        from s3_uploader.ledger.rows import failing_row

        rows = self._read(f"SELECT {FAILING_COLUMNS} FROM failing WHERE path = ?", (stored(path),))
        return failing_row(rows[0]) if rows else None

    def failing_rows(self, *, overdue_at: float | None = None) -> Iterator[FailingRow]:
        """The failing files in the order of their next try, in bounded memory.

        :param overdue_at: only those whose next try is before this time.
        """
        from s3_uploader.ledger.pages import pages
        from s3_uploader.ledger.rows import failing_row

        sql = (
            f"SELECT {FAILING_COLUMNS}, next_try_at, path FROM failing WHERE (next_try_at, path) > (?, ?)"
            " AND next_try_at < ? ORDER BY next_try_at, path LIMIT ?"
        )
        latest = float("inf") if overdue_at is None else overdue_at
        rows = pages(self._read, sql, after=(float("-inf"), ""), parameters=(latest,), size=self._piece)
        yield from map(failing_row, rows)

    def failing_kinds(self) -> list[FailingGroup]:
        """The failing files that were tried at least once, grouped by error code."""
        if not self._any_failing:
            return []
        from s3_uploader.ledger.rows import FailingGroup

        due_sql = "SELECT code, min(next_try_at) FROM failing WHERE attempts > 0 GROUP BY code"
        due: dict[Any, Any] = dict(self._read(due_sql))
        # With one min() the other columns come from its row (https://sqlite.org/lang_select.html#bareagg).
        rows = self._read(
            "SELECT code, count(*), min(first_failed_at), attempts, path, message, origin FROM failing"
            " WHERE attempts > 0 GROUP BY code ORDER BY code"
        )
        return [
            FailingGroup(
                code=restored(code),
                files=files,
                first_failed_at=first_failed_at,
                attempts=attempts,
                next_try_at=due.get(code) or first_failed_at,
                path=restored(path),
                message=restored(message),
                origin=origin,
            )
            for code, files, first_failed_at, attempts, path, message, origin in rows
        ]

    @property
    def any_failing(self) -> bool:
        """Whether any file is failing; costs nothing. In another process it is known from the next commit on."""
        return self._any_failing

    def remembers(self, path: str, fingerprint: Fingerprint, *, destination: str | None = None) -> bool:
        """Whether this very file was shipped and kept, to ``destination`` if that is given.

        The device is not compared, because its number may change at each boot. Inode, size and both times to the
        nanosecond are enough to recognise a file of this spool.
        """
        rows = self._read(
            "SELECT inode, size, mtime_ns, ctime_ns FROM kept WHERE path = :path"
            " AND (:name IS NULL OR destination = (SELECT id FROM destinations WHERE name = :name))",
            {"path": stored(path), "name": None if destination is None else stored(destination)},
        )
        return rows == [kept_values(fingerprint)]

    # Runs

    def runs(self, *, limit: int = 10, since: float | None = None) -> list[RunRow]:
        """The last runs, the latest first.

        :param since: only those that were still running, or began, after this time.
        """
        from s3_uploader.ledger.rows import run_row

        rows = self._read(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE coalesce(finished_at, started_at) >= ? ORDER BY id DESC LIMIT ?",
            (float("-inf") if since is None else since, limit),
        )
        return [run_row(row) for row in rows]

    def shipped_in(self, run: int, *, since: float) -> tuple[int, int, float | None]:
        """Files and bytes that a run has shipped so far, and the time of the last one.

        :param since: when it began.
        """
        rows = self._read(
            "SELECT count(*), coalesce(sum(size), 0), max(shipped_at) FROM shipped WHERE shipped_at >= ? AND run = ?",
            (since, run),
        )
        files, size, last = rows[0]
        return files, size, last

    def failed_runs(self, *, since: float | None = None, until: float | None = None) -> Iterator[RunRow]:
        """The runs that did not succeed, the oldest first, in bounded memory.

        :param since: only those that began at this time or later.
        :param until: only those that began before this time.
        """
        from s3_uploader.ledger.pages import pages
        from s3_uploader.ledger.rows import run_row

        sql = (
            f"SELECT {RUN_COLUMNS}, id FROM runs WHERE id > ? AND (failed > 0 OR coalesce(exit_code, 0) <> 0)"
            " AND started_at >= ? AND started_at < ? ORDER BY id LIMIT ?"
        )
        span = float("-inf") if since is None else since, float("inf") if until is None else until
        yield from map(run_row, pages(self._read, sql, after=(0,), parameters=span, size=self._piece))

    def latest_runs(self, *, most: int) -> Iterator[RunRow]:
        """The last runs, the latest first. They are read in pieces, only as far as the caller iterates."""
        from s3_uploader.ledger.pages import pages
        from s3_uploader.ledger.rows import run_row

        sql = f"SELECT {RUN_COLUMNS}, id FROM runs WHERE id < ? ORDER BY id DESC LIMIT ?"
        yield from map(
            run_row,
            pages(self._read, sql, after=(float("inf"),), size=self._piece, first=_FIRST_PIECE, limit=most),
        )

    def _last_record(self) -> float | None:
        """When the last run but this one ended, as far as it is recorded."""
        ((found,),) = self._read(
            "SELECT (SELECT finished_at FROM runs WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1)"
        )
        return None if found is None else float(found)

    # History

    def history(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        match: str | None = None,
        location: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[ShippedRow]:
        """The shipped files by the time at which they were shipped, in bounded memory.

        They are read in pieces, so that somebody who pages through them for an hour does not hold up the ledger.

        :param since: only files shipped at this time or later.
        :param until: only files shipped before this time.
        :param match: only files whose path or key contains this text. A text with one of ``*?[`` is a glob pattern for
            the whole path or key, in which ``*`` also matches slashes.
        :param location: only files of this location.
        :param limit: the maximum number of files.
        """
        from s3_uploader.ledger.history import select

        return select(
            self._read,
            since=since,
            until=until,
            match=match,
            location=location,
            limit=limit,
            newest_first=newest_first,
            size=self._piece,
        )

    def history_totals(
        self,
        *,
        by_day: bool,
        by_location: bool,
        since: float | None = None,
        until: float | None = None,
        match: str | None = None,
        location: str | None = None,
    ) -> Iterator[HistoryTotals]:
        """Sums over the shipped files that are remembered, by day (in local time) and by location, in that order.

        The other arguments select files as in :meth:`history`.
        """
        from s3_uploader.ledger.history import totals

        return totals(
            self._read,
            by_day=by_day,
            by_location=by_location,
            since=since,
            until=until,
            match=match,
            location=location,
        )

    def survey(self, *, since: float = float("-inf"), until: float = float("inf")) -> Survey:
        """Everything that is recorded about a span of time, for a report.

        :param since: only what happened at this time or later.
        :param until: only what happened before this time.
        """
        from s3_uploader.ledger.survey import Survey

        return Survey(self._read, since=since, until=until)

    def totals(self) -> Totals:
        """What has been counted since the ledger began."""
        names = Totals.__struct_fields__
        (row,) = self._read(f"SELECT {', '.join(names)} FROM totals")
        return Totals(**dict(zip(names, row, strict=True)))

    def location_totals(self, *, limit: int | None = None) -> list[LocationTotals]:
        """What each location has shipped since the ledger began, by name; only the first ``limit``."""
        names = LocationTotals.__struct_fields__
        rows = self._read(
            f"SELECT {', '.join(names)} FROM locations ORDER BY location LIMIT ?", (-1 if limit is None else limit,)
        )
        return [LocationTotals(**{**dict(zip(names, row, strict=True)), "location": restored(row[0])}) for row in rows]

    def destinations(self) -> list[str]:
        """The destinations of all shipped files, in the order of their first use."""
        return [restored(name) for (name,) in self._read("SELECT name FROM destinations ORDER BY id")]

    # What will be forgotten, what was audited

    def fate(self, *, now: float, history_days: float, history_max_files: int, trusts_clock: bool = False) -> Fate:
        """Which shipped files :meth:`Ledger.prune` would forget."""
        from s3_uploader.ledger.forgetting import fate

        noted = self.recall(CLOCK, now=now, max_age=float("inf"))
        history = history_days * 86400.0
        clock = BelievedClock.recalled(noted, otherwise=now)
        end = (now if trusts_clock else clock.time(now, history_seconds=history)) - history
        return fate(self._read, begin=end, most_files=history_max_files)

    def coverage(self) -> Coverage:
        """What audits have covered."""
        from s3_uploader.ledger.coverage import NOTED_AS, Coverage

        return Coverage.recalled(self.recall(NOTED_AS, now=self._clock(), max_age=float("inf")))

    def unaudited(self, *, end: float) -> Mapping[str, int]:
        """The number of files shipped before ``end`` that no audit has covered, by destination."""
        from s3_uploader.ledger.coverage import unaudited

        return unaudited(self._read, self.coverage(), end=end)

    def bytes_used(self) -> tuple[int, int]:
        """The bytes of the ledger's used pages, and of its free pages."""
        rows = self._read(
            "SELECT page_count, freelist_count, page_size"
            " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
        )
        ((pages, free, size),) = rows
        return (pages - free) * size, free * size

    # What is known of the endpoint

    def recall(self, name: str, *, now: float, max_age: float = MAX_AGE) -> str | None:
        """The text under a name, ``None`` if there is none or it was noted more than ``max_age`` seconds ago."""
        rows = self._read(
            "SELECT value FROM memory WHERE name = ? AND noted_at BETWEEN ? AND ?", (name, now - max_age, now + max_age)
        )
        return str(rows[0][0]) if rows else None

    def knows_any(self, prefix: str) -> bool:
        """Whether any name that begins with ``prefix`` has a text that is not empty, of any age."""
        found = self._read(
            "SELECT 1 FROM memory WHERE name >= ? AND name < ? AND value != '' LIMIT 1", (prefix, behind(prefix))
        )
        return bool(found)

    def endpoint_memory(self, *, prefix: str = "", max_age: float = MAX_AGE) -> EndpointMemory:
        """What is remembered under names that begin with ``prefix``, for a store to read and add to.

        :param prefix: what the names have in common and the store does not see, e.g. the endpoint's address.
        """
        now = self._clock()
        rows = self._read(
            "SELECT name, value FROM memory WHERE name >= ? AND name < ? AND noted_at BETWEEN ? AND ?",
            (prefix, behind(prefix), now - max_age, now + max_age),
        )
        return EndpointMemory({name[len(prefix) :]: value for name, value in rows}, prefix=prefix)


def has_failing(read: Callable[[str], list[tuple[Any, ...]]]) -> bool:
    """Whether any file is failing."""
    return read("SELECT EXISTS (SELECT 1 FROM failing)") == [(1,)]
