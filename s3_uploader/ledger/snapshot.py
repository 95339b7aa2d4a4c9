"""A copy of what an audit needs of the ledger, sorted by key, in a temporary file of its own.

The ledger is read once, from end to end, and then let go of: an audit may take hours, and nobody is to wait for it.
SQLite sorts in a few megabytes of memory and in temporary files (``SQLITE_TMPDIR``, ``TMPDIR``, ``/var/tmp``).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.columns import SHIPPED_COLUMNS, int64, restored, shipped_row, stored
from s3_uploader.ledger.journal import Journal, alone, journal_of, look_anew
from s3_uploader.ledger.pages import pages
from s3_uploader.ledger.read_only import ReadOnlyDatabase
from s3_uploader.ledger.rows import ShippedRow
from s3_uploader.ledger.shipped import narrow
from s3_uploader.ledger.trouble import explained

_PIECE = 1000
_WAIT_SECONDS = 30.0
_NAMES = [name.strip() for name in SHIPPED_COLUMNS.split(",")]
_DESTINATION = _NAMES.index("destination")
_NOT_NEEDED = {"mtime_ns": "0", "period_begin": "NULL", "seconds": "0", "run": "NULL"}
"""What is left out when rows are sorted, to save room."""
_TEXTS = ("encoding",)
"""Columns that are empty, not NULL, where a ledger does not have them yet."""
_WHERE_IT_MAY_BE = (
    "Run this as the user that runs the uploads, with their state directory: with --set state_dir=DIRECTORY, or, where "
    "systemd runs them, with STATE_DIRECTORY=/var/lib/s3-uploader (or how else the unit is called) in the environment."
)


class Bounds(msgspec.Struct, frozen=True):
    """How many rows there are, and the first and the last key."""

    rows: int = 0
    first: str = ""
    last: str = ""


class SpoolFile(msgspec.Struct, frozen=True):
    """A file that is in the spool now; ``note`` comes back as it was given."""

    path: str
    size: int
    mtime_ns: int
    note: str


class Snapshot:
    """What the ledger said when it was copied.

    :param destination: name of the store whose files are wanted.
    :raises StateError: if the ledger is not there or cannot be read, or there is no room for the copy.
    """

    def __init__(self, ledger_path: str, *, destination: str) -> None:
        self._ledger_path = ledger_path
        self._destination = destination
        self._journal = journal_of(os.path.dirname(ledger_path))
        # Whether it is a ledger, and one that this program and this user may read.
        database = ReadOnlyDatabase(ledger_path)
        self._is_unchanging = database.is_unchanging
        database.close()
        # To others a ledger that is not there is an empty one. Here that would read as if nothing were missing.
        if not os.path.exists(ledger_path):
            raise StateError(f"There is no ledger {shown_name(ledger_path)}.", hint=_WHERE_IT_MAY_BE)
        # Without a name it is a temporary file, which is gone when it is closed.
        self._connection = sqlite3.connect("", uri=True, isolation_level=None)
        self._present: set[str] | None = None

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
        """Copy, of every key, the row that was written last, if it is selected; see :meth:`Ledger.history`."""
        conditions: list[str] = []
        parameters: list[Any] = []
        for condition, moment in (("shipped_at >= ?", since), ("shipped_at < ?", until)):
            if moment is not None:
                conditions.append(condition)
                parameters.append(moment)
        narrow(conditions, parameters, match=match, location=location)
        # A blob sorts by its bytes, whatever it holds. Of the rows of a group SQLite gives that with the max(), to
        # HAVING too. Rows before the first that is recent enough need not be sorted.
        self._copy(
            "CREATE TABLE newest AS SELECT CAST(coalesce(key, path) AS BLOB) AS whole_key,"
            f" {self._columns(_NOT_NEEDED)}, max(id) AS id"
            " FROM ledger.shipped WHERE destination = (SELECT id FROM ledger.destinations WHERE name = ?)"
            " AND id >= coalesce((SELECT min(id) FROM ledger.shipped WHERE shipped_at >= ?), 0)"
            f" GROUP BY whole_key HAVING {' AND '.join(conditions) or 1} ORDER BY whole_key",
            (stored(self._destination), float("-inf") if since is None else since, *parameters),
        )
        ((count, first, last),) = self._read("SELECT max(rowid), min(rowid), max(rowid) FROM newest")
        if not count:
            return Bounds()
        keys = [
            restored(self._read("SELECT whole_key FROM newest WHERE rowid = ?", (row,))[0][0]) for row in (first, last)
        ]
        return Bounds(count, *keys)

    def rows(self) -> Iterator[ShippedRow]:
        """What was selected, in the order of the keys' bytes."""
        sql = f"SELECT {SHIPPED_COLUMNS}, rowid FROM newest WHERE rowid > ? ORDER BY rowid LIMIT ?"
        yield from map(self._row, pages(self._read, sql, after=(0,), size=_PIECE))

    def elsewhere(self) -> dict[str, int]:
        """How many rows belong to other destinations, by their names."""
        self._copy("CREATE TABLE destinations AS SELECT id, name FROM ledger.destinations", ())
        others = self._read("SELECT id, name FROM destinations WHERE name <> ?", (stored(self._destination),))
        counts = {}
        for number, name in others:
            self._copy(
                f"CREATE TABLE elsewhere_{number} AS"
                " SELECT count(*) AS files FROM ledger.shipped WHERE destination = ?",
                (number,),
            )
            ((counts[restored(name)],),) = self._read(f"SELECT files FROM elsewhere_{number}")
        return {name: files for name, files in counts.items() if files}

    def knows_destination(self) -> bool:
        """Whether there is any row of the destination, selected or not."""
        self._copy(
            "CREATE TABLE known AS SELECT 1 FROM ledger.shipped"
            " WHERE destination = (SELECT id FROM ledger.destinations WHERE name = ?) LIMIT 1",
            (stored(self._destination),),
        )
        return bool(self._read("SELECT * FROM known"))

    def shipped_and_there(self, files: Iterable[SpoolFile]) -> Iterator[tuple[SpoolFile, ShippedRow]]:
        """The files of the spool of which the ledger knows, each with the last row of its path."""
        connection = self._connection
        connection.execute("CREATE TABLE spool (path NOT NULL PRIMARY KEY, size, mtime_ns, note) WITHOUT ROWID")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT OR REPLACE INTO spool VALUES (?, ?, ?, ?)",
            ((stored(file.path), file.size, int64(file.mtime_ns), file.note) for file in files),
        )
        connection.execute("COMMIT")
        self._copy(
            f"CREATE TABLE still AS SELECT {self._columns({})}, spool.size AS size_now,"
            " spool.mtime_ns AS mtime_now, spool.note, max(shipped.id) FROM ledger.shipped"
            " CROSS JOIN spool ON spool.path = shipped.path"
            " WHERE destination = (SELECT id FROM ledger.destinations WHERE name = ?) GROUP BY shipped.path",
            (stored(self._destination),),
        )
        for (number,) in self._read("SELECT rowid FROM still ORDER BY rowid"):
            ((*values,),) = self._read(
                f"SELECT {SHIPPED_COLUMNS}, size_now, mtime_now, note FROM still WHERE rowid = ?", (number,)
            )
            row = self._row(tuple(values))
            size, mtime_ns, note = values[len(_NAMES) : len(_NAMES) + 3]
            yield SpoolFile(row.path, size, mtime_ns, note), row

    def _columns(self, literals: Mapping[str, str]) -> str:
        """The columns of a row, some as literals: those that are not needed, and those that an older ledger has not."""
        if self._present is None:
            self._copy("CREATE TABLE columns AS SELECT name FROM pragma_table_info('shipped', 'ledger')", ())
            self._present = {name for (name,) in self._read("SELECT name FROM columns")}
        missing = {name: "''" if name in _TEXTS else "NULL" for name in _NAMES if name not in self._present}
        literals = {**literals, **missing}
        return ", ".join(f"{literals[name]} AS {name}" if name in literals else f"shipped.{name}" for name in _NAMES)

    def _row(self, values: tuple[Any, ...]) -> ShippedRow:
        with_name = list(values[: len(_NAMES)])
        with_name[_DESTINATION] = self._destination
        return shipped_row(tuple(with_name))

    def _copy(self, sql: str, parameters: Sequence[Any]) -> None:
        """Make a table out of the ledger, in one statement, so that it is of one moment."""
        if self._journal is not Journal.CAUTIOUS:
            self._copy_now(sql, parameters)
            return
        with alone(os.path.dirname(self._ledger_path), seconds=_WAIT_SECONDS):
            look_anew(self._ledger_path)
            self._copy_now(sql, parameters)

    def _copy_now(self, sql: str, parameters: Sequence[Any]) -> None:
        try:
            self._attach(immutable=self._is_quiet())
        except sqlite3.Error as error:
            raise explained(error, self._ledger_path, reading=True) from error
        try:
            self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self._explained(error) from error
        finally:
            self._connection.execute("DETACH ledger")

    def _is_quiet(self) -> bool:
        if self._journal is not Journal.WAL:
            return self._is_unchanging
        return not any(os.path.exists(self._ledger_path + ending) for ending in ("-wal", "-shm", "-journal"))

    def _attach(self, *, immutable: bool) -> None:
        quoted = os.path.abspath(self._ledger_path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        # Without a WAL nobody is writing, and SQLite must not be made to create one merely to read.
        self._connection.execute("ATTACH ? AS ledger", (f"file:{quoted}?mode=ro{'&immutable=1' * immutable}",))

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> StateError:
        if "is full" in str(error) or "I/O" in str(error):
            return StateError(
                "There is no room for a sorted copy of the ledger in the directory for temporary files.",
                hint="Name another one in SQLITE_TMPDIR; it takes about 500 bytes a file.",
            )
        return explained(error, self._ledger_path, reading=True)
