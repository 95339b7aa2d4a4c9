"""Exclusive access to a ledger's file, among the processes of this host and of others.

Between hosts SQLite's locks suffice if taking a lock makes a client refresh the file: NFS, SMB, 9p. A file system in
user space caches content and size on each host and ignores locks. There this program takes its own lock first, and then
opens the file again for each access.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.files import belongs_to_process, release_flock, release_range, try_flock, try_range
from s3_uploader.core.procfs import file_system_at

LOCK_NAME = "ledger.lock"
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05


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
            # This comes first, because closing the other file may drop the lock of another process on this host.
            wait_for(lambda: try_flock(place) is not False, until)
            by_process = belongs_to_process(file_system_at(place))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(LOCK_NAME, flags, 0o600, dir_fd=place)
            wait_for(
                lambda: try_range(file, first=0, length=1, shared=False, by_process=by_process) is not False, until
            )
        yield
    finally:
        if file >= 0:
            release_range(file, first=0, length=1, by_process=by_process)
            os.close(file)
        if place >= 0:
            release_flock(place)
            os.close(place)


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
