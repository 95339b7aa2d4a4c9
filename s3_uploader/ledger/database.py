"""The ledger's file: which journal it gets, how a run opens it and writes transactions, the version of its tables.

Durability (https://www.sqlite.org/pragma.html#pragma_synchronous): in WAL mode ``FULL`` makes a commit wait until it is
on the disk; ``NORMAL`` leaves that to later, and a power cut may then undo the last commits but never damages the
file. Rows that deletions depend on are committed with ``FULL``, the note that a run began with ``NORMAL``, which saves
an ``fsync`` that a tick on an SD card would feel. With a rollback journal everything is committed with ``FULL``,
because less might damage the file. The journal's file stays (``PERSIST``): another host with a cached directory would
miss a journal that was made a moment ago, and mistake a half-written ledger for a complete one.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from s3_uploader.core.errors import StateError
from s3_uploader.core.procfs import file_system_at, is_local
from s3_uploader.ledger.schema import ADDED_COLUMNS, APPLICATION_ID, MIGRATIONS, VERSION, ForeignFile
from s3_uploader.ledger.state_directory import create_state_directory, directory_locked, give_up_reserve, identity_of
from s3_uploader.ledger.trouble import explained, is_damage, not_converted, of_newer_version, refuse_special

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]
Result = TypeVar("Result")

_WRITES_IN_PLACE = frozenset(("ext2", "ext3", "ext4", "f2fs", "jfs", "ramfs", "reiserfs", "tmpfs", "xfs"))
_SMALLEST_BLOCK = 4096
_LOCKS_LOOK_ANEW = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gfs2", "ocfs2", "lustre", "gpfs")
_LARGE_WAL = 256 * 1024
_LARGE_JOURNAL = 1024 * 1024
_CACHES_EXPIRE = 2.0
"""Seconds after which a file system in user space has refreshed a file's attributes."""


class Journal(enum.Enum):
    """How a ledger is written, which depends on its file system.

    A write-ahead log (WAL) costs one ``fsync`` a commit and lets people read while a run writes. It needs two things.
    Its index is memory that all processes map, so they must be on one host (https://www.sqlite.org/wal.html). And that
    memory is a file: if the file system has no room for a page of it when the page is written, the kernel kills the
    process with SIGBUS. On a file system that writes blocks in place, in blocks of at least a page, SQLite has reserved
    the room before. Everywhere else the rollback journal is used, which maps nothing and costs more ``fsync``.
    """

    WAL = "a write-ahead log"
    ROLLBACK = "a rollback journal"
    CAUTIOUS = "a rollback journal with exclusive access, and a fresh open for each"


def journal_of(directory: str) -> Journal:
    """The journal for a ledger in this directory; the safest one for an unknown file system."""
    try:
        # O_PATH: a directory that may be searched and written, but not read, has a file system too.
        descriptor = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return Journal.WAL  # SQLite says what is wrong with it
    except OSError:
        return Journal.CAUTIOUS
    try:
        return choose(file_system_at(descriptor), block=os.fstatvfs(descriptor).f_bsize)
    except OSError:
        return Journal.CAUTIOUS
    finally:
        os.close(descriptor)


def choose(file_system: str, *, block: int) -> Journal:
    """:func:`journal_of` by the type of the file system (empty if unknown) and the size of its blocks."""
    if file_system in _WRITES_IN_PLACE and block >= _SMALLEST_BLOCK:
        return Journal.WAL
    if is_local(file_system) or file_system.startswith(_LOCKS_LOOK_ANEW):
        return Journal.ROLLBACK
    return Journal.CAUTIOUS


class Database:
    """An open ledger file, for the one thread that opened it; other processes may have it open at the same time.

    :param notice: called with a sentence when a damaged file had to be set aside.
    :param clock: wall-clock time, for the name of a file that is set aside.
    :param busy_seconds: timeout for another process's transaction.
    :raises StateError: if it cannot be opened, or belongs to a newer version of the program.
    """

    def __init__(
        self, path: str, *, notice: Callable[[str], None], clock: Callable[[], float], busy_seconds: float
    ) -> None:
        self._path = path
        self._notice = notice
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection
        self._identity: tuple[int, int] | None = None
        self._durable = False
        self._directory = os.path.dirname(path)
        self._journal = journal_of(self._directory)
        self._with_reserve(self._open)

    def transact(self, work: Callable[[sqlite3.Connection], Result], *, durable: bool) -> Result:
        """Run ``work`` in one transaction; with ``durable`` it is on the disk when this returns.

        ``work`` may be called a second time, on an empty ledger, if the first ledger turns out to be damaged.

        :raises StateError: if it cannot be committed; then nothing is written.
        """
        if _is_moved(self._path, self._identity, self._journal):
            self._begin_again()
        return self._with_reserve(lambda: self._with_second_chance(lambda: self._transact(work, durable=durable)))

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """The rows of one query.

        :raises StateError: if it cannot be read.
        """
        return self._with_second_chance(lambda: self._connection.execute(sql, parameters).fetchall())

    def close(self) -> None:
        """Close the file; may be called twice.

        The last connection to close a WAL database checkpoints it, which takes three ``fsync``, and removes the WAL,
        which keeps out readers that may not create one. A second, read-only connection prevents both: it is closed last
        and can do neither (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
        """
        if self._journal is not Journal.WAL:
            self._disconnect()
            return
        with contextlib.suppress(sqlite3.Error, OSError):
            if os.path.getsize(self._path + "-wal") > _LARGE_WAL:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            last = sqlite3.connect(uri(self._path, "mode=ro"), uri=True, isolation_level=None)
            last.execute("BEGIN")
            last.execute("SELECT only FROM totals").fetchall()
            self._disconnect()
            last.close()
        self._disconnect()

    def _with_reserve(self, work: Callable[[], Result]) -> Result:
        """Retry with the reserved room if the disk is full."""
        try:
            return work()
        except StateError as error:
            if not error.is_full or not give_up_reserve(self._directory):
                raise
        return work()

    def _with_second_chance(self, work: Callable[[], Result]) -> Result:
        for is_last in (self._journal is not Journal.CAUTIOUS, True):
            try:
                with self._access():
                    return work()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise explained(error, self._path) from error
                self._disconnect()
                if is_last:
                    self._set_aside(str(error))
                    break
            # Perhaps only half of what another host was writing was visible.
            time.sleep(_CACHES_EXPIRE)
        self._open()
        try:
            with self._access():
                return work()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    @contextlib.contextmanager
    def _access(self) -> Iterator[None]:
        """Provide an open connection; where the journal needs it, exclusively and newly opened."""
        if self._journal is not Journal.CAUTIOUS:
            yield
            return
        with self._exclusively_opened():
            self._roll_back_from_now_on()
            yield

    @contextlib.contextmanager
    def _exclusively_opened(self) -> Iterator[None]:
        from s3_uploader.ledger.exclusive import alone, look_anew

        with alone(self._directory, seconds=self._busy_seconds):
            look_anew(self._path)
            try:
                self._connect()
                yield
            finally:
                self._disconnect()

    def _transact(self, work: Callable[[sqlite3.Connection], Result], *, durable: bool) -> Result:
        connection = self._connection
        if durable != self._durable and self._journal is Journal.WAL:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors (disk full, I/O error), and not after others.
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        return result

    def _open(self) -> None:
        try:
            try:
                self._open_once()
            except sqlite3.OperationalError as error:
                if self._journal is not Journal.CAUTIOUS or "unable to open" not in str(error):
                    raise
                # A file beside it that another host has removed may still be in the cache of names.
                time.sleep(_CACHES_EXPIRE)
                self._open_once()
        except (sqlite3.Error, ForeignFile) as error:
            if not is_damage(error):
                raise explained(error, self._path) from error
            self._set_aside(str(error))
        else:
            return
        try:
            self._open_once()
        except (sqlite3.Error, ForeignFile) as error:
            raise explained(error, self._path) from error

    def _begin_again(self) -> None:
        """Reopen the path after its file was removed or replaced: nobody would ever read what that one contains."""
        from s3_uploader.ledger.set_aside import say_lost

        opened = self._identity
        self._disconnect()
        create_state_directory(self._directory)
        self._with_reserve(self._open)
        say_lost(self._path, opened, self._notice)

    def _open_once(self) -> None:
        if self._journal is Journal.CAUTIOUS:
            with self._exclusively_opened():
                self._prepare()
            return
        # Not while another process replaces the file: SQLite finds the WAL by its name, and would take the new file's
        # WAL for that of the old one.
        with directory_locked(self._directory, fcntl.LOCK_SH):
            try:
                self._connect()
                self._prepare()
            except BaseException:
                self._disconnect()
                raise

    def _connect(self) -> None:
        self._identity = None
        journal = rollback_journal(self._path)
        if os.path.lexists(journal) and not os.path.isfile(journal):
            refuse_special(journal, reading=False)
        self._connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        self._identity = identity_of(self._path)
        if self._journal is not Journal.WAL:
            map_no_index(self._connection)

    def _disconnect(self) -> None:
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        # Nothing is written before it is clear that the file is ours.
        try:
            version = our_version(connection, self._path)
            if self._journal is Journal.WAL:
                _switch_to_wal(connection, self._busy_seconds)
                self._durable = False
                connection.execute("PRAGMA synchronous = NORMAL")
            else:
                self._roll_back_from_now_on()
        except sqlite3.OperationalError as error:
            if self._journal is Journal.WAL or "locked" not in str(error) or not os.path.exists(self._path + "-wal"):
                raise
            raise not_converted(self._path) from error
        if version < VERSION or _missing(connection):
            self._transact(migrate, durable=True)
        connection.execute("SELECT only FROM totals").fetchall()

    def _roll_back_from_now_on(self) -> None:
        """Switch to a rollback journal. A write-ahead log is removed once no other process has the ledger open."""
        for statement in ("journal_mode = PERSIST", f"journal_size_limit = {_LARGE_JOURNAL}", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {statement}").fetchall()
        share_again(self._connection)

    def _set_aside(self, reason: str) -> None:
        from s3_uploader.ledger.set_aside import set_aside

        set_aside(self._path, reason=reason, opened=self._identity, now=self._clock(), notice=self._notice)


def _switch_to_wal(connection: sqlite3.Connection, timeout: float) -> None:
    # SQLite does not wait by itself when two processes make this switch at the same time.
    ends_at = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > ends_at:
                raise
        time.sleep(0.01)


def uri(path: str, query: str) -> str:
    """The address of a file, for :func:`sqlite3.connect` with ``uri``."""
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?{query}"


def rollback_journal(path: str) -> str:
    """The path of a ledger's rollback journal."""
    return path + "-journal"


def _is_moved(path: str, opened: tuple[int, int] | None, journal: Journal) -> bool:
    """Whether the file that was opened is no longer in its place.

    Another file counts only where files have lasting numbers, as they have where a write-ahead log is used.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # SQLite says what is wrong with it
    return journal is Journal.WAL and (status.st_dev, status.st_ino) != opened


def map_no_index(connection: sqlite3.Connection) -> None:
    """Make SQLite keep the index of a write-ahead log in its own memory and map no file.

    To be called before anything is read. It does not look whether the ledger has such a log, because closing the file
    would drop all locks that this process has on it, SQLite's included.
    """
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()


def share_again(connection: sqlite3.Connection) -> None:
    """Undo :func:`map_no_index`, so that other processes may use the ledger too."""
    connection.execute("PRAGMA locking_mode = NORMAL").fetchall()
    # The next access releases the lock.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


def our_version(connection: sqlite3.Connection, path: str) -> int:
    """The version of the schema; 0 for an empty file."""
    # One statement, so one moment: another process may just be creating it.
    ((application, version, tables),) = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchall()
    if application != APPLICATION_ID and (application or version or tables):
        raise ForeignFile("it is a database of another program")
    if version > VERSION:
        raise of_newer_version(path, version)
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a ledger to this version. To be called in a transaction."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    for step in MIGRATIONS[version:]:
        for statement in step:
            connection.execute(statement)
    for table, column, declaration in _missing(connection):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declaration}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _missing(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    present = {table: columns_of(connection, table) for table in {table for table, _, _ in ADDED_COLUMNS}}
    return [added for added in ADDED_COLUMNS if added[1] not in present[added[0]]]


def columns_of(connection: sqlite3.Connection, table: str, schema: str = "main") -> set[str]:
    """The names of the columns that a table of a ledger has."""
    rows = connection.execute("SELECT name FROM pragma_table_info(?, ?)", (table, schema)).fetchall()
    return {name for (name,) in rows}
