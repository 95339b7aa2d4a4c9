"""One bucket: its engine, its client, what is known about its endpoint, and requests that a thread waits for."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.errors import DEADLINE_EXCEEDED, StoreError, UploadCancelled
from s3_uploader.core.text import shown_name
from s3_uploader.remote_store.errors import RemoteStoreError
from s3_uploader.remote_store.headed_client import HeadedClient, extra_headers
from s3_uploader.remote_store.translation import from_store_error
from s3_uploader.remote_store.waiting import Turns, Waiter
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3.capabilities import Capabilities, NoMemory
from s3_uploader.stores.s3.client import NOTHING_EXPECTED, PendingRequest, S3Client
from s3_uploader.stores.s3.endpoint import Access, checksums_when_required
from s3_uploader.stores.s3.engines.base import Answer, Engine, EngineName, EngineSettings, Request
from s3_uploader.stores.s3.engines.native import make_engine
from s3_uploader.stores.s3.meanings import Kind, kind_of
from s3_uploader.stores.s3.probe import PlainProbe
from s3_uploader.stores.s3.requests import ObjectHeaders, encode_key
from s3_uploader.stores.s3.upload import Context, ObjectUpload
from s3_uploader.stores.s3.waiting import ByteBudget, TimerThread
from s3_uploader.stores.threads import ThreadPool

if TYPE_CHECKING:
    from s3_uploader.core.model import Receipt

logger = logging.getLogger("s3_uploader.remote_store")

_NO_HEADERS: Mapping[str, str] = {}
_SLOWEST = 16 * 1024
"""Bytes per second; a slower transfer is given up."""
_COPIES_FASTER = 64
"""Times that a server copies faster than the slowest transfer, because the bytes do not leave it: 1 MiB in a second."""
_MOST_TIMEOUTS = 10
"""How many times ``timeout_seconds`` a server gets for the bytes of a copy, at most."""
_LOOK_SECONDS = 0.25
"""How often a request that waits for a connection is looked at."""
_CLEAN_UP_SECONDS = 12.0
"""How long a cancelled upload may take to remove its parts."""
_BYTES_IN_FLIGHT = 64 * 2**20
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Shared:
    """What all buckets of a connection share: the threads besides the engine's own, and the memory for bodies."""

    def __init__(self) -> None:
        self.timer = TimerThread(name="s3-timer")
        self.pool = ThreadPool(name="s3-read", count=2)
        self.budget = ByteBudget(_BYTES_IN_FLIGHT)

    def close(self) -> None:
        """End the threads."""
        self.timer.close()
        self.pool.close(timeout=0.5)


class BucketSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the requests to a bucket.

    :param timeout_seconds: for one request with its retries, not counting the time for its bytes.
    """

    engine: EngineName
    max_attempts: int
    max_connections: int
    connect_timeout_seconds: float
    read_timeout_seconds: float
    timeout_seconds: float


class Bucket:
    """Sends requests to one bucket. Any number of threads may use it at once."""

    def __init__(self, *, access: Access, settings: BucketSettings, shared: Shared) -> None:
        endpoint = access.endpoint
        self.access = access
        self.name = endpoint.bucket
        self._settings = settings
        self._shared = shared
        self.engine = self._open_engine()
        self._turns = Turns(self.engine.loop)
        self.client = self._headed({})
        self.capabilities = Capabilities(
            memory=NoMemory(),
            key=endpoint.memory_key,
            trusted=endpoint.is_aws,
            notice=_ignore,
            name=endpoint.url,
            checksums_when_required=checksums_when_required(access, os.environ),
        )
        self._context = Context(
            client=self.client,
            probe=PlainProbe(client=self.client, prefix="", url=endpoint.url),
            capabilities=self.capabilities,
            headers=ObjectHeaders(
                storage_class=None, acl=None, sse=None, sse_kms_key_id=None, metadata={}, tags={}, content_type=None
            ),
            budget=shared.budget,
            crew=lambda: shared.pool,
            timer=shared.timer,
            tls=endpoint.payload_is_unsigned,
            part_size=8 * 2**20,
            address=self.address,
            over=_forget,
        )
        self.users = 0
        """How many calls use it now. The pool counts them."""
        self.used_at = 0.0
        self.is_broken = False
        """Its engine failed, or was interrupted in the middle of a step."""
        self.is_retired = False
        """Another one has replaced it. The last call that uses it closes it."""

    def _open_engine(self) -> Engine:
        settings = self._settings
        engine = make_engine(
            self.access,
            settings.engine,
            EngineSettings(
                max_connections=settings.max_connections,
                connect_timeout_seconds=settings.connect_timeout_seconds,
                silence_seconds=min(settings.read_timeout_seconds, settings.timeout_seconds),
            ),
            _notice,
        )
        engine.open()
        return engine

    def _headed(self, extra: Mapping[str, Mapping[str, str]]) -> S3Client:
        return HeadedClient(
            self.engine,
            extra=extra,
            url=self.access.endpoint.url,
            retry=RetryPolicy(max_attempts=self._settings.max_attempts),
            timer=self._shared.timer,
            random=random.random,
            notice=_notice,
            renew=self.access.renew,
        )

    def client_with(self, headers: Mapping[str, str]) -> S3Client:
        """A client that adds the caller's headers to the other requests that need them, not only to the first."""
        extra = extra_headers(headers)
        return self._headed(extra) if extra else self.client

    def address(self, key: str) -> str:
        """``bucket/key``."""
        return f"{self.name}/{key}"

    def deadline(self, size: int = 0) -> float:
        """The deadline of a request with this many bytes, on the monotonic clock."""
        return time.monotonic() + self._settings.timeout_seconds + size / _SLOWEST

    def counted_of_copy(self, size: int) -> int:
        """How many of the bytes that the server itself copies count for the deadline of that request."""
        return int(min(size / _COPIES_FASTER, _MOST_TIMEOUTS * self._settings.timeout_seconds * _SLOWEST))

    # Requests.

    def ask(
        self,
        request: Request,
        *,
        client: S3Client | None = None,
        expected: frozenset[int] = NOTHING_EXPECTED,
        size: int = 0,
        seconds: float | None = None,
        tick: Callable[[], object] | None = None,
    ) -> Answer:
        """Send a request and wait for its answer.

        :param expected: statuses that are not errors for the caller.
        :param size: how many bytes are transferred.
        :param seconds: the timeout, instead of the one that follows from the settings and the size.
        :raises RemoteStoreError: if there is no answer, or its status is not a success.
        """
        return self.begin(request, client=client, expected=expected, size=size, seconds=seconds).answer(tick)

    def begin(
        self,
        request: Request,
        *,
        client: S3Client | None = None,
        expected: frozenset[int] = NOTHING_EXPECTED,
        size: int = 0,
        seconds: float | None = None,
    ) -> Asked:
        """Send a request. The same thread waits for the answer later."""
        waiter = Waiter()
        deadline = self.deadline(size) if seconds is None else time.monotonic() + seconds
        # What is read may be shorter than what is asked for, so the head of the answer must confirm the time for it.
        sure = self.deadline() if seconds is None and request.operation == "GetObject" else deadline
        sender = client or self.client
        call = sender.call(request, waiter.done, deadline=deadline, expected=expected)
        return Asked(self, sender, call, waiter, sure=sure)

    def wait(self, asked: Asked, tick: Callable[[], object] | None) -> None:
        """Wait until a request is over, which is at the latest shortly after its deadline."""
        call, waiter = asked.call, asked.waiter
        try:
            in_time = self._turns.wait(waiter, asked.sure, tick=tick)
            while not in_time and (until := asked.extended()) > time.monotonic():
                in_time = self._turns.wait(waiter, until, tick=tick)
        except BaseException as error:
            self._interrupted(error)
            call.cancel(UploadCancelled("The request was given up."))
            raise
        if not in_time:
            call.cancel(UploadCancelled("The server did not answer before the deadline.", code=DEADLINE_EXCEEDED))
            asked.client.wake()
            self._turns.wait(waiter, time.monotonic() + 1.0)

    # Uploads.

    def context(self, *, headers: ObjectHeaders, client: S3Client, part_size: int) -> Context:
        """What an upload needs besides its bytes."""
        return msgspec.structs.replace(self._context, headers=headers, client=client, part_size=part_size)

    def finish(self, upload: ObjectUpload, *, tick: Callable[[], object] | None = None) -> Receipt:
        """Start an upload and wait until it is over.

        :raises RemoteStoreError: if the object was not stored, or its content is not proven.
        """
        waiter = Waiter()
        future = upload.future
        future.add_done_callback(waiter.done)
        upload.guard(upload.prepare)
        try:
            in_time = self._turns.wait(waiter, upload.deadline, tick=tick)
        except BaseException as error:
            self._interrupted(error)
            self._cancel(upload, waiter, UploadCancelled("The upload was given up."))
            raise
        if not in_time:
            self._cancel(upload, waiter, UploadCancelled.late())
        try:
            receipt = future.result(timeout=0)
        except StoreError as error:
            raise self.failed(error, status=getattr(upload, "last_status", 0)) from error
        self.client.proven_useful = True
        return receipt

    def _cancel(self, upload: ObjectUpload, waiter: Waiter, reason: UploadCancelled) -> None:
        upload.cancel(reason)
        upload.context.client.wake()
        if not self._turns.wait(waiter, time.monotonic() + _CLEAN_UP_SECONDS):
            upload.abandon()

    def presign(self, key: str, *, method: str, seconds: int, headers: Mapping[str, str]) -> str:
        """A URL that allows anybody one request for ``seconds``. It names the bucket's current endpoint."""
        from s3_uploader.stores.s3.engines.presign import presigned_url

        try:
            return presigned_url(
                getattr(self.engine, "endpoint", self.access.endpoint),
                self.access.credentials(),
                method=method,
                path=encode_key(key),
                seconds=seconds,
                now=time.time(),
                headers=headers,
            )
        except StoreError as error:
            raise from_store_error(error) from error

    def _interrupted(self, error: BaseException) -> None:
        """Note that a wait was interrupted, most likely by a signal, possibly in the middle of a step of the engine."""
        has_broken_down = getattr(self.engine.loop, "bug", None) is not None
        self.is_broken = self.is_broken or has_broken_down or not isinstance(error, Exception)

    def failed(self, error: StoreError, *, status: int) -> RemoteStoreError:
        """Convert an error to one of this package."""
        self.is_broken = self.is_broken or kind_of(error) is Kind.ENGINE_FAILED
        return from_store_error(error, status=status)

    def close(self, *, timeout: float) -> None:
        """End what is in flight and close the connections."""
        self.engine.close(timeout=timeout)

    def leave_to_parent(self) -> None:
        """In a forked child: drop what belongs to the parent."""
        leave = getattr(self.engine, "leave_to_parent", None)
        if leave is not None:
            leave()


class Asked:
    """A request that was sent, with the thread that will wait for its answer."""

    __slots__ = ("_bucket", "_promised", "call", "client", "sure", "waiter")

    def __init__(self, bucket: Bucket, client: S3Client, call: PendingRequest, waiter: Waiter, *, sure: float) -> None:
        self._bucket = bucket
        self.client = client
        self.call = call
        self.waiter = waiter
        self.sure = sure
        self._promised = 0

    def extended(self) -> float:
        """The deadline now that the one without the time for its bytes has passed: it follows from those to come."""
        call = self.call
        if self.sure >= call.deadline:
            return call.deadline
        promised = call.promised
        if promised is None:
            return min(call.deadline, time.monotonic() + _LOOK_SECONDS)
        # A later attempt may not have come so far.
        self._promised = max(self._promised, promised)
        return min(call.deadline, self.sure + self._promised / _SLOWEST)

    def answer(self, tick: Callable[[], object] | None = None) -> Answer:
        """Wait for the answer.

        :raises RemoteStoreError: if there is no answer, or its status is not a success.
        """
        call = self.call
        if not self.waiter.is_done:
            self._bucket.wait(self, tick)
        error, answer = call.error, call.answer
        if error is not None:
            raise self._bucket.failed(error, status=0 if call.refusal is None else call.refusal.status) from error
        if answer is None:
            raise RemoteStoreError(
                f"The {call.request.operation} operation on {shown_name(self._bucket.address(call.request.key))} "
                "got no answer.",
                code=DEADLINE_EXCEEDED,
            )
        return answer

    def give_up(self) -> None:
        """Cancel the request: its answer is no longer wanted."""
        if not self.call.over:
            self.call.cancel(UploadCancelled("The request was given up."))


def _forget(upload: ObjectUpload) -> None:
    """Do nothing: the caller who waits for the upload holds it."""


def _ignore(level: str, message: str) -> None:
    """Do nothing: the capabilities of an endpoint are reported by runs."""


def _notice(level: str, message: str) -> None:
    logger.log(_LEVELS.get(level, logging.INFO), "%s", message)
