"""One thread that calls functions at their time: retries, deadlines, time limits."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Calls a function at a time of the monotonic clock."""

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Call ``call`` on the timer's thread at ``when`` or soon after it."""


class TimerThread:
    """A :class:`Timer`. Its thread, a daemon, starts with the first call; what is due runs one after the other."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Call ``call`` at ``when``; after :meth:`close` it is not called at all."""
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._due, (when, next(self._count), call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif self._due[0][0] >= when:
                self._changed.notify()

    def close(self, *, timeout: float = 0.5) -> None:
        """Forget what is not due yet, end the thread, and wait a moment for its end."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                call = heapq.heappop(self._due)[2]
            # A bug in one of them must not keep the others from their time.
            with contextlib.suppress(Exception):
                call()
            del call
