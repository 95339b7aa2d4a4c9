"""What the local store asks of the kernel: exclusive temporary files, moves that never replace, durable directories."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from s3_uploader.core.files import rename_without_replacing


@contextlib.contextmanager
def exclusive_file(directory: int, name: str, *, pause: Callable[[float], None]) -> Iterator[int]:
    """A new file ``name`` for writing, ours alone; removed afterwards if it still has that name.

    What a killed process left under the name is removed. While another uploader, thread or process, works on it, wait:
    a kernel lock (``flock(2)``) tells the two apart, since it ends with its process.

    :param pause: sleeps for some seconds; it raises when there is no more time to wait.
    """
    wait = 0.005
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o666, dir_fd=directory)
        except FileExistsError:
            if not remove_abandoned(directory, name):
                pause(wait)
                wait = min(wait * 2, 0.5)
            continue
        # Between our open and our flock another uploader may have taken the file for abandoned and removed it.
        if _lock(descriptor) and _is_named(descriptor, directory, name):
            break
        os.close(descriptor)
    try:
        yield descriptor
    finally:
        try:
            if _is_named(descriptor, directory, name):
                os.unlink(name, dir_fd=directory)
        finally:
            os.close(descriptor)


def remove_abandoned(directory: int, name: str) -> bool:
    """Remove the temporary file ``name`` unless somebody works on it; ``True`` if the name is free now."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return True
    try:
        if not _lock(descriptor):
            return False
        if _is_named(descriptor, directory, name):
            os.unlink(name, dir_fd=directory)
        return True
    finally:
        os.close(descriptor)


def move_without_replacing(directory: int, old: str, new: str) -> bool:
    """Rename ``old`` to ``new`` within a directory; ``False``, and nothing done, if ``new`` is taken."""
    try:
        rename_without_replacing(directory, old, directory, new)
    except FileExistsError:
        return False
    return True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks (some FUSE, NFS without its lock daemon) is taken to have one uploader.
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_named(descriptor: int, directory: int, name: str) -> bool:
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))
