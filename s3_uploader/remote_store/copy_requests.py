"""The requests of a copy, each made by a pure function."""

from __future__ import annotations

from collections.abc import Mapping

from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.engines.base import Request


def source_header(bucket: str, path: str) -> str:
    """The value of ``x-amz-copy-source``; ``path`` is the encoded key."""
    return f"{bucket}/{path}"


def copy_object(key: str, path: str, *, source: str, etag: str, headers: Mapping[str, str], size: int) -> Request:
    """Copy an object in one request, provided that it still has that ETag."""
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
    """Copy a range of an object as a part of another one."""
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
    """Ask which parts exist."""
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
    """Ask for a subresource of an object: its tags or its ACL."""
    return Request(operation=operation, method="GET", key=key, path=path, query=((name, ""),), answer_limit=2**20)


def _unless_replaced(etag: str) -> dict[str, str]:
    if not etag or etag.startswith("W/"):
        return {}
    return {"x-amz-copy-source-if-match": requests.quoted_etag(etag)}
