"""The leader's end of a worker: a process at the other end of three pipes."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from s3_uploader.core.control import Clock, begins_anew_after_fork, start_thread
from s3_uploader.core.errors import WITHOUT_MEMORY
from s3_uploader.core.events import Event
from s3_uploader.core.files import close_quietly
from s3_uploader.core.interpreter import python
from s3_uploader.core.model import RunCounters
from s3_uploader.core.text import quoted
from s3_uploader.run.worker_pipe import SIGNALS, Frames, Outcome, Task, send

_MOST_MESSAGES = 64
_PROGRAM = "from s3_uploader.run.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
_LAST_SECONDS = 5.0
_LAST_STANDARD = 2
_LOOK_SECONDS = 0.005
_MOST_PRINTED = 1 << 16
_TRACEBACK = "Traceback (most recent call last)"
_BY_THE_SYSTEM = "Error: [Errno "


class Worker:
    """The leader's end of one worker.

    :ivar is_ready: it waits for the command to begin.
    :ivar outcome: the result of its share; ``None`` until it is done.
    :ivar is_over: no more messages will come.
    :ivar silent_seconds: how long the leader has waited for a message; ``was_silent`` is set if that was too long.
    """

    def __init__(self, task: Task, *, locks: Sequence[int], wake: Callable[[], None]) -> None:
        self.share = task.config.share
        self.is_ready = self.is_over = False
        self.outcome: Outcome | None = None
        self.silent_seconds = 0.0
        self.was_silent = False
        self.counters = RunCounters()
        self._given: tuple[int, ...] = ()
        # Bounded: while the leader has no time for them the worker waits.
        self.messages: queue.Queue[list[Event] | Outcome | str | None] = queue.Queue(_MOST_MESSAGES)
        self._wake = wake
        with ExitStack() as unless_started, ExitStack() as given:
            to_worker, self._orders = _pipe(given, unless_started)
            self._answers, from_worker = _pipe(unless_started, given)
            self._printed, prints_to = _pipe(unless_started, given)
            # Nobody reads it before the process has ended. What does not fit into the pipe is lost, and blocks nobody.
            os.set_blocking(self._printed, False)
            os.set_blocking(prints_to, False)
            self._given = to_worker, from_worker, prints_to
            # A child that the calling program has forked must not have them open: neither end would see the other die.
            begins_anew_after_fork(self, Worker.forked)
            # As long as any process has the locks open the spool is locked.
            passed = (to_worker, from_worker, *locks)
            if min(passed) <= _LAST_STANDARD:
                # Where these were closed others get their numbers, and the worker would find its own in their place.
                raise ValueError("standard input, output or error is closed; open it, as /dev/null for example")
            with _held_back(SIGNALS):
                self.process = subprocess.Popen(
                    python(_PROGRAM, str(to_worker), str(from_worker)),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=prints_to,
                    pass_fds=passed,
                )
            unless_started.pop_all()
            self._given = ()
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

    def how_it_ended(self) -> str:
        """How the process ended, for a sentence; once it is over."""
        code = self.process.poll()
        if code is None:
            return "was killed, and the kernel has not ended it yet,"
        if code < 0:
            return f"was killed by {_name_of(-code)}"
        printed = self._take_printed()
        if any(words in printed for words in WITHOUT_MEMORY):
            return "ran out of memory"
        lines = printed.splitlines()
        _print_fault(printed)
        reason = f" ({quoted(lines[-1])})" if lines else ""
        return f"ended with exit code {code}{reason}"

    def end(self) -> None:
        """Release the worker; kills it if it is still at work. What the kernel does not end is left to itself."""
        if not self._has_ended(within=_LAST_SECONDS if self.is_over else 0.0):
            self.process.kill()
            self._has_ended(within=_LAST_SECONDS)
        orders, self._orders = self._orders, -1
        if orders < 0:
            return
        os.close(orders)
        if not self._thread.is_alive():
            self._close_answers()
        # Its remaining messages are dropped, so that the thread that reads them can end.
        until = time.monotonic() + 3 * _LAST_SECONDS
        while self._thread.is_alive() and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                while True:
                    self.messages.get_nowait()
            self._thread.join(0.01)
        if self.outcome is not None:
            _print_fault(self._take_printed())
        printed, self._printed = self._printed, -1
        os.close(printed)

    def forked(self) -> None:
        """Close the copies of a forked child."""
        for each in (*self._given, self._orders, self._answers, self._printed):
            close_quietly(each)
        self._given = ()
        self._orders = self._answers = self._printed = -1

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
            # A process that can say nothing any more must not go on.
            if not self._has_ended(within=_LAST_SECONDS):
                self.process.kill()
                self._has_ended(within=_LAST_SECONDS)
            self.messages.put(None)
            self._wake()
        finally:
            self._close_answers()

    def _close_answers(self) -> None:
        answers, self._answers = self._answers, -1
        close_quietly(answers)

    def _has_ended(self, *, within: float) -> bool:
        """Wait for the end of the process, for some seconds at most."""
        # Popen.wait() sleeps with time.sleep(); see core/control.
        until = time.monotonic() + within
        while self.process.poll() is None:
            if time.monotonic() >= until:
                return False
            Clock().sleep(_LOOK_SECONDS)
        return True

    def _take_printed(self) -> str:
        """What the process has printed, beyond all messages: Python's or a library's last words."""
        try:
            return os.read(self._printed, _MOST_PRINTED).decode(errors="backslashreplace")
        except OSError:
            return ""  # nothing


def _pipe(reads: ExitStack, writes: ExitStack) -> tuple[int, int]:
    """Make a pipe. Each of its ends is closed with its stack."""
    ends = os.pipe()
    for end, stack in zip(ends, (reads, writes), strict=True):
        stack.callback(os.close, end)
    return ends


@contextmanager
def _held_back(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Hold back signals, also from a process that is started meanwhile, which lets them through when it can."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # of real time


def _print_fault(printed: str) -> None:
    """Print the traceback of a worker, as one of the leader would be printed, if it is a fault of the program."""
    of_the_system = any(words in printed for words in (*WITHOUT_MEMORY, _BY_THE_SYSTEM))
    if _TRACEBACK in printed and not of_the_system:
        with contextlib.suppress(OSError, ValueError):
            print(printed, end="", file=sys.stderr, flush=True)
