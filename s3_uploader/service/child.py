"""One of several watched configurations, and its process."""

from __future__ import annotations

import contextlib
import enum
import os
import signal

import msgspec


class State(enum.Enum):
    """The state of one configuration."""

    STARTED = "started"
    WATCHED = "watched"
    UNUSABLE = "unusable"
    PAUSED = "paused"
    LEAVING = "leaving"
    GONE = "gone"


class Child(msgspec.Struct, kw_only=True):
    """One configuration and the process that watches its spool.

    :param name: what the log calls it.
    :param changed: the state of its file at the last start, to know when another try is worthwhile.
    """

    path: str
    name: str = ""
    state: State = State.PAUSED
    pid: int = 0
    report: int = -1
    orders: int = -1
    pending: bytes = b""
    said: str = ""
    drain_seconds: float = 20.0
    started_at: float = 0.0
    heard_at: float = 0.0
    due_at: float = 0.0
    failures: int = 0
    is_hung: bool = False
    changed: tuple[int, int] = (0, 0)


def kill(pid: int) -> None:
    """Send a signal to a process that may have ended already."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def identity_of(path: str) -> tuple[int, int]:
    """Identifies the state of a file; zeros if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def name_process(name: str) -> None:
    """Name the process for ``top`` and ``ps -o comm``."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8", errors="replace") as file:
        file.write(name[:15])
