"""The lock in the state directory, for spools in which nothing can be locked."""

from __future__ import annotations

import errno
import os

from s3_uploader.core.errors import StateError
from s3_uploader.core.files import belongs_to_process, try_flock
from s3_uploader.core.procfs import file_system_at
from s3_uploader.core.text import shown_name
from s3_uploader.spool import lock_file
from s3_uploader.spool.holder import LOCK_FILE_NAME
from s3_uploader.spool.lock_file import Extent


def try_state_lock(state_dir: str, extent: Extent, *, base_dir: str) -> tuple[int, bool, bool]:
    """A descriptor of the lock file, whether it is locked or somebody else has it, and whether it is a process's lock.

    Shares hold a shared ``flock(2)`` and each its own range. Without ranges, one share at a time holds the lock.

    :raises StateError: if it cannot be made, or there are no locks.
    """
    path = os.path.join(state_dir, LOCK_FILE_NAME)
    descriptor = _open(path)
    by_process = belongs_to_process(file_system_at(descriptor))
    try:
        locked = try_flock(descriptor, shared=extent.share is not None)
        if locked is None:
            raise StateError(
                f"Neither {shown_name(base_dir)} nor {shown_name(path)} can be locked.",
                hint="Put the state directory (state_dir) on a local file system.",
            )
        if locked and extent.share is not None:
            in_range = extent.try_lock(descriptor, by_process=by_process)
            locked = try_flock(descriptor) is True if in_range is None else in_range
    except BaseException:
        lock_file.close(descriptor)
        raise
    return descriptor, locked, by_process


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateError(
            f"The lock file {shown_name(path)} cannot be opened: {error.strerror}.",
            hint="Make the state directory writable for this user, or name another one with state_dir.",
            code="DiskFull" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Denied",
        ) from error
