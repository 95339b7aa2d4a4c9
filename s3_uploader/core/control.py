"""Control of time and threads: clocks, when a file is old enough, the back-off, requests to stop, threads and forks."""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import time
from _weakref import ref  # weakref has much else, which is loaded with it
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    import threading

    from s3_uploader.core.model import Candidate

Owner = TypeVar("Owner")

_LOOK_SECONDS = 0.05
START_SECONDS = 10.0
"""The longest wait for a thread to begin."""
FUTURE_TOLERANCE = 300.0
"""Seconds by which an mtime may be in the future before it counts as wrong and no longer holds a file back."""


def _sleep(seconds: float) -> None:
    # From Python 3.11 on time.sleep() asks the kernel for an absolute time, and fails where the clock of the process is
    # shifted (libfaketime).
    select.select((), (), (), seconds)


class Clock(msgspec.Struct, frozen=True):
    """The two clocks of the program. Budgets and deadlines use the monotonic one, readiness and records the other."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = _sleep


def why_settling(candidate: Candidate, mtime_ns: int, now: float, settle_seconds: float) -> str:
    """Say why a candidate is too fresh; empty if it is not.

    A period in the path holds a file back only while it runs and until ``settle_seconds`` after its end. One in the
    future (a wrong clock, local time read as UTC) or none at all leaves the decision to the mtime; an mtime that lies
    more than :data:`FUTURE_TOLERANCE` in the future decides nothing either, so that no file is stranded.

    :param mtime_ns: when the file was last written, in nanoseconds since the epoch.
    :param now: seconds since the epoch.
    """
    begin, end = candidate.period_begin, candidate.period_end
    if begin is not None and end is not None and begin <= now < end + settle_seconds:
        return f"its minute ended less than {settle_seconds:g} s ago" if now >= end else "its minute is not over"
    age = now - mtime_ns / 1e9
    if age < settle_seconds and age >= -FUTURE_TOLERANCE:
        return f"written {max(age, 0.0):.0f} s ago, less than {settle_seconds:g} s"
    return ""


def backoff(failures: int, *, first: float, longest: float) -> float:
    """The pause after a number of failures in a row, in seconds: it doubles with each, up to the longest one."""
    return min(first * 2.0 ** min(max(failures, 1) - 1, 30), longest)


class StopRequest:
    """A request to stop. The first one lets uploads in flight finish, for a bounded time; the second cancels them.

    :meth:`request` may be called from a signal handler: it only sets attributes and calls the subscribers, which must
    be signal-safe too.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.signal_number: int | None = None
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` at each request."""
        self._subscribers.append(wake)

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Undo :meth:`subscribe`."""
        self._subscribers.remove(wake)

    def request(self, signal_number: int | None = None) -> None:
        """Request a stop; ``signal_number`` is the signal that requested it, if any."""
        self.requests += 1
        if self.signal_number is None:
            self.signal_number = signal_number
        self.wake()

    def request_first(self) -> None:
        """Make the first request if there is none. A second one would cancel what the first one lets finish.

        Like :meth:`request` it may be called from a signal handler, and by several threads at once. So it takes no
        lock: a signal handler might find it held by the thread that it has interrupted.
        """
        self.requests = self.requests or 1
        self.wake()

    def wake(self) -> None:
        """Call the subscribers without a request."""
        # A copy: another thread may subscribe meanwhile.
        for wake in tuple(self._subscribers):
            wake()


class ScanTrigger:
    """Tells a run at work that something may have appeared in the spool.

    :meth:`tell` may be called from any thread.

    :param poll_seconds: without an event, scan again after this many seconds.
    :param is_wanted: whether a run that has scanned everything should scan again at all.
    :ivar told: how often :meth:`tell` was called.
    """

    def __init__(self, *, poll_seconds: float, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.poll_seconds = poll_seconds
        self.is_wanted = is_wanted
        self.told = 0
        self._has_come = False
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` at each :meth:`tell`."""
        self._subscribers.append(wake)

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Undo :meth:`subscribe`."""
        self._subscribers.remove(wake)

    def tell(self) -> None:
        """Tell that something may have appeared."""
        self._has_come = True
        self.told += 1
        for wake in tuple(self._subscribers):
            wake()

    def forget(self) -> None:
        """Take note that a scan begins."""
        self._has_come = False

    def is_due(self, *, seconds_since_look: float) -> bool:
        """Whether it is time for another scan."""
        return self.is_wanted() and (self._has_come or seconds_since_look >= self.poll_seconds)


class Latch:
    """An event that happens once, on another thread, and that one thread waits for.

    If memory runs out in the middle of :meth:`threading.Event.set`, the thread ends with the event's own lock held, and
    whoever waits for the event waits for ever. :attr:`set` needs no memory.
    """

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self.set: Callable[[], None] = self._lock.release

    def wait(self, seconds: float) -> bool:
        """Wait for the event, but not longer; returns whether it has happened."""
        if not self._lock.acquire(timeout=seconds):
            return False
        self._lock.release()
        return True


def is_of_a_handler(error: BaseException) -> bool:
    """Whether a signal handler raised it, such as one that ends a call after a time.

    Python calls handlers in the middle of whatever the main thread does. So their exceptions appear in code of ours
    that takes every exception for a failure of its own, but they are meant for our caller.
    """
    import signal

    codes = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: object) -> object:
    """The code that is called for a handler; ``None`` if it is not written in Python."""
    if not callable(handler):
        return None
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread, and wait for a bounded time until it is at work.

    ``Thread.start`` waits without a limit for a thread that the system has created. If that gets no memory for its
    first call, it ends at once without waking the waiter. If it gets none a moment later, it counts as started but
    never does its work.

    :raises RuntimeError: if no thread can be created, or if it has not begun in time.
    """
    begun = thread._started  # type: ignore[attr-defined]
    # gevent's event refuses that, and has no lock that a thread could leave behind.
    with contextlib.suppress(AttributeError):
        begun.wait = _wait_for_nothing
    is_at_work = Latch()
    work = thread.run

    def run(_: threading.Thread) -> None:
        is_at_work.set()
        work()

    # A method, as in any thread: tools that watch threads (Sentry) wrap its function and pass the thread.
    thread.run = MethodType(run, thread)  # type: ignore[method-assign]
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not is_at_work.wait(_LOOK_SECONDS):
        is_late = (begun.is_set() and not thread.is_alive()) or time.monotonic() > until
        # It may have begun since the wait, and even have ended.
        if is_late and not is_at_work.wait(0):
            raise RuntimeError("a thread has not begun, or not in time; there may be no memory for it")


def ask_aside(question: Callable[[], object]) -> Latch | None:
    """Call a function that may never return, on a thread that nobody has to wait for.

    It is not one of :mod:`threading`, a module that is not needed for it. The function must not raise an exception.

    :returns: what tells that the function has returned; ``None`` if no thread begins.
    """
    begun, ended = Latch(), Latch()

    def ask() -> None:
        begun.set()
        try:
            question()
        finally:
            ended.set()

    try:
        _thread.start_new_thread(ask, ())
    except RuntimeError:
        return None
    return ended if begun.wait(START_SECONDS) else None


def _wait_for_nothing(timeout: float | None = None) -> bool:
    """In place of the wait of ``Thread.start``, for an event whose lock may never be released."""
    return True


_FORKABLE: dict[int, tuple[ref[Any], Callable[[Any], object]]] = {}


def begins_anew_after_fork(owner: Owner, begin: Callable[[Owner], object]) -> None:
    """Have ``begin(owner)`` called in each forked child, as long as the object exists.

    A child may go on using it, but its threads do not exist there, and nobody would release the locks that other
    threads held at the moment of the fork.

    :param begin: a function that does not refer to the object.
    """
    number = id(owner)
    _FORKABLE[number] = ref(owner, lambda _: _FORKABLE.pop(number, None)), begin


def _forked() -> None:
    for reference, begin in list(_FORKABLE.values()):
        owner = reference()
        if owner is not None:
            begin(owner)


os.register_at_fork(after_in_child=_forked)
