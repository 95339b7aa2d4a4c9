"""One configuration that is watched with others: its process, and how it is with it."""

from __future__ import annotations

import contextlib
import enum
import os
import signal

import msgspec


class State(enum.Enum):
    """How it is with one configuration."""

    STARTED = "started"
    WATCHED = "watched"
    UNUSABLE = "unusable"
    PAUSED = "paused"
    LEAVING = "leaving"
    GONE = "gone"


class Child(msgspec.Struct, kw_only=True):
    """One configuration and the process that watches its spool.

    :param changed: what its file was when it was last started, to know when it is worth another try.
    """

    path: str
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

    @property
    def name(self) -> str:
        """The name of the configuration's file."""
        return os.path.basename(self.path)


def kill(pid: int) -> None:
    """End a process; it may be gone already."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def identity_of(path: str) -> tuple[int, int]:
    """Tells one state of a file from another; zeros if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def name_process(name: str) -> None:
    """Let ``top`` and ``ps -o comm`` tell the processes apart."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8", errors="replace") as file:
        file.write(name[:15])
