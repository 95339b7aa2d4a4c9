"""Waits for the store's answers, and handles each for its file, the destination and the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.errors import ConflictError, Scope, SourceChanged, SourceUnreadable, StoreError, UploadCancelled
from s3_uploader.core.model import Left, Receipt, RunEnd
from s3_uploader.core.text import is_plain
from s3_uploader.run import second_copy
from s3_uploader.run.flow_control import AdaptiveLimit, CircuitBreaker, Deferral, Refusals
from s3_uploader.run.in_flight import FileTask, UploadsInFlight
from s3_uploader.run.scan import Ending
from s3_uploader.run.settlement import Settlement

if TYPE_CHECKING:
    from concurrent.futures import Future

_LOOK_SECONDS_AFTER_STOP = 1.0


class Answers:
    """Takes answered uploads, and deals with their files.

    :param submit: passes a file to the store again.
    :param deferral: tells whether the failure of a file proves nothing yet.
    :ivar beat: heartbeat, called whenever it waits.
    :ivar refusals: knows which locations are refused.
    """

    def __init__(
        self,
        flight: UploadsInFlight,
        settlement: Settlement,
        *,
        window: AdaptiveLimit,
        breaker: CircuitBreaker[FileTask],
        ending: Ending,
        clock: Clock,
        stop: StopRequest,
        beat: Callable[[], None],
        submit: Callable[[FileTask], None],
        deferral: Deferral,
    ) -> None:
        self._flight = flight
        self._settlement = settlement
        self._window = window
        self._breaker = breaker
        self._ending = ending
        self._clock = clock
        self._stop = stop
        self.beat = beat
        self._submit = submit
        self._deferral = deferral
        self.refusals = Refusals()
        settlement.second_copies.wait = self._wait_for_looks
        settlement.second_copies.is_stopping = lambda: bool(stop.requests)

    def take(self) -> None:
        """Take the answers without waiting, and settle a batch that is due."""
        while self._flight.has_landed():
            self._take_one(timeout=0.0)
        if self._breaker.is_in_doubt and self._breaker.must_trip(
            in_flight=len(self._flight.under_way), now=self._clock.monotonic()
        ):
            self._blame_destination()
        if self._settlement.seconds_until_due() == 0.0:
            self._settlement.commit_batch()
            self.heed_refusal()

    def wait(self, *, at_most: float = 1.0) -> None:
        """Wait for an answer, but no longer than until the next thing is due."""
        self.beat()
        due = self._settlement.seconds_until_due()
        self._take_one(timeout=at_most if due is None else min(at_most, due))
        self.take()

    def leaves_for_others(self, location: str) -> bool:
        """Whether a file is left because others of its location are refused. The answer to a sample is waited for."""
        while (
            self.refusals.needs_answer(location)
            and self._flight.is_sending_from(location)
            and not self._ending.is_due()
        ):
            self.wait()
        return self.refusals.leaves(location)

    def heed_refusal(self) -> None:
        """End the run if the destination turned out to be the spool."""
        refusal = self._settlement.second_copies.refusal
        if refusal is not None:
            self._ending.abandon(RunEnd.DESTINATION, refusal)

    def close_doubts(self) -> None:
        """Decide at the end of the run who caused the failures in doubt: their files if another upload succeeded.

        A destination that is unreachable at the end, or refuses the credentials that it has accepted, as when they
        expire, became so during the run. Then no file is blamed.
        """
        if not self._breaker.is_in_doubt:
            return
        if not self._breaker.successes or self._breaker.is_out_of_order(has_plain_name=_has_plain_name):
            self._blame_destination()
        for upload, error in self._breaker.take_doubts():
            self._blame_file(upload, error)

    def _wait_for_looks(self, looks: Sequence[Future[Receipt]]) -> None:
        until = self._clock.monotonic() + second_copy.SECONDS
        stopped_until = self._clock.monotonic() + _LOOK_SECONDS_AFTER_STOP

        def go_on() -> bool:
            self.beat()
            return self._clock.monotonic() < (stopped_until if self._stop.requests else until)

        self._flight.wait_for(looks, go_on=go_on)

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
        if self.refusals.are_known:
            self.refusals.accepted(upload.file.candidate.location)
        for doubtful, error in self._breaker.succeeded():
            self._try_again_or_blame(doubtful, error)

    def _take_failure(self, upload: FileTask, error: StoreError) -> None:
        if self._may_replace(upload, error):
            self._submit(upload)
            return
        if isinstance(error, SourceUnreadable) and not upload.file.has_new_content():
            # The destination is not the cause, however many files are affected.
            self._settlement.fail(upload, error)
            return
        changed = upload.file.why_changed()
        if isinstance(error, SourceChanged) or (changed is not None and error.scope is Scope.FILE):
            self._settlement.leave(upload, changed or Left.CHANGED, "it changed while it was uploaded")
        elif isinstance(error, UploadCancelled) and not error.is_late:
            self._settlement.leave(upload, Left.POSTPONED)
        elif not self._is_in_doubt(upload, error):
            self._blame_file(upload, error)

    def _is_in_doubt(self, upload: FileTask, error: StoreError) -> bool:
        """Whether it is unknown if the file or the destination caused the error."""
        if not isinstance(error, ConflictError):
            self._deferral.saw_failure(upload.key)
        return self._breaker.failed(
            upload,
            error,
            successes_before=upload.successes_before,
            failed_before=upload.failed_before,
            now=self._clock.monotonic(),
            may_be_its_name=self._deferral.may_be_its_name(upload.key),
        )

    def _may_replace(self, upload: FileTask, error: StoreError) -> bool:
        """Whether the key is taken by an older version of this file, uploaded by this program."""
        if self._ending.is_due() or upload.replaces or not isinstance(error, ConflictError):
            return False
        if self._settlement.superseded.has(upload.key, error):
            upload.replaces = error.existing
        return bool(upload.replaces)

    def _try_again_or_blame(self, upload: FileTask, error: StoreError) -> None:
        """Decide about a failure in doubt, now that the destination works."""
        if error.never_connected and not upload.is_second_try and not self._ending.is_due():
            # An outage that has ended says nothing about a file that failed during it.
            upload.is_second_try = True
            self._submit(upload)
        else:
            self._blame_file(upload, error)

    def _blame_file(self, upload: FileTask, error: StoreError) -> None:
        if error.may_pass:
            self._window.struggled()
        location = upload.file.candidate.location
        if self.refusals.refused(location, error, failed_before=upload.failed_before):
            self._ending.abandon(RunEnd.DESTINATION, error)
        self._settlement.fail(upload, error)

    def _blame_destination(self) -> None:
        doubts = self._breaker.take_doubts()
        if self._ending.error is None:
            self._settlement.failures.tell(*doubts[0])
            self._ending.abandon(RunEnd.DESTINATION, doubts[0][1])
        for upload, error in doubts:
            self._settlement.failures.suspect(upload, error)
            upload.end()


def _has_plain_name(upload: FileTask) -> bool:
    return is_plain(upload.key)
