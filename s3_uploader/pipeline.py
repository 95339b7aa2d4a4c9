"""One run: the coordinator that leads every file its way.

scan → readiness → open, fingerprint, probe → put → receipt → fingerprint and probe again → ledger → disposition → prune

One thread owns the spool: it scans, opens, hands files to the store, takes completions from a queue, and is the only
one that renames, unlinks and writes the ledger. The store owns the network and its threads. So no file needs a lock,
and the order of the steps can be read here and in :mod:`s3_uploader.settlement`, which takes
over when an upload is done.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.errors import (
    ConflictError,
    DestinationBusy,
    Scope,
    SourceChanged,
    StateError,
    StoreError,
    UploadCancelled,
)
from s3_uploader.events import Emit, Notice, UploadStarted
from s3_uploader.intake import Intake
from s3_uploader.model import Candidate, Left, Receipt, RunReport
from s3_uploader.settlement import Settlement, Upload, why_changed
from s3_uploader.spool.layout import EmptyDirectory, Layout
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.spool.source import OpenFile
from s3_uploader.stop import Clock, Stop
from s3_uploader.stores.base import PutOptions, Source, Store
from s3_uploader.tally import End
from s3_uploader.window import Window

if TYPE_CHECKING:
    from concurrent.futures import Future

_BYTES_PER_SECOND_AT_LEAST = 64 * 1024
_CANCEL_SECONDS = 5.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a run, in seconds, files and bytes."""

    settle_seconds: float
    upload_timeout_seconds: float
    drain_seconds: float
    max_runtime_seconds: float | None = None
    max_in_flight: int = 256
    max_bytes_in_flight: int = 64 * 2**20


class Pipeline:
    """Leads the files of one spool to one store. Use once.

    :param store: not open yet; it is opened when the first file is ready, and only then.
    :param settlement: takes every file whose upload is done.
    :param beat: called between any two files and at least once a second, to show that the run is alive.
    """

    def __init__(
        self,
        *,
        root: SpoolRoot,
        layout: Layout,
        store: Store,
        settlement: Settlement,
        emit: Emit,
        clock: Clock,
        stop: Stop,
        beat: Callable[[], None],
        limits: Limits,
        put_options: PutOptions,
        key_prefix: str,
    ) -> None:
        self._root = root
        self._layout = layout
        self._store = store
        self._settlement = settlement
        self._intake = Intake(
            root,
            settle_seconds=limits.settle_seconds,
            known_failure=settlement.known_failure,
            is_remembered=settlement.is_remembered,
        )
        self._emit = emit
        self._clock = clock
        self._stop = stop
        self._beat = beat
        self._limits = limits
        self._put_options = put_options
        self._key_prefix = key_prefix

        self._window = Window(maximum=limits.max_in_flight)
        self._completions: queue.SimpleQueue[tuple[Upload, Future[Receipt]] | None] = queue.SimpleQueue()
        self._in_flight: dict[int, Upload] = {}
        self._bytes_in_flight = 0
        self._store_is_open = False
        self._successes = 0
        self._end: End | None = None
        self._fatal: Exception | None = None
        self._began = clock.monotonic()

    # ---------------------------------------------------------------------------------------------- the run

    def run(self) -> RunReport:
        """Ship what is ready; returns when everything was considered, or something ended the run before.

        Never raises for what happens to files, the destination or the ledger: the report says it.
        """
        started_at = self._clock.now()
        wake = self._wake
        self._stop.subscribe(wake)
        try:
            self._take_in()
            self._drain()
            self._settlement.commit()
        except StateError as error:
            self._abandon(End.STATE, error)
            self._give_up_in_flight()
        finally:
            self._stop.unsubscribe(wake)
            self._settlement.abandon()
        return self._report(started_at)

    def _wake(self) -> None:
        # SimpleQueue.put is safe in a signal handler: it is reentrant by design.
        self._completions.put(None)

    def _take_in(self) -> None:
        for found in self._layout.scan(self._root, self._settlement.skipped):
            self._beat()
            if self._must_end():
                return
            if isinstance(found, EmptyDirectory):
                self._settlement.prune_upwards(found.names)
                continue
            self._consider(found)
            self._take_completions()
            while self._is_full() and not self._must_end():
                self._wait()

    def _must_end(self) -> bool:
        if self._end is None:
            if self._stop.requests:
                self._end = End.SIGNAL
            elif (
                self._limits.max_runtime_seconds is not None
                and self._clock.monotonic() - self._began >= self._limits.max_runtime_seconds
            ):
                self._end = End.BUDGET
        return self._end is not None

    def _is_full(self) -> bool:
        return len(self._in_flight) >= self._window.width or self._bytes_in_flight >= self._limits.max_bytes_in_flight

    def _abandon(self, end: End, error: Exception) -> None:
        if self._fatal is None:
            self._end = end
            self._fatal = error

    # ---------------------------------------------------------------------------------------------- one file

    def _consider(self, candidate: Candidate) -> None:
        file = self._intake.admit(candidate, now=self._clock.now())
        if not isinstance(file, OpenFile):
            reason, detail = file
            if reason is Left.UNREADABLE:
                self._settlement.local_trouble(candidate, "read", detail)
            else:
                self._settlement.leave(candidate, reason, detail)
            return
        if not self._ensure_store():
            file.close()
            self._settlement.leave(candidate, Left.POSTPONED, "")
            return
        self._submit(
            Upload(file, self._key_prefix + candidate.key, self._clock.monotonic(), successes_before=self._successes)
        )

    def _ensure_store(self) -> bool:
        if not self._store_is_open:
            try:
                self._store.open()
            except DestinationBusy as error:
                self._abandon(End.DESTINATION_BUSY, error)
                return False
            except StoreError as error:
                self._abandon(End.DESTINATION, error)
                return False
            self._store_is_open = True
        return True

    def _submit(self, upload: Upload) -> None:
        size = upload.file.fingerprint.size
        self._in_flight[id(upload)] = upload
        self._bytes_in_flight += size
        self._settlement.begun_in(upload.file.candidate.directory)
        self._emit(UploadStarted(self._settlement.shown(upload.file.candidate), size))
        deadline = upload.began + self._limits.upload_timeout_seconds + size / _BYTES_PER_SECOND_AT_LEAST
        future = self._store.put(
            upload.key,
            Source(upload.file.descriptor, size),
            options=self._put_options,
            deadline=deadline,
            replaces=upload.replaces,
        )
        future.add_done_callback(lambda done: self._completions.put((upload, done)))

    # ---------------------------------------------------------------------------------------------- completions

    def _take_completions(self) -> None:
        while not self._completions.empty():
            self._complete(self._completions.get())
        if self._settlement.seconds_until_due() == 0.0:
            self._settlement.commit()

    def _wait(self) -> None:
        """Wait for a completion, but no longer than until the next thing is due."""
        self._beat()
        due = self._settlement.seconds_until_due()
        timeout = 1.0 if due is None else min(1.0, due)
        with contextlib.suppress(queue.Empty):
            self._complete(self._completions.get(timeout=timeout))
        self._take_completions()

    def _complete(self, completion: tuple[Upload, Future[Receipt]] | None) -> None:
        if completion is None:
            return
        upload, future = completion
        size = upload.file.fingerprint.size
        del self._in_flight[id(upload)]
        self._bytes_in_flight -= size
        error = future.exception()
        if error is None:
            now = self._clock.monotonic()
            self._successes += 1
            self._window.succeeded(size=size, now=now)
            self._settlement.add(upload, future.result())
            return
        if not isinstance(error, StoreError):
            # A bug of a store must not cost the other files their run.
            error = StoreError(f"internal error: {type(error).__name__}: {error}", code="InternalError")
        self._take_failure(upload, error)

    def _take_failure(self, upload: Upload, error: StoreError) -> None:
        candidate = upload.file.candidate
        if isinstance(error, ConflictError) and not upload.replaces and self._settlement.is_superseded(upload, error):
            self._settlement.settled_in(candidate.directory, removed=False)
            upload.replaces = error.existing
            self._submit(upload)
            return
        changed = why_changed(upload.file)
        upload.file.close()
        self._settlement.settled_in(candidate.directory, removed=False)
        if isinstance(error, SourceChanged) or (changed is not None and error.scope is Scope.FILE):
            self._settlement.leave(candidate, changed or Left.CHANGED, "it changed while it was uploaded")
        elif isinstance(error, UploadCancelled) and error.code != "DeadlineExceeded":
            self._settlement.leave(candidate, Left.POSTPONED, "")
        elif self._reaches_every_file(upload, error):
            if self._fatal is None:
                self._settlement.emit_failure(upload, error)
                self._abandon(End.DESTINATION, error)
            self._settlement.leave(candidate, Left.POSTPONED, "")
        else:
            if error.retryable or error.code == "DeadlineExceeded":
                self._window.struggled()
            self._settlement.record_failure(upload, code=error.code, message=error.message, hint=error.hint)

    def _reaches_every_file(self, upload: Upload, error: StoreError) -> bool:
        """Whether every other file would meet the same error, as far as can be known.

        An error that may pass has been retried by the store for a while. If in all that time no other file came
        through either, it is the destination's and not the file's.
        """
        if error.scope is Scope.DESTINATION and not error.retryable:
            return True
        alone = self._successes == upload.successes_before
        return alone and (error.retryable or error.scope is Scope.DESTINATION or error.code == "DeadlineExceeded")

    # ---------------------------------------------------------------------------------------------- the end

    def _drain(self) -> None:
        """Wait for what is in flight: as long as it takes at the end of a run, for a bounded time when it was ended."""
        drain_until: float | None = None
        cancel_until: float | None = None
        while self._in_flight:
            now = self._clock.monotonic()
            self._must_end()
            if self._end is not None and drain_until is None:
                patience = 0.0 if self._end is End.DESTINATION else self._limits.drain_seconds
                drain_until = now + patience
            if cancel_until is None and (self._stop.requests > 1 or (drain_until is not None and now >= drain_until)):
                self._store.cancel()
                cancel_until = now + _CANCEL_SECONDS
            if cancel_until is not None and now >= cancel_until:
                self._give_up_in_flight()
                return
            self._wait()

    def _give_up_in_flight(self) -> None:
        """Let go of uploads that do not even answer a cancellation; their files stay."""
        for upload in self._in_flight.values():
            self._settlement.leave(upload.file.candidate, Left.POSTPONED, "")
        # Their descriptors stay open: a thread of the store may still read from them.
        self._in_flight.clear()

    def _report(self, started_at: float) -> RunReport:
        end = self._end or End.DONE
        message = ""
        if self._fatal is not None:
            message = str(self._fatal)
            level = "info" if end is End.DESTINATION_BUSY else "error"
            self._emit(Notice(level, _sentence(end, self._fatal)))
        return self._settlement.tally.report(
            end,
            base_dir=self._root.base_dir,
            destination=self._store.properties.name,
            started_at=started_at,
            duration=self._clock.monotonic() - self._began,
            message=message,
            signal_number=self._stop.signal_number,
        )


def _sentence(end: End, error: Exception) -> str:
    if end is End.DESTINATION:
        return f"The run was abandoned, all files are kept: {error}"
    if end is End.STATE:
        return f"The run was ended, since what it ships cannot be recorded; files are kept: {error}"
    return str(error)
