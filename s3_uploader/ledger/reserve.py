"""Reserves room for the ledger, so that a disk that the spool has filled can be emptied.

A file is removed only when its row is durable, and a row needs room. If spool and ledger share a full disk, no file
could ever be removed. So a small file is kept beside the ledger while there is room, and deleted for the rows of the
first files. Their removal makes room for the next ones, and for the reserve.
"""

from __future__ import annotations

import contextlib
import os

NAME = "reserve"
SIZE = 256 * 1024
"""Enough for a batch of rows, and its journal or write-ahead log with its index."""
_AMPLE = 8 * SIZE
"""With less free room than this, no reserve is made."""
_CHUNK = 64 * 1024


def keep(directory: str) -> None:
    """Make the reserve if it is missing and there is ample room; a failure is ignored."""
    path = os.path.join(directory, NAME)
    with contextlib.suppress(OSError):
        if os.path.exists(path):
            return
        room = os.statvfs(directory)
        if room.f_bavail * room.f_frsize < _AMPLE:
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Not allocated but written, and not of zeros: a file system that compresses would keep nothing of those.
            for _ in range(SIZE // _CHUNK):
                os.write(descriptor, os.urandom(_CHUNK))
        except OSError:
            os.unlink(path)
        finally:
            os.close(descriptor)


def give_up(directory: str) -> bool:
    """Free the room; returns ``False`` if there is no reserve."""
    try:
        os.unlink(os.path.join(directory, NAME))
    except OSError:
        return False
    # Some file systems hand freed blocks out only once the removal is in their journal.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return True
