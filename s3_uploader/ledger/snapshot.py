"""A copy of the ledger's rows for an audit, sorted by key, in a temporary file.

The ledgers of shares are copied into one. A ledger is read once, from end to end, and then released: an audit may take
hours, and must not block runs. SQLite sorts in a few megabytes of memory and in temporary files (``SQLITE_TMPDIR``,
``TMPDIR``, ``/var/tmp``).
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.columns import SHIPPED_COLUMNS, restored
from s3_uploader.ledger.database import Journal, journal_of, uri
from s3_uploader.ledger.exclusive import alone, look_anew
from s3_uploader.ledger.history import selection
from s3_uploader.ledger.read_only import ReadOnlyDatabase
from s3_uploader.ledger.records import int64, stored
from s3_uploader.ledger.rows import ShippedRow, shipped_row
from s3_uploader.ledger.state_directory import COMPANIONS, WHERE_IT_MAY_BE
from s3_uploader.ledger.together import ledgers_of_shares
from s3_uploader.ledger.trouble import explained, not_begun, of_copy

if TYPE_CHECKING:
    from s3_uploader.ledger.found import Instance

_PIECE = 1000
_WAIT_SECONDS = 30.0
_NAMES = [name.strip() for name in SHIPPED_COLUMNS.split(",")]
_DESTINATION = _NAMES.index("destination")
_NOT_NEEDED = {"destination": "''", "mtime_ns": "0", "period_begin": "NULL", "seconds": "0", "run": "NULL"}
"""Columns that are left out when rows are sorted, to save room."""
_TEXTS = ("encoding",)
"""Columns whose missing value is the empty text and not NULL."""


class Bounds(msgspec.Struct, frozen=True):
    """The number of rows, and the first and the last key."""

    rows: int = 0
    first: str = ""
    last: str = ""


class SpoolFile(msgspec.Struct, frozen=True):
    """A file that is in the spool now. ``reason`` and ``detail`` say why, and are returned as given."""

    path: str
    size: int
    mtime_ns: int
    reason: str
    detail: str = ""


class _Source:
    """A ledger to copy from; ``instance`` is the name of the uploader that writes it."""

    def __init__(self, path: str, instance: str = "") -> None:
        self.path = path
        self.instance = instance
        self.journal = journal_of(os.path.dirname(path))
        # Raises an error unless it is a ledger that this program and this user can read.
        database = ReadOnlyDatabase(path)
        self.is_unchanging = database.is_unchanging
        self.is_empty = database.is_empty
        database.close()
        self.present: set[str] | None = None
        """The columns that its table of files has."""

    @property
    def is_quiet(self) -> bool:
        """Whether no process writes to it."""
        if self.journal is not Journal.WAL:
            return self.is_unchanging
        return not any(os.path.exists(self.path + companion) for companion in COMPANIONS)

    @property
    def address(self) -> str:
        """The address for SQLite. Without a WAL no process is writing, and none must be created for reading."""
        return uri(self.path, f"mode=ro{'&immutable=1' * self.is_quiet}")


class Snapshot:
    """The rows of a spool's ledgers at the time of the copy.

    :param ledger_path: the ledger of runs that ship all files; it may be missing if there are ledgers of shares.
    :param instances: the ledgers of several uploaders, instead of that one.
    :param destination: name of the store whose files are selected.
    :ivar unreadable: the ledgers of several uploaders that could not be read, or not to the end, each with the reason.
    :ivar incomplete: the names of the uploaders that write these.
    :raises StateError: if there is no ledger, a ledger of the spool or all of several uploaders cannot be read, or
        there is no room for the copy.
    """

    def __init__(self, ledger_path: str, *, destination: str, instances: Sequence[Instance] = ()) -> None:
        self._destination = destination
        self.unreadable: dict[str, StateError] = {}
        self.incomplete: set[str] = set()
        self._instances = [each.name for each in instances]
        if instances:
            self._sources = self._readable(instances)
        else:
            paths = [ledger_path, *ledgers_of_shares(ledger_path).values()]
            # Elsewhere a missing ledger counts as an empty one. Here that would look as if nothing were missing.
            found = [_Source(path) for path in paths if path != ledger_path or os.path.exists(path)]
            self._sources = [source for source in found if not source.is_empty]
        if not self._sources:
            # It may be there and this user may not see it, which is another error.
            if _Source(ledger_path).is_empty:
                raise not_begun(ledger_path)
            raise StateError(f"There is no ledger {shown_name(ledger_path)}.", hint=WHERE_IT_MAY_BE)
        # Without a name it is a temporary file, which is gone when it is closed.
        self._connection = sqlite3.connect("", uri=True, isolation_level=None)

    def _readable(self, instances: Sequence[Instance]) -> list[_Source]:
        """The ledgers of several uploaders that can be opened."""
        sources = []
        for each in instances:
            for path in each.paths:
                try:
                    source = _Source(path, each.name)
                    if source.is_empty:
                        raise not_begun(path)
                    sources.append(source)
                except StateError as error:
                    self.unreadable[path] = of_copy(error)
                    self.incomplete.add(each.name)
        if not sources:
            raise next(iter(self.unreadable.values()))
        return sources

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def select(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        match: str | None = None,
        location: str | None = None,
    ) -> Bounds:
        """Copy the last row of every key, if it is selected; see :meth:`Ledger.history`."""
        conditions, parameters = selection(since=since, until=until, match=match, location=location)
        # A blob sorts by its bytes, whatever it holds. Of each group SQLite returns the row with the max(), to
        # HAVING too. Rows before the first that is recent enough need not be sorted.
        selected = f"HAVING {' AND '.join(conditions) or 1} ORDER BY whole_key"
        is_one = len(self._sources) == 1
        first = float("-inf") if since is None else since
        self._copy(
            "newest" if is_one else "newest_of_each",
            lambda source: (
                "SELECT CAST(coalesce(key, path) AS BLOB) AS whole_key,"
                f" {self._columns(source, self._literals(source))}, max(id) AS id FROM ledger.shipped"
                " WHERE destination = (SELECT id FROM ledger.destinations WHERE name = ?)"
                " AND id >= coalesce((SELECT min(id) FROM ledger.shipped WHERE shipped_at >= ?), 0)"
                f" GROUP BY whole_key {selected if is_one else ''}"
            ),
            (stored(self._destination), first, *(parameters if is_one else ())),
        )
        if not is_one:
            # If the number of shares changes, another share owns the key. Of all its rows the last one counts.
            self._read(
                f"CREATE TABLE newest AS SELECT whole_key, {', '.join(_NAMES)}, max(shipped_at) AS last"
                f" FROM newest_of_each GROUP BY whole_key {selected}",
                parameters,
            )
        ((count, first, last),) = self._read("SELECT max(rowid), min(rowid), max(rowid) FROM newest")
        if not count:
            return Bounds()
        keys = [
            restored(self._read("SELECT whole_key FROM newest WHERE rowid = ?", (row,))[0][0]) for row in (first, last)
        ]
        return Bounds(count, *keys)

    def reach(self) -> dict[str, float]:
        """Until when an audit of this covers each of the ledgers: right after the last file in it.

        To be asked before :meth:`select`; what is shipped meanwhile is not covered then.
        """
        self._copy(
            "reach",
            lambda source: (
                f"SELECT {self._sources.index(source)} AS number, (SELECT max(shipped_at) FROM ledger.shipped) AS last"
            ),
            (),
        )
        lasts = self._read("SELECT number, last FROM reach ORDER BY rowid")
        return {
            self._sources[number].path: math.nextafter(last, math.inf) for number, last in lasts if last is not None
        }

    def rows(self) -> Iterator[ShippedRow]:
        """Yield the selected rows, sorted by the bytes of their keys."""
        sql = f"SELECT {SHIPPED_COLUMNS}, rowid FROM newest WHERE rowid > ? ORDER BY rowid LIMIT ?"
        last = 0
        while rows := self._read(sql, (last, _PIECE)):
            for row in rows:
                yield shipped_row(row, destination=self._destination)
            last = rows[-1][-1]

    def instance_of(self, row: ShippedRow) -> str:
        """The name of the uploader that shipped a file of :meth:`rows`; empty if it is not about several."""
        return self._sources[row.run].instance if row.run is not None and self._sources[0].instance else ""

    def counts(self) -> dict[str, int]:
        """How many of the rows are of each of several uploaders."""
        counts = dict.fromkeys(self._instances, 0)
        for number, files in self._read("SELECT run, count(*) FROM newest GROUP BY run"):
            counts[self._sources[number].instance] += files
        return counts

    def later(self, moment: float) -> int:
        """How many files were shipped to the destination at this moment or later."""
        self._copy(
            "later",
            lambda source: (
                "SELECT count(*) AS files FROM ledger.shipped WHERE shipped_at >= ?"
                " AND destination = (SELECT id FROM ledger.destinations WHERE name = ?)"
            ),
            (moment, stored(self._destination)),
        )
        ((files,),) = self._read("SELECT sum(files) FROM later")
        return int(files or 0)

    def elsewhere(self) -> dict[str, int]:
        """Count the rows of other destinations, by name."""
        self._copy(
            "elsewhere",
            lambda source: (
                # In one pass, however many other destinations there are.
                "SELECT name, files FROM (SELECT destination, count(*) AS files FROM ledger.shipped WHERE destination"
                " IS NOT (SELECT id FROM ledger.destinations WHERE name = ?) GROUP BY destination) AS others"
                " JOIN ledger.destinations ON destinations.id = others.destination ORDER BY destinations.id"
            ),
            (stored(self._destination),),
        )
        counts = self._read("SELECT name, sum(files) FROM elsewhere GROUP BY name ORDER BY min(rowid)")
        return {restored(name): files for name, files in counts if files}

    def knows_destination(self) -> bool:
        """Whether the ledger has any row of the destination, selected or not."""
        self._copy(
            "known",
            lambda source: (
                "SELECT 1 FROM ledger.shipped"
                " WHERE destination = (SELECT id FROM ledger.destinations WHERE name = ?) LIMIT 1"
            ),
            (stored(self._destination),),
        )
        return bool(self._read("SELECT * FROM known"))

    def shipped_and_there(self, files: Iterable[SpoolFile]) -> Iterator[tuple[SpoolFile, ShippedRow]]:
        """Yield the files of the spool that are in the ledger, each with the last row of its path."""
        connection = self._connection
        connection.execute(
            "CREATE TABLE spool (path NOT NULL PRIMARY KEY, size, mtime_ns, reason, detail) WITHOUT ROWID"
        )
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT OR REPLACE INTO spool VALUES (?, ?, ?, ?, ?)",
            ((stored(file.path), file.size, int64(file.mtime_ns), file.reason, stored(file.detail)) for file in files),
        )
        connection.execute("COMMIT")
        self._copy(
            "still",
            lambda source: (
                f"SELECT {self._columns(source, {})}, spool.size AS size_now,"
                " spool.mtime_ns AS mtime_now, spool.reason, spool.detail, max(shipped.id) FROM ledger.shipped"
                " CROSS JOIN spool ON spool.path = shipped.path"
                " WHERE destination = (SELECT id FROM ledger.destinations WHERE name = ?) GROUP BY shipped.path"
            ),
            (stored(self._destination),),
        )
        for number, _ in self._read("SELECT rowid, max(shipped_at) FROM still GROUP BY path ORDER BY rowid"):
            ((*values,),) = self._read(
                f"SELECT {SHIPPED_COLUMNS}, size_now, mtime_now, reason, detail FROM still WHERE rowid = ?", (number,)
            )
            row = self._row(tuple(values))
            size, mtime_ns, reason, detail = values[len(_NAMES) :]
            yield SpoolFile(row.path, size, mtime_ns, reason, restored(detail)), row

    def _literals(self, source: _Source) -> dict[str, str]:
        # The number of the run is not needed here, so the number of the ledger takes its place.
        return {**_NOT_NEEDED, "run": str(self._sources.index(source))} if source.instance else _NOT_NEEDED

    def _columns(self, source: _Source, literals: Mapping[str, str]) -> str:
        """The columns of a row; unneeded ones, and those that an older ledger lacks, are literals."""
        if source.present is None:
            columns = self._connection.execute("SELECT name FROM pragma_table_info('shipped', 'ledger')")
            source.present = {name for (name,) in columns}
        missing = {name: "''" if name in _TEXTS else "NULL" for name in _NAMES if name not in source.present}
        literals = {**literals, **missing}
        return ", ".join(f"{literals[name]} AS {name}" if name in literals else f"shipped.{name}" for name in _NAMES)

    def _row(self, values: tuple[Any, ...]) -> ShippedRow:
        with_name = list(values[: len(_NAMES)])
        with_name[_DESTINATION] = self._destination
        return shipped_row(tuple(with_name))

    def _copy(self, table: str, select: Callable[[_Source], str], parameters: Sequence[Any]) -> None:
        """Copy rows from each ledger into a table, each in one statement, so that a copy is consistent.

        :param select: the query for a ledger; called while that is attached.
        """
        into = f"CREATE TABLE {table} AS"
        for source in self._sources:
            if source.path in self.unreadable:
                continue
            try:
                self._copy_one(source, into, select, parameters)
            except StateError as error:
                if not source.instance or error.is_full:
                    raise
                # If a ledger is damaged in one place, the rest of it is audited.
                self.unreadable[source.path] = of_copy(error)
                self.incomplete.add(source.instance)
                continue
            into = f"INSERT INTO {table}"
        if into.startswith("CREATE"):
            raise next(reversed(self.unreadable.values()))

    def _copy_one(
        self, source: _Source, into: str, select: Callable[[_Source], str], parameters: Sequence[Any]
    ) -> None:
        if source.journal is not Journal.CAUTIOUS:
            self._copy_now(source, into, select, parameters)
            return
        with alone(os.path.dirname(source.path), seconds=_WAIT_SECONDS):
            look_anew(source.path)
            self._copy_now(source, into, select, parameters)

    def _copy_now(
        self, source: _Source, into: str, select: Callable[[_Source], str], parameters: Sequence[Any]
    ) -> None:
        try:
            self._connection.execute("ATTACH ? AS ledger", (source.address,))
        except sqlite3.Error as error:
            raise explained(error, source.path, reading=True) from error
        try:
            self._connection.execute(f"{into} {select(source)}", parameters)
        except sqlite3.Error as error:
            raise self._explained(error, source.path) from error
        finally:
            self._connection.execute("DETACH ledger")

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error, self._sources[0].path) from error

    def _explained(self, error: sqlite3.Error, path: str) -> StateError:
        if "is full" in str(error) or "I/O" in str(error):
            return StateError(
                "There is no room for a sorted copy of the ledger in the directory for temporary files.",
                hint="Name another one in SQLITE_TMPDIR; it takes about 500 bytes a file.",
                code="DiskFull",
            )
        return explained(error, path, reading=True)
