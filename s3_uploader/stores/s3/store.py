"""The S3 store. Its promises are the same with every engine, because the engines only send requests."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from s3_uploader.core.errors import StoreError, UploadCancelled
from s3_uploader.core.model import Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, Loop, PendingReceipt, PutOptions, Source, ignore
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import Capabilities, NoMemory
from s3_uploader.stores.s3.client import S3Client
from s3_uploader.stores.s3.endpoint import Access, Endpoint, checksums_when_required, resolve
from s3_uploader.stores.s3.engines.base import Engine, EngineSettings
from s3_uploader.stores.s3.late_imports import doubt_name, in_parts
from s3_uploader.stores.s3.probe import NameTrial, PlainProbe
from s3_uploader.stores.s3.settings import BucketAddress, ObjectSettings, Surroundings, Transfer
from s3_uploader.stores.s3.single import SingleUpload
from s3_uploader.stores.s3.upload import Context, ObjectUpload, Put
from s3_uploader.stores.s3.waiting import ByteBudget, TimerThread
from s3_uploader.stores.threads import ThreadPool

if TYPE_CHECKING:
    from s3_uploader.core.findings import Finding
    from s3_uploader.stores.s3.multipart import MultipartUpload

AnyStore = TypeVar("AnyStore", bound="S3Store")
_LARGEST_SINGLE = 5 * 2**30


class NamesUnderWay:
    """Serialises uploads whose names the server may treat as the same. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, collections.deque[ObjectUpload]] = {}

    def enter(self, upload: ObjectUpload, go: Callable[[ObjectUpload], None]) -> None:
        """Call ``go`` when no other upload of these names is in flight, at once if there is none."""
        name = upload.common_name = upload.common_name or upload.key
        with self._lock:
            waiting = self._waiting.get(name)
            if waiting is not None:
                waiting.append(upload)
                return
            self._waiting[name] = collections.deque((upload,))
        go(upload)

    def leave(self, upload: ObjectUpload, go: Callable[[ObjectUpload], None]) -> None:
        """End an upload, and start the next one of its names."""
        next_one = None
        with self._lock:
            name = upload.common_name
            waiting = None if name is None else self._waiting.get(name)
            if name is None or waiting is None or upload not in waiting:
                return
            was_first = waiting[0] is upload
            waiting.remove(upload)
            if not waiting:
                del self._waiting[name]
            elif was_first:
                next_one = waiting[0]
        if next_one is not None:
            go(next_one)


class S3Store:
    """A bucket, as a :class:`~s3_uploader.stores.base.Store`."""

    def __init__(
        self, where: BucketAddress, objects: ObjectSettings, transfer: Transfer, surroundings: Surroundings
    ) -> None:
        self.name = where.bucket
        self._where = where
        self._objects = objects
        self._transfer = transfer
        self._around = surroundings
        self._threshold = min(transfer.multipart_threshold, _LARGEST_SINGLE)
        self._timer = surroundings.timer
        self._own_timer: TimerThread | None = None
        self._engine: Engine | None = None
        self._endpoint: Endpoint | None = None
        self._renew: Callable[[], bool] = lambda: False
        self._context: Context | None = None
        self._pool: ThreadPool | None = None
        self._uploads: set[ObjectUpload] = set()
        self._names = NamesUnderWay()
        self._all_over = threading.Condition()
        self._look_at = float("inf")
        self._closed = False

    @classmethod
    def of(cls: type[AnyStore], **settings: object) -> AnyStore:
        """Make a store from the names of all fields of its structs. Those that are ``None`` keep their defaults."""
        parts: list[Any] = []
        kinds: tuple[Any, ...] = (BucketAddress, ObjectSettings, Transfer, Surroundings)
        for kind in kinds:
            names = [name for name in kind.__struct_fields__ if settings.get(name) is not None]
            parts.append(kind(**{name: settings[name] for name in names}))
        unknown = settings.keys() - {name for part in parts for name in part.__struct_fields__}
        if unknown:
            raise TypeError(f"S3Store has no settings {', '.join(sorted(unknown))}")
        return cls(*parts)

    @property
    def engine_name(self) -> str:
        """The engine in use, after :meth:`open`; before, the configured one."""
        return self._transfer.engine if self._engine is None else self._engine.name

    @property
    def loop(self) -> Loop | None:
        """The engine's loop, if the engine lends one."""
        return None if self._engine is None else self._engine.loop

    @property
    def client(self) -> S3Client:
        """The client of the bucket, after :meth:`open`."""
        assert self._context is not None
        return self._context.client

    @property
    def keeps_writers_apart(self) -> bool:
        """See :class:`~s3_uploader.stores.base.Store`; known once a file is uploaded."""
        known = None if self._context is None else self._context.capabilities
        return known is not None and (known.trusted or known.conditional == "yes")

    @property
    def maximum_concurrency(self) -> int:
        """The maximum number of concurrent requests."""
        return self._transfer.max_concurrency

    def open(self) -> None:
        """Find the endpoint and the credentials, and start an engine.

        :raises StoreError: if nothing can be shipped with this configuration.
        :raises EngineUnavailable: if the engine named in the configuration does not support the other settings.
        """
        around, transfer = self._around, self._transfer
        headers = requests.ObjectHeaders(**msgspec.structs.asdict(self._objects))
        access = resolve(environment=around.environment, **msgspec.structs.asdict(self._where))
        access.credentials()
        if self._closed:
            # The run has ended while helpers were running.
            raise UploadCancelled("The store was closed before it was open.")
        if access.endpoint.doubled_bucket:
            around.notice(
                "warning",
                f"The endpoint contains the name of the bucket {self.name}, which is ignored there. Set "
                f"endpoint_url (or AWS_ENDPOINT_URL) to {access.endpoint.url}.",
            )
        self._renew = access.renew
        engine = self._make_engine(access)
        engine.open()
        self._engine = engine
        if self._timer is None:
            self._timer = self._own_timer = TimerThread(name="s3-timer")
        endpoint = self._endpoint = access.endpoint
        retry = RetryPolicy(max_attempts=transfer.max_attempts, max_total=transfer.retry_seconds)
        client = self._client(engine, endpoint, transfer.retry or retry)
        capabilities = Capabilities(
            memory=NoMemory() if around.memory is None else around.memory,
            key=endpoint.memory_key,
            trusted=endpoint.is_aws,
            notice=around.notice,
            name=endpoint.url,
            checksums_when_required=checksums_when_required(access, around.environment),
            acknowledged=around.acknowledged,
        )
        self._context = Context(
            client=client,
            probe=PlainProbe(client=client, prefix=transfer.key_prefix, url=endpoint.url, clock=around.clock),
            names=NameTrial(
                client=client,
                capabilities=capabilities,
                headers=headers,
                prefix=transfer.key_prefix,
                tls=endpoint.payload_is_unsigned,
                clock=around.clock,
            ),
            capabilities=capabilities,
            headers=headers,
            budget=ByteBudget(transfer.bytes_in_flight),
            crew=self._crew,
            timer=self._timer,
            tls=endpoint.payload_is_unsigned,
            part_size=transfer.part_size,
            address=self.address,
            over=self._is_over,
            clock=around.clock,
        )

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """Store the bytes of ``source`` under ``key``; see :meth:`s3_uploader.stores.base.Store.put`."""
        future = PendingReceipt()
        context = self._context
        if context is None or self._closed:
            future.complete(StoreError("The store is not open.", code="Closed"))
            return future
        put = Put(key, source, options, deadline, replaces, future)
        try:
            self._begin(SingleUpload(context, put) if source.size <= self._threshold else in_parts(context, put))
        except StoreError as error:
            future.complete(error)
        return future

    def _begin(self, upload: SingleUpload | MultipartUpload) -> None:
        """Start an upload.

        :raises StoreError: if its deadline has passed, or no timer can watch it.
        """
        if upload.deadline < self._look_at:
            if upload.deadline <= self._around.clock():
                raise UploadCancelled.late()
            self._watch(upload.deadline)
        known = upload.context.capabilities
        is_unusual = not (known.trusted or requests.is_usual(upload.key))
        if is_unusual:
            doubt_name(upload)
        self._uploads.add(upload)
        if known.trusted or (known.conditional == "yes" and not is_unusual):
            upload.prepare()
        else:
            self._names.enter(upload, _prepare)

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """Read a byte of the object; see :meth:`s3_uploader.stores.base.Store.confirm`."""
        from s3_uploader.stores.s3.presence import confirm

        address = shown_name(self.address(receipt.key))
        return confirm(self.client, receipt, address=address, deadline=deadline)

    def cancel(self) -> None:
        """Cancel all uploads in flight."""
        self._cancel_uploads(list(self._uploads), UploadCancelled.interrupted())

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """Perform the steps of an upload with a small test object; see ``s3_check``."""
        from s3_uploader.core.findings import Finding, Severity
        from s3_uploader.stores.s3.check import Checker

        context, engine, endpoint = self._context, self._engine, self._endpoint
        if context is None or engine is None or endpoint is None:
            return [Finding(Severity.ERROR, "store", "it is not open")]
        checker = Checker(
            client=context.client,
            impatient=self._client(engine, endpoint, RetryPolicy(max_attempts=1)),
            capabilities=context.capabilities,
            probe=context.probe,
            headers=context.headers,
            endpoint=endpoint,
            engine_name=engine.name,
            key_prefix=self._transfer.key_prefix,
            now=now,
            stored=stored,
            variants=self._transfer.variants,
            limits=limits,
            put_in_parts=self._put_in_parts,
        )
        return checker.findings()

    def _put_in_parts(self, key: str, source: Source, seconds: float) -> PendingReceipt:
        """Store a small object in the way of a large one."""
        assert self._context is not None
        options = self._transfer.variants[0] if self._transfer.variants else PutOptions()
        future = PendingReceipt()
        put = Put(key, source, options, self._around.clock() + seconds, "", future)
        self._begin(in_parts(self._context, put))
        return future

    def address(self, key: str) -> str:
        """``bucket/key``."""
        return f"{self.name}/{key}"

    def close(self, *, timeout: float) -> None:
        """Cancel what is in flight, wait for its cleanup, and stop the engine."""
        if self._closed:
            return
        self._closed = True
        ends_at = time.monotonic() + timeout
        if self._uploads:
            self.cancel()
            with self._all_over:
                self._all_over.wait_for(lambda: not self._uploads, max(0.0, ends_at - time.monotonic()))
        if self._engine is not None:
            self._engine.close(timeout=max(0.5, ends_at - time.monotonic()))
        if self._own_timer is not None:
            self._own_timer.close()
        for upload in list(self._uploads):
            upload.abandon()
        if self._pool is not None:
            self._pool.close(timeout=0.5)

    def _crew(self) -> ThreadPool:
        """The threads that read larger files, made when the first one comes."""
        with self._all_over:
            if self._pool is None:
                self._pool = ThreadPool(name="s3-read", count=2)
                if self._closed:
                    # Nobody would close it later. It gives each job a thread of its own.
                    self._pool.close(timeout=0.0)
            return self._pool

    # Deadlines: they are checked when the next one passes, instead of one timer for each.

    def _watch(self, when: float) -> None:
        self._look_at = when
        assert self._timer is not None
        try:
            self._timer.call_at(when, lambda: self._look_for_deadlines(when))
        except StoreError:
            self._look_at = float("inf")
            raise

    def _look_for_deadlines(self, when: float) -> None:
        if when != self._look_at:
            return
        self._look_at = float("inf")
        now = self._around.clock()
        uploads = list(self._uploads)
        late = [upload for upload in uploads if upload.deadline <= now]
        if late:
            self._cancel_uploads(late, UploadCancelled.late())
        next_deadline = min((upload.deadline for upload in uploads if upload.deadline > now), default=None)
        if next_deadline is not None and next_deadline < self._look_at:
            self._watch(next_deadline)

    def _cancel_uploads(self, uploads: list[ObjectUpload], reason: UploadCancelled) -> None:
        for upload in uploads:
            upload.cancel(UploadCancelled(reason.message, code=reason.code))
        if self._context is not None:
            self._context.client.wake()

    def _make_engine(self, access: Access) -> Engine:
        transfer = self._transfer
        settings = EngineSettings(
            max_connections=transfer.max_concurrency,
            max_bandwidth=transfer.max_bandwidth,
            connect_timeout_seconds=transfer.connect_timeout_seconds,
            silence_seconds=transfer.read_timeout_seconds,
        )
        return self._around.make_engine(access, transfer.engine, settings, self._around.notice)

    def _client(self, engine: Engine, endpoint: Endpoint, retry: RetryPolicy) -> S3Client:
        assert self._timer is not None
        return S3Client(
            engine,
            url=endpoint.url,
            retry=retry,
            timer=self._timer,
            random=self._around.random,
            notice=self._around.notice,
            renew=self._renew,
            headers={"x-amz-request-payer": "requester"} if self._transfer.requester_pays else {},
            clock=self._around.clock,
            wall_clock=self._around.wall_clock,
        )

    def _is_over(self, upload: ObjectUpload) -> None:
        self._uploads.discard(upload)
        if upload.common_name is not None:
            self._names.leave(upload, _prepare)
        if self._closed:
            with self._all_over:
                self._all_over.notify_all()


def _prepare(upload: ObjectUpload) -> None:
    if not upload.over:
        upload.guard(upload.prepare)


def create(**settings: object) -> S3Store:
    """The S3 store for the keys of the configuration's destination."""
    return S3Store.of(**settings)
