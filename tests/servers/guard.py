"""The guard: kills the servers of a test process that is gone, even one that was killed with SIGKILL.

It is started once for each test process, in a session of its own, and reads orders from a pipe whose other end only
the test process holds. When that end is closed, by whatever death, it kills every process of the sessions that are
still on its list and removes the directories on it. PR_SET_PDEATHSIG would not do: the kernel clears it when a server
changes its user (proftpd, nginx), and it does not reach grandchildren.

The file is also run on its own, with ``python -I -S``, so it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time


def session_members(session: int) -> list[int]:
    """Return the ids of the living processes of one session; a zombie counts as gone."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stream:
                stat = stream.read()
        except OSError:
            continue
        # The command name in parentheses may hold spaces and parentheses itself; the fixed fields follow its last one.
        fields = stat[stat.rindex(b")") + 2 :].split()
        if int(fields[3]) == session and fields[0] not in (b"Z", b"X"):
            members.append(int(entry))
    return members


def kill_session(session: int, *, timeout_seconds: float = 10.0) -> list[int]:
    """Kill every process of a session; return those that would not die within the time."""
    deadline = time.monotonic() + timeout_seconds
    while members := session_members(session):
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        if time.monotonic() > deadline:
            return members
        time.sleep(0.01)
    return []


def main() -> None:
    """Read orders, one JSON list a line, until the pipe is closed; then clean up what is still listed."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sessions: set[int] = set()
    directories: set[str] = set()
    for line in sys.stdin:
        order, value = json.loads(line)
        if order == "watch-session":
            sessions.add(value)
        elif order == "forget-session":
            sessions.discard(value)
        elif order == "watch-directory":
            directories.add(value)
        elif order == "forget-directory":
            directories.discard(value)
    for session in sessions:
        kill_session(session)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
