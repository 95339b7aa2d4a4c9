"""The loop that runs for years: pass after pass, woken by time and by file-system events.

Events are only hints: they start the next pass earlier, and the pass finds its work by itself. So the loop also works,
only less promptly, if the file system has no events or the kernel's limit of watches is reached. A problem (no network,
expired credentials, a spool that is not mounted) is reported once, followed by growing pauses, and its end is reported
too.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import Config
from s3_uploader.core.control import Clock, ScanTrigger, StopRequest, backoff
from s3_uploader.core.errors import StateError, UploaderError
from s3_uploader.core.events import Emit, Measure, Notice, fan_out
from s3_uploader.core.files import is_missing
from s3_uploader.core.installation import was_replaced
from s3_uploader.core.model import Left, RunEnd, RunReport
from s3_uploader.core.text import shown_name
from s3_uploader.health.telling import SaysOnce
from s3_uploader.ledger.state_directory import own_ledger_path
from s3_uploader.run import assembly
from s3_uploader.run import run as app
from s3_uploader.run.context import MakeStore, RunContext
from s3_uploader.service.loading import REPLACED, load_program
from s3_uploader.stores.base import Memory, Store
from s3_uploader.stores.wrappers.base import KeptStore, PassedOnMemory

DEFAULT_INTERVAL = 9.0
"""Seconds between two passes, as in zc.s3uploadqueue."""

_LONGEST_PAUSE = 60.0
"""Longest pause in seconds: no longer than a start by cron would wait."""
_SHORTEST_PAUSE = 0.2
_KEEP_OPEN_SECONDS = 60.0
_OLDEST_STORE_SECONDS = 3600.0
"""What a store has learned about its server is valid for one run. A busy watch would trust it for months."""
_CLOSE_SECONDS = 5.0
_GATHER_SECONDS = 0.02
"""Events come in bursts. A pass that begins this much later finds the whole burst."""
_LONGEST_GATHER_SECONDS = 5.0
_UNLESS_MERGED = ", unless ledger merge has taken it over"

StartEvents = Callable[[str, Callable[[], None], Emit], Callable[[], None]]
"""Starts to call a function whenever something appears in a directory, until the returned function is called."""


class Wakeup:
    """Wakes the loop: set by events, stop requests and reloads, from any thread or signal handler."""

    def __init__(self) -> None:
        # ``threading.Event.set`` in a signal handler can meet its own lock, held by the thread that was interrupted.
        # ``SimpleQueue.put`` is reentrant by design.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake the loop, now or when it next sleeps."""
        if self._tokens.empty():
            self._tokens.put(None)

    def sleep(self, seconds: float) -> bool:
        """Sleep until woken, at most this long; returns whether it was woken."""
        try:
            self._tokens.get(timeout=seconds)
        except queue.Empty:
            return False
        while not self._tokens.empty():
            self._tokens.get()
        return True


class Watch:
    """Passes over a spool until told to stop.

    :param load: loads the configuration; called at the start and at each reload.
    :param emit: called with what a person should read: a problem once, not in each pass.
    :param monitor: called with everything.
    :param measure: see :class:`s3_uploader.run.context.RunContext`.
    :param interval: seconds between two passes when nothing wakes the loop earlier.
    :param events: see :data:`StartEvents`; ``None`` if there are no events.
    :param status: called with the state in one line, for a service manager.
    :param beat: called at least once a second while the loop is alive.
    :param reloading: called when the configuration is about to be reloaded.
    :param configured: called with the new configuration, at the start and after each reload.
    :param make_store: makes the store of a configuration, see :func:`s3_uploader.run.assembly.build_store`.
    :param is_rehearsal: see :class:`s3_uploader.run.context.RunContext`.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        *,
        emit: Emit,
        stop: StopRequest,
        wakeup: Wakeup,
        monitor: Emit = lambda event: None,
        measure: Measure | None = None,
        interval: float = DEFAULT_INTERVAL,
        clock: Clock | None = None,
        events: StartEvents | None = None,
        status: Callable[[str], None] = lambda text: None,
        beat: Callable[[], None] = lambda: None,
        reloading: Callable[[], None] = lambda: None,
        configured: Callable[[Config], None] = lambda config: None,
        make_store: MakeStore = assembly.build_store,
        is_rehearsal: bool = False,
    ) -> None:
        self._clock = clock or Clock()
        self._load = load
        self._say = emit
        self._calm = SaysOnce(emit, clock=self._clock.monotonic)
        self._emit = fan_out([self._calm, monitor])
        self._measure = measure
        self._stop = stop
        self._wakeup = wakeup
        self._interval = interval
        # A reload waits for the uploads in flight, but starts no more uploads with the old configuration.
        self._scan_trigger = ScanTrigger(poll_seconds=interval, is_wanted=lambda: not self._reload)
        self._events = events
        self._status = status
        self._beat = beat
        self._reloading = reloading
        self._configured = configured
        self._make_store = make_store
        self._is_rehearsal = is_rehearsal
        self._reload = False
        self._failures = 0
        self._spool: SpoolIdentity | None = None
        self._stop_events: Callable[[], None] = lambda: None
        self._gather = _GATHER_SECONDS
        self._store: KeptStore | None = None
        self._store_used_at = self._store_made_at = 0.0
        self._memory = PassedOnMemory()
        self._is_replaced = False
        self._ledger = ""

    def reload(self) -> None:
        """Reload the configuration before the next pass. May be called from a signal handler."""
        self._reload = True
        self._wakeup.set()

    def run(self) -> int:
        """Run until told to stop; returns the exit code.

        :raises ConfigError: if the configuration cannot be used at the start.
        """
        self._stop.subscribe(self._wakeup.set)
        try:
            config = self._load()
            load_program(config)
            self._configured(config)
            while not self._stop.requests:
                if self._reload:
                    self._reload = False
                    config = self._reloaded(config)
                self._tell_of_upgrade()
                self._follow_spool(config)
                began = self._clock.monotonic()
                is_gone = self._ledger != "" and self._ledger == _ledger_of(config) and is_missing(self._ledger)
                pause = self._pass(config)
                self._look_after_ledger(config, was_gone=is_gone)
                # If a pass takes long (a large spool), events must not start one pass after the other.
                took = self._clock.monotonic() - began
                self._gather = min(max(took, _GATHER_SECONDS), _LONGEST_GATHER_SECONDS)
                self._close_idle_store()
                self._sleep(config, pause)
        finally:
            self._stop_events()
            self._close_store()
            self._stop.unsubscribe(self._wakeup.set)
        number = self._stop.signal_number
        return 0 if number is None else 128 + number

    def _pass(self, config: Config) -> float:
        """Run one pass; returns the seconds until the next."""
        try:
            report = app.run_once(
                config,
                RunContext(
                    emit=self._emit,
                    stop=self._stop,
                    clock=self._clock,
                    beat=self._beat,
                    make_store=self._kept_store,
                    is_rehearsal=self._is_rehearsal,
                    scan_trigger=self._scan_trigger,
                    measure=self._measure,
                ),
            )
        except UploaderError as error:
            return self._in_trouble(str(error))
        except Exception as error:
            # Whatever the cause (a failing disk, a bug), a program that has ended ships nothing.
            return self._in_trouble(f"The pass failed: {type(error).__name__}: {error}")
        finally:
            self._memory.current = None
        if report.ended_by in (RunEnd.DESTINATION.value, RunEnd.STATE.value):
            # The run has reported it. The store is built again, with new credentials if there are any.
            self._close_store()
            return self._pause_in_trouble(report.message)
        if not isinstance(config.destination, S3Destination):
            # A remote lock file must not be held while nothing is shipped.
            self._close_store()
        return self._pause_after(report, config)

    def _look_after_ledger(self, config: Config, *, was_gone: bool) -> None:
        """Tell that the ledger was removed between two passes; within a pass the ledger tells it itself."""
        path = _ledger_of(config)
        if not path or is_missing(path):
            return
        self._ledger = path
        if was_gone:
            self._say(
                Notice(
                    "warning",
                    f"The ledger {shown_name(path)} was removed between two passes, and a new one was started. No file "
                    f"is lost by this, only the history{_UNLESS_MERGED if config.share else ''}. Stop the watch before "
                    "you move the state directory or restore it.",
                )
            )
            # What tells others about this watch was beside it.
            self._configured(config)

    def _pause_after(self, report: RunReport, config: Config) -> float:
        if report.ended_by in (RunEnd.LOCKED.value, RunEnd.DESTINATION_BUSY.value):
            self._status(f"waiting: {report.message}")
            return self._interval
        if self._failures:
            self._failures = 0
            self._calm.forget()
            self._say(Notice("info", "The trouble is over."))
        if report.shipped:
            self._store_used_at = self._clock.monotonic()
            self._status(f"shipped {report.shipped} files, {report.backlog} waiting")
            # Whatever arrived meanwhile is looked for at once.
            return 0.0
        self._status(f"idle, {report.backlog} files waiting")
        if report.left.get(Left.FRESH.value):
            return min(self._interval, max(config.settle_seconds, _SHORTEST_PAUSE))
        return self._interval

    def _in_trouble(self, message: str) -> float:
        self._emit(Notice("error", message))
        return self._pause_in_trouble(message)

    def _pause_in_trouble(self, message: str) -> float:
        self._failures += 1
        shortest = max(self._interval, 1.0)
        pause = backoff(self._failures, first=shortest, longest=max(shortest, _LONGEST_PAUSE))
        self._status(f"in trouble, next try in {pause:.0f} s: {message}")
        return pause

    def _sleep(self, config: Config, seconds: float) -> None:
        """Sleep in pieces, with a heartbeat for the service manager's watchdog."""
        until = self._clock.monotonic() + seconds
        while not self._stop.requests and not self._reload:
            self._beat()
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            # While nothing can be shipped, an event does not shorten the pause: the next file would fail as well.
            if self._wakeup.sleep(min(left, 1.0)) and not self._failures:
                self._let_gather(min(self._gather, left))
                return
            if self._failures and identity_of(config.base_dir) != self._spool:
                return  # for example, the spool has been mounted

    def _let_gather(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while not self._stop.requests and not self._reload and (left := until - self._clock.monotonic()) > 0:
            self._beat()
            self._wakeup.sleep(min(left, 1.0))

    # ------------------------------------------------------------------------------------------ configuration, events

    def _reloaded(self, before: Config) -> Config:
        self._reloading()
        try:
            config = self._load()
        except Exception as error:
            # Not only invalid content: also a directory in its place, for example, or a failing disk.
            why = str(error) if isinstance(error, UploaderError) else f"{type(error).__name__}: {error}"
            self._say(Notice("error", f"The configuration was not reloaded and the previous one remains in use: {why}"))
            config = before
        else:
            load_program(config)
            self._close_store()
            self._calm.forget()
            self._say(Notice("info", "The configuration has been reloaded."))
        self._failures = 0
        self._configured(config)
        return config

    def _tell_of_upgrade(self) -> None:
        if not self._is_replaced and was_replaced():
            self._is_replaced = True
            self._say(Notice("info", REPLACED))

    def _hear(self) -> None:
        self._scan_trigger.tell()
        self._wakeup.set()

    def _follow_spool(self, config: Config) -> None:
        """Watch the directory that is ``base_dir`` now: it may have been unmounted or created again."""
        identity = identity_of(config.base_dir)
        if identity == self._spool:
            return
        self._spool = identity
        self._stop_events()
        self._stop_events = lambda: None
        if self._events is not None and identity is not None:
            self._stop_events = self._events(config.base_dir, self._hear, self._calm)

    # ------------------------------------------------------------------------------------------ the store

    def _kept_store(self, config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        self._memory.current = memory
        if self._store is None:
            self._store = KeptStore(self._make_store(config, notice=notice, memory=self._memory))
            self._store_used_at = self._store_made_at = self._clock.monotonic()
        return self._store

    def _close_idle_store(self) -> None:
        now = self._clock.monotonic()
        if now - self._store_used_at >= _KEEP_OPEN_SECONDS or now - self._store_made_at >= _OLDEST_STORE_SECONDS:
            self._close_store()

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.really_close(timeout=_CLOSE_SECONDS)
            self._store = None


SpoolIdentity = tuple[str, int, int]
"""Path, device and inode."""


def identity_of(path: str) -> SpoolIdentity | None:
    """Identify the directory at a path; ``None`` if there is none."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return path, status.st_dev, status.st_ino


def _ledger_of(config: Config) -> str:
    try:
        return own_ledger_path(config)
    except StateError:  # each pass says so
        return ""
