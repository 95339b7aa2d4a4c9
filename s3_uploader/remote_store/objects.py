"""The properties of objects: address, size, time. And the listing of a bucket."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from s3_uploader.core.errors import StoreError
from s3_uploader.remote_store.bucket import Bucket
from s3_uploader.remote_store.headers import metadata_of
from s3_uploader.remote_store.names import S3Name
from s3_uploader.remote_store.reading import headers_of, length_of, path_of
from s3_uploader.remote_store.translation import from_store_error
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import clean_etag
from s3_uploader.stores.s3.errors import parse_http_date


class ObjectInfo(S3Name, frozen=True, kw_only=True):
    """The properties of one object. It is also a name, so every method that takes a name accepts it.

    :param size: in bytes.
    :param etag: without quotes.
    :param modified: when it was written, in UTC; ``None`` if the server does not say.
    :param metadata: the headers that begin with ``x-amz-meta-``; always empty in a listing.
    :param content_type: empty in a listing.
    """

    size: int
    etag: str = ""
    modified: datetime.datetime | None = None
    version_id: str = ""
    content_type: str = ""
    metadata: Mapping[str, str] = {}


def look(bucket: Bucket, key: str) -> ObjectInfo:
    """Ask for the properties of an object.

    :raises ObjectNotFound: if it does not exist.
    :raises RemoteStoreError: if the server does not say whether it exists.
    """
    headers = headers_of(bucket, key, path_of(key))
    return ObjectInfo(
        key=key,
        bucket=bucket.name,
        size=length_of(headers),
        etag=clean_etag(headers.get("etag", "")),
        modified=_time(parse_http_date(headers.get("last-modified", ""))),
        version_id=headers.get("x-amz-version-id", ""),
        content_type=headers.get("content-type", ""),
        metadata=metadata_of(headers),
    )


def pages(
    lease: Callable[[], AbstractContextManager[Bucket]], prefix: str, *, after: str
) -> Iterator[list[ObjectInfo]]:
    """The objects of a bucket, page by page. Each page is requested when it is needed.

    :param lease: keeps the bucket open while it is used.
    :raises RemoteStoreError: if they cannot be listed, or the listing makes no progress.
    """
    from s3_uploader.stores.s3.listing import ListingProgress, parse_page

    progress = ListingProgress()
    token = ""
    while True:
        with lease() as bucket:
            name = bucket.name
            answer = bucket.ask(requests.list_objects(prefix, token=token, after="" if token else after))
        try:
            page = parse_page(answer.body)
            progress.saw(page)
        except StoreError as error:
            raise from_store_error(error, status=answer.status) from error
        yield [
            ObjectInfo(
                key=entry.key,
                bucket=name,
                size=entry.size,
                etag=entry.etag,
                modified=_time(entry.modified),
            )
            for entry in page.entries
            # A server without support for start-after begins with the first key.
            if not after or entry.key > after
        ]
        token = page.token
        if not token:
            return


def _time(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
