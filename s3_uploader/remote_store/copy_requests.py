"""The requests of a copy, each made by a pure function."""

from __future__ import annotations

from collections.abc import Mapping

from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import clean_etag
from s3_uploader.stores.s3.engines.base import Request
from s3_uploader.stores.s3.errors import parse_http_date

_IF = "x-amz-copy-source-if-"
_CONDITIONS = ((f"{_IF}match", f"{_IF}unmodified-since", True), (f"{_IF}none-match", f"{_IF}modified-since", False))
"""Pairs of conditions, on the ETag and on the time, and whether equal or earlier is what is wanted."""
_SILENT = 4
"""Most servers say nothing while they copy, so the limit of their silence grows as much as the deadline: for the same
time, an engine takes four times as many handled bytes as the deadline has."""


def source_header(bucket: str, path: str) -> str:
    """The value of ``x-amz-copy-source``; ``path`` is the encoded key."""
    return f"{bucket}/object/{path}" if bucket.startswith("arn:") else f"{bucket}/{path}"


def unmet_condition(headers: Mapping[str, str], source: Mapping[str, str]) -> str:
    """The caller's condition that the source of a copy does not meet; empty if it meets all.

    As in S3, one on the ETag makes that on the time irrelevant. The server is not asked, because a request that is
    bound to the ETag that was seen would make both irrelevant there.

    :param headers: of the copy.
    :param source: headers of the answer to HEAD on the source.
    """
    etag, modified = clean_etag(source.get("etag", "")), parse_http_date(source.get("last-modified", ""))
    for on_etag, on_time, is_wanted in _CONDITIONS:
        etags, date = headers.get(on_etag), parse_http_date(headers.get(on_time, ""))
        if etags is not None:
            is_equal = etags.strip() == "*" or etag in map(clean_etag, etags.split(","))
            if is_equal is not is_wanted:
                return on_etag
        elif date is not None and modified is not None and (modified <= date) is not is_wanted:
            return on_time
    return ""


def copy_object(key: str, path: str, *, source: str, etag: str, headers: Mapping[str, str], counted: int) -> Request:
    """Copy an object in one request, provided that it still has that ETag.

    :param counted: bytes that count for its deadline.
    """
    return Request(
        operation="CopyObject",
        method="PUT",
        key=key,
        path=path,
        headers={**headers, "x-amz-copy-source": source, **_unless_replaced(etag)},
        handled_bytes=_SILENT * counted,
        may_be_repeated=False,  # a copy onto itself may change the ETag
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
    counted: int,
) -> Request:
    """Copy a range of an object as a part of another one; ``counted`` bytes count for its deadline."""
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
        handled_bytes=_SILENT * counted,
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
