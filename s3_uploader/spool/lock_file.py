"""The lock file in the root of a spool, which only the spool's owner can open and which is locked by bytes.

NFSv4, SMB and those file systems in user space that forward locks carry a byte-range lock to the server, but never a
lock on a directory. The locked bytes begin at :data:`FIRST_BYTE`, after the content of the file: where locks are
mandatory (SMB), the note about the holder can still be read. There is one byte for each CRC-32, so that a share of the
files is locked by a part of the range. A run of all files locks the whole range.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from s3_uploader.core import range_lock
from s3_uploader.core.errors import SpoolError

LOCK_NAME = ".s3-uploader.lock"
"""No layout recognises it: it is no directory, and its name is one of an unfinished file."""

FIRST_BYTE = 1 << 32
RANGE = 1 << 32
BY_PATH, BY_LOCATION = FIRST_BYTE + RANGE, FIRST_BYTE + RANGE + 1
"""Bytes behind the range that say by which rule shares own their files; see :mod:`s3_uploader.spool.extent`."""
MOST_NOTE_BYTES = 16 * 1024

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NOT_PLAIN = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.ENOTDIR)


def open_lock_file(base_fd: int, *, base_dir: str) -> int:
    """Open the lock file; creates it if it is missing.

    :raises SpoolError: if something else has its name.
    :raises OSError: if it can neither be opened nor created.
    """
    with contextlib.suppress(FileNotFoundError):
        # Not even the opening of a device is without effect.
        _insist_on_plain(os.stat(LOCK_NAME, dir_fd=base_fd, follow_symlinks=False), base_dir)
    try:
        descriptor = os.open(LOCK_NAME, _FLAGS | os.O_CREAT, 0o600, dir_fd=base_fd)
    except OSError as error:
        if error.errno in _NOT_PLAIN:
            raise _planted(base_dir) from None
        raise
    try:
        status = os.fstat(descriptor)
        _insist_on_plain(status, base_dir)
        _make_private(descriptor, status, base_fd)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def look_at_lock_file(base_fd: int) -> int | None:
    """Open the lock file for reading; ``None`` if there is none, or if this user may not read it."""
    try:
        if not stat.S_ISREG(os.stat(LOCK_NAME, dir_fd=base_fd, follow_symlinks=False).st_mode):
            return None
        return os.open(LOCK_NAME, _FLAGS & ~os.O_RDWR, dir_fd=base_fd)
    except OSError:
        return None


def is_in_place(descriptor: int, base_fd: int) -> bool:
    """Whether the open lock file is still the one that has the name.

    :raises OSError: if there is no telling.
    """
    try:
        there = os.stat(LOCK_NAME, dir_fd=base_fd, follow_symlinks=False)
        own = os.fstat(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return own.st_nlink > 0 and os.path.samestat(there, own)


def try_lock(
    descriptor: int, *, shared: bool, by_process: bool, first: int = FIRST_BYTE, length: int = RANGE
) -> bool | None:
    """See :func:`s3_uploader.core.range_lock.try_lock`."""
    return range_lock.try_lock(descriptor, first=first, length=length, shared=shared, by_process=by_process)


def unlock(descriptor: int, *, by_process: bool) -> None:
    """See :func:`s3_uploader.core.range_lock.unlock`."""
    range_lock.unlock(descriptor, first=FIRST_BYTE, length=RANGE + 2, by_process=by_process)


def is_held(descriptor: int, *, by_process: bool) -> bool:
    """Whether any process holds a lock on the file; takes none itself."""
    return range_lock.is_held(descriptor, first=FIRST_BYTE, length=RANGE, by_process=by_process)


def remove(base_fd: int) -> None:
    """Remove the lock file; the caller must hold its whole lock."""
    with contextlib.suppress(OSError):
        os.unlink(LOCK_NAME, dir_fd=base_fd)


def read_note(descriptor: int) -> bytes:
    """Read the note about the holder from the lock file."""
    try:
        return os.pread(descriptor, MOST_NOTE_BYTES, 0)
    except OSError:
        return b""


def write_note(descriptor: int, note: bytes) -> None:
    """Write the note about the holder, or empty it when there is no holder any more."""
    # What cannot be noted is not worth a failure. A file that holds something else is not ours to write into.
    with contextlib.suppress(OSError):
        before = os.pread(descriptor, MOST_NOTE_BYTES, 0)
        if before == note or (before and not before.startswith(b'{"pid":')):
            return
        os.pwrite(descriptor, note, 0)
        os.ftruncate(descriptor, len(note))


def _insist_on_plain(status: os.stat_result, base_dir: str) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise _planted(base_dir)


def _planted(base_dir: str) -> SpoolError:
    return SpoolError(
        f"{base_dir}/{LOCK_NAME} is not the lock file that this program makes, but a link, a directory or something "
        "else.",
        hint="Find out who made it, and remove it. Nothing is shipped until then.",
    )


def _make_private(descriptor: int, status: os.stat_result, base_fd: int) -> None:
    """Allow only the spool's owner to open it: a user who can open it can keep every run out."""
    # Whoever may not change that uses it as it is.
    with contextlib.suppress(OSError):
        if stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        if os.geteuid() == 0:
            owner = os.fstat(base_fd)
            if owner.st_uid != status.st_uid:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
