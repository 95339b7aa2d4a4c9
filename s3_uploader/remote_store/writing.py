"""Writing an object from a file or from bytes: how it is sent, and its progress."""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import Receipt
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.bucket import Bucket
from s3_uploader.remote_store.errors import RemoteStoreError
from s3_uploader.remote_store.local_files import Readable
from s3_uploader.remote_store.reading import Progress, refuse_unmet
from s3_uploader.remote_store.translation import from_store_error
from s3_uploader.remote_store.uploads import PlainMultipart, PlainSingle, multipart, single
from s3_uploader.stores.base import Source
from s3_uploader.stores.s3.checksums import md5_of, read_exactly

_READ = 1 << 20
_PLAIN = (io.FileIO, io.BufferedReader, io.BufferedRandom)


@contextlib.contextmanager
def sendable(file: BinaryIO | io.BufferedIOBase | io.RawIOBase) -> Iterator[Source]:
    """The descriptor and size of a file. Anything but a regular file is copied to a temporary one first."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        # Such as io.UnsupportedOperation, for a file in memory or of another library.
        status = None
    if status is not None and stat.S_ISREG(status.st_mode) and (status.st_size or _is_empty(file.fileno())):
        yield Source(file.fileno(), status.st_size)
        return
    with _copied(file) as source:
        yield source


def _is_empty(descriptor: int) -> bool:
    """Whether a file of no length has no content: those of ``/proc`` have some."""
    with contextlib.suppress(OSError):
        return not os.pread(descriptor, 1, 0)
    return True


@contextlib.contextmanager
def whole_file(file: Readable) -> Iterator[Source]:
    """The content of an open file from its position on.

    A plain file at its beginning is read directly. Others are copied: the descriptor of a decompressing file object,
    for example, has other bytes than the object returns.
    """
    if isinstance(file, _PLAIN) and type(file) in _PLAIN and file.seekable() and file.tell() == 0:
        if file.writable():
            file.flush()
        with sendable(file) as source:
            yield source
        return
    with _copied(file) as source:
        yield source


@contextlib.contextmanager
def _copied(file: Readable) -> Iterator[Source]:
    with tempfile.TemporaryFile() as copy:
        while data := file.read(_READ):
            copy.write(data)
        if data is None:
            raise BlockingIOError(errno.EAGAIN, "the file has no more bytes now, but has not ended")
        copy.flush()
        yield Source(copy.fileno(), os.fstat(copy.fileno()).st_size)


def write_object(
    bucket: Bucket,
    key: str,
    source: Source,
    headers: Mapping[str, str],
    *,
    multipart_threshold: int,
    part_size: int,
    progress: Progress | None = None,
) -> Receipt:
    """Store the bytes of an open file.

    :raises RemoteStoreError: if the object was not stored, or its content is not proven.
    """
    refuse_unmet(bucket, key, headers)
    large = source.size > multipart_threshold
    if large and "content-md5" in headers:
        headers = _verified(source, headers)
    try:
        if large and not header_rules.concerns_entire_body(headers):
            upload: PlainSingle | PlainMultipart = multipart(bucket, key, source, headers, part_size=part_size)
        else:
            upload = single(bucket, key, source, headers)
    except StoreError as error:
        raise from_store_error(error) from error
    return bucket.finish(upload, tick=None if progress is None else _ticking(upload, progress))


def write_bytes(bucket: Bucket, key: str, data: bytes, headers: Mapping[str, str]) -> Receipt:
    """Store bytes that are in memory, in one request.

    :raises RemoteStoreError: if the object was not stored, or its content is not proven.
    """
    refuse_unmet(bucket, key, headers)
    try:
        upload = single(bucket, key, Source(-1, len(data)), headers)
    except StoreError as error:
        raise from_store_error(error) from error
    upload.send_bytes(data)
    return bucket.finish(upload)


def _verified(source: Source, headers: Mapping[str, str]) -> dict[str, str]:
    """Check a Content-MD5 against the file and remove it: it cannot be sent in parts, and each part has a proof.

    :raises RemoteStoreError: if the file has another one.
    """
    digest = md5_of(b"")
    for first in range(0, source.size, _READ):
        digest.update(read_exactly(source.descriptor, first, min(_READ, source.size - first)))
    found = base64.b64encode(digest.digest()).decode()
    if found != headers["content-md5"].strip():
        raise RemoteStoreError(f"The file has the Content-MD5 {found}, not the given one.", code="BadDigest")
    return {name: value for name, value in headers.items() if name != "content-md5"}


def _ticking(upload: PlainSingle | PlainMultipart, progress: Progress) -> Callable[[], None]:
    """Make a function that reports the bytes sent, on the caller's thread."""
    told = -1

    def tick() -> None:
        nonlocal told
        sent = upload.sent
        if sent > told:
            told = sent
            progress(sent, upload.source.size)

    return tick
