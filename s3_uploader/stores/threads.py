"""Threads that read and digest what is too large to do in passing, and the bytes that may be in memory at once."""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from s3_uploader.core.errors import Scope, StoreError


def no_thread(error: RuntimeError) -> StoreError:
    """The error of a store that may start no thread, and without one would wait for ever."""
    return StoreError(
        f"No thread can be started on this machine: {error}.",
        code="OutOfThreads",
        scope=Scope.DESTINATION,
        hint="Raise this user's limit of processes (ulimit -u, TasksMax=), or look at what uses it up.",
    )


class ThreadPool:
    """A few daemon threads that do jobs in order; started when there is something to do."""

    def __init__(self, *, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    @property
    def is_busy(self) -> bool:
        """Whether there is a job that is not done."""
        return self._busy > 0 or not self._jobs.empty()

    def do(self, job: Callable[[], None]) -> None:
        """Have a job done; what it raises is lost, so it deals with its errors itself.

        :raises StoreError: if there may be no thread; then the job is not done, now or later.
        """
        with self._lock:
            if len(self._threads) < self._count and self._busy + self._jobs.qsize() >= len(self._threads):
                self._grow()
        self._jobs.put(job)

    def _grow(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                raise no_thread(error) from None
        else:
            self._threads.append(thread)

    def close(self, *, timeout: float) -> None:
        """Let the threads end after the jobs at hand."""
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join(timeout / len(threads))

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._busy += 1
            with contextlib.suppress(Exception):
                job()
            self._busy -= 1
            del job


class ByteBudget:
    """Lets go ahead who has room for his bytes, in order; one who needs more than there is goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: collections.deque[tuple[int, Callable[[], None]]] = collections.deque()

    def try_acquire(self, count: int) -> bool:
        """Take room if there is some and nobody waits."""
        with self._lock:
            if self._waiting or (self._used and self._used + count > self._limit):
                return False
            self._used += count
            return True

    def acquire(self, count: int, go: Callable[[], None]) -> None:
        """Take room, now or later, and call ``go`` then, on whatever thread it is."""
        with self._lock:
            if self._waiting or (self._used and self._used + count > self._limit):
                self._waiting.append((count, go))
                return
            self._used += count
        go()

    def release(self, count: int) -> None:
        """Give room back."""
        ready = []
        with self._lock:
            self._used -= count
            while self._waiting and (not self._used or self._used + self._waiting[0][0] <= self._limit):
                wanted, go = self._waiting.popleft()
                self._used += wanted
                ready.append(go)
        for go in ready:
            go()


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
        """Call ``call`` at ``when``; after :meth:`close` it is not called at all.

        :raises StoreError: if there may be no thread.
        """
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._due, (when, next(self._count), call))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise no_thread(error) from None
                self._thread = thread
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
