"""Waiting for answers on the callers' own threads: one of the waiting threads runs the engine's loop for all.

Passing each answer to another thread would switch threads twice, which costs more than the request itself.
A thread that has its answer lets the next one run the loop. While no thread waits, the engine runs the loop itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from s3_uploader.stores.base import Loop

_LOOK_SECONDS = 0.25


class CallAbandoned(Exception):
    """The caller no longer wants the result of the call."""


class _Wanted(threading.local):
    """For each thread, an event that is set when the result of its call is no longer wanted."""

    given_up: threading.Event | None = None


_WANTED = _Wanted()


@contextlib.contextmanager
def until_given_up(given_up: threading.Event) -> Iterator[None]:
    """Within this context, end this thread's calls with :class:`CallAbandoned` soon after the event is set."""
    _WANTED.given_up = given_up
    try:
        yield
    finally:
        _WANTED.given_up = None


def _look_whether_wanted() -> None:
    given_up = _WANTED.given_up
    if given_up is not None and given_up.is_set():
        # Cleaning up must not be interrupted again.
        _WANTED.given_up = None
        raise CallAbandoned


class Waiter:
    """One thread that waits for one result. :meth:`done` may be called on any thread, and more than once."""

    __slots__ = ("_lock", "_thread", "is_done", "wake_loop")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._thread = threading.get_ident()
        self.is_done = False
        self.wake_loop: Callable[[], None] | None = None
        """Set while this thread runs the loop."""

    def done(self, _: object = None) -> None:
        """Report that the result is there."""
        self.is_done = True
        if threading.get_ident() == self._thread:
            return
        wake_loop = self.wake_loop
        if wake_loop is not None:
            wake_loop()
        self.rouse()

    def rouse(self) -> None:
        """End a wait in :meth:`sleep`, whether it is done or not."""
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def sleep(self, seconds: float) -> None:
        """Wait until another thread rouses this one, or until the time has passed."""
        self._lock.acquire(timeout=max(0.0, seconds))


class Turns:
    """Decides which waiting thread runs the loop of an engine. Any number of threads may wait at once.

    :param loop: ``None`` for an engine that uses only threads of its own.
    """

    def __init__(self, loop: Loop | None) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._is_led = False
        self._followers: dict[Waiter, None] = {}
        """The threads that wait for their turn, in order."""
        if loop is not None:
            loop.take_over()

    def wait(self, waiter: Waiter, until: float, *, tick: Callable[[], object] | None = None) -> bool:
        """Wait until the waiter is done, or until that time of the monotonic clock. Returns whether it is done.

        :param tick: called from time to time on this thread while it waits.
        """
        loop = self._loop
        while not waiter.is_done:
            seconds = min(until - time.monotonic(), _LOOK_SECONDS)
            if seconds <= 0:
                return waiter.is_done
            if loop is not None and self._may_lead(waiter):
                try:
                    self._lead(loop, waiter, until, tick)
                finally:
                    self._pass_on()
            else:
                try:
                    waiter.sleep(seconds)
                finally:
                    self._followers.pop(waiter, None)
            _look_whether_wanted()
            if tick is not None:
                tick()
        return True

    def _may_lead(self, waiter: Waiter) -> bool:
        with self._lock:
            if self._is_led:
                self._followers[waiter] = None
                return False
            self._is_led = True
            return True

    def _lead(self, loop: Loop, waiter: Waiter, until: float, tick: Callable[[], object] | None) -> None:
        waiter.wake_loop = loop.wake
        try:
            while not waiter.is_done:
                seconds = until - time.monotonic()
                if seconds <= 0:
                    return
                if not loop.turn(min(seconds, _LOOK_SECONDS)):
                    bug: Exception | None = getattr(loop, "bug", None)
                    if bug is not None:
                        # A signal handler raised it in the middle of the turn, for example as a timeout. It is meant
                        # for this thread's caller.
                        raise bug
                    # The loop has ended. The waiters were told already, on any thread.
                    waiter.sleep(0.01)
                    return
                _look_whether_wanted()
                if tick is not None and not waiter.is_done:
                    tick()
        finally:
            waiter.wake_loop = None

    def _pass_on(self) -> None:
        with self._lock:
            self._is_led = False
            for follower in list(self._followers):
                if not follower.is_done:
                    follower.rouse()
                    return
