"""Records runs and files in the ledger, and forgets old ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import FailureBucket, RunReport
from s3_uploader.core.text import shown_text
from s3_uploader.ledger import records
from s3_uploader.ledger.columns import restored
from s3_uploader.ledger.queries import CLOCK, MAX_AGE, EndpointMemory, LedgerReader, has_failing
from s3_uploader.ledger.records import stored

if TYPE_CHECKING:
    import sqlite3

    from s3_uploader.ledger.coverage import LastAudit
    from s3_uploader.ledger.database import Database
    from s3_uploader.ledger.read_only import OpenFiles
    from s3_uploader.ledger.rows import FailingRow, ShippedRow

Result = TypeVar("Result")

_DAY = 86400.0
_WARNED = "unaudited"
"""The name of the note that somebody was warned: files that no audit has covered will be forgotten."""
NONE_UNAUDITED = "none unaudited"
"""The name of the note up to which moment, and for which destination, the search has found no such file."""
_WARNED_BEFORE = 14 * _DAY
"""How long before the files are forgotten somebody is warned."""


class Ledger(LedgerReader):
    """An open ledger. Belongs to the thread that opened it; several processes may have the same one open.

    Every method that reads or writes raises :class:`~s3_uploader.core.errors.StateError` if that is not possible.
    """

    _database: Database

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        super().__init__(database, clock=clock)
        self._connection: object = None
        self._destinations: dict[str, int] = {}
        self._memories: list[EndpointMemory] = []
        self._begun: dict[int, records.Begun] = {}

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

        A file that is damaged or of another program is renamed to ``ledger.corrupt-<time>`` and a new ledger is
        started; ``notice`` is called with a sentence then, now or when the damage is found.

        :param clock: wall-clock time in seconds since the epoch.
        :param busy_seconds: longest wait for another process's transaction.
        :raises StateError: if it cannot be written, or was written by a newer version of this program.
        """
        from s3_uploader.ledger.database import Database

        return cls(Database(path, notice=notice, clock=clock, busy_seconds=busy_seconds), clock=clock)

    @staticmethod
    def open_readonly(
        path: str, *, clock: Callable[[], float] = time.time, among: OpenFiles | None = None
    ) -> LedgerReader:
        """Open the ledger at ``path`` for queries, also while a run is writing to it. Creates and changes nothing.

        A ledger that does not exist yet is an empty one.

        :param among: the open ledgers of which this is one, if their number is limited.
        :raises StateError: if it is damaged, of another program, or this user may not read it.
        """
        from s3_uploader.ledger.read_only import ReadOnlyDatabase

        return LedgerReader(ReadOnlyDatabase(path, among=among), clock=clock)

    def close(self) -> None:
        """Write what the endpoint memories learned, if possible, and close; may be called twice."""
        if any(memory.unwritten() for memory in self._memories):
            # What was learned can be learned again; it must not hide what ended the run.
            with contextlib.suppress(StateError):
                self._write(lambda connection: None, durable=False)
        self._memories.clear()
        self._database.close()

    # Files

    def commit_batch(
        self,
        *,
        shipped: Sequence[ShippedRow] = (),
        failed: Sequence[FailingRow] = (),
        recovered: Iterable[str] = (),
        failures: Mapping[FailureBucket, int] | None = None,
    ) -> None:
        """Record a batch in one transaction that is on the disk when this returns.

        :param shipped: files that are at the destination now; they no longer count as failing.
        :param failed: files that failed, with the row that :func:`after_failure` makes.
        :param recovered: paths that are no longer failing although this run did not ship them.
        :param failures: number of failed uploads, by kind, also of files that were moved or deleted since.
        """
        no_longer = [*[row.path for row in shipped], *recovered]
        if not failed and not no_longer and not failures:
            return

        def work(connection: sqlite3.Connection) -> None:
            if self._any_failing and no_longer:
                _delete_failing(connection, no_longer)
            if shipped:
                records.add_shipped(connection, shipped, destinations=self._destinations)
            if failed:
                records.add_failing(connection, failed)
            if failures:
                records.count_failures(connection, failures)

        self._write(work, durable=True)

    def forget_failed(self, paths: Sequence[str]) -> None:
        """Forget files that are no longer failing, for example because they have vanished."""
        self._write(lambda connection: _delete_failing(connection, paths), durable=False)

    def end_pauses(self, *, code: str | None, now: float) -> int:
        """Let the next run retry failing files before their pauses are over; returns their number.

        :param code: only those that failed with this code.
        """

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "UPDATE failing SET next_try_at = ? WHERE next_try_at > ? AND (? IS NULL OR code = ?)",
                (now, now, code, code),
            ).rowcount

        return self._write(work, durable=False)

    def sweep_failed(self, exists: Callable[[str], bool], *, now: float, most: int = 20_000) -> int:
        """Forget failing files that have vanished; returns their number.

        To be called at the end of a run: an existing file was tried when its pause was over, so only overdue files have
        to be checked, usually a handful. At most ``most`` are.

        :param exists: whether a path, relative to the spool, exists.
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

    def sweep_kept(self, exists: Callable[[str], bool], *, now: float, most: int = 1000) -> int:
        """Forget kept files that have vanished; returns their number. Each call checks the next ``most`` files."""
        begin = int(self.recall("sweep_kept", now=now) or 0)
        rows = self._read("SELECT id, path FROM kept WHERE id > ? ORDER BY id LIMIT ?", (begin, most))
        gone = [(number,) for number, path in rows if not exists(restored(path))]
        end = rows[-1][0] if len(rows) == most else 0

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM kept WHERE id = ?", gone)
            _remember(connection, {"sweep_kept": str(end)}, now)

        if gone or end != begin:
            self._write(work, durable=False)
        return len(gone)

    def forget_kept(self, destination: str) -> int:
        """Forget which files were shipped to a destination and kept; returns their number."""

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM kept WHERE destination = (SELECT id FROM destinations WHERE name = ?)",
                (stored(destination),),
            ).rowcount

        return self._write(work, durable=False)

    # Runs

    def begin_run(self, *, started_at: float, pid: int, host: str, destination: str = "") -> int:
        """Record that a run begins; returns its number.

        The record survives the death of the process but not a power cut, unless a batch is committed after it.
        """
        begun = (started_at, pid, stored(host), stored(destination))
        number = self._write(lambda connection: records.begin_run(connection, begun), durable=False)
        self._begun[number] = begun
        return number

    def finish_run(self, run: int, report: RunReport, *, failures: Mapping[FailureBucket, int] | None = None) -> None:
        """Record how a run ended. A run that found nothing to do is added to the preceding ticks of the same day.

        :param failures: number of failed uploads, by kind, that no batch has recorded.
        """
        begun = self._begun.pop(run, (report.started_at, 0, "", stored(report.destination)))

        def work(connection: sqlite3.Connection) -> None:
            records.finish_run(connection, run, begun, report)
            if failures:
                records.count_failures(connection, failures)

        self._write(work, durable=False)

    # Upkeep

    def remember_audit(self, audit: LastAudit) -> None:
        """Note an audit of all files that were shipped to a destination in a span of time."""
        from s3_uploader.ledger.coverage import NOTED_AS

        noted = self.coverage().with_audit(audit).noted()

        def work(connection: sqlite3.Connection) -> None:
            _remember(connection, {NOTED_AS: noted}, audit.at)
            connection.execute("DELETE FROM memory WHERE name = ?", (_WARNED,))

        self._write(work, durable=False)

    def about_to_forget(self, *, now: float, history_days: float, history_max_files: int, destination: str) -> bool:
        """Whether files are forgotten soon that no audit has covered, and nobody was told since the last audit.

        Costs next to nothing as long as nothing is that old. The caller has to warn.
        """
        soon = history_days * _DAY - min(_WARNED_BEFORE, history_days * _DAY / 10)
        begin = self._believed_time(now, history_days * _DAY) - soon
        if self.recall(_WARNED, now=now, max_age=float("inf")) is not None:
            return False
        end = records.end_of_old(self._read, begin=begin, most_files=history_max_files - history_max_files // 10)
        if end is None or not self._any_unaudited(destination, end=end, now=now):
            return False
        self.remember(_WARNED, "said", now=now)
        return True

    def _any_unaudited(self, destination: str, *, end: float, now: float) -> bool:
        from s3_uploader.ledger.coverage import find_unaudited

        begin = float("-inf")
        noted = self.recall(NONE_UNAUDITED, now=now, max_age=float("inf"))
        if noted is not None:
            moment, _, name = noted.partition(" ")
            begin = float(moment) if name == shown_text(destination) else begin
        found, reached = find_unaudited(self._read, self.coverage(), destination, begin=begin, end=end)
        if reached is not None:
            self.remember(NONE_UNAUDITED, f"{reached!r} {shown_text(destination)}", now=now)
        return found

    def prune(
        self,
        *,
        now: float,
        history_days: float,
        history_max_files: int,
        trusts_clock: bool = False,
        chunk: int = 2000,
        go_on: Callable[[], bool] = lambda: True,
    ) -> int:
        """Forget shipped files and runs older than ``history_days``, and the oldest files above ``history_max_files``.

        Works in short transactions while ``go_on`` returns ``True``; the rest is left for the next run. Returns the
        number of rows removed; costs next to nothing if there are none. A clock that has jumped does not age anything
        (:class:`~s3_uploader.ledger.records.BelievedClock`), unless ``trusts_clock`` says that a person vouches for it.
        """
        begin = (now if trusts_clock else self._believed_time(now, history_days * _DAY)) - history_days * _DAY

        def step(connection: sqlite3.Connection) -> int:
            from s3_uploader.ledger.forgetting import prune

            return prune(connection, begin=begin, most_files=history_max_files, chunk=chunk)

        removed = 0
        while records.has_prunable(self._read, begin=begin, most_files=history_max_files) and go_on():
            removed += self._write(step, durable=False)
        return removed

    def _believed_time(self, now: float, history_seconds: float) -> float:
        noted = self.recall(CLOCK, now=now, max_age=float("inf"))
        # A ledger of an older version, or a new one: the last time recorded before this run is past.
        newest = None if noted else self._last_record()
        before = records.BelievedClock.recalled(noted, otherwise=now if newest is None else newest)
        clock = before.at(now, history_seconds=history_seconds)
        if not noted or clock is not before:
            self.remember(CLOCK, clock.noted(), now=now)
        return clock.time(now, history_seconds=history_seconds)

    # What is known of the endpoint

    def endpoint_memory(self, *, prefix: str = "", max_age: float = MAX_AGE) -> EndpointMemory:
        """See :meth:`LedgerReader.endpoint_memory`; what the store adds is written with the next transaction."""
        memory = super().endpoint_memory(prefix=prefix, max_age=max_age)
        self._memories.append(memory)
        return memory

    def remember(self, name: str, value: str, *, now: float) -> None:
        """Remember a text under a name. An empty text deletes the name, which then takes no room."""

        def work(connection: sqlite3.Connection) -> None:
            if value:
                _remember(connection, {name: value}, now)
            else:
                connection.execute("DELETE FROM memory WHERE name = ?", (name,))

        self._write(work, durable=False)

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
            return result, has_failing(lambda sql: connection.execute(sql).fetchall())

        try:
            result, self._any_failing = self._database.transact(all_of_it, durable=durable)
        except BaseException:
            self._destinations.clear()  # numbers of rows that were rolled back
            raise
        for memory, values in learned:
            memory.written(values)
        return result


def _delete_failing(connection: sqlite3.Connection, paths: Sequence[str]) -> None:
    connection.executemany("DELETE FROM failing WHERE path = ?", [(stored(path),) for path in paths])


def _remember(connection: sqlite3.Connection, values: dict[str, str], now: float) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO memory (name, value, noted_at) VALUES (?, ?, ?)",
        [(name, value, now) for name, value in values.items()],
    )
