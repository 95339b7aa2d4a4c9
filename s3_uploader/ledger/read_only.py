"""Opens a ledger's file for queries only, also while a run writes to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import TypeVar

from s3_uploader.core.errors import DEAD_MOUNT, StateError, is_of_a_failing_disk
from s3_uploader.core.files import open_at_once
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.database import (
    Journal,
    Parameters,
    Row,
    columns_of,
    journal_of,
    map_no_index,
    migrate,
    our_version,
    rollback_journal,
    share_again,
    uri,
)
from s3_uploader.ledger.exclusive import alone, look_anew
from s3_uploader.ledger.schema import OF_OLDER, ForeignFile
from s3_uploader.ledger.state_directory import COMPANIONS
from s3_uploader.ledger.trouble import explained, has_changes_beside_it, refuse_special

Result = TypeVar("Result")

_READER_SECONDS = 5.0


class OpenFiles:
    """Limits how many of several ledgers are open: an open one takes 200 KiB and up to three descriptors.

    Queries go through all of them in the same order. So the first ones stay open, and each of the others is opened for
    its turn only; if the one read longest ago were closed, it would always be the next one.

    :param most: how many stay open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._stay: set[ReadOnlyDatabase] = set()
        self._guest: ReadOnlyDatabase | None = None

    def use(self, database: ReadOnlyDatabase) -> None:
        """Take note that a ledger is read now."""
        if database in self._stay or database is self._guest:
            return
        if len(self._stay) < self._most:
            self._stay.add(database)
            return
        if self._guest is not None:
            self._guest.close()
        self._guest = database


class ReadOnlyDatabase:
    """A ledger file opened for queries only: it creates and changes nothing, and waits for nothing.

    :param among: the open ledgers of which this is one, if their number is limited.
    :raises StateError: if it is not a ledger or this user may not read it.
    """

    def __init__(self, path: str, *, among: OpenFiles | None = None) -> None:
        self._path = path
        self._among = among
        self._connection: sqlite3.Connection | None = None
        self._immutable = False
        self.is_empty = False
        """Whether no run has written to the file yet; it then reads like a ledger without rows."""
        self._journal = journal_of(os.path.dirname(path))
        for each in (path, rollback_journal(path)):
            refuse_special(each)
        with self._access():
            self._connect()

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Read the current rows of one query.

        :raises StateError: if it cannot be read.
        """
        with self._access():
            if self._connection is None or (self.is_unchanging and not self._is_quiet()):
                self._connect()
            if self._among is not None:
                self._among.use(self)
            return self._read(sql, parameters)

    @contextlib.contextmanager
    def _access(self) -> Iterator[None]:
        """Get exclusive access if the journal needs it, and close the connection afterwards."""
        if self._journal is not Journal.CAUTIOUS:
            yield
            return
        with alone(os.path.dirname(self._path), seconds=_READER_SECONDS):
            look_anew(self._path)
            try:
                yield
            finally:
                self.close()

    def _read(self, sql: str, parameters: Parameters) -> list[Row]:
        try:
            return self._query(sql, parameters)
        except sqlite3.Error as error:
            if not self._immutable:
                raise explained(error, self._path, reading=True) from error
        # A run began in between and changed the file, which this connection had opened as immutable.
        self._connect()
        try:
            return self._query(sql, parameters)
        except sqlite3.Error as error:
            raise explained(error, self._path, reading=True) from error

    @property
    def is_unchanging(self) -> bool:
        """Whether to read the file as immutable.

        A ledger with a write-ahead log is immutable while the log does not exist or is empty.
        """
        return self._immutable

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _query(self, sql: str, parameters: Parameters) -> list[Row]:
        assert self._connection is not None
        return fetched(self._connection, sql, parameters)

    def _is_quiet(self) -> bool:
        return not any(os.path.exists(self._path + companion) for companion in COMPANIONS)

    def _connect(self) -> None:
        self.close()
        if _is_absent(self._path):
            self._immutable = False
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            migrate(self._connection)
            return
        # Without a WAL nobody is writing. SQLite would create one merely to read; "immutable" prevents that.
        self._immutable = self._journal is Journal.WAL and self._is_quiet()
        if self._journal is not Journal.WAL:
            _recover(self._path)
        try:
            version = self._open_and_ask()
            assert self._connection is not None
            self.is_empty = version == 0
            if self.is_empty:  # a run is just creating it, or was killed or met a full disk before it could
                self.close()
                self._connection = sqlite3.connect(":memory:", isolation_level=None)
                migrate(self._connection)
            else:
                _look_complete(self._connection)
        except (sqlite3.Error, ForeignFile) as error:
            self.close()
            raise explained(error, self._path, reading=True) from error
        except BaseException:
            self.close()
            raise

    def _open_and_ask(self) -> int:
        """Open the file; returns the version of its schema."""
        if self._journal is Journal.WAL:
            self._connection = self._opened("mode=ro&immutable=1" if self._immutable else "mode=ro")
            return our_version(self._connection, self._path)
        self._connection = connection = self._opened("mode=ro")
        try:
            map_no_index(connection)
            version = our_version(connection, self._path)
            share_again(connection)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            # Its write-ahead log came from an older version or another place, and mapping its index might kill this
            # process.
            self.close()
            if has_log(self._path):
                raise has_changes_beside_it(self._path) from error
            self._immutable = True
            self._connection = self._opened("mode=ro&immutable=1")
            return our_version(self._connection, self._path)
        return version

    def _opened(self, query: str) -> sqlite3.Connection:
        return sqlite3.connect(uri(self._path, query), uri=True, timeout=_READER_SECONDS, isolation_level=None)


def fetched(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[Row]:
    """All rows of a query."""
    return connection.execute(sql, parameters).fetchall()


def has_log(path: str) -> bool:
    """Whether a ledger has a write-ahead log with something in it."""
    try:
        return os.path.getsize(path + "-wal") > 0
    except OSError:
        return False


def is_half_written(path: str) -> bool:
    """Whether a rollback journal says that a transaction was not finished (https://www.sqlite.org/fileformat.html)."""
    try:
        with open_at_once(rollback_journal(path)) as file:
            return any(file.read(8))
    except OSError:
        return False


def _recover(path: str) -> None:
    """Finish what a killed run left in the files beside a ledger, if this user may write.

    A half-written transaction is rolled back. A write-ahead log, which a copied ledger may bring along, is moved into
    the ledger without mapping its index.
    """
    if not (has_log(path) or is_half_written(path)):
        return
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(uri(path, "mode=rw"), uri=True, timeout=_READER_SECONDS, isolation_level=None)
        try:
            map_no_index(connection)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        finally:
            connection.close()  # the last connection moves the log


def _is_absent(path: str) -> bool:
    """Whether the file is really missing, and not only invisible to this user."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        raise StateError(
            f"The ledger {shown_name(path)} cannot be read: {error.strerror}.",
            hint=f"{DEAD_MOUNT}."
            if is_of_a_failing_disk(error)
            else "Run this as the user that runs the uploads, or as root.",
        ) from error
    return False


def _look_complete(connection: sqlite3.Connection) -> None:
    """Make an older ledger look like one of this version, for a read-only connection."""
    for table, values in OF_OLDER.items():
        present = columns_of(connection, table)
        missing = [f"{value} AS {column}" for column, value in values.items() if column not in present]
        if missing:
            connection.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(missing)} FROM main.{table}")
