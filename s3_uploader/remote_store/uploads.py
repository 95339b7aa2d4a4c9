"""Uploads as a program asks for them: they replace what is there, under the very name, unless a header says otherwise.

How bytes are sent, in parts or not, and what proves them, is the S3 store's and the same as in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import OnConflict, Receipt
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.bucket import Bucket
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.conflict import ContestedUpload
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.multipart import MultipartUpload
from s3_uploader.stores.s3.requests import UNCONDITIONAL, ObjectHeaders
from s3_uploader.stores.s3.single import SingleUpload
from s3_uploader.stores.s3.upload import Context

_REPLACES = PutOptions(on_conflict=OnConflict.OVERWRITE)
_CONDITIONAL = PutOptions(on_conflict=OnConflict.FAIL)
_WRITES = ("PutObject", "CompleteMultipartUpload")


class GivenHeaders(ObjectHeaders):
    """The object's headers as a program gives them, and nothing else: no content type is guessed."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._given = headers

    def of(self, key: str, options: PutOptions) -> dict[str, str]:
        """The headers of the object, in a dictionary of the caller's own."""
        return dict(self._given)


class PlainUpload(ContestedUpload):
    """An upload that neither looks before it writes nor makes sure of its name."""

    __slots__ = ()

    def begin(self) -> None:
        """Write."""
        if not self.over:
            self.write()

    def send_write(self, request: Request, finished: Callable[[PendingRequest], None]) -> None:
        """Send what makes the object. Should its answer be lost, it is sent again.

        To look for the object would not tell: the same content may have been there before with other metadata.
        """
        self.call(request, finished, self.failed_condition)

    def refuse(self, call: PendingRequest, error: StoreError) -> None:
        """The upload fails with ``error``, unless it is an earlier attempt of its own that it met."""
        self.note_status(0 if call.refusal is None else call.refusal.status)
        if error.code == "PreconditionFailed" and call.attempts > 1 and call.request.operation in _WRITES:
            self.taken(ours=True)
        else:
            super().refuse(call, error)

    def note_status(self, status: int) -> None:
        """Remember the status of the answer that refused it."""
        raise NotImplementedError


class PlainSingle(PlainUpload, SingleUpload):
    """One PutObject, of a file or of bytes that are in memory."""

    __slots__ = ("_data", "last_status")

    def __init__(self, context: Context, key: str, source: Source, options: PutOptions, deadline: float) -> None:
        super().__init__(context, key, source, options, deadline, "", _running())
        self._data: bytes | None = None
        self.last_status = 0
        self._unsure = frozenset()
        self.condition = UNCONDITIONAL

    def send_bytes(self, data: bytes) -> None:
        """Send these instead of what the source's descriptor leads to."""
        self._data = data

    def prepare(self) -> None:
        """Read the source on the thread of the caller, who waits for it anyway, and begin."""
        if self._data is not None:
            self._ready(self._data)
        elif self.context.budget.try_acquire(self.source.size):
            self._reserved = self.source.size
            self._read()
        else:
            super().prepare()

    def note_status(self, status: int) -> None:
        """Remember the status of the answer that refused it."""
        self.last_status = status

    @property
    def sent(self) -> int:
        """Bytes that the server has taken."""
        return self.source.size if self._receipt is not None else 0


class PlainMultipart(PlainUpload, MultipartUpload):
    """An upload in parts."""

    __slots__ = ("last_status",)

    def __init__(self, context: Context, key: str, source: Source, options: PutOptions, deadline: float) -> None:
        super().__init__(context, key, source, options, deadline, "", _running())
        self.last_status = 0
        self._unsure = frozenset()
        self.condition = UNCONDITIONAL

    def note_status(self, status: int) -> None:
        """Remember the status of the answer that refused it."""
        self.last_status = status

    @property
    def sent(self) -> int:
        """Bytes that the server has taken."""
        return sum(part.size for part in self._parts if part.done)


def _running() -> Future[Receipt]:
    future: Future[Receipt] = Future()
    future.set_running_or_notify_cancel()
    return future


def single(bucket: Bucket, key: str, source: Source, headers: Mapping[str, str]) -> PlainSingle:
    """An upload in one request."""
    client = bucket.client_with(headers) if headers else bucket.client
    context = bucket.context(headers=GivenHeaders(headers), client=client, part_size=8 * 2**20)
    return PlainSingle(context, key, source, _options(headers), bucket.deadline(source.size))


def multipart(
    bucket: Bucket, key: str, source: Source, headers: Mapping[str, str], *, part_size: int
) -> PlainMultipart:
    """An upload in parts."""
    client = bucket.client_with(headers) if headers else bucket.client
    given = GivenHeaders(header_rules.for_create(headers))
    context = bucket.context(headers=given, client=client, part_size=part_size)
    return PlainMultipart(context, key, source, _options(headers), bucket.deadline(source.size))


def _options(headers: Mapping[str, str]) -> PutOptions:
    return _CONDITIONAL if header_rules.conditions(headers) else _REPLACES
