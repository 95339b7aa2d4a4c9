"""The loop that runs for years: pass after pass, woken by time and by file-system events.

Events are hints and nothing else: they make the next pass come earlier, and the pass finds out by itself what there is
to do. So the loop works the same, only less promptly, where the file system has no events or the kernel's limit of
watches is reached. Trouble (no network, expired credentials, a spool that is not mounted) is said once, met with
growing pauses, and its end is said too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from s3_uploader import app
from s3_uploader.config.keys import Config, S3Destination
from s3_uploader.errors import ConfigError, UploaderError
from s3_uploader.events import Emit, Event, LocalTrouble, Notice, UploadFailed
from s3_uploader.model import RunReport
from s3_uploader.stop import Clock, Stop
from s3_uploader.stores.base import Memory, Store
from s3_uploader.stores.kept import KeptStore, PassedOnMemory
from s3_uploader.tally import End

DEFAULT_INTERVAL = 9.0
"""Seconds between two passes; what zc.s3uploadqueue polled at."""

_LONGEST_PAUSE = 300.0
_KEEP_OPEN_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_GATHER_SECONDS = 0.02
"""Events come in bursts; a pass that begins this much later finds the whole burst."""


class Wakeup:
    """What the loop sleeps on: set by events, stop requests and reloads, from any thread or signal handler."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Wake the loop, now or when it next sleeps."""
        self._event.set()

    def sleep(self, seconds: float) -> bool:
        """Sleep until woken, at most so long; whether it was woken."""
        woken = self._event.wait(seconds)
        self._event.clear()
        return woken


class Watch:
    """Passes over a spool until told to stop.

    :param load: gives the configuration; called at the start and at each reload.
    :param interval: seconds between two passes when nothing wakes the loop earlier.
    :param events: starts to call a function whenever something appears in a directory, until the returned function is
        called; ``None`` where there is no such thing.
    :param status: told in one line what the loop does, for a service manager.
    :param beat: called at least once a second while the loop is alive.
    :param make_store: makes the store of a configuration, see :func:`s3_uploader.app.build_store`.
    :param is_rehearsal: see :class:`s3_uploader.app.Surroundings`.
    :param passed: called after each pass that could begin.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        *,
        emit: Emit,
        stop: Stop,
        wakeup: Wakeup,
        interval: float = DEFAULT_INTERVAL,
        clock: Clock | None = None,
        events: Callable[[str, Callable[[], None], Emit], Callable[[], None]] | None = None,
        status: Callable[[str], None] = lambda text: None,
        beat: Callable[[], None] = lambda: None,
        make_store: app.MakeStore = app.build_store,
        is_rehearsal: bool = False,
        passed: Callable[[Config, RunReport], None] = lambda config, report: None,
    ) -> None:
        self._load = load
        self._calm = SaysOnce(emit)
        self._stop = stop
        self._wakeup = wakeup
        self._interval = interval
        self._clock = clock or Clock()
        self._events = events
        self._status = status
        self._beat = beat
        self._make_store = make_store
        self._is_rehearsal = is_rehearsal
        self._passed = passed
        self._reload = False
        self._failures = 0
        self._store: KeptStore | None = None
        self._store_used_at = 0.0
        self._memory = PassedOnMemory()

    def reload(self) -> None:
        """Load the configuration anew before the next pass. May be called from a signal handler."""
        self._reload = True
        self._wakeup.set()

    def run(self) -> int:
        """Run until told to stop; returns the exit code."""
        self._stop.subscribe(self._wakeup.set)
        config = self._load()
        stop_events = self._start_events(config)
        try:
            while not self._stop.requests:
                if self._reload:
                    self._reload = False
                    stop_events()
                    config = self._reloaded(config)
                    stop_events = self._start_events(config)
                pause = self._pass(config)
                self._close_idle_store()
                self._sleep(pause)
        finally:
            stop_events()
            self._close_store()
            self._stop.unsubscribe(self._wakeup.set)
        number = self._stop.signal_number
        return 0 if number is None else 128 + number

    def _pass(self, config: Config) -> float:
        """One pass; returns the seconds until the next."""
        try:
            report = app.run_once(
                config,
                app.Surroundings(
                    emit=self._calm,
                    stop=self._stop,
                    clock=self._clock,
                    beat=self._beat,
                    make_store=self._kept_store,
                    is_rehearsal=self._is_rehearsal,
                ),
            )
        except UploaderError as error:
            self._calm(Notice("error", str(error)))
            return self._pause_in_trouble(str(error))
        self._passed(config, report)
        if report.ended_by in (End.DESTINATION.value, End.STATE.value):
            self._close_store()
            return self._pause_in_trouble(report.message)
        if self._failures:
            self._failures = 0
            self._calm.recovered()
        if not isinstance(config.destination, S3Destination):
            # A remote lock file must not be held while nothing is shipped.
            self._close_store()
        if report.shipped:
            self._store_used_at = self._clock.monotonic()
            self._status(f"shipped {report.shipped} files, {report.backlog} waiting")
            # Whatever arrived meanwhile is looked for at once.
            return 0.0
        self._status(f"idle, {report.backlog} files waiting")
        return self._interval

    def _pause_in_trouble(self, message: str) -> float:
        self._failures += 1
        pause = min(max(self._interval, 1.0) * 2.0 ** min(self._failures - 1, 16), _LONGEST_PAUSE)
        self._status(f"in trouble, next try in {pause:.0f} s: {message}")
        return pause

    def _sleep(self, seconds: float) -> None:
        """Sleep in pieces, so that a service manager's watchdog sees that the loop is alive."""
        until = self._clock.monotonic() + seconds
        while not self._stop.requests and not self._reload:
            self._beat()
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            if self._wakeup.sleep(min(left, 1.0)) and not self._failures:
                # In trouble an event is no reason to hurry: the next file would meet the same.
                self._clock.sleep(_GATHER_SECONDS)
                return

    # ------------------------------------------------------------------------------------------ configuration

    def _reloaded(self, before: Config) -> Config:
        try:
            config = self._load()
        except ConfigError as error:
            self._calm(Notice("error", f"The configuration was not reloaded, the one before stays: {error}"))
            return before
        self._close_store()
        self._failures = 0
        self._calm(Notice("info", "The configuration has been reloaded."))
        return config

    def _start_events(self, config: Config) -> Callable[[], None]:
        if self._events is None:
            return lambda: None
        return self._events(config.base_dir, self._wakeup.set, self._calm)

    # ------------------------------------------------------------------------------------------ the store

    def _kept_store(self, config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        self._memory.current = memory
        if self._store is None:
            self._store = KeptStore(self._make_store(config, notice=notice, memory=self._memory))
            self._store_used_at = self._clock.monotonic()
        return self._store

    def _close_idle_store(self) -> None:
        if self._clock.monotonic() - self._store_used_at >= _KEEP_OPEN_SECONDS:
            self._close_store()

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.really_close(timeout=_CLOSE_SECONDS)
            self._store = None


class SaysOnce:
    """Passes events on, but repeats no trouble that was said in the pass before: a person has read it.

    Only trouble of the run as a whole is held back (a notice, the first file that met it); what happens to single files
    is paced by the ledger already.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._said: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        text = self._trouble(event)
        if text is not None:
            if text in self._said:
                return
            if len(self._said) < 1000:
                self._said.add(text)
        self._emit(event)

    def _trouble(self, event: Event) -> str | None:
        if isinstance(event, Notice):
            return event.message
        if isinstance(event, UploadFailed) and event.next_try_at is None and event.disposition == "kept":
            return event.message
        if isinstance(event, LocalTrouble):
            return f"{event.action} {event.path}: {event.message}"
        return None

    def recovered(self) -> None:
        """The trouble is over; if it comes back, it is said again."""
        self._said.clear()
        self._emit(Notice("info", "The trouble is over: files are shipped again."))
