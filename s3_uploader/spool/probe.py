"""A small test file in a directory of the spool, for what only a new file shows.

If it is at the destination too, that leads back to the spool. Its own times show the clock of the file system.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator

from s3_uploader.core.files import try_flock
from s3_uploader.spool.root import Names, SpoolRoot

CONTENT = b"s3_uploader looks whether the destination is the spool\n"
_NAME = re.compile(r"s3-uploader-probe-[0-9a-f]{12}\.tmp")


@contextlib.contextmanager
def probe_in(directory: Callable[[], int]) -> Iterator[str]:
    """Make one for a moment; yields its name, which no layout takes for that of a file.

    It is locked as long as its process lives (:func:`remove_left`).

    :param directory: returns the descriptor of the directory, which may be another one each time.
    :raises OSError: if it cannot be made or removed.
    """
    name = f"s3-uploader-probe-{os.urandom(6).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory())
    try:
        try_flock(descriptor)
        os.write(descriptor, CONTENT)
        # Each close of a copy passes the content on, where a file system keeps it until then (NFS, FUSE).
        os.close(os.dup(descriptor))
        yield name
    finally:
        try:
            os.unlink(name, dir_fd=directory())
        finally:
            os.close(descriptor)


def remove_left(root: SpoolRoot, names: Names, name: str) -> bool:
    """Remove a test file that a killed process has left; returns whether it was one, and is gone."""
    if _NAME.fullmatch(name) is None:
        return False
    with contextlib.suppress(OSError):
        directory = root.directory(names)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            is_ours = stat.S_ISREG(os.fstat(descriptor).st_mode)
            # It may have been killed before it wrote anything. Where there are no locks, the file stays.
            is_ours = is_ours and CONTENT.startswith(os.pread(descriptor, len(CONTENT) + 1, 0))
            if is_ours and try_flock(descriptor):
                os.unlink(name, dir_fd=directory)
                return True
        finally:
            os.close(descriptor)
    return False
