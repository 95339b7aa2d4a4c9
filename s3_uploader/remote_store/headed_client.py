"""An S3 client that adds a caller's headers, unchanged, to the requests that need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from s3_uploader.remote_store import headers as header_rules
from s3_uploader.stores.s3.client import NOTHING_EXPECTED, Finished, PendingRequest, S3Client
from s3_uploader.stores.s3.engines.base import Request

_CHECKSUM = ("x-amz-checksum-", "x-amz-sdk-checksum-")
_OWN_CHECKSUM = ("x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm")
_FOR_PARTS = ("UploadPart", "UploadPartCopy", "AbortMultipartUpload", "ListParts", "HeadObject", "GetObject")


def extra_headers(headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The headers of a write by operation, besides those of the object itself; empty if there are none."""
    for_all = header_rules.for_part(headers)
    whole = {name: value for name, value in headers.items() if header_rules.concerns_entire_body((name,))}
    extra = {
        "PutObject": header_rules.conditions(headers) | whole,
        "CompleteMultipartUpload": header_rules.for_completion(headers),
        **dict.fromkeys(_FOR_PARTS, for_all),
    }
    return {operation: added for operation, added in extra.items() if added}


class HeadedClient(S3Client):
    """Adds ``extra``, headers by operation, to each request before it is signed."""

    def __init__(self, *arguments: Any, extra: Mapping[str, Mapping[str, str]], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._extra = extra

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
        if self._extra:
            request = self._added(request)
            if look is not None:
                ask = look
                look = lambda: self._added(ask())  # noqa: E731
        return super().prepare(request, finished, deadline=deadline, expected=expected, look=look)

    def _added(self, request: Request) -> Request:
        added = self._extra.get(request.operation)
        if added:
            if any(name.startswith(_CHECKSUM) for name in added):
                # S3 refuses two checksums of different algorithms.
                for name in _OWN_CHECKSUM:
                    request.headers.pop(name, None)
            request.headers.update(added)
            if header_rules.conditions(added):
                request.may_be_repeated = False
        return request
