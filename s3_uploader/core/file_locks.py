"""Locks of the kernel, taken without waiting: ``flock(2)`` on a directory or a file, and byte ranges of a file.

A lock on a byte range belongs to the open file (``F_OFD_SETLK`` in ``fcntl(2)``), so that closing another descriptor of
the file does not drop it, or to the process, where the kernel or the file system knows no other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

# ``struct flock`` of Linux with 64-bit offsets: type, whence, start, length, process.
_FLOCK = struct.Struct("@hhqqi4x")
_OF_OPEN_FILE = getattr(fcntl, "F_OFD_SETLK", None)
_WHOSE_OF_OPEN_FILE = getattr(fcntl, "F_OFD_GETLK", None)
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
# What flock answers on a directory where it is emulated by locks that need a descriptor open for writing (NFS: EBADF),
# or where there are no locks.
_NO_FLOCK = {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EISDIR}


def try_flock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Try to lock: ``True`` if locked, ``False`` if another process holds it, ``None`` if there are no locks here."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_FLOCK:
            return None
        raise
    return True


def release_flock(descriptor: int) -> None:
    """Release the lock; closing the last copy of the descriptor does the same."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def belongs_to_process(file_system: str) -> bool:
    """Whether locks on a file system of that type should belong to the process.

    The kernel tells a file system in user space of the end of a process, but not of the end of an open file that has a
    lock (``fuse_setlk`` in Linux): the lock of a killed run would stay.
    """
    return file_system.startswith("fuse")


def try_range(descriptor: int, *, first: int, length: int, shared: bool, by_process: bool) -> bool | None:
    """``True``: locked; ``False``: another one holds it; ``None``: there are no such locks here.

    :param by_process: the lock is to belong to the process, not to the open file.
    :raises OSError: for anything else.
    """
    return _set(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, first, length, by_process)


def release_range(descriptor: int, *, first: int, length: int, by_process: bool) -> None:
    """Let go. A copy of the descriptor in a process that was forked would hold the lock otherwise."""
    with contextlib.suppress(OSError):
        _set(descriptor, fcntl.F_UNLCK, first, length, by_process)


def is_held(descriptor: int, *, first: int, length: int, by_process: bool) -> bool:
    """Whether anybody holds a lock in the range; takes none. What a process holds as its own it does not see."""
    return in_the_way(descriptor, first=first, length=length, by_process=by_process) is not None


def in_the_way(descriptor: int, *, first: int, length: int, by_process: bool) -> tuple[int, int] | None:
    """First byte and length of a lock that somebody holds in the range; ``None`` if there is none. Takes none."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, first, length, 0)
    command = fcntl.F_GETLK if by_process or _WHOSE_OF_OPEN_FILE is None else _WHOSE_OF_OPEN_FILE
    try:
        answer = fcntl.fcntl(descriptor, command, asked)
    except OSError:
        return None
    kind, _, start, size, _ = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else (start, size)


def _set(descriptor: int, kind: int, first: int, length: int, by_process: bool) -> bool | None:
    wanted = _FLOCK.pack(kind, os.SEEK_SET, first, length, 0)
    command = fcntl.F_SETLK if by_process or _OF_OPEN_FILE is None else _OF_OPEN_FILE
    try:
        fcntl.fcntl(descriptor, command, wanted)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
