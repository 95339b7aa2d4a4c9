"""One run: the coordinator that leads every file its way.

scan → readiness → open, fingerprint, probe → put → receipt → fingerprint and probe again → ledger → disposition → prune

One thread owns the spool: it scans, opens, hands files to the store, takes completions from a queue, and is the only
one that renames, unlinks and writes the ledger. The store owns the network and its threads. So no file needs a lock,
and the order of the steps can be read here and in :mod:`s3_uploader.run.settlement`, which takes
over when an upload is done.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.control import Clock, ScanTrigger, StopRequest
from s3_uploader.core.counters import RunEnd
from s3_uploader.core.descriptors import OUT_OF_DESCRIPTORS
from s3_uploader.core.errors import (
    ConflictError,
    DestinationBusy,
    Scope,
    SourceChanged,
    StateError,
    StoreError,
    UploadCancelled,
)
from s3_uploader.core.events import Emit, Notice, UploadStarted
from s3_uploader.core.model import Candidate, Left, Receipt, RunReport
from s3_uploader.core.text import is_plain
from s3_uploader.run import second_copy
from s3_uploader.run.admission import Admission
from s3_uploader.run.circuit_breaker import CircuitBreaker
from s3_uploader.run.concurrency import AdaptiveLimit
from s3_uploader.run.file_task import FileTask, why_changed
from s3_uploader.run.in_flight import UploadsInFlight
from s3_uploader.run.opening import open_store
from s3_uploader.run.routing import Routes
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.layouts.base import EmptyDirectory, Found, Layout
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.removable import Removable
from s3_uploader.spool.root import Names, SpoolRoot
from s3_uploader.spool.sightings import Sightings
from s3_uploader.stores.base import Store

if TYPE_CHECKING:
    from concurrent.futures import Future

    from s3_uploader.run.in_flight import Completions
    from s3_uploader.spool.claims import Claims

_CANCEL_SECONDS = 5.0
_COUNT_SECONDS = 1.0
_LOOK_SECONDS_AFTER_STOP = 1.0
_SOON_SECONDS = 0.25
_LONG_RUN_SECONDS = 60.0
_MOST_DEFERRED = 1000


class _Ended(Exception):
    """The run takes in no more files."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a run, in seconds, files and bytes."""

    settle_seconds: float
    upload_timeout_seconds: float
    drain_seconds: float
    max_runtime_seconds: float | None = None
    max_in_flight: int = 256
    max_open_files: int = 2**31
    max_bytes_in_flight: int = 64 * 2**20


class Pipeline:
    """Leads the files of one spool to one store. Use once.

    :param store: not open yet; it is opened when the first file is ready, and only then.
    :param settlement: takes every file whose upload is done.
    :param news: tells when it is worth to look at the spool again while uploads are under way; ``None`` to look once.
    :param retries: files that failed are tried although their pauses are not over.
    :param make_queue: where the pipeline waits for the store; see :class:`s3_uploader.run.in_flight.UploadsInFlight`.
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
        stop: StopRequest,
        beat: Callable[[], None],
        limits: Limits,
        plan: Routes,
        claims: Claims | None = None,
        sightings: Sightings | None = None,
        news: ScanTrigger | None = None,
        retries: bool = False,
        make_queue: Callable[[], Completions] = queue.SimpleQueue,
    ) -> None:
        self._root = root
        self._layout = layout
        self._store = store
        self._settlement = settlement
        self._admission = Admission(
            root,
            settle_seconds=limits.settle_seconds,
            known_failure=settlement.failures.known if not retries else lambda path: None,
            is_remembered=settlement.is_remembered,
            claims=claims,
            sleep=clock.sleep,
            removable=None if settlement.keeps else Removable(root),
            sightings=sightings,
        )
        self._emit = emit
        self._clock = clock
        self._stop = stop
        self._beat = beat
        self._limits = limits
        self._flight = UploadsInFlight(
            store,
            timeout_seconds=limits.upload_timeout_seconds,
            make_queue=make_queue,
        )
        settlement.second_copies.wait = self._wait_for_looks
        settlement.second_copies.is_in_use = lambda path: path in self._flight.paths() or settlement.is_settling(path)
        self._plan = plan
        self._news = news
        self._looked_at = clock.monotonic()
        self._under_way: set[str] = set()

        self._window = AdaptiveLimit(maximum=limits.max_in_flight)
        self._most_open = limits.max_open_files
        self._store_is_open = False
        self._breaker: CircuitBreaker[FileTask] = CircuitBreaker()
        self._deferred: list[Candidate] = []
        self._unplain: list[Candidate] = []
        self._is_scanning = False
        self._is_counting = False
        self._end: RunEnd | None = None
        self._fatal: Exception | None = None
        self._began = clock.monotonic()

    # ---------------------------------------------------------------------------------------------- the run

    def run(self) -> RunReport:
        """Ship what is ready; returns when everything was considered, or something ended the run before.

        Never raises for what happens to files, the destination or the ledger: the report says it.
        """
        started_at = self._clock.now()
        self._stop.subscribe(self._flight.wake)
        if self._news is not None:
            self._news.forget()
            self._news.subscribe(self._flight.wake)
        scan = self._layout.scan(self._root, self._skipped)
        try:
            with contextlib.suppress(_Ended):
                self._take_in(scan)
                self._go_on_looking()
            self._drain()
            self._close_doubts()
            self._settlement.commit()
            self._heed_refusal()
            self._count_rest(scan)
        except StateError as error:
            self._abandon(RunEnd.STATE, error)
            if self._store_is_open:
                self._store.cancel()
        finally:
            self._stop.unsubscribe(self._flight.wake)
            if self._news is not None:
                self._news.unsubscribe(self._flight.wake)
            self._abandon_in_flight()
            self._flight.hand_back_loop()
            self._settlement.abandon()
        return self._report(started_at)

    def _take_in(self, scan: Iterator[Found]) -> None:
        self._is_scanning = True
        for found in scan:
            if isinstance(found, EmptyDirectory):
                self._settlement.directories.prune_upwards(found.names)
            else:
                self._consider(found)
                if self._breaker.successes:
                    self._consider_deferred()
            self._pause()
        self._consider_deferred()
        self._is_scanning = False
        unplain, self._unplain = self._unplain, []
        while unplain:
            self._unplain = unplain  # so that they are counted, should the run end here
            self._pause()
            self._consider(unplain.pop(0), may_defer=False)
        self._unplain = []

    def _go_on_looking(self) -> None:
        """A large file must not hold back those that appear while it is under way.

        Where all are done in a moment, the run ends, and it is the next one that looks.

        :raises _Ended: if no more files are to be taken in.
        """
        while self._news is not None and len(self._flight):
            if self._must_end():
                raise _Ended
            pause = self._seconds_until_look(self._news)
            if pause > 0:
                self._wait(at_most=pause)
            else:
                self._look_again(self._news)

    def _seconds_until_look(self, news: ScanTrigger) -> float:
        """Seconds after which to ask again; 0 if it is time to look."""
        now = self._clock.monotonic()
        began = self._flight.oldest() or now
        # A run that is fed all the time has to end at last, so that it is reported; one large upload it waits for.
        is_too_long = now - self._began > _LONG_RUN_SECONDS and now - began < _LONG_RUN_SECONDS
        if is_too_long or self._breaker.is_in_doubt or not news.are_due(seconds_since_look=now - self._looked_at):
            return 1.0
        return max(0.0, max(began, self._looked_at) + _SOON_SECONDS - now)

    def _look_again(self, news: ScanTrigger) -> None:
        news.forget()
        self._settlement.commit()
        self._heed_refusal()
        self._looked_at = self._clock.monotonic()
        self._under_way = self._flight.paths()
        self._settlement.counters.begin_scan()
        self._take_in(self._layout.scan(self._root, self._skipped))

    def _pause(self) -> None:
        """Between two files: take what is done, wait until there is room for the next one.

        :raises _Ended: if there is to be no next one.
        """
        self._beat()
        # Before there is a store nothing is under way, and a spool full of fresh files is looked through faster.
        if self._store_is_open:
            self._take_completions()
            if self._settlement.open_files and self._has_many_open():
                self._settlement.commit()
            while not self._must_end() and self._is_full():
                self._wait()
        if self._must_end():
            raise _Ended

    def _skipped(self, names: Names, name: str, reason: Left, detail: str) -> None:
        self._settlement.leftovers.skip(names, name, reason, detail)
        if not self._is_counting:
            self._beat()
            self._flight.keep_turning()
            if self._must_end():
                raise _Ended

    def _must_end(self) -> bool:
        if self._end is None:
            if self._stop.requests:
                self._end = RunEnd.SIGNAL
            elif (
                self._limits.max_runtime_seconds is not None
                and self._clock.monotonic() - self._began >= self._limits.max_runtime_seconds
            ):
                self._end = RunEnd.BUDGET
        return self._end is not None

    def _has_many_open(self) -> bool:
        return len(self._flight) + self._settlement.open_files >= self._most_open

    def _is_full(self) -> bool:
        return (
            len(self._flight) >= self._window.width
            or len(self._flight) >= self._most_open
            or self._flight.bytes >= self._limits.max_bytes_in_flight
            or self._breaker.must_wait(in_flight=len(self._flight), now=self._clock.monotonic())
        )

    def _abandon(self, end: RunEnd, error: Exception) -> None:
        self._must_end()
        if self._fatal is None:
            self._fatal = error
            # Whoever asked for a stop is told that there was one.
            if self._end is not RunEnd.SIGNAL:
                self._end = end

    # ---------------------------------------------------------------------------------------------- one file

    def _consider(self, candidate: Candidate, *, may_defer: bool = True) -> None:
        # Most of a spool may be too young: nothing is worked out before it is needed.
        if self._under_way and candidate.path in self._under_way:
            return
        if candidate.name.startswith(".") and self._settlement.is_taken(candidate.path):
            return
        if len(self._flight) and self._flight.is_sending(self._plan(candidate).key):
            self._settlement.leftovers.leave(candidate, Left.POSTPONED, "an older file of the same key is under way")
            return
        file = self._decide(candidate)
        if not isinstance(file, OpenFile):
            reason, detail = file
            if self._admission.stuck is not None:
                self._settlement.leftovers.cannot_remove(candidate, *self._admission.stuck)
            elif reason is Left.UNREADABLE:
                self._settlement.leftovers.cannot_read(candidate, detail)
            elif reason is Left.UNDECODABLE:
                self._settlement.leftovers.skip(candidate.directory, candidate.name, reason, detail)
            else:
                self._settlement.leftovers.leave(candidate, reason, detail)
            return
        try:
            failed_before = self._settlement.failures.known(candidate.path) is not None
            if failed_before and may_defer and not self._breaker.successes and len(self._deferred) < _MOST_DEFERRED:
                self._deferred.append(candidate)
                file.close()
                return
            if self._breaker.is_in_doubt and may_defer and self._may_be_its_name(candidate.path):
                # Whose error it is, a plain name tells.
                self._unplain.append(candidate)
                file.close()
                return
            if not self._ensure_store():
                file.close()
                self._settlement.leftovers.leave(candidate, Left.POSTPONED, "")
                return
        except BaseException:
            file.close()
            raise
        if (failed_before and self._is_still_stuck(file)) or not self._may_send(file):
            return
        shipment = self._plan(candidate)
        self._submit(
            FileTask(
                file,
                shipment.key,
                self._clock.monotonic(),
                successes_before=self._breaker.successes,
                failed_before=failed_before,
                options=shipment.options,
            )
        )

    def _is_still_stuck(self, file: OpenFile) -> bool:
        """Whether a file that was shipped and could not be removed, or moved, still cannot be.

        It is not sent again to learn that.
        """
        try:
            error = self._settlement.failures.why_still_stuck(file)
            if error is None:
                return False
            upload = FileTask(file, self._plan(file.candidate).key, self._clock.monotonic(), 0, failed_before=True)
            self._settlement.failures.record_undisposed(upload, error)
        except BaseException:
            file.close()
            raise
        file.close()
        return True

    def _may_send(self, file: OpenFile) -> bool:
        """Whether a file is no delivery of ours that has come back to the spool by way of the destination."""
        copies = self._settlement.second_copies
        copies.suspect(file)
        self._heed_refusal()
        if file.descriptor >= 0 and copies.refusal is None:
            return True
        file.close()
        self._settlement.leftovers.leave(file.candidate, Left.POSTPONED, "")
        return False

    def _decide(self, candidate: Candidate) -> OpenFile | tuple[Left, str]:
        """Ask the admission; where too many files are open for one more, close some first."""
        while True:
            try:
                return self._admission.decide(candidate, now=self._clock.now())
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                if not self._close_some():
                    return Left.UNREADABLE, f"{error.strerror}, by this program or on this machine"

    def _close_some(self) -> bool:
        """Have fewer files open from now on; ``False`` if none is."""
        count = len(self._flight) + self._settlement.open_files
        self._most_open = max(1, min(self._most_open, count * 3 // 4))
        self._window.narrow(max(1, min(self._window.width, self._most_open // 2)))
        if self._settlement.open_files:
            self._settlement.commit()
        elif len(self._flight):
            self._wait()
        return count > 0 and not self._must_end()

    def _may_be_its_name(self, path: str) -> bool:
        """Whether a failure of this file tells nothing yet, because plain names may still come."""
        return self._is_scanning and len(self._unplain) < _MOST_DEFERRED and not is_plain(path)

    def _consider_deferred(self) -> None:
        """Turn to the files that failed before: others have shown what the destination does, or there are none."""
        while self._deferred:
            self._pause()
            candidate = self._deferred.pop(0)
            if self._breaker.has_enough_of_old_failures:
                self._settlement.leftovers.leave(candidate, Left.WAITING, "others like it have just failed again")
            else:
                self._consider(candidate, may_defer=False)

    def _ensure_store(self) -> bool:
        if not self._store_is_open:
            try:
                if not open_store(self._store, must_end=self._must_end, beat=self._beat):
                    return False
            except DestinationBusy as error:
                self._abandon(RunEnd.DESTINATION_BUSY, error)
                return False
            except StoreError as error:
                self._abandon(RunEnd.DESTINATION, error)
                return False
            self._store_is_open = True
            self._flight.take_over_loop()
        return True

    def _submit(self, upload: FileTask) -> None:
        self._settlement.directories.begin(upload.file.candidate.directory)
        candidate = upload.file.candidate
        path = self._settlement.leftovers.shown(candidate)
        self._emit(UploadStarted(path, upload.file.fingerprint.size, candidate.data_time))
        self._flight.launch(upload)

    # ---------------------------------------------------------------------------------------------- completions

    def _take_completions(self) -> None:
        while self._flight.has_landed():
            self._take_one(timeout=0.0)
        if self._breaker.must_trip(in_flight=len(self._flight), now=self._clock.monotonic()):
            self._blame_destination()
        if self._settlement.seconds_until_due() == 0.0:
            self._settlement.commit_batch()
            self._heed_refusal()

    def _heed_refusal(self) -> None:
        """A destination that turned out to be the spool ends the run."""
        refusal = self._settlement.second_copies.refusal
        if refusal is not None:
            self._abandon(RunEnd.DESTINATION, refusal)

    def _wait_for_looks(self, looks: Sequence[Future[Receipt]]) -> None:
        until = self._clock.monotonic() + second_copy.SECONDS
        stopped_until = self._clock.monotonic() + _LOOK_SECONDS_AFTER_STOP

        def go_on() -> bool:
            self._beat()
            return self._clock.monotonic() < (stopped_until if self._stop.requests else until)

        self._flight.wait_for(looks, go_on=go_on)

    def _wait(self, *, at_most: float = 1.0) -> None:
        """Wait for a completion, but no longer than until the next thing is due."""
        self._beat()
        due = self._settlement.seconds_until_due()
        self._take_one(timeout=at_most if due is None else min(at_most, due))
        self._take_completions()

    def _take_one(self, *, timeout: float) -> None:
        landed = self._flight.landed(timeout)
        if landed is None:
            return
        upload, answer = landed
        if isinstance(answer, StoreError):
            self._take_failure(upload, answer)
            return
        self._window.succeeded(size=upload.file.fingerprint.size, now=self._clock.monotonic())
        self._settlement.add(upload, answer)
        for doubtful, error in self._breaker.succeeded():
            self._blame_file(doubtful, error)

    def _take_failure(self, upload: FileTask, error: StoreError) -> None:
        if self._may_replace(upload, error):
            self._settlement.directories.settle(upload.file.candidate.directory, removed=False)
            self._submit(upload)
            return
        changed = why_changed(upload.file)
        if isinstance(error, SourceChanged) or (changed is not None and error.scope is Scope.FILE):
            self._let_go(upload, changed or Left.CHANGED, "it changed while it was uploaded")
        elif isinstance(error, UploadCancelled) and error.code != "DeadlineExceeded":
            self._let_go(upload, Left.POSTPONED, "")
        elif not self._breaker.failed(
            upload,
            error,
            successes_before=upload.successes_before,
            failed_before=upload.failed_before,
            now=self._clock.monotonic(),
            may_be_its_name=self._may_be_its_name(upload.key),
        ):
            self._blame_file(upload, error)

    def _may_replace(self, upload: FileTask, error: StoreError) -> bool:
        """Whether all that is in the way is an older state of this file, which we put there ourselves."""
        if self._must_end() or upload.replaces or not isinstance(error, ConflictError):
            return False
        if self._settlement.superseded.has(upload.key, error):
            upload.replaces = error.existing
        return bool(upload.replaces)

    def _let_go(self, upload: FileTask, reason: Left, detail: str) -> None:
        upload.file.close()
        self._settlement.directories.settle(upload.file.candidate.directory, removed=False)
        self._settlement.leftovers.leave(upload.file.candidate, reason, detail)

    def _blame_file(self, upload: FileTask, error: StoreError) -> None:
        if error.retryable or error.code == "DeadlineExceeded":
            self._window.struggled()
        self._settlement.directories.settle(upload.file.candidate.directory, removed=False)
        self._settlement.failures.record(
            upload,
            code=error.code,
            message=error.message,
            hint=error.hint,
            is_conflict=isinstance(error, ConflictError),
        )
        upload.file.close()

    def _blame_destination(self) -> None:
        doubts = self._breaker.take_doubts()
        if self._fatal is None:
            self._settlement.failures.tell(*doubts[0])
            self._abandon(RunEnd.DESTINATION, doubts[0][1])
        for upload, error in doubts:
            self._settlement.directories.settle(upload.file.candidate.directory, removed=False)
            self._settlement.failures.suspect(upload, error)
            upload.file.close()

    def _close_doubts(self) -> None:
        """At the end of the run what is still in doubt is the files' own if any other came through."""
        if not self._breaker.successes and self._breaker.is_in_doubt:
            self._blame_destination()
        for upload, error in self._breaker.take_doubts():
            self._blame_file(upload, error)

    # ---------------------------------------------------------------------------------------------- the end

    def _drain(self) -> None:
        """Wait for what is in flight: as long as it takes at the end of a run, for a bounded time when it was ended."""
        drain_until: float | None = None
        cancel_until: float | None = None
        while len(self._flight):
            now = self._clock.monotonic()
            self._must_end()
            if self._end is not None and drain_until is None:
                drain_seconds = 0.0 if self._end is RunEnd.DESTINATION else self._limits.drain_seconds
                drain_until = now + drain_seconds
            if cancel_until is None and (self._stop.requests > 1 or (drain_until is not None and now >= drain_until)):
                self._store.cancel()
                cancel_until = now + _CANCEL_SECONDS
            if cancel_until is not None and now >= cancel_until:
                self._abandon_in_flight()
                return
            self._wait()

    def _abandon_in_flight(self) -> None:
        """Let go of uploads that do not even answer a cancellation; their files stay."""
        for upload in self._flight.abandon():
            self._settlement.leftovers.leave(upload.file.candidate, Left.POSTPONED, "")
        for upload, _ in self._breaker.take_doubts():
            self._let_go(upload, Left.POSTPONED, "")

    def _count_rest(self, scan: Iterator[Found]) -> None:
        """Count what a run that was ended did not reach, for a moment at most."""
        if self._end in (None, RunEnd.SIGNAL):
            return
        self._is_counting = True
        until = self._clock.monotonic() + _COUNT_SECONDS
        counters = self._settlement.counters
        for candidate in (*self._deferred, *self._unplain):
            counters.count_left(Left.POSTPONED, candidate)
        for found in scan:
            if not isinstance(found, EmptyDirectory):
                counters.count_left(Left.POSTPONED, found)
            if self._clock.monotonic() >= until:
                return

    def _report(self, started_at: float) -> RunReport:
        end = self._end or RunEnd.DONE
        message = ""
        if self._fatal is not None:
            message = str(self._fatal)
            level = "info" if end is RunEnd.DESTINATION_BUSY else "error"
            self._emit(Notice(level, _sentence(end, self._fatal), about=end.value))
        return self._settlement.counters.report(
            end,
            base_dir=self._root.base_dir,
            destination=self._store.properties.name,
            started_at=started_at,
            duration=self._clock.monotonic() - self._began,
            message=message,
            code=self._fatal.code if isinstance(self._fatal, (StoreError, StateError)) else "",
            signal_number=self._stop.signal_number,
        )


def _sentence(end: RunEnd, error: Exception) -> str:
    if end is RunEnd.DESTINATION:
        return f"The run was abandoned, all files are kept: {error}"
    if end is RunEnd.STATE:
        return f"The run was ended, since what it ships cannot be recorded; files are kept: {error}"
    return str(error)
