"""Chooses the journal of a ledger by its file system, and gives exclusive access where that is needed.

A write-ahead log (WAL) costs one ``fsync`` a commit and lets people read while a run writes. It needs two things. Its
index is memory that all processes map, so they must be on one host (https://www.sqlite.org/wal.html). And that memory
is a file: if the file system has no room for a page of it when the page is written, the kernel kills the process with
SIGBUS. On a file system that writes blocks in place, in blocks of at least a page, SQLite has reserved the room before.
Everywhere else the rollback journal is used, which maps nothing and costs more ``fsync``.

Between hosts SQLite's locks suffice if taking a lock makes a client refresh the file: NFS, SMB, 9p. A file system in
user space caches content and size on each host and ignores locks. There this program takes its own lock first, and then
opens the file again for each access.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.procfs import file_system_at, is_local
from s3_uploader.core.range_lock import belongs_to_process, try_lock, unlock

LOCK_NAME = "ledger.lock"

_WRITES_IN_PLACE = frozenset(("ext2", "ext3", "ext4", "f2fs", "jfs", "ramfs", "reiserfs", "tmpfs", "xfs"))
_SMALLEST_BLOCK = 4096
_LOCKS_LOOK_ANEW = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gfs2", "ocfs2", "lustre", "gpfs")
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05


class Journal(enum.Enum):
    """How a ledger is written."""

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
            # First this: to close the other file may drop the lock of another process on this host.
            wait_for(lambda: try_flock(place), until)
            by_process = belongs_to_process(file_system_at(place))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(LOCK_NAME, flags, 0o600, dir_fd=place)
            wait_for(lambda: try_lock(file, first=0, length=1, shared=False, by_process=by_process) is not False, until)
        yield
    finally:
        if file >= 0:
            unlock(file, first=0, length=1, by_process=by_process)
            os.close(file)
        if place >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(place, fcntl.LOCK_UN)
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


def try_flock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file without waiting; returns whether it was free.

    :raises OSError: if its file system has no such locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
