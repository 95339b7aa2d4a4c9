"""``flock(2)`` on a directory or a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl

# What flock answers on a directory where it is emulated by locks that need a descriptor open for writing (NFS: EBADF),
# or where there are no locks.
_NO_FLOCK = {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EISDIR}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


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


def unlock(descriptor: int) -> None:
    """Release the lock; closing the last copy of the descriptor does the same."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
