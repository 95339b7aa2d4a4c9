"""Waiting without holding up a thread: for sockets in the event loop, for a time, and for room in memory.

Whoever waits passes a function, which is called when it is time. The event loop is that of the native engine. It has a
thread of its own, unless a caller runs it (:class:`~s3_uploader.stores.base.Loop`).
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from s3_uploader.core.control import is_of_a_handler, start_thread
from s3_uploader.stores.threads import no_thread

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

LONGEST_WAIT = 0.25
_MANY_EVENTS = 100
"""From this number on it is a backlog, and answers are processed several at a time."""
_GATHERING_SECONDS = 0.002
"""How long they are collected. Processed one by one, each would interrupt the thread that reads files; a fifth of all
CPU time went into that. While something is to be written, there is no delay."""
_STAND_IN_SECONDS = 0.5
"""If a caller has taken over the loop and has not run it for this time, the loop's own thread runs it."""


class Handler(Protocol):
    """A socket and the handler of its events."""

    sock: socket.socket
    events: int

    def on_event(self, mask: int, now: float) -> None:
        """Handle events."""

    def on_bug(self, error: Exception) -> None:
        """Handle an exception of :meth:`on_event`, a bug, which must not end the thread of all sockets."""


class EventLoop:
    """The loop. Its methods may be called on any thread, except :meth:`watch` and :meth:`unwatch`.

    :param work: the other work of a turn, given the time; returns the seconds until the next turn at the latest.
    :param shut_down: called once, on the last thread that ran the loop, when it ends.
    :ivar lock: held while something is added for ``work``, after a check that the loop is not ``closed``.
    :ivar bug: why it broke down, if it did.
    """

    def __init__(self, *, work: Callable[[float], float], shut_down: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self.bug: Exception | None = None
        self.turner = 0
        """The thread that is running a turn."""
        self._work = work
        self._shut_down_owner = shut_down
        self._selector: selectors.BaseSelector | None = None
        self._calls: collections.deque[Callable[[], object]] = collections.deque()
        self._awake = False
        self._is_hurried = False
        """Whether something was added while no thread waited for events, so that the next turn must not wait."""
        self._thread: threading.Thread | None = None
        self._turning = threading.RLock()
        """Held by the thread that currently runs the loop."""
        self._returned = threading.Event()
        """Set while the loop is not lent."""
        self._returned.set()
        self._turned_at = 0.0
        self._is_wanted = False
        """Whether a caller waits for its turn. Locks are not fair: our thread could take the lock again each time."""
        self._pause = LONGEST_WAIT
        self._stopped = False

    def open(self) -> None:
        """Get ready. The thread starts with :meth:`ensure_thread`."""
        self._selector = selectors.DefaultSelector()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector.register(self._wake_receiver, READ, None)

    def ensure_thread(self) -> str:
        """Start the loop's thread if there is none. Returns why no thread can run the loop. Needs ``lock`` held."""
        if self._thread is not None:
            return ""
        thread = threading.Thread(target=self._run, name="s3-native", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError as error:
            # A caller who runs the loop does not need the thread.
            return str(error) if self._returned.is_set() else ""
        self._thread = thread
        return ""

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called on the loop's thread."""
        self._calls.append(function)
        if self._stopped:
            self._make_calls()
        else:
            self.wake()

    def hurry(self) -> None:
        """Have the loop handle what was added: at once if a thread runs it, else in the next turn, without a wait."""
        if self._turning.acquire(blocking=False):
            self._is_hurried = True
            self._turning.release()
        else:
            self.wake()

    def wake(self) -> None:
        """Have the loop handle what was added."""
        if not self._awake:
            self._awake = True
            with contextlib.suppress(OSError):
                self._wake_sender.send(b"\0")

    def close(self, *, timeout: float) -> None:
        """End the loop. What is in flight fails."""
        with self.lock:
            if self.closed or self._selector is None:
                self.closed = True
                return
            self.closed = True
            thread = self._thread
        self.wake()
        self._returned.set()
        if thread is not None:
            thread.join(timeout)
            return
        # No thread may exist, and a caller may be in the middle of a turn.
        is_between_turns = self._turning.acquire(timeout=timeout)
        try:
            self._shut_down()
        finally:
            if is_between_turns:
                self._turning.release()

    def leave_to_parent(self) -> None:
        """In a forked child: close the copies of the descriptors. The thread and the requests belong to the parent."""
        self.closed = self._stopped = True
        # Threads that do not exist in the child may have held them.
        self.lock, self._turning = threading.Lock(), threading.RLock()
        if self._selector is not None:
            self._close_descriptors()

    # Lending the loop.

    def take_over(self) -> None:
        """See :class:`~s3_uploader.stores.base.Loop`."""
        self._turned_at = time.monotonic()
        if not self.closed:
            self._returned.clear()

    def turn(self, timeout: float) -> bool:
        """See :class:`~s3_uploader.stores.base.Loop`."""
        if not self._turning.acquire(blocking=False):
            # Our own thread is in the middle of a turn, which waits while there is nothing to do.
            self._is_wanted = True
            try:
                self.wake()
                self._turning.acquire()
            finally:
                self._is_wanted = False
        try:
            if self.closed:
                return False
            self._turned_at = time.monotonic()
            self._turn(min(timeout, self._pause))
        except Exception as error:
            self._break_down(error)
            if is_of_a_handler(error):
                raise
        finally:
            self._turning.release()
        return not self.closed

    def hand_back(self) -> None:
        """See :class:`~s3_uploader.stores.base.Loop`."""
        self._returned.set()
        self.wake()

    # On the thread that runs it.

    def watch(self, handler: Handler, events: int) -> None:
        """Wait for events of a socket."""
        assert self._selector is not None
        if handler.events:
            self._selector.modify(handler.sock, events, handler)
        else:
            self._selector.register(handler.sock, events, handler)
        handler.events = events

    def unwatch(self, handler: Handler) -> None:
        """Stop waiting for events of a socket."""
        assert self._selector is not None
        if handler.events:
            handler.events = 0
            # When the kernel refuses a change of events, selectors.modify has removed the socket already.
            with contextlib.suppress(KeyError):
                self._selector.unregister(handler.sock)

    def _turn(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events and handle them. Returns them."""
        assert self._selector is not None
        ready = self._selector.select(0.0 if self._is_hurried else timeout)
        # Reset only now: what was added while it was still set is handled in this turn.
        self._is_hurried = False
        now = time.monotonic()
        self.turner = threading.get_ident()
        try:
            for key, mask in ready:
                handler: Handler | None = key.data
                if handler is None:
                    with contextlib.suppress(OSError):
                        self._wake_receiver.recv(4096)
                    # Reset only now: what was added while it was still set is handled below.
                    self._awake = False
                    continue
                try:
                    handler.on_event(mask, now)
                except Exception as error:
                    if is_of_a_handler(error):
                        raise
                    handler.on_bug(error)
            self._make_calls()
            self._pause = self._work(now)
        finally:
            self.turner = 0
        return ready

    def _make_calls(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._calls.popleft()()

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self._break_down(error)
        with self._turning:
            if not self._stopped:
                self._shut_down()

    def _loop(self) -> None:
        events = 0
        while not self.closed:
            if not self._returned.is_set() and not self._must_stand_in():
                self._returned.wait(_STAND_IN_SECONDS)
                continue
            with self._turning:
                if self.closed:
                    return
                ready = self._turn(self._pause)
            events += len(ready)
            if ready and events > _MANY_EVENTS and not any(mask & WRITE for _, mask in ready):
                time.sleep(_GATHERING_SECONDS)

    def _must_stand_in(self) -> bool:
        """Whether the caller that has the loop has been busy for long, with a large copy or a disk that hangs."""
        return not self._is_wanted and time.monotonic() - self._turned_at > _STAND_IN_SECONDS

    def _break_down(self, error: Exception) -> None:
        """Handle a bug: all requests in flight fail, and so do later ones."""
        self.bug = error
        with self.lock:
            self.closed = True
        self._returned.set()
        with self._turning:
            self._shut_down()

    def _shut_down(self) -> None:
        self._shut_down_owner()
        self._close_descriptors()
        self._stopped = True
        self._make_calls()

    def _close_descriptors(self) -> None:
        """Close the loop's descriptors and ignore errors, because nothing more can be done."""
        for each in (self._selector, self._wake_receiver, self._wake_sender):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.close()


class Timer(Protocol):
    """Calls a function at a time of the monotonic clock."""

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Call ``call`` on the timer's thread at ``when`` or soon after it."""


class TimerThread:
    """A :class:`Timer`. Its daemon thread starts with the first call; calls that are due run in sequence."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        """Call ``call`` at ``when``; after :meth:`close` it is never called.

        :raises StoreError: if no thread can be started.
        """
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._due, (when, next(self._count), call))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    start_thread(thread)
                except RuntimeError as error:
                    raise no_thread(error) from None
                self._thread = thread
            elif self._due[0][0] >= when:
                self._changed.notify()

    def close(self, *, timeout: float = 0.5) -> None:
        """Discard the calls that are not due yet, end the thread, and wait briefly for it."""
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
            # A bug in one call must not prevent the others.
            with contextlib.suppress(Exception):
                call()
            del call


class ByteBudget:
    """Limits the bytes in memory. Requests are granted in order; one larger than the limit is granted alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: collections.deque[tuple[int, Callable[[], None]]] = collections.deque()

    def try_acquire(self, count: int) -> bool:
        """Reserve bytes if they are free and no earlier request is waiting; returns whether they were reserved."""
        with self._lock:
            if self._waiting or (self._used and self._used + count > self._limit):
                return False
            self._used += count
            return True

    def acquire(self, count: int, go: Callable[[], None]) -> None:
        """Reserve bytes, now or later, and then call ``go``, on any thread."""
        with self._lock:
            if self._waiting or (self._used and self._used + count > self._limit):
                self._waiting.append((count, go))
                return
            self._used += count
        go()

    def release(self, count: int) -> None:
        """Release reserved bytes."""
        ready = []
        with self._lock:
            self._used -= count
            while self._waiting and (not self._used or self._used + self._waiting[0][0] <= self._limit):
                wanted, go = self._waiting.popleft()
                self._used += wanted
                ready.append(go)
        for go in ready:
            go()
