"""Gives a new file the owner, permissions and times of the one that it replaces or copies, as far as that is possible.

Where they belong to the mount (FAT, exFAT, SMB, some FUSE file systems), they are not this user's to set.
"""

from __future__ import annotations

import contextlib
import errno
import os

_SET_BY_THE_MOUNT = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def keep_owner(descriptor: int, status: os.stat_result) -> None:
    """Give a new file owner and group of the one whose place it takes, as far as this user may."""
    with contextlib.suppress(OSError):
        os.fchown(descriptor, -1, status.st_gid)
        os.fchown(descriptor, status.st_uid, -1)


def keep_mode(descriptor: int, mode: int) -> None:
    """Give a new file its permissions, unless they are the mount's, as those of FAT, exFAT and SMB may be.

    :raises OSError: if the disk fails.
    """
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in _SET_BY_THE_MOUNT:
            raise


def keep_times(descriptor: int, status: os.stat_result) -> None:
    """Give a copy the times of its original, unless only the owner of the mount's files may.

    :raises OSError: if the disk fails.
    """
    try:
        os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:
        if error.errno not in _SET_BY_THE_MOUNT:
            raise
