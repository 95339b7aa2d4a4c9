"""Several watches at once: a process for each configuration, and a supervisor that starts, monitors and stops them.

Separate processes isolate spools: a disk that does not answer, memory that runs out, or a crash affect only one spool.
The supervisor touches no spool and no destination, so that they cannot stop it. A configuration that cannot be used
waits until its file is changed. A process that ends unexpectedly is restarted, with growing pauses. One without a
heartbeat is killed, which is harmless: a watch may be killed at any time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from s3_uploader.core.control import StopRequest, backoff
from s3_uploader.core.events import Emit, Notice
from s3_uploader.core.text import counted, names_of, shown_name
from s3_uploader.service.child import Child, State, identity_of, kill, name_process
from s3_uploader.service.link import RELOAD, STOP, Link

SILENCE_SECONDS = 120.0
"""A process without a heartbeat for this long hangs; the watchdog of a single watch has the same timeout."""
DRAIN_SLACK_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_KILLED_SECONDS = 2.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_STEADY_SECONDS = 60.0
_READY_SECONDS = 10.0
_UNUSABLE = 2
"""The exit code of a process whose configuration cannot be used. It has reported the reason."""

Work = Callable[[str, str, Link], int]
"""Watches the spool of one configuration file, which has a path and a name, until told to stop, and returns the exit
code; in its own process."""


class Supervisor:
    """Keeps a process for each configuration until told to stop.

    :param files: returns the configuration files; called at the start and at each reload.
    :param emit: called with what a person should read.
    :param beat: called at least once a second.
    :param ready: called when every process has started its work, or a while later.
    :param status: called with the state of all in one line.
    """

    def __init__(
        self,
        files: Callable[[], Sequence[str]],
        work: Work,
        *,
        emit: Emit,
        stop: StopRequest,
        beat: Callable[[], None] = lambda: None,
        ready: Callable[[], None] = lambda: None,
        status: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._work = work
        self._emit = emit
        self._stop = stop
        self._beat = beat
        self._ready = ready
        self._status = status
        self._clock = clock
        self._children: dict[str, Child] = {}
        self._wanted: frozenset[str] = frozenset()
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._reload = False
        self._told_ready = self._has_begun = False
        self._told_status = ""
        self._stops_sent = 0

    def reload(self) -> None:
        """Reload every configuration, new ones too. May be called from a signal handler."""
        self._reload = True
        self._wake()

    def run(self) -> int:
        """Run until told to stop; returns the exit code: 2 if none of the configurations can be used at the start."""
        self._stop.subscribe(self._wake)
        began = looked_at = self._clock()
        try:
            self._follow(self._files())
            while not self._stop.requests:
                now = self._clock()
                if now - looked_at > 10 * _LOOK_SECONDS:
                    self._forgive(now)  # all of them were stopped, as by Ctrl-Z
                looked_at = now
                if self._reload:
                    self._reload = False
                    self._reloaded()
                for child in list(self._children.values()):
                    self._look_after(child, now)
                if all(child.state is State.UNUSABLE for child in self._children.values()) and not self._has_begun:
                    return _UNUSABLE
                self._tell_all(now - began)
                self._beat()
                self._hear(_LOOK_SECONDS)
            self._end_all()
        finally:
            self._stop.unsubscribe(self._wake)
            self._close()
        number = self._stop.signal_number
        return 0 if number is None else 128 + number

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._waker, b"!")

    # ------------------------------------------------------------------------------------------ which there are

    def _follow(self, files: Iterable[str]) -> None:
        wanted = list(files)
        self._wanted = frozenset(wanted)
        for path, name in names_of(wanted).items():
            child = self._children.setdefault(path, Child(path=path))
            child.name = name
            if child.state is State.UNUSABLE:
                child.state, child.due_at = State.PAUSED, 0.0
        for path, child in self._children.items():
            if path not in self._wanted:
                self._leave(child)

    def _reloaded(self) -> None:
        before = set(self._children)
        self._told_ready = False
        for child in self._children.values():
            self._order(child, RELOAD)
        try:
            self._follow(self._files())
        except Exception as error:
            self._say("error", f"The list of configurations was not reloaded: {error}")
            return
        new = len(set(self._children) - before)
        more = f" {counted(new, 'new one')} {'is' if new == 1 else 'are'} watched now." if new else ""
        self._say("info", f"All configurations are reloaded.{more}")

    def _leave(self, child: Child) -> None:
        if child.pid and child.state is not State.LEAVING:
            self._say("info", f"{shown_name(child.name)} does not exist any more. Its spool is no longer watched.")
            child.state = State.LEAVING
            child.due_at = self._clock() + child.drain_seconds + DRAIN_SLACK_SECONDS
            self._order(child, STOP)
        elif not child.pid:
            child.state = State.GONE

    # ------------------------------------------------------------------------------------------ one of them

    def _look_after(self, child: Child, now: float) -> None:
        if child.pid:
            self._watch_over(child, now)
            return
        if child.state is State.GONE:
            if child.path in self._wanted:  # its file came back while the process was ending
                self._start(child, now)
            else:
                self._children.pop(child.path, None)
        elif child.state is State.UNUSABLE:
            if identity_of(child.path) not in (child.changed, (0, 0)):
                self._start(child, now)
        elif now >= child.due_at:
            self._start(child, now)

    def _watch_over(self, child: Child, now: float) -> None:
        if self._has_ended(child):
            return
        if child.state is State.LEAVING:
            if now > child.due_at:
                kill(child.pid)
        elif now - child.heard_at > SILENCE_SECONDS and not child.is_hung:
            child.is_hung = True
            self._say(
                "error",
                f"{shown_name(child.name)}: the process {child.pid} that watches this spool hangs, perhaps on a disk "
                "that does not answer. It is killed and restarted; the other spools are not affected.",
            )
            kill(child.pid)

    def _has_ended(self, child: Child) -> bool:
        try:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = child.pid, 0
        if not pid:
            return False
        self._forget_process(child)
        code = os.waitstatus_to_exitcode(status)
        if self._stop.requests or child.state is State.LEAVING:
            child.state = State.GONE
        elif code == _UNUSABLE:
            child.state = State.UNUSABLE
        else:
            self._pause(child, code)
        return True

    def _pause(self, child: Child, code: int) -> None:
        now = self._clock()
        child.failures = 1 if now - child.started_at > _STEADY_SECONDS else child.failures + 1
        pause = backoff(child.failures, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        child.state, child.due_at = State.PAUSED, now + pause
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._say(
            "error",
            f"{shown_name(child.name)}: the process that watches this spool {how}. It is restarted in {pause:g} s.",
        )

    def _start(self, child: Child, now: float) -> None:
        report, to_report = os.pipe2(os.O_CLOEXEC)
        orders, to_orders = os.pipe2(os.O_CLOEXEC)
        child.changed = identity_of(child.path)
        child.started_at = child.heard_at = now
        child.is_hung, child.pending, child.said = False, b"", ""
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
        except OSError as error:
            for descriptor in (report, to_report, orders, to_orders):
                os.close(descriptor)
            self._say("error", f"{shown_name(child.name)}: no process can be started: {error.strerror}.")
            child.failures += 1
            child.state, child.due_at = State.PAUSED, now + _LONGEST_PAUSE
            return
        if not pid:
            os.close(report)
            os.close(to_orders)
            self._become(child, Link(report=to_report, orders=orders))
        os.close(to_report)
        os.close(orders)
        os.set_blocking(report, False)
        os.set_blocking(to_orders, False)
        child.pid, child.report, child.orders, child.state = pid, report, to_orders, State.STARTED
        self._selector.register(report, selectors.EVENT_READ, child)

    def _become(self, child: Child, link: Link) -> None:
        """In the new process: do the work and exit."""
        code = 1
        try:
            for other in self._children.values():
                for descriptor in (other.report, other.orders):
                    if descriptor >= 0:
                        os.close(descriptor)
            self._close_own()
            # A terminal sends them to every process; the supervisor decides what they mean.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, link.signalled)
            name_process(os.path.basename(child.path))
            code = self._work(child.path, child.name, link)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    # ------------------------------------------------------------------------------------------ hearing and telling

    def _hear(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fileobj == self._wakeup:
                with contextlib.suppress(OSError):
                    os.read(self._wakeup, 4096)
            else:
                self._read(key.data)

    def _read(self, child: Child) -> None:
        try:
            data = os.read(child.report, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # it has ended, or is about to
            self._selector.unregister(child.report)
            os.close(child.report)
            child.report = -1
            self._wake()
            return
        *lines, child.pending = (child.pending + data).split(b"\n")
        child.heard_at = self._clock()
        for line in lines:
            word, _, rest = line.decode("utf-8", "replace").partition(" ")
            if word == "ready":
                child.state = State.WATCHED if child.state is State.STARTED else child.state
                child.drain_seconds = float(rest)
            elif word == "status":
                child.said = rest

    def _tell_all(self, seconds: float) -> None:
        states = [child.state for child in self._children.values()]
        if not self._told_ready and (State.STARTED not in states or seconds > _READY_SECONDS):
            self._told_ready = self._has_begun = True
            self._ready()
        text = self.summary()
        if text != self._told_status:
            self._told_status = text
            self._status(text)

    def summary(self) -> str:
        """The state of all processes in one line."""
        children = list(self._children.values())
        troubled = [child.name for child in children if child.pid and child.said.startswith("in trouble")]
        unusable = [child.name for child in children if child.state is State.UNUSABLE]
        dead = [child.name for child in children if child.state is State.PAUSED and child.failures]
        parts = [f"{counted(len(children), 'spool')}"]
        for names, what in (
            (troubled, "in trouble"),
            (unusable, "not watched for their configuration"),
            (dead, "dead"),
        ):
            if names:
                shown = ", ".join(map(shown_name, names[:5])) + (", …" if len(names) > 5 else "")
                parts.append(f"{len(names)} {what} ({shown})")
        return "; ".join(parts)

    def _say(self, level: str, sentence: str) -> None:
        self._emit(Notice(level, sentence))

    def _forgive(self, now: float) -> None:
        for child in self._children.values():
            child.heard_at = now

    # ------------------------------------------------------------------------------------------ the end

    def _end_all(self) -> None:
        began = self._clock()
        alive = [child for child in self._children.values() if child.pid]
        longest = max((child.drain_seconds for child in alive), default=0.0) + DRAIN_SLACK_SECONDS
        while alive:
            for _ in range(self._stop.requests - self._stops_sent):
                for child in alive:
                    self._order(child, STOP)
            self._stops_sent = self._stop.requests
            if self._clock() - began > longest:
                break
            self._beat()
            self._hear(0.05)
            alive = [child for child in alive if not self._has_ended(child)]
        for child in alive:
            kill(child.pid)
        until = self._clock() + _KILLED_SECONDS
        while alive and self._clock() < until:
            self._hear(0.05)
            alive = [child for child in alive if not self._has_ended(child)]
        for child in alive:
            self._say(
                "error",
                f"{shown_name(child.name)}: the process {child.pid} cannot be killed, because it waits for a disk.",
            )

    def _order(self, child: Child, order: bytes) -> None:
        if child.orders >= 0:
            with contextlib.suppress(OSError):
                os.write(child.orders, order)

    def _forget_process(self, child: Child) -> None:
        child.pid = 0
        if child.report >= 0:
            self._selector.unregister(child.report)
            os.close(child.report)
        if child.orders >= 0:
            os.close(child.orders)
        child.report = child.orders = -1

    def _close(self) -> None:
        for child in self._children.values():
            self._forget_process(child)
        self._close_own()

    def _close_own(self) -> None:
        self._selector.close()
        os.close(self._wakeup)
        os.close(self._waker)
