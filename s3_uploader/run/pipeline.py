"""The coordinator of a run.

scan → readiness → open, fingerprint, probe → put → receipt → fingerprint and probe again → ledger → disposition → prune

One thread owns the spool: it scans, opens, hands files to the store, takes completions from a queue, and is the only
one that renames, unlinks and writes the ledger. The store owns the network and its threads. So no file needs a lock,
and the order of the steps can be read here, in :mod:`s3_uploader.run.admission`, which submits files to the store, in
:mod:`s3_uploader.run.flow_control`, which takes the answers, and in :mod:`s3_uploader.run.settlement`, which takes over
when an upload is done.
"""

from __future__ import annotations

import contextlib
import math
import queue
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.control import Clock, ScanTrigger, StopRequest
from s3_uploader.core.errors import StateError
from s3_uploader.core.events import Emit, UploadStarted
from s3_uploader.core.model import Left, RunEnd, RunReport
from s3_uploader.run.admission import Admission, Intake
from s3_uploader.run.flow_control import AdaptiveLimit, Answers, Deferral
from s3_uploader.run.in_flight import Evidence, FileTask, UploadsInFlight
from s3_uploader.run.routing import Routes
from s3_uploader.run.scan import RunEnded, SpoolScan
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.layouts.base import EmptyDirectory, Found, NoCandidate
from s3_uploader.stores.base import Store

if TYPE_CHECKING:
    from s3_uploader.run.in_flight import Completions
    from s3_uploader.run.workers import Workers

_CANCEL_SECONDS = 5.0
_SOON_SECONDS = 0.25
_LONG_RUN_SECONDS = 60.0
MAX_BYTES_IN_FLIGHT = 64 * 2**20
WORKERS_FROM = 500
"""Number of files that a run ships before worker processes are considered at all; most runs import nothing for them."""
MOST_AWAITED = 64 * 2**20
"""Size in bytes of the largest upload that a run finishes before its workers begin; with a larger one they wait."""


class _Divided(Exception):
    """Raised when workers are ready to take their shares."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a run, in seconds, files and bytes."""

    settle_seconds: float
    upload_timeout_seconds: float
    drain_seconds: float
    max_in_flight: int = 256
    max_open_files: int = 2**31
    max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT


class Pipeline:
    """Ships the files of one spool to one store. Use once.

    :param scan: finds the files, and knows whether the run goes on.
    :param store: not open yet; it is opened only when the first file is ready.
    :param settlement: handles every file whose upload is done.
    :param scan_trigger: tells when to scan the spool again while uploads are in flight; ``None`` to scan once.
    :param make_queue: makes the queue in which the pipeline waits for the store; see
        :class:`s3_uploader.run.in_flight.UploadsInFlight`.
    :param beat: heartbeat, called between any two files and at least once a second.
    :param make_workers: makes the worker processes that may take shares of the files; called at most once, after
        :data:`WORKERS_FROM` files. It returns ``None`` if the run must not be divided.
    """

    def __init__(
        self,
        *,
        scan: SpoolScan,
        store: Store,
        settlement: Settlement,
        emit: Emit,
        clock: Clock,
        stop: StopRequest,
        beat: Callable[[], None],
        limits: Limits,
        routes: Routes,
        admission: Admission,
        scan_trigger: ScanTrigger | None = None,
        make_queue: Callable[[], Completions] = queue.SimpleQueue,
        make_workers: Callable[[], Workers | None] | None = None,
    ) -> None:
        self._workers: Workers | None = None
        self._make_workers = make_workers
        self._workers_from = math.inf if make_workers is None else WORKERS_FROM
        self._scan = scan
        self._whole = scan.layout
        self._rest: Iterator[Found] = iter(())
        self._store = store
        self._settlement = settlement
        self._emit = emit
        self._clock = clock
        self._stop = stop
        self._beat = beat
        self._scan_trigger = scan_trigger
        self.ending = scan.ending
        self._looked_at = self.ending.began
        self._drain_seconds = limits.drain_seconds
        self._evidence = Evidence()
        self._deferral = Deferral()
        self._flight = UploadsInFlight(store, timeout_seconds=limits.upload_timeout_seconds, make_queue=make_queue)
        scan.beat = self._beat_and_turn
        settlement.second_copies.is_in_use = lambda path: path in self._flight.paths() or settlement.is_settling(path)
        self._max_in_flight = limits.max_in_flight
        self._window = window = AdaptiveLimit(maximum=limits.max_in_flight)
        self._answers = Answers(
            self._flight,
            settlement,
            window=window,
            evidence=self._evidence,
            ending=self.ending,
            clock=clock,
            stop=stop,
            beat=beat,
            submit=self._submit,
            deferral=self._deferral,
        )
        self._intake = self._make_intake(admission, window, routes, limits)

    def _make_intake(self, admission: Admission, window: AdaptiveLimit, routes: Routes, limits: Limits) -> Intake:
        return Intake(
            self._store,
            admission=admission,
            flight=self._flight,
            settlement=self._settlement,
            answers=self._answers,
            window=window,
            evidence=self._evidence,
            deferral=self._deferral,
            ending=self.ending,
            routes=routes,
            clock=self._clock,
            beat=self._beat,
            submit=self._submit,
            max_open_files=limits.max_open_files,
            max_bytes_in_flight=limits.max_bytes_in_flight,
        )

    def run(self, begun: Iterator[Found] | None = None) -> RunReport:
        """Ship the ready files; returns when everything was considered, or when something ended the run.

        Errors of files, the destination or the ledger are in the report and are not raised.

        :param begun: a scan of the spool to continue, if one was begun.
        """
        self._stop.subscribe(self._flight.wake)
        if self._scan_trigger is not None:
            self._scan_trigger.subscribe(self._flight.wake)
        try:
            with contextlib.suppress(RunEnded):
                self._look(begun)
                self._go_on_looking()
            self._drain()
            if self._workers is not None and self._workers.are_at_work:
                self._end_workers(self._workers)
            if self._evidence.is_in_doubt:
                self._answers.blame.close_doubts()
            self._settlement.commit()
            self._answers.heed_refusal()
        except StateError as error:
            self.ending.abandon(RunEnd.STATE, error)
            if self._intake.store_is_open:
                self._store.cancel()
        finally:
            self._stop.unsubscribe(self._flight.wake)
            if self._workers is not None:
                self._stop.unsubscribe(self._workers.stop)
                self._workers.conclude(self._settlement, self._scan)
            if self._scan_trigger is not None:
                self._scan_trigger.unsubscribe(self._flight.wake)
            self._abandon_in_flight()
            self._flight.hand_back_loop()
            self._settlement.abandon()
        self._scan.count_rest(self._rest, (*self._deferral.failed, *self._deferral.unplain))
        return self.ending.report(
            self._scan.counters,
            base_dir=self._scan.root.base_dir,
            destination=self._store.name,
            emit=self._emit,
        )

    def _look(self, begun: Iterator[Found] | None) -> None:
        """Take in the whole spool alone, or a share of it while workers take in theirs."""
        while True:
            self._rest, begun = self._scan.begin() if begun is None else begun, None
            try:
                self._take_in(self._rest)
                if self._workers is None or not self._wait_for_workers(self._workers):
                    return
                # One died, and all others are done: this process takes in the whole spool again.
                self._scan.layout = self._whole
            except _Divided:
                if not self._divide():
                    begun = self._rest
                    continue
            self._begin_again()

    def _begin_again(self) -> None:
        """Prepare for another scan in the same run, which passes over the files that are in flight."""
        self._settlement.commit()
        self._answers.heed_refusal()
        self._intake.begin_again()
        self._scan.counters.begin_scan()

    def _workers_are_due(self) -> bool:
        """Whether workers are ready to take their shares; the first call makes them."""
        workers = self._workers
        if workers is None:
            assert self._make_workers is not None
            workers = self._workers = self._make_workers()
            if workers is None:
                self._workers_from = math.inf
                return False
            workers.wake = self._flight.wake
            self._beat = self._answers.beat = workers.and_turn(self._beat, lambda: self.ending)
            self._stop.subscribe(workers.stop)
        # The small files do not wait until a large one is uploaded.
        return workers.are_due() and not self._evidence.is_in_doubt and self._flight.largest() <= MOST_AWAITED

    def _divide(self) -> bool:
        """Finish the uploads in flight, let the workers begin, and continue with a share.

        Returns ``False``, and the scan goes on, if an upload failed that may be sent once more: no other process must
        have its file meanwhile.
        """
        assert self._workers is not None
        while len(self._flight.under_way):
            if self.ending.is_due():
                raise RunEnded
            self._answers.wait()
        if self._evidence.is_in_doubt and not self.ending.is_due():
            return False
        self._settlement.commit()
        self._answers.heed_refusal()
        if self.ending.is_due():
            raise RunEnded
        self._deferral.failed, self._deferral.unplain = [], []
        self._scan.layout = self._workers.begin()
        self._window.narrow(self._max_in_flight // self._workers.of)
        self._intake.narrow(self._workers.of, is_uncounted=self._workers.had_by_a_lost_one)
        return True

    def _wait_for_workers(self, workers: Workers) -> bool:
        """Wait for all workers; returns whether one of them died before it was done."""
        workers.dismiss_idle()
        workers.finish(self._answers.wait, go_on=lambda: not self.ending.is_due(), meanwhile=self._look_if_due)
        if self.ending.is_due():
            raise RunEnded
        return workers.have_lost_one()

    def _end_workers(self, workers: Workers) -> None:
        """Stop all workers within a bounded time."""
        workers.dismiss_idle()
        if not self._stop.requests:
            workers.end_run()
        if self.ending.reason is RunEnd.DESTINATION:
            for _ in range(2):
                workers.stop()
        until = self._clock.monotonic() + self._drain_seconds + 2 * _CANCEL_SECONDS
        workers.finish(self._answers.wait, go_on=lambda: self._clock.monotonic() < until)

    def _take_in(self, scan: Iterator[Found]) -> None:
        self._deferral.is_scanning = True
        for found in scan:
            if isinstance(found, NoCandidate):
                if isinstance(found, EmptyDirectory):
                    self._scan.directories.prune_upwards(found.names)
            else:
                self._intake.consider(found)
                if self._deferral.failed and self._evidence.successes:
                    self._consider_deferred()
            self._pause()
        self._consider_deferred()
        self._deferral.is_scanning = False
        unplain, self._deferral.unplain = self._deferral.unplain, []
        while unplain:
            self._deferral.unplain = unplain  # so that they are counted if the run ends here
            self._pause()
            self._intake.consider(unplain.pop(0), may_defer=False)
        self._deferral.unplain = []

    def _go_on_looking(self) -> None:
        """Scan again while a large file is in flight, so that it does not hold back new files.

        If all are done soon, the run ends, and the next one scans.

        :raises RunEnded: if no more files are to be taken in.
        """
        while self._scan_trigger is not None and len(self._flight.under_way):
            if self.ending.is_due():
                raise RunEnded
            pause = self._seconds_until_look(self._scan_trigger)
            if pause > 0:
                self._answers.wait(at_most=pause)
            else:
                self._look_again(self._scan_trigger)

    def _seconds_until_look(self, scan_trigger: ScanTrigger) -> float:
        """Seconds until the next check; 0 if it is time to scan."""
        now = self._clock.monotonic()
        began = self._flight.oldest() or self.ending.began
        # A run that always finds new files must end at some time, to be reported. It does wait for one large upload.
        is_too_long = now - self.ending.began > _LONG_RUN_SECONDS and now - began < _LONG_RUN_SECONDS
        if (
            is_too_long
            or self._evidence.is_in_doubt
            or not scan_trigger.is_due(seconds_since_look=now - self._looked_at)
        ):
            return 1.0
        return max(0.0, max(began, self._looked_at) + _SOON_SECONDS - now)

    def _look_if_due(self) -> None:
        if self._scan_trigger is not None and self._seconds_until_look(self._scan_trigger) <= 0:
            self._look_again(self._scan_trigger)

    def _look_again(self, scan_trigger: ScanTrigger) -> None:
        scan_trigger.forget()
        self._looked_at = self._clock.monotonic()
        if self._workers is not None:
            self._scan.layout = self._workers.layout(self._whole)
        self._begin_again()
        self._rest = self._scan.begin()
        self._take_in(self._rest)

    def _pause(self) -> None:
        """Between two files: handle answers, and wait until there is room for the next one.

        :raises RunEnded: if no more files are to be taken in.
        """
        self._beat()
        # Before the store is open nothing is in flight. To skip this makes the scan of many fresh files faster.
        if self._intake.store_is_open:
            self._answers.take()
            if self._intake.has_many_open():
                self._settlement.commit()
            while self._intake.is_full() and not self.ending.is_due():
                self._answers.wait()
        if self.ending.is_due():
            raise RunEnded
        if self._scan.counters.shipped >= self._workers_from and self._workers_are_due():
            raise _Divided

    def _beat_and_turn(self) -> None:
        self._beat()
        self._flight.keep_turning()

    def _consider_deferred(self) -> None:
        """Send the files that failed before: others have shown whether the destination works, or there are none."""
        while self._deferral.failed:
            self._pause()
            candidate = self._deferral.failed.pop(0)
            if self._answers.any_failed and self._answers.blame.has_enough_of_old_failures:
                self._settlement.leftovers.leave(candidate, Left.WAITING, "others like it have just failed again")
            else:
                self._intake.consider(candidate, may_defer=False)

    def _submit(self, upload: FileTask) -> None:
        upload.begin(self._scan.directories)
        candidate = upload.file.candidate
        path = self._scan.root.shown(candidate.directory, candidate.name)
        self._emit(UploadStarted(path, upload.file.fingerprint.size, candidate.data_time))
        self._flight.launch(upload)

    def _drain(self) -> None:
        """Wait for the uploads in flight: without limit at the end of a run, for a bounded time if it was ended."""
        drain_until: float | None = None
        cancel_until: float | None = None
        while len(self._flight.under_way):
            now = self._clock.monotonic()
            self.ending.is_due()
            if self.ending.reason is not None and drain_until is None:
                drain_seconds = 0.0 if self.ending.reason is RunEnd.DESTINATION else self._drain_seconds
                drain_until = now + drain_seconds
            if cancel_until is None and (self._stop.requests > 1 or (drain_until is not None and now >= drain_until)):
                self._store.cancel()
                cancel_until = now + _CANCEL_SECONDS
            if cancel_until is not None and now >= cancel_until:
                self._abandon_in_flight()
                return
            self._answers.wait()

    def _abandon_in_flight(self) -> None:
        """Abandon uploads that do not react to a cancellation; their files stay."""
        for upload in self._flight.abandon():
            self._settlement.leftovers.leave(upload.file.candidate, Left.POSTPONED, "")
        if self._evidence.is_in_doubt:
            for upload in self._answers.blame.abandon_doubts():
                self._settlement.leave(upload, Left.POSTPONED)
