"""Access to a ledger's file with SQLite: address, journal, exclusive access where that is needed, version, rows.

Between hosts SQLite's locks suffice if taking a lock makes a client refresh the file: NFS, SMB, 9p. A file system in
user space caches content and size on each host and ignores locks. There this program takes its own lock first, and then
opens the file again for each access.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from s3_uploader.core.errors import StateError
from s3_uploader.core.files import (
    belongs_to_process,
    open_at_once,
    release_flock,
    release_range,
    try_flock,
    try_range,
)
from s3_uploader.core.procfs import file_system_at, is_local
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.schema import ADDED_COLUMNS, APPLICATION_ID, MIGRATIONS, OF_OLDER, VERSION, ForeignFile

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]

COMPANIONS = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite makes beside a ledger."""
LOCK_NAME = "ledger.lock"

_WRITES_IN_PLACE = frozenset(("ext2", "ext3", "ext4", "f2fs", "jfs", "ramfs", "reiserfs", "tmpfs", "xfs"))
_SMALLEST_BLOCK = 4096
_LOCKS_LOOK_ANEW = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gfs2", "ocfs2", "lustre", "gpfs")
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05


def uri(path: str, query: str) -> str:
    """The address of a file, for :func:`sqlite3.connect` with ``uri``."""
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?{query}"


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; ``None`` if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def has_log(path: str) -> bool:
    """Whether a ledger has a write-ahead log with something in it."""
    try:
        return os.path.getsize(path + "-wal") > 0
    except OSError:
        return False


def rollback_journal(path: str) -> str:
    """The path of a ledger's rollback journal."""
    return path + "-journal"


def is_half_written(path: str) -> bool:
    """Whether a rollback journal says that a transaction was not finished (https://www.sqlite.org/fileformat.html)."""
    try:
        with open_at_once(rollback_journal(path)) as file:
            return any(file.read(8))
    except OSError:
        return False


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


def fetched(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[Row]:
    """All rows of a query."""
    return connection.execute(sql, parameters).fetchall()


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
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return Journal.WAL  # SQLite says what is wrong with it
    try:
        return choose(file_system_at(descriptor), block=os.fstatvfs(descriptor).f_bsize)
    except OSError:
        return Journal.CAUTIOUS
    finally:
        os.close(descriptor)


def is_moved(path: str, opened: tuple[int, int] | None, journal: Journal) -> bool:
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


def choose(file_system: str, *, block: int) -> Journal:
    """:func:`journal_of` by the type of the file system (empty if unknown) and the size of its blocks."""
    if file_system in _WRITES_IN_PLACE and block >= _SMALLEST_BLOCK:
        return Journal.WAL
    if is_local(file_system) or file_system.startswith(_LOCKS_LOOK_ANEW):
        return Journal.ROLLBACK
    return Journal.CAUTIOUS


@contextlib.contextmanager
def alone(directory: str, *, seconds: float) -> Iterator[None]:
    """Get exclusive access to a ledger, among the processes of this host and of others.

    If locking is not possible, or takes longer than ``seconds``, only SQLite's own locks protect the ledger.
    """
    until = time.monotonic() + seconds
    place = file = -1
    by_process = False
    try:
        with contextlib.suppress(OSError):
            place = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # This comes first, because closing the other file may drop the lock of another process on this host.
            wait_for(lambda: try_flock(place) is not False, until)
            by_process = belongs_to_process(file_system_at(place))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(LOCK_NAME, flags, 0o600, dir_fd=place)
            wait_for(
                lambda: try_range(file, first=0, length=1, shared=False, by_process=by_process) is not False, until
            )
        yield
    finally:
        if file >= 0:
            release_range(file, first=0, length=1, by_process=by_process)
            os.close(file)
        if place >= 0:
            release_flock(place)
            os.close(place)


@contextlib.contextmanager
def directory_locked(directory: str, operation: int) -> Iterator[None]:
    """Lock the state directory, if possible. It matters only if several processes find the ledger damaged at once."""
    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, operation)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def look_anew(path: str) -> None:
    """Make this host fetch size and times of a file again: changing its mode does that."""
    with contextlib.suppress(OSError):
        os.chmod(path, os.stat(path).st_mode & 0o7777)


def wait_for(attempt: Callable[[], bool], until: float) -> bool:
    """Attempt something until it succeeds, or until this moment of the monotonic clock; returns whether it has."""
    pause = _FIRST_PAUSE
    while not attempt():
        if time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True


# ---------------------------------------------------------------------------------------------------------- version


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
        raise StateError(
            f"The ledger {shown_name(path)} was written by a newer version of this program "
            f"(schema {version}, this one knows {VERSION}).",
            hint="Install that version again, or move the ledger away. Without it no file is lost, only the history.",
        )
    return int(version)


def is_complete(connection: sqlite3.Connection) -> bool:
    """Whether a ledger of this version also has every added column."""
    return not _missing(connection)


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


def look_complete(connection: sqlite3.Connection) -> None:
    """Make an older ledger look like one of this version, for a read-only connection."""
    for table, values in OF_OLDER.items():
        present = _columns_of(connection, table)
        missing = [f"{value} AS {column}" for column, value in values.items() if column not in present]
        if missing:
            connection.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(missing)} FROM main.{table}")


def absent_columns(connection: sqlite3.Connection, table: str, schema: str) -> dict[str, str]:
    """The columns that a table of an attached ledger does not have yet, with what stands for them in SQL."""
    present = _columns_of(connection, table, schema)
    return {column: value for column, value in OF_OLDER.get(table, {}).items() if column not in present}


def _missing(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    present = {table: _columns_of(connection, table) for table in {table for table, _, _ in ADDED_COLUMNS}}
    return [added for added in ADDED_COLUMNS if added[1] not in present[added[0]]]


def _columns_of(connection: sqlite3.Connection, table: str, schema: str = "main") -> set[str]:
    rows = connection.execute("SELECT name FROM pragma_table_info(?, ?)", (table, schema)).fetchall()
    return {name for (name,) in rows}
