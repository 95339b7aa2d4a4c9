"""Uploads with deadlines on the threads of a pool, for stores with blocking calls.

``concurrent.futures.ThreadPoolExecutor`` has three drawbacks: the interpreter waits for its threads at exit, forever if
one hangs on a dead mount; it cannot cancel a running call; and it has no deadlines.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import StoreError, UploadCancelled, lacking
from s3_uploader.core.model import Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.stores.base import PendingReceipt
from s3_uploader.stores.threads import ThreadPool, no_thread


class UploadTask:
    """One upload in flight: its future, its deadline, and whether it was cancelled.

    The source's descriptor belongs to the caller until the future is done. So a task that was cancelled fails at once
    while it does not read the source (it waits in the queue, or for a connection), and otherwise as soon as its worker
    has noticed.
    """

    def __init__(self, deadline: float) -> None:
        self.future = PendingReceipt()
        self.deadline = deadline
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._reason: UploadCancelled | None = None
        self._reads_source = False
        self._settled = False
        self._interrupt: Callable[[], None] | None = None

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, 0 if it has passed."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def is_cancelled(self) -> bool:
        """Whether the upload was cancelled."""
        return self._reason is not None

    def check(self) -> None:
        """Return if the upload may continue.

        :raises UploadCancelled: if it was cancelled or its deadline has passed.
        """
        if self._reason is None and self.remaining == 0:
            self.cancel(UploadCancelled.late())
        if self._reason is not None:
            raise self._reason

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the task.

        :raises UploadCancelled: if it was cancelled or its deadline has passed.
        """
        self._over.wait(min(seconds, self.remaining))
        self.check()

    @contextlib.contextmanager
    def reading_source(self) -> Iterator[None]:
        """Marks the part of an upload that uses the source's descriptor."""
        with self._lock:
            if self._reason is not None:
                raise self._reason
            self._reads_source = True
        try:
            yield
        finally:
            with self._lock:
                self._reads_source = False

    @contextlib.contextmanager
    def interrupted_by(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within this context, a cancellation calls ``interrupt`` on another thread, to end a blocking call."""
        with self._lock:
            if self._reason is not None:
                raise self._reason
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                self._interrupt = None

    def cancel(self, reason: UploadCancelled) -> None:
        """End the upload with ``reason``, at once or when its worker releases the source."""
        with self._lock:
            if self._settled or self._reason is not None:
                return
            self._reason = reason
            at_once = not self._reads_source
            self._settled = at_once
            # Under the lock, so that the socket is not one that its worker has already passed on to another task.
            if self._interrupt is not None:
                self._interrupt()
        self._over.set()
        if at_once:
            self.future.complete(reason)

    def run(self, work: Callable[[UploadTask], Receipt]) -> None:
        """Do the work and complete the future with its result."""
        outcome: Receipt | BaseException
        try:
            self.check()
            outcome = work(self)
        except StoreError as raised:
            # An interrupted call raises an error of its own. The reason of the cancellation is reported instead.
            outcome = self._reason or raised
        except BaseException as raised:
            reason: StoreError | None = self._reason or lacking("The upload failed", raised)
            if reason is None:
                reason = StoreError(
                    f"The upload failed unexpectedly: {type(raised).__name__}: {raised}",
                    code=type(raised).__name__,
                    origin=Origin.OURS,
                )
                reason.__cause__ = raised
            outcome = reason
        with self._lock:
            if self._settled:
                return
            self._settled = True
        if isinstance(outcome, StoreError):
            _forget_frames(outcome)
        self.future.complete(outcome)


def _forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an expected error: their frames, buffers included, form a cycle with the future."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class Workers:
    """A thread pool that runs tasks in order, and one more thread that watches their deadlines.

    All threads are daemons, started when they are first needed.
    """

    def __init__(self, *, name: str, count: int) -> None:
        self._name = name
        self._pool = ThreadPool(name=name, count=count)
        self._lock = threading.Lock()
        self._watch_earlier = threading.Condition(self._lock)
        self._tasks: set[UploadTask] = set()
        self._watcher: threading.Thread | None = None
        self._next_look = float("inf")
        self._closed = False

    def submit(self, work: Callable[[UploadTask], Receipt], *, deadline: float) -> PendingReceipt:
        """Queue ``work``; it is called on a worker with its task.

        :raises StoreError: if no thread can be started.
        """
        task = UploadTask(deadline)
        with self._lock:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._tasks.add(task)
            try:
                self._start_watch()
                self._pool.do(functools.partial(self._run, task, work))
            except StoreError:
                self._tasks.discard(task)
                raise
            if deadline < self._next_look:
                self._watch_earlier.notify()
        return task.future

    def cancel(self) -> None:
        """Cancel every task, queued or running."""
        with self._lock:
            tasks = list(self._tasks)
        for task in tasks:
            task.cancel(UploadCancelled.interrupted())

    def close(self, *, timeout: float) -> bool:
        """Cancel all tasks and end the threads. Returns ``False`` if one still hangs after ``timeout`` seconds."""
        with self._lock:
            self._closed = True
            self._watch_earlier.notify_all()
            watcher = self._watcher
        self.cancel()
        ends_at = time.monotonic() + timeout
        has_ended = self._pool.close(timeout=timeout)
        if watcher is not None:
            watcher.join(max(0.0, ends_at - time.monotonic()))
            has_ended = has_ended and not watcher.is_alive()
        return has_ended

    def _start_watch(self) -> None:
        if self._watcher is not None:
            return
        thread = threading.Thread(target=self._watch, name=f"{self._name}-watch", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError as error:
            raise no_thread(error) from None
        self._watcher = thread

    def _run(self, task: UploadTask, work: Callable[[UploadTask], Receipt]) -> None:
        try:
            task.run(work)
        finally:
            with self._lock:
                self._tasks.discard(task)

    def _watch(self) -> None:
        """Cancel tasks whose deadline has passed, also those that wait in the queue or hang in a call."""
        cancelled_tasks: set[UploadTask] = set()
        while True:
            with self._lock:
                now = time.monotonic()
                # A task that was cancelled and still hangs must not make this loop spin.
                cancelled_tasks &= self._tasks
                watched = self._tasks - cancelled_tasks
                due = [task for task in watched if task.deadline <= now]
                if not due:
                    if self._closed:
                        return
                    self._next_look = min((task.deadline for task in watched), default=float("inf"))
                    self._watch_earlier.wait(min(self._next_look - now, 3600.0))
                    continue
            for task in due:
                task.cancel(UploadCancelled.late())
            cancelled_tasks.update(due)
