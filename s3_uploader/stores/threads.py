"""Threads that do what would delay an event loop, and the errors where there is no thread or no memory for them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

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
        origin=Origin.MACHINE,
        hint="Raise this user's limit of processes (ulimit -u, TasksMax=) or of memory (ulimit -v), or end what uses "
        "it up (`ps -eLf`).",
    )


def no_memory() -> StoreError:
    """The error of a store whose libraries cannot be loaded for lack of memory."""
    return StoreError(
        "There is no memory left for the libraries that send files to the destination.",
        code="OutOfMemory",
        scope=Scope.DESTINATION,
        origin=Origin.MACHINE,
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
