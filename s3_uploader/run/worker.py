"""A worker: a process that ships a share of a run's files, and reports everything to the leader.

It starts at the leader's command, shares the leader's lock, writes to the leader's ledger, and prints nothing. If the
leader dies, it finishes the uploads in flight and ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from s3_uploader.core.control import Clock, ScanTrigger, StopRequest, start_thread
from s3_uploader.core.errors import StateError, StoreError, UploaderError
from s3_uploader.core.events import Event, Notice
from s3_uploader.core.model import RunCounters, RunEnd
from s3_uploader.ledger import Ledger
from s3_uploader.run.assembly import limits_of, make_settlement, make_store, recalled_sightings, ship
from s3_uploader.run.context import RunContext
from s3_uploader.run.place import Place, build_layout
from s3_uploader.run.run import scan_of
from s3_uploader.run.scan import Ending
from s3_uploader.run.special_stores import store_maker
from s3_uploader.run.worker_pipe import GO, LAST, LOOK, OVER, READY, SIGNALS, Frames, Outcome, Task, send
from s3_uploader.spool import lock_file
from s3_uploader.spool.open_file import Sightings
from s3_uploader.spool.root import SpoolRoot

_BYTES_IN_FLIGHT = 64 * 2**20
_EVENTS = 64
_TELL_SECONDS = 0.05
_SIGN_OF_LIFE_SECONDS = 5.0
_GRACE_SECONDS = 15.0
_NO_MEMORY = b"MemoryError\n"
_ENDS = {end.value for end in RunEnd}


class Telling:
    """Sends events to the leader in batches."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._events: list[Event] = []
        self._told_at = 0.0

    def __call__(self, event: Event) -> None:
        """Handle an event. The end of the run is reported by the leader."""
        if isinstance(event, Notice) and event.kind in _ENDS:
            return
        self._events.append(event)
        if len(self._events) >= _EVENTS:
            self.flush()

    def beat(self) -> None:
        """Send events that have waited long enough; after a longer time without any, a sign of life."""
        if time.monotonic() - self._told_at >= (_TELL_SECONDS if self._events else _SIGN_OF_LIFE_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Send all events. Errors are ignored, because the leader has died then."""
        events, self._events = self._events, []
        self._told_at = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            send(self._descriptor, events)


def main(read_from: int, write_to: int) -> None:
    """Work for the leader at the other end of the pipes.

    What keeps it from that is printed, in one sentence unless it is a bug, and the leader reports it.
    """
    # The terminal and the service manager tell all processes to stop, and the leader tells its workers.
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        # Neither is there if the leader has died.
        with contextlib.suppress(EOFError, BrokenPipeError):
            task = Frames(read_from).next()
            assert isinstance(task, Task)
            send(write_to, _work(task, Telling(write_to), _Leader(read_from, write_to, task)))
    except MemoryError:
        _end_without_memory()
    except UploaderError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"the system refused an operation: {error}")


def _end_without_memory() -> NoReturn:
    """End at once. Anything else may need memory, and what is in flight is as after a kill."""
    with contextlib.suppress(OSError):
        os.write(2, _NO_MEMORY)
    os._exit(1)


class _Leader:
    """The leader, as a worker sees it: hears its commands, on a thread.

    :ivar stop: requested when the leader says so, or has died.
    :ivar scan_trigger: see :class:`~s3_uploader.run.context.RunContext`.
    """

    def __init__(self, read_from: int, write_to: int, task: Task) -> None:
        self._read_from = read_from
        self._write_to = write_to
        self._last_seconds = task.config.drain_seconds + _GRACE_SECONDS
        self._decided = threading.Event()
        self._has_said_go = False
        self._looks = True
        self.stop = StopRequest()
        self.scan_trigger = (
            None
            if task.look_seconds is None
            else ScanTrigger(poll_seconds=task.look_seconds, is_wanted=lambda: self._looks)
        )
        self._ending: Ending | None = None
        self._is_over = False
        try:
            start_thread(threading.Thread(target=self._listen, name="leader", daemon=True))
        except RuntimeError as error:
            sys.exit(f"no thread could be started: {error}")

    def wait(self) -> bool:
        """Wait for the command to begin; returns ``False`` if the run is over before that."""
        # What takes long to import is there when the work begins.
        from s3_uploader.stores.s3 import store as store
        from s3_uploader.stores.s3.engines import native as native

        send(self._write_to, READY)
        self._decided.wait()
        return self._has_said_go

    def ends(self, ending: Ending) -> None:
        """Let the leader decide when the run takes in no more files."""
        self._ending = ending
        if self._is_over:
            ending.end(RunEnd.BUDGET)

    def _listen(self) -> None:
        try:
            while said := os.read(self._read_from, 1):
                if said == GO:
                    self._has_said_go = True
                elif said == OVER:
                    self._is_over = True
                    if self._ending is not None:
                        self._ending.end(RunEnd.BUDGET)
                    self.stop.wake()
                elif said == LOOK and self.scan_trigger is not None:
                    self.scan_trigger.tell()
                elif said == LAST:
                    self._looks = False
                else:
                    self.stop.request(signal.SIGTERM)
                self._decided.set()
            self.stop.request(signal.SIGTERM)
            self._decided.set()
            # Nobody can tell it to hurry any more.
            Clock().sleep(self._last_seconds)
        except MemoryError:
            _end_without_memory()
        finally:
            # Without this thread it would go on whatever becomes of the run.
            os._exit(1)


def _work(task: Task, tell: Telling, leader: _Leader) -> Outcome:
    config = task.config
    root = SpoolRoot(config.base_dir)
    place = Place(config, root, build_layout(config), task.state_dir)
    context = RunContext(
        emit=tell,
        stop=leader.stop,
        beat=tell.beat,
        make_store=store_maker(0.0, bytes_in_flight=_BYTES_IN_FLIGHT // task.of),
        retries=task.retries,
        scan_trigger=leader.scan_trigger,
    )
    try:
        with Ledger.open(place.ledger_path, notice=lambda sentence: tell(Notice("warning", sentence))) as ledger:
            limits = limits_of(config, of=task.of)
            store = make_store(place, context, ledger, connections=limits.max_in_flight)
            sightings = recalled_sightings(place, context, ledger)
            if not leader.wait():
                return _nothing_done(sightings)
            scan = scan_of(place, context, task.max_runtime_seconds)
            scan.ending.started_at = task.started_at
            leader.ends(scan.ending)
            confirm = _confirmed(task, root)
            settlement = make_settlement(place, context, ledger, store, scan, task.run, confirm_lock=confirm)
            ship(place, context, store, settlement, sightings, limits, scan=scan)
            tell.flush()
            ending, error = scan.ending, scan.ending.error
            return Outcome(
                counters=scan.counters,
                failures=dict(settlement.failed_uploads),
                sightings=sightings.dump(),
                unseen=dict(sightings.unseen),
                ended_by=(ending.reason or RunEnd.DONE).name,
                error="" if error is None else getattr(error, "message", str(error)),
                code=error.code if isinstance(error, (StoreError, StateError)) else "",
                hint=getattr(error, "hint", ""),
                origin=error.origin.value if isinstance(error, StoreError) else "",
            )
    finally:
        root.close()


def _nothing_done(sightings: Sightings) -> Outcome:
    """The result of a worker that was not told to begin. Any file may still be in flight with the leader."""
    return Outcome(
        counters=RunCounters(),
        failures={},
        sightings=sightings.dump(),
        unseen={},
        ended_by=RunEnd.SIGNAL.name,
    )


def _confirmed(task: Task, root: SpoolRoot) -> Callable[[], None]:
    """Make a function that checks that the lock file is the one that the leader has locked."""

    def confirm() -> None:
        if task.lock_file >= 0 and not lock_file.is_in_place(task.lock_file, root.descriptor):
            raise StateError("The lock file was removed or replaced while the run was at work.")

    return confirm
