"""Remembers when a problem was reported where the ledger cannot: on its full disk, and once a run has closed it.

An empty file in the state directory needs no room for content, so its times are the record: the access time is when the
problem began, the modification time when it was last reported.
"""

from __future__ import annotations

import os

from s3_uploader.health.said import DISTANCES, Said

_OF_ANOTHER_TIME = 2.0
"""After a silence of this many report intervals, it counts as a new problem."""


def is_due(state_dir: str, name: str, now: float) -> bool:
    """Whether to report a problem now, and record that; always ``True`` if nothing can be recorded."""
    path = os.path.join(state_dir, name)
    before = _noted(path)
    if before is None or before.distance * _OF_ANOTHER_TIME < now - before.last:
        _note(path, began=now, now=now)
        return True
    if not before.is_due(now):
        return False
    _note(path, began=before.since, now=now)
    return True


def over(state_dir: str, name: str) -> Said | None:
    """Forget it; returns what was noted."""
    path = os.path.join(state_dir, name)
    before = _noted(path)
    try:
        os.unlink(path)
    except OSError:
        return None
    return before


def _noted(path: str) -> Said | None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    # It was reported at the beginning, and again after each distance.
    lasted, times = status.st_mtime - status.st_atime, 1
    for distance in DISTANCES:
        if lasted < distance:
            break
        lasted -= distance
        times += 1
    return Said(since=status.st_atime, last=status.st_mtime, times=times)


def _note(path: str, *, began: float, now: float) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
        os.utime(path, (began, now), follow_symlinks=False)
    except OSError:
        return  # there is no room even for a name, so it is reported each time
