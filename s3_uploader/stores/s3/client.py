"""One S3 request with its retries: it is sent through the engine until its outcome is final."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from s3_uploader.core.control import is_of_a_handler
from s3_uploader.core.errors import DEADLINE_EXCEEDED, StoreError, UploadCancelled, lacking
from s3_uploader.core.origins import Origin
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3 import errors as s3_errors
from s3_uploader.stores.s3.engines.base import (
    Answer,
    Engine,
    Failure,
    Outcome,
    Request,
    Sending,
    TransportFailure,
    xml_root,
)
from s3_uploader.stores.s3.foreign import is_web_page
from s3_uploader.stores.s3.meanings import Kind, kind_of
from s3_uploader.stores.s3.waiting import Timer

Finished = Callable[["PendingRequest"], None]

NOTHING_EXPECTED: frozenset[int] = frozenset()
_NO_HEADERS: Mapping[str, str] = {}
_MAY_BE_DONE = (TransportFailure.TIMEOUT, TransportFailure.CLOSED, TransportFailure.INVALID)
_SENT_AGAIN_AT_ONCE = 64 * 1024
"""Up to this size a conditional write is sent again instead of a lookup: it shows the same and costs no more."""
_REDIRECT_STATUSES = frozenset((301, 302, 307, 308, 400))
"""400 is AuthorizationHeaderMalformed, S3's answer to a request that was signed for another region."""


class PendingRequest:
    """A request in flight. When it is finished, either ``answer`` or ``error`` is set.

    :param expected: statuses that are not errors for the caller.
    :param finished: called once, on any thread.
    :param look: makes a request that asks whether this one was carried out. It is sent after a lost answer.
    :ivar was_found: ``answer`` is that of ``look``, and it found something.
    :ivar once: it is not retried.
    """

    __slots__ = (
        "_look", "_sending", "_sends", "answer", "attempts", "cancelled", "deadline", "error", "expected", "finished",
        "first_failure_at", "is_looking", "once", "redirected", "refusal", "renewed", "request", "status", "was_found",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        *,
        deadline: float,
        expected: frozenset[int],
        finished: Finished,
        look: Callable[[], Request] | None = None,
    ) -> None:
        self.request = request
        self._look = look
        self._sends = 0
        self.is_looking = False
        self.was_found = False
        self.deadline = deadline
        self.expected = expected
        self.finished: Finished | None = finished
        """Called at the end; ``None`` after that."""
        self.attempts = 0
        self.once = False
        self.first_failure_at = 0.0
        self.redirected = False
        self.renewed = False
        self.status = 0
        self.cancelled: UploadCancelled | None = None
        self.answer: Answer | None = None
        self.error: StoreError | None = None
        self.refusal: Answer | None = None
        """The last answer, if the error was made from it."""
        self._sending: Sending | None = None

    def cancel(self, reason: UploadCancelled) -> None:
        """Cancel the request. It finishes with ``reason``, at once or when its pause is over."""
        if self.cancelled is None:
            self.cancelled = reason
        sending = self._sending
        if sending is not None:
            sending.cancel()

    @property
    def over(self) -> bool:
        """Whether the outcome is final."""
        return self.finished is None

    @property
    def promised(self) -> int | None:
        """How many bytes of the answer are sure to come, as far as known; ``None`` while the request is queued."""
        sending = self._sending
        return 0 if sending is None else sending.promised

    def doubt(self, failure: Failure) -> None:
        """Handle a lost answer: look first if the request may have succeeded and sending it again costs more."""
        if self._look is None or failure.kind not in _MAY_BE_DONE:
            return
        request = self.request
        is_cheap = len(request.body) <= _SENT_AGAIN_AT_ONCE and "if-none-match" in request.headers
        self.is_looking = (
            failure.kind is TransportFailure.TIMEOUT or not is_cheap or request.operation == "CompleteMultipartUpload"
        )

    def finish(self) -> None:
        """Call ``finished`` and drop the references, so that bodies do not wait for the garbage collector."""
        finished, self.finished = self.finished, None
        self._look = self._sending = None
        self.request.body = b""
        if finished is not None:
            finished(self)

    @property
    def body(self) -> Answer:
        """The answer of a successful call."""
        assert self.answer is not None
        return self.answer


class S3Client:
    """Sends requests and retries them.

    :param url: of the endpoint, for messages.
    :param notice: called once if the bucket is in another region.
    :param renew: renews credentials that the server calls expired; returns whether to ask once more.
    :param headers: headers of every request.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        url: str,
        retry: RetryPolicy,
        timer: Timer,
        random: Callable[[], float],
        notice: Callable[[str, str], None],
        renew: Callable[[], bool] = lambda: False,
        headers: Mapping[str, str] = _NO_HEADERS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._url = url
        self._retry = retry
        self._timer = timer
        self._random = random
        self._notice = notice
        self._renew = renew
        self._headers = headers
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._followed = ""
        self.proven_useful = False
        self._waiting: set[PendingRequest] = set()

    def call(
        self,
        request: Request,
        finished: Finished,
        *,
        deadline: float,
        expected: frozenset[int] = NOTHING_EXPECTED,
        look: Callable[[], Request] | None = None,
        once: bool = False,
    ) -> PendingRequest:
        """Send a request. ``finished`` is called with the call when it is over, possibly before this returns.

        :param once: do not retry it.
        """
        call = self.prepare(request, finished, deadline=deadline, expected=expected, look=look)
        call.once = once
        self._send(call)
        return call

    def call_in_time(
        self,
        request: Request,
        finished: Finished,
        *,
        deadline: float,
        expected: frozenset[int] = NOTHING_EXPECTED,
    ) -> None:
        """Like :meth:`call`, for a request outside an upload: it ends at its deadline, with or without an answer."""
        call = self.call(request, finished, deadline=deadline, expected=expected)
        if call.over:
            return
        late = UploadCancelled(f"The server did not answer {request.operation} in time.", code=DEADLINE_EXCEEDED)
        # If no thread can be started for the timer, the engine's limit of silence ends the request.
        with contextlib.suppress(StoreError):
            self._timer.call_at(deadline, lambda: call.cancel(late))

    def prepare(
        self,
        request: Request,
        finished: Finished,
        *,
        deadline: float,
        expected: frozenset[int] = NOTHING_EXPECTED,
        look: Callable[[], Request] | None = None,
    ) -> PendingRequest:
        """Prepare a call that :meth:`begin` sends."""
        return PendingRequest(request, deadline=deadline, expected=expected, finished=finished, look=look)

    def begin(self, call: PendingRequest) -> None:
        """Send a call's request for the first time."""
        self._send(call)

    def wake(self) -> None:
        """Finish at once the cancelled requests that wait for a retry."""
        for call in list(self._waiting):
            if call.cancelled is not None:
                self._send_again(call)

    def _send(self, call: PendingRequest) -> None:
        if call.cancelled is not None:
            call.error = call.cancelled
            call.finish()
            return
        request = call.request
        if call.is_looking and call._look is not None:
            request = call._look()
        else:
            call.attempts += 1
        if self._headers:
            request = msgspec.structs.replace(request, headers={**request.headers, **self._headers})
        call._sends += 1
        sends = call._sends
        call._sending = None
        sending = self._engine.send(request, functools.partial(self._done, call))
        if call._sends == sends and call.finished is not None:
            call._sending = sending
            if call.cancelled is not None:
                sending.cancel()

    def _done(self, call: PendingRequest, outcome: Outcome) -> None:
        try:
            if outcome.__class__ is Answer and not call.is_looking and call.request.operation == "PutObject":
                assert isinstance(outcome, Answer)
                if outcome.status < 300 and not outcome.body and outcome.fields is None:
                    # Nearly all answers: the object was stored.
                    call.status, call.answer = outcome.status, outcome
                    call.finish()
                    return
            if call.is_looking:
                self._judge_look(call, outcome)
            else:
                self._judge(call, outcome)
        except Exception as error:
            if is_of_a_handler(error):
                raise
            # An unexpected answer may fail its request, but must not end the engine's thread.
            fact = f"The {call.request.operation} operation failed"
            call.error = lacking(fact, error) or StoreError(
                f"{fact}: {error!r}.", code="Unexpected", origin=Origin.OURS
            )
            call.finish()

    def _judge(self, call: PendingRequest, outcome: Outcome) -> None:
        call._sending = None
        now = self._wall_clock()
        operation = call.request.operation
        if operation == "UploadPart" and call.attempts == 1 and _lacks_etag(outcome):
            # Without an ETag the parts cannot be joined. For http.client a truncated head looks like this.
            outcome = Failure(TransportFailure.INVALID, "no ETag in the answer")
        if isinstance(outcome, Answer):
            status = call.status = outcome.status
            if (status < 300 and not _is_failure(outcome, operation)) or status in call.expected:
                call.answer = outcome
                call.finish()
                return
            call.refusal = outcome
            verdict = self._refused(outcome, operation, now=now)
            if status in _REDIRECT_STATUSES and self._follow(call, s3_errors.bucket_region(outcome)):
                self._send(call)
                return
            if kind_of(verdict.error) is Kind.EXPIRED and not call.renewed and self._renew():
                call.renewed = True
                self._send(call)
                return
        else:
            call.refusal = None
            verdict = self._no_answer(call, outcome)
            call.doubt(outcome)
        self._retry_or_fail(call, verdict)

    def _judge_look(self, call: PendingRequest, outcome: Outcome) -> None:
        """Judge a request whose answer was lost, by the answer to its lookup."""
        call._sending = None
        if isinstance(outcome, Failure):
            call.attempts += 1
            self._retry_or_fail(call, self._no_answer(call, outcome))
        elif outcome.status == 200:
            call.status, call.answer, call.was_found = outcome.status, outcome, True
            call.finish()
        elif outcome.status >= 500:
            call.attempts += 1
            verdict = self._refused(outcome, call.request.operation, now=self._wall_clock())
            self._retry_or_fail(call, verdict)
        else:
            call.is_looking = False
            self._send(call)

    def _refused(self, answer: Answer, operation: str, *, now: float) -> s3_errors.Verdict:
        return s3_errors.answered(answer, operation, now=now, proven_useful=self.proven_useful, endpoint=self._url)

    def _no_answer(self, call: PendingRequest, failure: Failure) -> s3_errors.Verdict:
        if failure.kind is TransportFailure.CANCELLED and call.cancelled is not None:
            return s3_errors.Verdict(call.cancelled)
        return s3_errors.failed(failure, call.request.operation, endpoint=self._url)

    def _retry_or_fail(self, call: PendingRequest, verdict: s3_errors.Verdict) -> None:
        error = verdict.error
        if call.cancelled is None and error.retryable and not call.once:
            monotonic = self._clock()
            if not call.first_failure_at:
                call.first_failure_at = monotonic
            pause = self._retry.pause(
                attempts=call.attempts,
                since_first_failure=monotonic - call.first_failure_at,
                remaining=call.deadline - monotonic,
                random=self._random,
                retry_after=error.retry_after,
                no_connection=error.never_connected,
                corrupted=verdict.corrupted,
            )
            if pause is not None:
                self._waiting.add(call)
                try:
                    self._timer.call_at(monotonic + pause, lambda: self._send_again(call))
                except StoreError:
                    # Without a timer there is no retry.
                    self._waiting.discard(call)
                else:
                    return
        call.error = call.cancelled or error
        call.finish()

    def _send_again(self, call: PendingRequest) -> None:
        try:
            self._waiting.remove(call)
        except KeyError:
            return
        self._send(call)

    def _follow(self, call: PendingRequest, region: str) -> bool:
        """Send further requests to the region of the bucket, and repeat those that were redirected."""
        if not region or call.redirected:
            return False
        call.redirected = True
        with self._lock:
            if self._followed:
                return region == self._followed
            if not self._engine.follow(region):
                return False
            self._followed = region
        self._notice("info", f"The bucket is in {region}. Set region to that to avoid a redirect.")
        return True


def _lacks_etag(outcome: Outcome) -> bool:
    return isinstance(outcome, Answer) and outcome.status < 300 and not outcome.headers.get("etag")


def _is_failure(answer: Answer, operation: str) -> bool:
    """Whether a status of 200 is a failure: S3 begins some answers before it has the result, or it is a web page."""
    if not answer.body:
        return bool(answer.fields and "Code" in answer.fields)
    # The body of an object may be anything, for example a stored error.
    return operation != "GetObject" and (xml_root(answer.body) == "Error" or is_web_page(answer))
