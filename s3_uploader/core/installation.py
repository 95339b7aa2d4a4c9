"""The files of this program: whether an upgrade has replaced them since they were loaded."""

from __future__ import annotations

import os

_FILE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_version.py")
"""Each installation writes it anew, and it differs from version to version."""


def was_replaced() -> bool:
    """Whether the program that is installed now is another one than this process has loaded.

    Modules that the process has not imported yet, and processes that it starts, would be those of the other one.
    """
    return _identity() != _LOADED


def _identity() -> tuple[int, ...]:
    try:
        status = os.stat(_FILE)
    except OSError:
        return ()  # an upgrade is under way, or the program is in an archive
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_LOADED = _identity()
