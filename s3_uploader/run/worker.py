"""A worker: a process that ships a share of a run's files, and reports everything to the leader.

It starts at the leader's command, shares the leader's lock, writes to the leader's ledger, and prints nothing. If the
leader dies, it finishes the uploads in flight and ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

from s3_uploader.core.control import StopRequest, start_thread
from s3_uploader.core.ends import RunEnd
from s3_uploader.core.errors import StateError, StoreError
from s3_uploader.core.events import Event, Notice
from s3_uploader.ledger import Ledger
from s3_uploader.run.assembly import store_maker
from s3_uploader.run.context import RunContext
from s3_uploader.run.place import Place, build_layout
from s3_uploader.run.run import scan_of
from s3_uploader.run.shipping import limits_of, make_settlement, make_store, recalled_sightings, ship
from s3_uploader.run.worker_pipe import GO, READY, Frames, Outcome, Task, send
from s3_uploader.spool import lock_file
from s3_uploader.spool.root import SpoolRoot

_BYTES_IN_FLIGHT = 64 * 2**20
_EVENTS = 64
_TELL_SECONDS = 0.05
_GRACE_SECONDS = 15.0
_ENDS = {end.value for end in RunEnd}


class Telling:
    """Sends events to the leader in batches."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._events: list[Event] = []
        self._told_at = 0.0

    def __call__(self, event: Event) -> None:
        """Handle an event. The end of the run is reported by the leader."""
        if isinstance(event, Notice) and event.about in _ENDS:
            return
        self._events.append(event)
        if len(self._events) >= _EVENTS:
            self.flush()

    def beat(self) -> None:
        """Send events that have waited long enough."""
        if self._events and time.monotonic() - self._told_at >= _TELL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send all events. Errors are ignored, because the leader has died then."""
        events, self._events = self._events, []
        self._told_at = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            send(self._descriptor, events)


def main(read_from: int, write_to: int) -> None:
    """Work for the leader at the other end of the pipes."""
    # The terminal and the service manager tell all processes to stop, and the leader tells its workers.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: None)
    task = Frames(read_from).next()
    assert isinstance(task, Task)
    stop, begun = StopRequest(), threading.Event()
    start_thread(threading.Thread(target=_obey, args=(read_from, task, stop, begun), name="leader", daemon=True))
    with contextlib.suppress(BrokenPipeError):
        send(write_to, _work(task, Telling(write_to), stop, lambda: _wait(write_to, begun)))


def _wait(write_to: int, begun: threading.Event) -> None:
    # What takes long to import is there when the work begins.
    from s3_uploader.stores.s3 import store as store
    from s3_uploader.stores.s3.engines import native as native

    send(write_to, READY)
    begun.wait()


def _obey(read_from: int, task: Task, stop: StopRequest, begun: threading.Event) -> None:
    while True:
        said = os.read(read_from, 1)
        if said != GO:
            stop.request(signal.SIGTERM)
        begun.set()
        if not said:
            # Nobody can tell it to hurry any more.
            time.sleep(task.config.drain_seconds + _GRACE_SECONDS)
            os._exit(1)


def _work(task: Task, tell: Telling, stop: StopRequest, wait: Callable[[], None]) -> Outcome:
    config = task.config
    root = SpoolRoot(config.base_dir)
    place = Place(config, root, build_layout(config), task.state_dir)
    context = RunContext(
        emit=tell,
        stop=stop,
        beat=tell.beat,
        make_store=store_maker(0.0, bytes_in_flight=_BYTES_IN_FLIGHT // task.of),
        retries=task.retries,
    )
    try:
        with Ledger.open(place.ledger_path, notice=lambda sentence: tell(Notice("warning", sentence))) as ledger:
            store = make_store(place, context, ledger)
            sightings = recalled_sightings(place, context, ledger)
            limits = limits_of(config, of=task.of)
            wait()
            scan = scan_of(place, context, task.max_runtime_seconds)
            confirm = _confirmed(task, root)
            settlement = make_settlement(place, context, ledger, store, scan, task.run, confirm_lock=confirm)
            ship(place, context, store, settlement, sightings, limits, scan=scan)
            tell.flush()
            ending, error = scan.ending, scan.ending.error
            return Outcome(
                counters=scan.counters,
                failures=dict(settlement.failures.counted),
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


def _confirmed(task: Task, root: SpoolRoot) -> Callable[[], None]:
    """Make a function that checks that the lock file is the one that the leader has locked."""

    def confirm() -> None:
        if task.lock_file >= 0 and not lock_file.is_in_place(task.lock_file, root.descriptor):
            raise StateError("The lock file was removed or replaced while the run was at work.")

    return confirm
