"""Uploads of the object API: they replace an existing object of the same name, unless a header forbids it.

The S3 store decides how bytes are sent, in parts or not, and how they are proven, exactly as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import OnConflict
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.bucket import Bucket
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.conflict import ContestedUpload
from s3_uploader.stores.s3.meanings import Kind, kind_of
from s3_uploader.stores.s3.multipart import MultipartUpload
from s3_uploader.stores.s3.requests import UNCONDITIONAL, ObjectHeaders
from s3_uploader.stores.s3.single import SingleUpload
from s3_uploader.stores.s3.upload import Put

_REPLACES = PutOptions(on_conflict=OnConflict.OVERWRITE)
_CONDITIONAL = PutOptions(on_conflict=OnConflict.FAIL)
_WRITES = ("PutObject", "CompleteMultipartUpload")


class GivenHeaders(ObjectHeaders):
    """The object's headers exactly as given; no content type is guessed."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._given = headers

    def of(self, key: str, options: PutOptions) -> dict[str, str]:
        """The headers of the object, as a new dictionary."""
        return dict(self._given)


class PlainUpload(ContestedUpload):
    """An upload that looks for no existing object, and does not make sure of its name."""

    looks_for_lost = False
    """A write whose answer was lost is sent again. A look would not help: the same content may have been there before,
    with other metadata."""
    condition = UNCONDITIONAL
    last_status = 0
    """The HTTP status of the refusal."""

    def set_out(self) -> None:
        """Write the object."""
        if not self.over:
            self.write()

    def refuse(self, call: PendingRequest, error: StoreError) -> None:
        """Fail with ``error``, unless the conflict is with an earlier attempt of the same write."""
        self.last_status = 0 if call.refusal is None else call.refusal.status
        if kind_of(error) is Kind.TAKEN and call.attempts > 1 and call.request.operation in _WRITES:
            self.taken(ours=True)
        else:
            super().refuse(call, error)


class PlainSingle(PlainUpload, SingleUpload):
    """One PutObject, of a file or of bytes in memory."""

    largest_light = 2**63
    """The source is read on the caller's thread, which waits anyway."""
    _data: bytes | None = None

    def send_bytes(self, data: bytes) -> None:
        """Send these bytes instead of those of the source's descriptor."""
        self._data = data

    def prepare(self) -> None:
        """Take the given bytes, or read the source, and start."""
        if self._data is not None:
            self._ready(self._data)
        else:
            super().prepare()

    @property
    def sent(self) -> int:
        """How many bytes the server has received."""
        return self.source.size if self._receipt is not None else 0


class PlainMultipart(PlainUpload, MultipartUpload):
    """An upload in parts."""

    @property
    def sent(self) -> int:
        """How many bytes the server has received."""
        return sum(part.size for part in self._parts if part.done)


def _put(bucket: Bucket, key: str, source: Source, headers: Mapping[str, str]) -> Put:
    future = PendingReceipt()
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
