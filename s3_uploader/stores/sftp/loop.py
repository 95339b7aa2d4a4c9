"""The SSH library's event loop on a thread of its own, for callers who wait for its results."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from s3_uploader.core.control import start_thread
from s3_uploader.stores.file_servers.base import insist_on_descriptors
from s3_uploader.stores.threads import no_thread

_OF_A_LOOP = 3
"""Its descriptors: one to wait for sockets, and a pair of sockets to be woken by."""
_Result = TypeVar("_Result")


class LoopThread:
    """An asyncio loop. Its thread, a daemon, starts with the first call and ends with :meth:`stop`."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def begin(self, work: Coroutine[Any, Any, _Result]) -> concurrent.futures.Future[_Result]:
        """Start ``work`` on the loop. Cancelling the future cancels it.

        :raises s3_uploader.core.errors.StoreError: if no thread can be started.
        :raises OSError: if there are no descriptors for the loop.
        """
        with self._lock:
            try:
                loop = self._running()
            except BaseException:
                work.close()
                raise
            return asyncio.run_coroutine_threadsafe(work, loop)

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called on the loop soon, if the loop runs."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(function)

    def stop(self, *, timeout: float) -> None:
        """End the loop and its thread, and wait briefly for it. A later call starts a new one."""
        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            # Half made for want of descriptors, it would end with a traceback of its own.
            insist_on_descriptors(_OF_A_LOOP)
            loop = asyncio.new_event_loop()
            # The library reports unfinished work when a connection breaks, which is of no interest.
            loop.set_exception_handler(lambda _, context: None)
            thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
            try:
                start_thread(thread)
            except RuntimeError as error:
                loop.close()
                raise no_thread(error) from None
            self._loop, self._thread = loop, thread
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    here = threading.get_ident()

    def is_of_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != here

    # asyncio warns of each write to a connection that was cut a moment ago ("socket.send() raised exception."). What
    # the cut means is told by the upload, and these lines would reach standard error, and so cron's mail.
    log = logging.getLogger("asyncio")
    log.addFilter(is_of_another_thread)
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=0.5))
    finally:
        loop.close()
        log.removeFilter(is_of_another_thread)
