"""Stand-ins with which a unit test leads a run by the hand: a clock, a store, a ledger, and the queue between them."""

from __future__ import annotations

import hashlib
import os
import queue
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s3_uploader.core.control import Clock, ScanTrigger, StopRequest
from s3_uploader.core.errors import ConflictError, ObjectGone, Scope, StateError, StoreError, UploadCancelled
from s3_uploader.core.events import Event
from s3_uploader.core.findings import Finding
from s3_uploader.core.model import Candidate, FailureBucket, Fingerprint, Left, OnConflict, Proof, Receipt, RunReport
from s3_uploader.core.origins import Origin
from s3_uploader.ledger.rows import FailingRow, ShippedRow
from s3_uploader.run.admission import Admission
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.run.pipeline import Limits, Pipeline
from s3_uploader.run.routing import Route, Routes
from s3_uploader.run.scan import Ending, SpoolScan
from s3_uploader.run.settlement import Settlement
from s3_uploader.run.workers import Workers
from s3_uploader.spool.layouts.base import Globs, Layout
from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.open_file import Removable
from s3_uploader.spool.root import Names, SpoolRoot
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, Loop, PendingReceipt, PutOptions, Source, ignore

NOW = 1_600_000_000.0
"""2020-09-13 12:26:40 UTC: what the fake clock begins with."""
NO_GLOBS = Globs(include=[], exclude=[])


class FakeClock:
    """Time stands still until somebody turns it."""

    def __init__(self, now: float = NOW) -> None:
        self.seconds = now
        self.slept: list[float] = []

    def read(self) -> float:
        """The time, for both clocks."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Pass the time at once."""
        self.slept.append(seconds)
        self.seconds += seconds

    def clock(self) -> Clock:
        """As the parts take it."""
        return Clock(now=self.read, monotonic=self.read, sleep=self.sleep)


# -------------------------------------------------------------------------------------------------- the spool


def write(path: Path, content: bytes | str = b"data", *, mtime: float = NOW - 3600) -> Path:
    """A file with its directories, last written an hour ago by the fake clock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (mtime, mtime))
    return path


def candidate(path: str, **changes: Any) -> Candidate:
    """A candidate of that relative path with nothing remarkable about it."""
    *names, name = path.split("/")
    values: dict[str, Any] = {
        "directory": tuple(names),
        "name": name,
        "key": path,
        "period_begin": None,
        "period_end": None,
        "location": names[0] if names else "",
        "mtime_ns": 0,
        "size": 0,
    }
    return Candidate(**{**values, **changes})


class Skips:
    """Collects what a layout skips."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Left, str]] = []

    def __call__(self, names: Names, name: str, reason: Left, detail: str) -> None:
        """See :data:`s3_uploader.spool.root.Skip`."""
        self.seen.append(("/".join((*names, name)), reason, detail))

    def reasons(self) -> dict[str, Left]:
        """Path to reason."""
        return {path: reason for path, reason, _ in self.seen}


def paths_below(directory: Path) -> set[str]:
    """The relative paths of all files below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


# -------------------------------------------------------------------------------------------------- the store


class Put:
    """One upload that the fake store was asked for."""

    def __init__(self, key: str, source: Source, options: PutOptions, deadline: float, replaces: str) -> None:
        self.key = key
        self.source = source
        self.options = options
        self.deadline = deadline
        self.replaces = replaces
        self.future = PendingReceipt()


Fault = Callable[["FakeStore", Put], None]
"""Answers an upload in its own way, or leaves it unanswered."""


def etag_of(content: bytes) -> str:
    """What the fake store answers as ETag."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class FakeLoop:
    """Notes what is asked of it.

    :param turned: called at each turn.
    """

    def __init__(self, turned: Callable[[], None] = lambda: None) -> None:
        self.calls: list[str] = []
        self.goes_on = True
        self._turned = turned

    def take_over(self) -> None:
        """See ``Loop``."""
        self.calls.append("take over")

    def turn(self, timeout: float) -> bool:
        """See ``Loop``."""
        self.calls.append(f"turn {timeout}")
        self._turned()
        return self.goes_on

    def wake(self) -> None:
        """See ``Loop``."""
        self.calls.append("wake")

    def hand_back(self) -> None:
        """See ``Loop``."""
        self.calls.append("hand back")


class FakeStore:
    """Keeps objects in memory. Answers at once, unless a fault is due for the key.

    :param manual: answer only when :meth:`answer` is called.
    """

    def __init__(self, *, manual: bool = False) -> None:
        self.manual = manual
        self.objects: dict[str, bytes] = {}
        self.replaced: list[str] = []
        self.puts: list[Put] = []
        self.faults: dict[str, deque[Fault]] = {}
        self.any_fault: Fault | None = None
        self.during_body: dict[str, Callable[[], None]] = {}
        self.before_answer: dict[str, Callable[[], None]] = {}
        self.after_answer: dict[str, Callable[[], None]] = {}
        self.open_error: Exception | None = None
        self.put_error: Exception | None = None
        self.opened = 0
        self.cancelled = 0
        self.deaf_to_cancel = False
        self.looks: list[str] = []

    name = "bucket"
    keeps_writers_apart = True
    loop: Loop | None = None

    def open(self) -> None:
        """See ``Store``."""
        self.opened += 1
        if self.open_error is not None:
            raise self.open_error

    def fault(self, key: str, *faults: Fault) -> None:
        """The next uploads of the key meet these faults; a test fails if one was not met."""
        self.faults.setdefault(key, deque()).extend(faults)

    def assert_all_faults_met(self) -> None:
        """Fail if a fault was prepared for nothing."""
        unmet = {key: len(faults) for key, faults in self.faults.items() if faults}
        assert not unmet, f"faults that were never met: {unmet}"

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """See ``Store``."""
        if self.put_error is not None:
            raise self.put_error
        asked = Put(key, source, options, deadline, replaces)
        self.puts.append(asked)
        if not self.manual:
            self.answer(asked)
        return asked.future

    def answer(self, asked: Put) -> None:
        """Meet the fault that is due, or store the object as a real store would."""
        faults = self.faults.get(asked.key)
        if faults:
            faults.popleft()(self, asked)
        elif self.any_fault is not None:
            self.any_fault(self, asked)
        else:
            self.store(asked)

    def pending(self) -> list[Put]:
        """What was not answered yet."""
        return [asked for asked in self.puts if not asked.future.done()]

    def store(self, asked: Put) -> None:
        """Store the object and answer with a receipt, or refuse to replace what is there."""
        try:
            receipt = self.store_silently(asked)
        except StoreError as error:
            asked.future.complete(error)
            return
        if asked.key in self.before_answer:
            self.before_answer.pop(asked.key)()
        asked.future.complete(receipt)
        if asked.key in self.after_answer:
            self.after_answer.pop(asked.key)()

    def store_silently(self, asked: Put) -> Receipt:
        """Store the object and say nothing."""
        half = asked.source.size // 2
        content = os.pread(asked.source.descriptor, half, 0)
        if asked.key in self.during_body:
            self.during_body.pop(asked.key)()
        content += os.pread(asked.source.descriptor, asked.source.size - half, half)
        if len(content) < asked.source.size:
            from s3_uploader.core.errors import SourceChanged

            raise SourceChanged("it shrank")
        there = self.objects.get(asked.key)
        if there is not None and there != content and asked.options.on_conflict is not OnConflict.OVERWRITE:
            if etag_of(there) != asked.replaces:
                raise ConflictError("other content is there", existing=etag_of(there))
            self.replaced.append(asked.key)
        self.objects[asked.key] = content
        return Receipt(
            key=asked.key,
            size=len(content),
            proof=Proof.MD5,
            etag=etag_of(content),
            already_there=there == content,
        )

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """See ``Store``."""
        look = PendingReceipt()
        self.looks.append(receipt.key)
        if self.object_of(receipt.key) is None:
            look.complete(ObjectGone(f"{receipt.key} is gone"))
        else:
            look.complete(receipt)
        return look

    def object_of(self, key: str) -> bytes | None:
        """What is under a key; a store that leads somewhere else overrides it."""
        return self.objects.get(key)

    def cancel(self) -> None:
        """See ``Store``."""
        self.cancelled += 1
        if not self.deaf_to_cancel:
            for asked in self.pending():
                asked.future.complete(UploadCancelled("cancelled"))

    def address(self, key: str) -> str:
        """See ``Store``."""
        return f"bucket/{key}"

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """See ``Store``."""
        return []

    def close(self, *, timeout: float) -> None:
        """See ``Store``."""


def failing(
    code: str = "Broken",
    *,
    retryable: bool = False,
    scope: Scope = Scope.FILE,
    hint: str = "",
    origin: Origin | None = None,
    never_connected: bool = False,
) -> Callable[[FakeStore, Put], None]:
    """A fault: nothing is stored and the upload fails."""

    def fault(store: FakeStore, asked: Put) -> None:
        error = StoreError(
            code,
            code=code,
            retryable=retryable,
            scope=scope,
            hint=hint,
            origin=origin,
            never_connected=never_connected,
        )
        asked.future.complete(error)

    return fault


def stored_but_failing(store: FakeStore, asked: Put) -> None:
    """A fault: the object is stored and the answer is lost."""
    try:
        store.store_silently(asked)
    except StoreError as error:
        asked.future.complete(error)
    else:
        asked.future.complete(StoreError("lost", code="InternalError", retryable=True))


def out_of_time(store: FakeStore, asked: Put) -> None:
    """A fault: the upload is given up at its deadline."""
    asked.future.complete(UploadCancelled("too slow", code="DeadlineExceeded"))


def silent(store: FakeStore, asked: Put) -> None:
    """A fault: no answer."""


# -------------------------------------------------------------------------------------------------- the ledger


class FakeRecords:
    """The ledger in memory."""

    def __init__(self) -> None:
        self.shipped: list[ShippedRow] = []
        self.failing_rows: dict[str, FailingRow] = {}
        self.failures: Counter[FailureBucket] = Counter()
        self.facts: dict[str, str] = {}
        self.broken = False
        self.on_commit: Callable[[], None] = lambda: None

    def _check(self) -> None:
        if self.broken:
            raise StateError("the disk is full")

    def commit_batch(
        self,
        *,
        shipped: Sequence[ShippedRow] = (),
        failed: Sequence[FailingRow] = (),
        recovered: Sequence[str] = (),
        failures: Mapping[FailureBucket, int] | None = None,
    ) -> None:
        """See ``Records``."""
        self._check()
        self.failures.update(failures or {})
        self.shipped.extend(shipped)
        for path in [*(row.path for row in shipped), *recovered]:
            self.failing_rows.pop(path, None)
        for row in failed:
            self.failing_rows[row.path] = row
        self.on_commit()

    def failing_count(self) -> int:
        """See ``Records``."""
        return len(self.failing_rows)

    def failing(self, path: str) -> FailingRow | None:
        """See ``Records``."""
        self._check()
        return self.failing_rows.get(path)

    def remembers(self, path: str, fingerprint: Fingerprint, *, destination: str) -> bool:
        """See ``Records``."""
        self._check()
        return any((row.kept_path or row.path) == path and row.kept == fingerprint for row in self.shipped)

    def remember(self, name: str, value: str, *, now: float) -> None:
        """See ``Records``."""
        self._check()
        self.facts[name] = value

    def recall(self, name: str, *, now: float, max_age: float) -> str | None:
        """See ``Records``."""
        self._check()
        return self.facts.get(name)

    def knows_any(self, prefix: str) -> bool:
        """See ``Records``."""
        self._check()
        return any(value and name.startswith(prefix) for name, value in self.facts.items())


# -------------------------------------------------------------------------------------------------- a run


class SteppedQueue:
    """Where the pipeline waits for the store. Nothing ever waits: an empty queue turns the clock instead.

    ``idle`` is called first; what it does (answer an upload, ask for a stop) may fill the queue.
    """

    def __init__(self, clock: FakeClock, idle: Callable[[], None]) -> None:
        self._items: deque[Any] = deque()
        self._clock = clock
        self._idle = idle
        self._turns = 0

    def put(self, item: Any) -> None:
        """As of ``SimpleQueue``."""
        self._items.append(item)

    def empty(self) -> bool:
        """As of ``SimpleQueue``."""
        return not self._items

    def get(self, timeout: float) -> Any:
        """As of ``SimpleQueue``."""
        if not self._items:
            self._turns += 1
            assert self._turns < 10_000, "the run waits for ever"
            self._idle()
        if not self._items:
            self._clock.seconds += timeout
            raise queue.Empty
        return self._items.popleft()


class Harness:
    """A spool, a store and a ledger that outlive runs; each :meth:`run` is a new one over them."""

    def __init__(self, directory: Path, *, store: FakeStore | None = None, records: Any = None) -> None:
        self.base = directory / "spool"
        self.base.mkdir(exist_ok=True)
        self.store = store or FakeStore()
        self.records = records or FakeRecords()
        self.clock = FakeClock()
        self.stop = StopRequest()
        self.events: list[Event] = []
        self.layout: Layout = TreeLayout(settle_seconds=10, globs=None)
        self.on_success = SuccessPolicy()
        self.on_failure = FailurePolicy()
        self.on_conflict = OnConflict.FAIL
        self.prune = True
        self.max_runtime: float | None = None
        self.max_in_flight = 256
        self.max_bytes = 64 * 2**20
        self.key_prefix = ""
        self.scan_trigger: ScanTrigger | None = None
        self.make_workers: Callable[[], Workers | None] | None = None
        self.idle: Callable[[], None] = lambda: None
        self.beat: Callable[[], None] = lambda: None
        self.settlement: Settlement

    def use_dated(self) -> None:
        """Read the spool as ``dated``."""
        self.layout = DatedLayout(settle_seconds=10, globs=None, epoch_of=utc_epoch)

    def write(self, path: str, content: bytes | str = b"data", *, age: float = 3600) -> Path:
        """A file of the spool."""
        return write(self.base / path, content, mtime=self.clock.seconds - age)

    def names(self) -> set[str]:
        """The files in the spool."""
        return paths_below(self.base)

    def told(self, kind: type) -> list[Any]:
        """The events of a kind, over all runs."""
        return [event for event in self.events if isinstance(event, kind)]

    def run(self) -> RunReport:
        """One run."""
        root = SpoolRoot(str(self.base))
        clock = self.clock.clock()
        scan = SpoolScan(
            root,
            self.layout,
            settle_seconds=10,
            prune=self.prune,
            ending=Ending(self.stop, clock=clock, max_runtime_seconds=self.max_runtime),
            emit=self.events.append,
            clock=clock,
            beat=self.beat,
        )
        self.settlement = Settlement(
            scan=scan,
            store=self.store,
            records=self.records,
            run=None,
            emit=self.events.append,
            clock=clock,
            on_success=self.on_success,
            on_failure=self.on_failure,
            random=lambda: 0.5,
        )
        pipeline = Pipeline(
            scan=scan,
            store=self.store,
            settlement=self.settlement,
            emit=self.events.append,
            clock=clock,
            stop=self.stop,
            beat=self.beat,
            limits=Limits(
                settle_seconds=10,
                upload_timeout_seconds=60,
                drain_seconds=20,
                max_in_flight=self.max_in_flight,
                max_bytes_in_flight=self.max_bytes,
            ),
            admission=Admission(
                root,
                settle_seconds=10,
                known_failure=self.settlement.known_failure,
                is_remembered=self.settlement.is_remembered,
                is_done=self.settlement.remembers,
                sleep=clock.sleep,
                removable=None if self.settlement.keeps else Removable(root),
            ),
            routes=Routes(Route(prefix=self.key_prefix, options=PutOptions(on_conflict=self.on_conflict))),
            scan_trigger=self.scan_trigger,
            make_workers=self.make_workers,
            make_queue=lambda: SteppedQueue(self.clock, self.idle),  # type: ignore[arg-type,return-value]
        )
        try:
            return pipeline.run()
        finally:
            root.close()
