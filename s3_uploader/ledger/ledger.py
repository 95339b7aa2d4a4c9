"""The ledger's operations: what a run records and what the commands ask."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import FailureBucket, Fingerprint, LocationTotals, RunReport, Totals
from s3_uploader.ledger import columns, runs
from s3_uploader.ledger import shipped as shipped_files
from s3_uploader.ledger.columns import restored, stored
from s3_uploader.ledger.memory import MAX_AGE, EndpointMemory
from s3_uploader.ledger.rows import FailingGroup, FailingRow, HistoryTotals, RunRow, ShippedRow

if TYPE_CHECKING:
    import sqlite3

    from s3_uploader.ledger.database import Database
    from s3_uploader.ledger.queries import Survey
    from s3_uploader.ledger.read_only import ReadOnlyDatabase

Result = TypeVar("Result")

_CHUNK = 500
_DAY = 86400.0
_CLOCK = "clock"


class Ledger:
    """An open ledger. Belongs to the thread that opened it; several processes may have the same one open.

    Every method that reads or writes raises :class:`~s3_uploader.core.errors.StateError` if that is not possible.
    """

    def __init__(self, database: Database | ReadOnlyDatabase, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._connection: object = None
        self._destinations: dict[str, int] = {}
        self._memories: list[EndpointMemory] = []
        self._begun: dict[int, runs.Begun] = {}
        self._any_failing = self._ask_for_failing(database.read)

    @classmethod
    def open(
        cls,
        path: str,
        *,
        notice: Callable[[str], None] = lambda sentence: None,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = 30.0,
    ) -> Ledger:
        """Open the ledger at ``path``, creating it if it is missing; its directory must exist.

        A file that is damaged or of another program is renamed to ``ledger.corrupt-<time>`` and a new ledger begun;
        ``notice`` is told so in one sentence, now or whenever the damage comes to light.

        :param clock: wall-clock time in seconds since the epoch.
        :param busy_seconds: longest wait for another process's transaction.
        :raises StateError: if it cannot be written, or was written by a newer version of this program.
        """
        from s3_uploader.ledger.database import Database

        return cls(Database(path, notice=notice, clock=clock, busy_seconds=busy_seconds), clock=clock)

    @classmethod
    def open_readonly(cls, path: str, *, clock: Callable[[], float] = time.time) -> Ledger:
        """Open the ledger at ``path`` for queries, also while a run is writing to it. Creates and changes nothing.

        A ledger that does not exist yet is an empty one.

        :raises StateError: if it is damaged, of another program, or this user may not read it.
        """
        from s3_uploader.ledger.read_only import ReadOnlyDatabase

        return cls(ReadOnlyDatabase(path), clock=clock)

    def close(self) -> None:
        """Write what the endpoint memories learned, if that is possible, and close; may be called twice."""
        if any(memory.unwritten() for memory in self._memories):
            # What was learned can be learned again; it must not hide what ended the run.
            with contextlib.suppress(StateError):
                self._write(lambda connection: None, durable=False)
        self._memories.clear()
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Files

    def commit_batch(
        self,
        *,
        shipped: Sequence[ShippedRow] = (),
        failed: Sequence[FailingRow] = (),
        recovered: Iterable[str] = (),
    ) -> None:
        """Record a batch in one transaction that is on the disk when this returns.

        :param shipped: files that are at the destination now; they are failing no longer.
        :param failed: files that failed, with the row that :func:`after_failure` makes.
        :param recovered: paths that are failing no longer although this run did not ship them.
        """
        no_longer = [*(row.path for row in shipped), *recovered]
        if not failed and not no_longer:
            return

        def work(connection: sqlite3.Connection) -> None:
            if self._any_failing and no_longer:
                _delete_failing(connection, no_longer)
            if shipped:
                shipped_files.insert(connection, shipped, destinations=self._destinations)
            if failed:
                connection.executemany(
                    f"INSERT OR REPLACE INTO failing ({columns.FAILING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    map(columns.failing_values, failed),
                )
                connection.execute("UPDATE totals SET failed_uploads = failed_uploads + ?", (len(failed),))

        self._write(work, durable=True)

    def failing_count(self, *, attempts: int = 0) -> int:
        """How many files keep failing.

        :param attempts: only those that failed at least so often; 0 counts those too that are only under suspicion,
            because they were under way when a destination failed altogether.
        """
        ((count,),) = self._database.read("SELECT count(*) FROM failing WHERE attempts >= ?", (attempts,))
        return int(count)

    def failing(self, path: str) -> FailingRow | None:
        """The row of a file that failed before; :meth:`FailingRow.waits` says whether its pause is over.

        Costs nothing while no file is failing. In another process, a file that begins to fail is seen from the next
        commit on.
        """
        if not self._any_failing:
            return None
        rows = self._database.read(f"SELECT {columns.FAILING_COLUMNS} FROM failing WHERE path = ?", (stored(path),))
        return columns.failing_row(rows[0]) if rows else None

    def failing_rows(self, *, overdue_at: float | None = None) -> Iterator[FailingRow]:
        """The failing files in the order of their next try, in bounded memory.

        :param overdue_at: only those whose next try is before this time.
        """
        latest = float("inf") if overdue_at is None else overdue_at
        after: tuple[float, str | bytes] = (float("-inf"), "")
        while True:
            rows = self._database.read(
                f"SELECT {columns.FAILING_COLUMNS} FROM failing WHERE next_try_at < ? AND (next_try_at, path) > (?, ?)"
                " ORDER BY next_try_at, path LIMIT ?",
                (latest, *after, _CHUNK),
            )
            yield from map(columns.failing_row, rows)
            if len(rows) < _CHUNK:
                return
            after = (rows[-1][7], rows[-1][0])

    def failing_kinds(self) -> list[FailingGroup]:
        """The failing files that were tried at least once, summed up by code."""
        if not self._any_failing:
            return []
        from s3_uploader.ledger.queries import select_kinds

        return select_kinds(self._database.read)

    def forget_failed(self, paths: Sequence[str]) -> None:
        """Files that are failing no longer, for example because they are gone."""
        self._write(lambda connection: _delete_failing(connection, paths), durable=False)

    @property
    def any_failing(self) -> bool:
        """Whether any file is failing; costs nothing. In another process it is known from the next commit on."""
        return self._any_failing

    def end_pauses(self, *, code: str | None, now: float) -> int:
        """Let failing files be tried by the next run, whose pause would not be over yet; returns how many.

        :param code: only those that failed with this code.
        """

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "UPDATE failing SET next_try_at = ? WHERE next_try_at > ? AND (? IS NULL OR code = ?)",
                (now, now, code, code),
            ).rowcount

        return self._write(work, durable=False)

    def sweep_failed(self, exists: Callable[[str], bool], *, now: float, most: int = 20_000) -> int:
        """Forget failing files that are gone; returns how many.

        To be called at the end of a run: a file that is still there has been tried when its pause was over, so only the
        overdue ones have to be looked for, which as a rule are a handful. At the most ``most`` are.

        :param exists: whether there is such a path, relative to the spool.
        """
        if not self._any_failing:
            return 0
        gone: list[str] = []
        for number, row in enumerate(self.failing_rows(overdue_at=now)):
            if number >= most:
                break
            if not exists(row.path):
                gone.append(row.path)
        if gone:
            self.forget_failed(gone)
        return len(gone)

    def remembers(self, path: str, fingerprint: Fingerprint, *, destination: str | None = None) -> bool:
        """Whether this very file was shipped and kept, to ``destination`` if that is given.

        The device is not compared: its number may be another one after each boot, and inode, size and both times to the
        nanosecond are enough to know a file of this spool again.
        """
        rows = self._database.read(
            "SELECT inode, size, mtime_ns, ctime_ns FROM kept WHERE path = :path"
            " AND (:name IS NULL OR destination = (SELECT id FROM destinations WHERE name = :name))",
            {"path": stored(path), "name": None if destination is None else stored(destination)},
        )
        return rows == [columns.kept_values(fingerprint)]

    def sweep_kept(self, exists: Callable[[str], bool], *, now: float, most: int = 1000) -> int:
        """Forget kept files that are gone; returns how many. Each call looks at the next ``most`` of them."""
        begin = int(self.recall("sweep_kept", now=now) or 0)
        rows = self._database.read("SELECT id, path FROM kept WHERE id > ? ORDER BY id LIMIT ?", (begin, most))
        gone = [(number,) for number, path in rows if not exists(restored(path))]
        end = rows[-1][0] if len(rows) == most else 0

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM kept WHERE id = ?", gone)
            _remember(connection, {"sweep_kept": str(end)}, now)

        if gone or end != begin:
            self._write(work, durable=False)
        return len(gone)

    # Runs

    def begin_run(self, *, started_at: float, pid: int, host: str, destination: str = "") -> int:
        """Note that a run begins; returns its number.

        The note survives the death of the process but not a power cut, unless a batch is committed after it.
        """
        begun = (started_at, pid, stored(host), stored(destination))
        number = self._write(lambda connection: runs.insert(connection, begun), durable=False)
        self._begun[number] = begun
        return number

    def finish_run(self, run: int, report: RunReport, *, failures: Mapping[FailureBucket, int] | None = None) -> None:
        """Note how a run ended. One that found nothing to do is added to the ticks before it, of the same day.

        :param failures: how many of its uploads failed, by their kind.
        """
        begun = self._begun.pop(run, (report.started_at, 0, "", stored(report.destination)))

        def work(connection: sqlite3.Connection) -> None:
            runs.finish(connection, run, begun, report)
            if failures:
                runs.count_failures(connection, failures)

        self._write(work, durable=False)

    def runs(self, *, limit: int = 10, since: float | None = None) -> list[RunRow]:
        """The last runs, the latest first.

        :param since: only those that were still running, or began, after this time.
        """
        rows = self._database.read(
            f"SELECT {columns.RUN_COLUMNS} FROM runs WHERE coalesce(finished_at, started_at) >= ?"
            " ORDER BY id DESC LIMIT ?",
            (float("-inf") if since is None else since, limit),
        )
        return [columns.run_row(row) for row in rows]

    def shipped_in(self, run: int, *, since: float) -> tuple[int, int, float | None]:
        """Files and bytes that a run has shipped so far, and when the last of them.

        :param since: when it began.
        """
        rows = self._database.read(
            "SELECT count(*), coalesce(sum(size), 0), max(shipped_at) FROM shipped WHERE shipped_at >= ? AND run = ?",
            (since, run),
        )
        files, size, last = rows[0]
        return files, size, last

    def failed_runs(self, *, since: float | None = None, until: float | None = None) -> Iterator[RunRow]:
        """The runs that were no success, the oldest first, in bounded memory.

        :param since: only those that began at this time or later.
        :param until: only those that began before this time.
        """
        after = 0
        while True:
            rows = self._database.read(
                f"SELECT {columns.RUN_COLUMNS} FROM runs WHERE id > ? AND (failed > 0 OR coalesce(exit_code, 0) <> 0)"
                " AND started_at >= ? AND started_at < ? ORDER BY id LIMIT ?",
                (after, float("-inf") if since is None else since, float("inf") if until is None else until, _CHUNK),
            )
            yield from map(columns.run_row, rows)
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0]

    def latest_runs(self, *, most: int) -> Iterator[RunRow]:
        """The last runs, the latest first, read in pieces as far as somebody wants to know."""
        before = float("inf")
        while most > 0:
            size = min(most, _CHUNK)
            rows = self._database.read(
                f"SELECT {columns.RUN_COLUMNS} FROM runs WHERE id < ? ORDER BY id DESC LIMIT ?", (before, size)
            )
            yield from map(columns.run_row, rows)
            if len(rows) < size:
                return
            before, most = rows[-1][0], most - size

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

        It is read in pieces, so that somebody who pages through it for an hour does not hold up the ledger's upkeep.

        :param since: only files shipped at this time or later.
        :param until: only files shipped before this time.
        :param match: only files whose path or key contains this text or, if it has one of ``*?[`` in it, matches it as
            a whole as a glob pattern, in which ``*`` matches slashes too.
        :param location: only files of this location.
        :param limit: at the most so many.
        """
        return shipped_files.select(
            self._database.read,
            since=since,
            until=until,
            match=match,
            location=location,
            limit=limit,
            newest_first=newest_first,
        )

    def survey(self, *, since: float = float("-inf"), until: float = float("inf")) -> Survey:
        """All that is remembered of a span of time, for a report.

        :param since: only what was at this time or later.
        :param until: only what was before this time.
        """
        from s3_uploader.ledger.queries import Survey

        return Survey(self._database.read, since=since, until=until)

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
        return shipped_files.totals(
            self._database.read,
            by_day=by_day,
            by_location=by_location,
            since=since,
            until=until,
            match=match,
            location=location,
        )

    def totals(self) -> Totals:
        """What has been counted since the ledger began."""
        names = Totals.__struct_fields__
        (row,) = self._database.read(f"SELECT {', '.join(names)} FROM totals")
        return Totals(**dict(zip(names, row, strict=True)))

    def location_totals(self, *, limit: int | None = None) -> list[LocationTotals]:
        """What each location has shipped since the ledger began, by name; ``limit`` gives the first so many."""
        rows = self._database.read(
            "SELECT location, files, bytes, last_shipped_at, last_period_begin FROM locations ORDER BY location"
            " LIMIT ?",
            (-1 if limit is None else limit,),
        )
        return [
            LocationTotals(
                location=restored(location),
                files=files,
                bytes=size,
                last_shipped_at=last_shipped_at,
                last_period_begin=last_period_begin,
            )
            for location, files, size, last_shipped_at, last_period_begin in rows
        ]

    def prune(
        self,
        *,
        now: float,
        history_days: float,
        history_max_files: int,
        chunk: int = 2000,
        go_on: Callable[[], bool] = lambda: True,
    ) -> int:
        """Forget shipped files and runs older than ``history_days``, and the oldest files above ``history_max_files``.

        Works in short transactions, as long as ``go_on`` says so; what is left is for the next run. Returns the number
        of rows removed; costs next to nothing if there are none. A clock that has jumped makes nothing old
        (:mod:`s3_uploader.ledger.ageing`).
        """
        begin = self._believed_time(now, history_days * _DAY) - history_days * _DAY

        def step(connection: sqlite3.Connection) -> int:
            return shipped_files.prune(connection, begin=begin, most_files=history_max_files, chunk=chunk)

        removed = 0
        while shipped_files.has_prunable(self._database.read, begin=begin, most_files=history_max_files) and go_on():
            removed += self._write(step, durable=False)
        return removed

    def _believed_time(self, now: float, history_seconds: float) -> float:
        from s3_uploader.ledger.ageing import BelievedClock

        noted = self.recall(_CLOCK, now=now, max_age=float("inf"))
        # A ledger of an older version, or a new one: what was recorded last before this run is a time that was so.
        newest = None if noted else self._last_record()
        before = BelievedClock.recalled(noted, otherwise=now if newest is None else newest)
        clock = before.at(now, history_seconds=history_seconds)
        if not noted or clock is not before:
            self.remember(_CLOCK, clock.noted(), now=now)
        return clock.time(now, history_seconds=history_seconds)

    def _last_record(self) -> float | None:
        """When the last run but this one ended, as far as it is recorded."""
        ((found,),) = self._database.read(
            "SELECT (SELECT finished_at FROM runs WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1)"
        )
        return None if found is None else float(found)

    # What is known of the endpoint

    def remember(self, name: str, value: str, *, now: float) -> None:
        """Note a text under a name."""
        self._write(lambda connection: _remember(connection, {name: value}, now), durable=False)

    def recall(self, name: str, *, now: float, max_age: float = MAX_AGE) -> str | None:
        """The text under a name, ``None`` if there is none or it was noted more than ``max_age`` seconds ago."""
        rows = self._database.read(
            "SELECT value FROM memory WHERE name = ? AND noted_at BETWEEN ? AND ?", (name, now - max_age, now + max_age)
        )
        return str(rows[0][0]) if rows else None

    def endpoint_memory(self, *, prefix: str = "", max_age: float = MAX_AGE) -> EndpointMemory:
        """What is remembered under names that begin with ``prefix``, for a store to read and add to.

        :param prefix: what the names have in common and the store does not see, e.g. the endpoint's address.
        """
        now = self._clock()
        rows = self._database.read(
            "SELECT name, value FROM memory WHERE noted_at BETWEEN ? AND ?", (now - max_age, now + max_age)
        )
        memory = EndpointMemory(
            {name[len(prefix) :]: value for name, value in rows if name.startswith(prefix)}, prefix=prefix
        )
        self._memories.append(memory)
        return memory

    # Inside

    def _write(self, work: Callable[[sqlite3.Connection], Result], *, durable: bool) -> Result:
        learned = [(memory, memory.unwritten()) for memory in self._memories]

        def all_of_it(connection: sqlite3.Connection) -> tuple[Result, bool]:
            if connection is not self._connection:  # the first one, or a new ledger in place of a damaged one
                self._destinations.clear()
                self._connection = connection
            result = work(connection)
            for memory, values in learned:
                _remember(connection, {memory.prefix + name: value for name, value in values.items()}, self._clock())
            return result, self._ask_for_failing(lambda sql: connection.execute(sql).fetchall())

        try:
            result, self._any_failing = self._database.transact(all_of_it, durable=durable)
        except BaseException:
            self._destinations.clear()  # numbers of rows that were rolled back
            raise
        for memory, values in learned:
            memory.written(values)
        return result

    @staticmethod
    def _ask_for_failing(read: Callable[[str], list[Any]]) -> bool:
        return read("SELECT EXISTS (SELECT 1 FROM failing)") == [(1,)]


def _delete_failing(connection: sqlite3.Connection, paths: Sequence[str]) -> None:
    connection.executemany("DELETE FROM failing WHERE path = ?", [(stored(path),) for path in paths])


def _remember(connection: sqlite3.Connection, values: dict[str, str], now: float) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO memory (name, value, noted_at) VALUES (?, ?, ?)",
        [(name, value, now) for name, value in values.items()],
    )
