"""Uploads as a program asks for them: they replace what is there, under the very name, unless a header says otherwise.

How bytes are sent, in parts or not, and what proves them, is the S3 store's and the same as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import OnConflict, Receipt
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.bucket import Bucket
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.conflict import ContestedUpload
from s3_uploader.stores.s3.multipart import MultipartUpload
from s3_uploader.stores.s3.requests import UNCONDITIONAL, ObjectHeaders
from s3_uploader.stores.s3.single import SingleUpload
from s3_uploader.stores.s3.upload import Put

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

    looks_for_lost = False
    """Should the answer to a write be lost, it is sent again. A look would not tell: the same content may have been
    there before with other metadata."""
    condition = UNCONDITIONAL
    last_status = 0
    """The status of the answer that refused it."""

    def set_out(self) -> None:
        """Write."""
        if not self.over:
            self.write()

    def refuse(self, call: PendingRequest, error: StoreError) -> None:
        """The upload fails with ``error``, unless it is an earlier attempt of its own that it met."""
        self.last_status = 0 if call.refusal is None else call.refusal.status
        if error.code == "PreconditionFailed" and call.attempts > 1 and call.request.operation in _WRITES:
            self.taken(ours=True)
        else:
            super().refuse(call, error)


class PlainSingle(PlainUpload, SingleUpload):
    """One PutObject, of a file or of bytes that are in memory."""

    largest_light = 2**63
    """The source is read on the thread of the caller, who waits for it anyway."""
    _data: bytes | None = None

    def send_bytes(self, data: bytes) -> None:
        """Send these instead of what the source's descriptor leads to."""
        self._data = data

    def prepare(self) -> None:
        """Take the bytes that are given, or read the source, and begin."""
        if self._data is not None:
            self._ready(self._data)
        else:
            super().prepare()

    @property
    def sent(self) -> int:
        """Bytes that the server has taken."""
        return self.source.size if self._receipt is not None else 0


class PlainMultipart(PlainUpload, MultipartUpload):
    """An upload in parts."""

    @property
    def sent(self) -> int:
        """Bytes that the server has taken."""
        return sum(part.size for part in self._parts if part.done)


def _put(bucket: Bucket, key: str, source: Source, headers: Mapping[str, str]) -> Put:
    future: Future[Receipt] = Future()
    future.set_running_or_notify_cancel()
    options = _CONDITIONAL if header_rules.conditions(headers) else _REPLACES
    return Put(key, source, options, bucket.deadline(source.size), "", future)


def single(bucket: Bucket, key: str, source: Source, headers: Mapping[str, str]) -> PlainSingle:
    """An upload in one request."""
    client = bucket.client_with(headers) if headers else bucket.client
    context = bucket.context(headers=GivenHeaders(headers), client=client, part_size=8 * 2**20)
    return PlainSingle(context, _put(bucket, key, source, headers))


def multipart(
    bucket: Bucket, key: str, source: Source, headers: Mapping[str, str], *, part_size: int
) -> PlainMultipart:
    """An upload in parts."""
    client = bucket.client_with(headers) if headers else bucket.client
    given = GivenHeaders(header_rules.for_create(headers))
    context = bucket.context(headers=given, client=client, part_size=part_size)
    return PlainMultipart(context, _put(bucket, key, source, headers))
