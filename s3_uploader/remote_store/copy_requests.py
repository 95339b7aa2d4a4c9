"""The requests of a copy, a pure function each."""

from __future__ import annotations

from collections.abc import Mapping

from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.engines.base import Request


def source_header(bucket: str, path: str) -> str:
    """The value of ``x-amz-copy-source``; ``path`` is the key, encoded."""
    return f"{bucket}/{path}"


def copy_object(key: str, path: str, *, source: str, etag: str, headers: Mapping[str, str], size: int) -> Request:
    """Copy an object at once, as long as it is the one with that ETag."""
    return Request(
        operation="CopyObject",
        method="PUT",
        key=key,
        path=path,
        headers={**headers, "x-amz-copy-source": source, **_unless_replaced(etag)},
        handled_bytes=size,
    )


def upload_part_copy(
    key: str,
    path: str,
    *,
    source: str,
    etag: str,
    headers: Mapping[str, str],
    upload_id: str,
    number: int,
    first: int,
    last: int,
) -> Request:
    """Make bytes of an object a part of another one."""
    return Request(
        operation="UploadPartCopy",
        method="PUT",
        key=key,
        path=path,
        query=(("partNumber", str(number)), ("uploadId", upload_id)),
        headers={
            **headers,
            "x-amz-copy-source": source,
            "x-amz-copy-source-range": f"bytes={first}-{last}",
            **_unless_replaced(etag),
        },
        handled_bytes=last - first + 1,
    )


def list_parts(key: str, path: str, *, upload_id: str, after: str) -> Request:
    """Ask which parts there are."""
    query = {"part-number-marker": after, "uploadId": upload_id}
    return Request(
        operation="ListParts",
        method="GET",
        key=key,
        path=path,
        query=tuple((name, value) for name, value in query.items() if value),
        answer_limit=2 * 2**20,
    )


def subresource(operation: str, key: str, path: str, name: str) -> Request:
    """Ask for something that belongs to an object: its tags, its rights."""
    return Request(operation=operation, method="GET", key=key, path=path, query=((name, ""),), answer_limit=2**20)


def _unless_replaced(etag: str) -> dict[str, str]:
    if not etag or etag.startswith("W/"):
        return {}
    return {"x-amz-copy-source-if-match": requests.quoted_etag(etag)}
