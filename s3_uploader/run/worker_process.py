"""The leader's end of a worker: a process at the other end of two pipes."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from s3_uploader.core.control import start_thread
from s3_uploader.core.counters import RunCounters
from s3_uploader.core.events import Event
from s3_uploader.run.worker_pipe import Frames, Outcome, Task, send

_MOST_MESSAGES = 64
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from s3_uploader.run.worker import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_LAST_SECONDS = 5.0


class Worker:
    """The leader's end of one worker.

    :ivar is_ready: it waits for the command to begin.
    :ivar outcome: the result of its share; ``None`` until it is done.
    :ivar is_over: no more messages will come.
    """

    def __init__(self, task: Task, *, locks: Sequence[int], wake: Callable[[], None]) -> None:
        self.share = task.config.share
        self.is_ready = self.is_over = False
        self.outcome: Outcome | None = None
        self.counters = RunCounters()
        self.messages: queue.Queue[list[Event] | Outcome | str | None] = queue.Queue(_MOST_MESSAGES)
        self._wake = wake
        to_worker, self._orders = os.pipe()
        self._answers, from_worker = os.pipe()
        try:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                    "-c",
                    _PROGRAM,
                    *(_ROOT, str(to_worker), str(from_worker)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # As long as any process has them open the spool is locked.
                pass_fds=(to_worker, from_worker, *locks),
            )
        except OSError:
            for descriptor in (self._orders, self._answers):
                os.close(descriptor)
            raise
        finally:
            os.close(to_worker)
            os.close(from_worker)
        self._thread = threading.Thread(target=self._listen, args=(task,), name="worker", daemon=True)
        try:
            start_thread(self._thread)
        except RuntimeError:
            self.end()
            raise

    def order(self, what: bytes) -> None:
        """Send it a command; may be called from a signal handler."""
        with contextlib.suppress(OSError):
            os.write(self._orders, what)

    def end(self) -> None:
        """Release the worker; kills it if it is still at work."""
        try:
            self.process.wait(_LAST_SECONDS if self.is_over else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        orders, self._orders = self._orders, -1
        if orders >= 0:
            os.close(orders)
        # Its remaining messages are dropped, so that the thread that reads them can end.
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                while True:
                    self.messages.get_nowait()
            self._thread.join(0.01)

    def _listen(self, task: Task) -> None:
        """Read messages on a thread, so that the worker does not block while the leader waits for the network."""
        try:
            with contextlib.suppress(OSError):
                send(self._orders, task)
            frames = Frames(self._answers)
            while True:
                self.messages.put(frames.next())
                self._wake()
        except Exception:  # the end of the pipe, or of what was written to it
            self.messages.put(None)
            self._wake()
        finally:
            os.close(self._answers)
