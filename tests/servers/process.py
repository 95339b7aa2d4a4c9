"""Processes, ports and directories of the test servers, each with a guaranteed end."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.servers import guard


class StartError(Exception):
    """A server did not come up; the message holds the end of its log."""


class _Guard:
    """The test process's side of the guard: starts it when it is first needed and sends it orders."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def order(self, order: str, value: int | str) -> None:
        """Put something on the guard's list, or take it off."""
        with self._lock:
            if self._process is None or self._owner != os.getpid():
                self._owner = os.getpid()
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", guard.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    text=True,
                )
                atexit.register(self._close)
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([order, value]) + "\n")
            self._process.stdin.flush()

    def _close(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(timeout=30)
            self._process = None


_guard = _Guard()


_PREFIX = "s3u-"


def make_directory(*, below: str | None = None) -> Path:
    """Make a temporary directory that is removed at the latest when this process ends.

    Its name is short because servers put Unix sockets into it, whose paths are limited to 107 bytes.
    """
    directory = tempfile.mkdtemp(prefix=_PREFIX, dir=below)
    _guard.order("watch-directory", directory)
    return Path(directory)


def remove_directory(directory: Path) -> None:
    """Remove a directory that `make_directory` made, and no other."""
    # An empty path is the directory in which the tests run.
    assert directory.is_absolute(), directory
    assert directory.name.startswith(_PREFIX), directory
    shutil.rmtree(directory, ignore_errors=True)
    _guard.order("forget-directory", str(directory))


def free_ports(count: int = 1) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on.

    They are taken at random from below the range that the kernel uses for outgoing connections (32768 and up on
    Linux), so that no client takes one between this look and the server's own bind.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def accepts_connections(port: int) -> bool:
    """Tell whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ServerProcess:
    """One server process and everything that it starts, in a session of its own."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        _guard.order("watch-session", self._process.pid)

    @property
    def identifier(self) -> int:
        """The id of the process, which is also that of its session."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def tail(self, lines: int = 20) -> str:
        """Return the end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self, *, grace_seconds: float = 3.0) -> None:
        """End the process and its descendants: politely within the grace time, then with SIGKILL."""
        if grace_seconds > 0 and self.alive:
            # A stopped process would not see SIGTERM before it is continued.
            self.send(signal.SIGTERM)
            self.send(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=grace_seconds)
        left = guard.kill_session(self.identifier)
        self._process.wait(timeout=10)
        if left:
            raise RuntimeError(f"processes {left} of {self._process.args!r} do not end")
        _guard.order("forget-session", self.identifier)


def wait_until(
    condition: Callable[[], bool],
    *,
    what: str,
    processes: Sequence[ServerProcess] = (),
    timeout_seconds: float = 30.0,
) -> None:
    """Wait until a condition holds.

    Raises `StartError` when the time is over or one of the processes ended.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        for process in processes:
            if not process.alive:
                raise StartError(f"the process ended before {what}:\n{process.tail()}")
        if time.monotonic() > deadline:
            tails = "\n".join(process.tail() for process in processes)
            raise StartError(f"timed out after {timeout_seconds:.0f} s before {what}:\n{tails}")
        time.sleep(0.02)
