"""Threads that read and digest what would delay the event loop, and the limit of bytes in memory."""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin

if TYPE_CHECKING:
    from concurrent.futures import Future

Result = TypeVar("Result")


def no_thread(error: RuntimeError) -> StoreError:
    """The error of a store that cannot start a thread, without which it would wait forever."""
    return StoreError(
        f"No thread can be started on this machine: {error}.",
        code="OutOfThreads",
        scope=Scope.DESTINATION,
        hint="Raise this user's limit of processes (ulimit -u, TasksMax=) or of memory (ulimit -v), or end what uses "
        "it up (`ps -eLf`).",
    )


def no_memory() -> StoreError:
    """The error of a store whose libraries cannot be loaded for lack of memory."""
    return StoreError(
        "There is no memory left for the libraries that send files to the destination.",
        code="OutOfMemory",
        scope=Scope.DESTINATION,
        origin=Origin.UNREACHABLE,
        hint="Allow the program more memory (ulimit -v, MemoryMax=), or end what uses it up.",
    )


class ThreadPool:
    """A few daemon threads that run jobs in order. They start when the first jobs arrive."""

    def __init__(self, *, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Whether any job is queued or running."""
        return self._unfinished > 0

    def do(self, job: Callable[[], None]) -> None:
        """Run a job on one of the threads. Exceptions of the job are dropped, so the job handles its own errors.

        A job that arrives after the pool was closed gets a thread of its own, which ends with it.

        :raises StoreError: if no thread can be started; then the job never runs.
        """
        with self._lock:
            if self._closed or (len(self._threads) < self._count and self._unfinished >= len(self._threads)):
                self._grow()
            self._unfinished += 1
            self._jobs.put(job)
            if self._closed:
                self._jobs.put(None)

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Run ``work`` on one of the threads; the future gets what it returns or raises, and may be cancelled before.

        :raises StoreError: if no thread can be started.
        """
        from concurrent.futures import Future

        future: Future[Result] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.do(job)
        return future

    def _grow(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError as error:
            if self._closed or not self._threads:
                raise no_thread(error) from None
        else:
            self._threads.append(thread)

    def close(self, *, timeout: float | None) -> bool:
        """Let the threads finish the queued jobs and end; returns whether they have ended.

        :param timeout: the longest wait for them in seconds; ``None`` waits until they have ended.
        """
        with self._lock:
            threads = list(self._threads)
            if not self._closed:
                for _ in threads:
                    self._jobs.put(None)
            self._closed = True
        ends_at = None if timeout is None else time.monotonic() + timeout
        for thread in threads:
            thread.join(None if ends_at is None else max(0.0, ends_at - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            with contextlib.suppress(Exception):
                job()
            del job
            with self._lock:
                self._unfinished -= 1


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
