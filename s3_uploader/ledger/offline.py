"""Rewrites a ledger while no other process has it open: locks it, builds a new one, and replaces it in one step.

A process that opens a ledger locks its directory for that moment
(:func:`s3_uploader.ledger.state_directory.directory_locked`). Holding that lock for longer keeps new processes out.
SQLite's own lock shows the processes that have the ledger open already: with a write-ahead log for as long as it is
open, with a rollback journal while it is read or written. A run between two of its transactions holds neither, so the
caller must hold the lock of its spool.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator

from s3_uploader.core.attributes import keep_mode
from s3_uploader.core.errors import StateError
from s3_uploader.core.files import insist_on_file, sync_directory, try_flock
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.database import Journal, journal_of, uri
from s3_uploader.ledger.exclusive import alone, look_anew, wait_for
from s3_uploader.ledger.read_only import ReadOnlyDatabase, has_log, is_half_written
from s3_uploader.ledger.schema import APPLICATION_ID, VERSION, ForeignFile
from s3_uploader.ledger.state_directory import COMPANIONS
from s3_uploader.ledger.trouble import explained, has_changes_beside_it, not_begun

BUILT = "ledger.new"
"""The name under which a new ledger is built. The next process overwrites what a killed one left."""
SCRATCH = "ledger.scratch"
_WAIT_SECONDS = 5.0
_SPARE_ROOM = 2**20


@contextlib.contextmanager
def directory_alone(directory: str) -> Iterator[None]:
    """Keep other processes from opening the ledger of a directory. Does not see those that have it open already.

    :raises StateError: if another process has the directory for longer than a moment.
    """
    if journal_of(directory) is Journal.CAUTIOUS:
        with alone(directory, seconds=_WAIT_SECONDS):
            yield
        return
    descriptor = -1
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Where there are no such locks, only SQLite's own protect the ledger.
            if not wait_for(lambda: try_flock(descriptor) is not False, time.monotonic() + _WAIT_SECONDS):
                raise in_use(directory)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def attach(connection: sqlite3.Connection, path: str, name: str = "ledger") -> bool:
    """Attach a ledger under a name, exclusively until it is detached; returns whether it may be written.

    A ledger that this user may not write is read as an immutable file. Begins a transaction.

    :raises StateError: if another process has it open, or this program cannot read it.
    """
    is_writable = os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK)
    if not is_writable and (has_log(path) or is_half_written(path)):
        raise has_changes_beside_it(path)
    look_anew(path)
    try:
        query = "mode=rw" if is_writable else "mode=ro&immutable=1"
        connection.execute(f"ATTACH ? AS {name}", (uri(path, query),))
        # Must come before the first read, so that no index of a write-ahead log is mapped (database.map_no_index).
        connection.execute(f"PRAGMA {name}.locking_mode = EXCLUSIVE").fetchall()
        connection.execute("BEGIN EXCLUSIVE" if is_writable else "BEGIN")
        _insist_on_ledger(connection, path, name)
    except (sqlite3.Error, ForeignFile) as error:
        if "locked" in str(error):
            raise in_use(path) from error
        raise explained(error, path, reading=True) from error
    return is_writable


def rolled_back(connection: sqlite3.Connection, path: str, name: str = "ledger") -> None:
    """Move the content of the files beside an attached ledger into it, and remove them.

    Call this outside a transaction. Afterwards another file may take its name. SQLite finds the files of a ledger by
    its name, and would take those of the old ledger for those of the new one.

    :raises StateError: if another process has it open.
    """
    ((mode,),) = connection.execute(f"PRAGMA {name}.journal_mode = DELETE").fetchall()
    if mode != "delete":
        raise in_use(path)
    for companion in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + companion)


def put_in_place(built: str, path: str) -> None:
    """Replace a ledger, or put the first one in place; durable when this returns.

    The new file gets the owner and the mode of the old one.

    :raises StateError: if that is not possible; the old ledger is then unchanged.
    """
    try:
        insist_on_file(path)
        descriptor = os.open(built, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                before = os.stat(path)
                made = os.fstat(descriptor)
                # Where owners belong to the mount (FAT, SMB), not even root may set one.
                if os.geteuid() == 0 and (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                keep_mode(descriptor, before.st_mode & 0o777)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(built, path)
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_directory(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StateError(
            f"The new ledger cannot take the place of {shown_name(path)}: {error.strerror}.",
            hint="The old one is still there, unchanged.",
        ) from error


def is_begun(path: str) -> bool:
    """Whether a run has written to a ledger. One that was killed, or met a full disk, may have left an empty file.

    :raises StateError: if it is not a ledger that can be read.
    """
    database = ReadOnlyDatabase(path)
    database.close()
    return not database.is_empty


def remove(path: str) -> None:
    """Remove a database and the files that SQLite keeps beside it."""
    for ending in ("", *COMPANIONS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ending)


def refuse_others_ledger(path: str) -> None:
    """Refuse to rewrite the ledger of another user: the new file would be ours, and the uploads could not use it.

    :raises StateError: if the ledger belongs to another user, and this is not root.
    """
    try:
        owner = os.stat(path).st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid() and os.geteuid() != 0:
        raise StateError(
            f"The ledger {shown_name(path)} belongs to another user.",
            hint="Run this as the user that runs the uploads.",
        )


def insist_on_room(directory: str, size: int) -> None:
    """Make sure that there is room before anything is written.

    :raises StateError: if there is not.
    """
    status = os.statvfs(directory or ".")
    room, wanted = status.f_bavail * status.f_frsize, size + _SPARE_ROOM
    if room < wanted:
        raise StateError(
            f"There is no room for a new ledger in {shown_name(directory)}: {wanted:,} bytes are needed, {room:,} are "
            "free.",
            hint="Free space for it; nothing was changed.",
            code="DiskFull",
        )


def size_of(path: str) -> int:
    """Bytes of a ledger, with what lies beside it."""
    total = 0
    for ending in ("", *COMPANIONS):
        with contextlib.suppress(FileNotFoundError):
            total += os.stat(path + ending).st_size
    return total


def in_use(path: str) -> StateError:
    """The error for a ledger that another process has open."""
    return StateError(
        f"The ledger {shown_name(path)} is in use by another process.",
        hint="Run this again when that process has ended; nothing was changed.",
        code="InUse",
    )


def _insist_on_ledger(connection: sqlite3.Connection, path: str, name: str) -> None:
    ((application,),) = connection.execute(f"PRAGMA {name}.application_id").fetchall()
    ((version,),) = connection.execute(f"PRAGMA {name}.user_version").fetchall()
    ((tables,),) = connection.execute(f"SELECT count(*) FROM {name}.sqlite_master").fetchall()
    if not application and not version and not tables:
        raise not_begun(path)
    if application != APPLICATION_ID or not version:
        raise ForeignFile("it is a database of another program")
    if version > VERSION:
        raise StateError(
            f"The ledger {shown_name(path)} was written by a newer version of this program (schema {version}, this one "
            f"knows {VERSION}).",
            hint="Run this with that version.",
        )
