"""Threads that begin, or fail to within a limit."""

from __future__ import annotations

import threading

START_SECONDS = 10.0


def start_thread(thread: threading.Thread) -> None:
    """Start a thread, and wait until it has begun, but not forever.

    ``Thread.start`` waits without a limit for a thread that the system has created. If that finds no memory for its
    first call, it ends at once, and says nothing to whoever waits.

    :raises RuntimeError: if no thread can be created, or if it has not begun in time.
    """
    thread._started = _Begun()  # type: ignore[attr-defined]
    thread.start()


class _Begun(threading.Event):
    """The event that ``Thread.start`` waits for."""

    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(START_SECONDS if timeout is None else timeout):
            raise RuntimeError(f"a thread has not begun within {START_SECONDS:g} s; there may be no memory for it")
        return True
