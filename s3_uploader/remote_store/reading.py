"""Reading an object into a file: verified, resumed when the connection breaks, under its name only when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from s3_uploader.remote_store import headers
from s3_uploader.remote_store.connection import RemoteStoreError, S3Connection
from s3_uploader.remote_store.headers import etag_of, is_encrypted, is_md5

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_READ = 1 << 18
_ATTEMPTS = 5


def read_object(connection: S3Connection, bucket: str, key: str, consume: Callable[[bytes], object]) -> dict[str, str]:
    """Hand the bytes of an object to ``consume`` and return its metadata.

    :raises RemoteStoreError: if the object is incomplete or is not what its ETag says. boto3 verifies a checksum, where
        the server has one, and raises its own error.
    """
    client = connection.client
    answer = client.get_object(Bucket=bucket, Key=key)
    metadata = headers.metadata_of(_headers_of(answer))
    etag = etag_of(answer)
    size = answer["ContentLength"]
    digest = hashlib.md5(usedforsecurity=False)
    received = 0
    attempt = 1
    while True:
        for chunk in _chunks(answer):
            if isinstance(chunk, Exception):
                if attempt == _ATTEMPTS or not etag:
                    raise RemoteStoreError(f"the connection broke after {received} of {size} bytes: {chunk}") from chunk
                break
            received += len(chunk)
            digest.update(chunk)
            consume(chunk)
        else:
            break
        attempt += 1
        # The rest of the very same object, or an error if it was replaced meanwhile.
        answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={received}-", IfMatch=f'"{etag}"')
        if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            raise RemoteStoreError(f"the connection broke after {received} of {size} bytes, and no rest is to be had")
    if received != size:
        raise RemoteStoreError(f"{received} bytes came, not {size}")
    if is_md5(etag) and not is_encrypted(answer) and digest.hexdigest() != etag and not _was_verified(answer, attempt):
        raise RemoteStoreError(f"what came has the MD5 {digest.hexdigest()}, the object has {etag}")
    return metadata


@contextlib.contextmanager
def written_whole(local_name: str) -> Iterator[Callable[[bytes], object]]:
    """Write a file so that it has its name only when everything is in it; on failure nothing is left.

    A file that is there is replaced and keeps its permissions; a link is followed, as ``open()`` does. What is no
    regular file (``/dev/stdout``, a pipe) is written as it is.
    """
    path = os.path.realpath(local_name)
    try:
        status: os.stat_result | None = os.stat(path)
    except FileNotFoundError:
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        with open(local_name, "wb") as file:
            yield file.write
        return
    directory, name = os.path.split(path)
    # Cut to what still fits into a name of 255 bytes.
    temporary = os.path.join(directory, f".{os.fsdecode(os.fsencode(name)[:200])}.{secrets.token_hex(6)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o666), "wb") as file:
        try:
            if status is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
            yield file.write
            file.flush()
            os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def _chunks(answer: GetObjectOutputTypeDef) -> Iterator[bytes | Exception]:
    """The body in pieces; a broken connection comes as the last one, so that errors of the caller are not mixed up."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError
    from botocore.exceptions import ReadTimeoutError as BodyTimeoutError
    from urllib3.exceptions import HTTPError

    body = answer["Body"]
    with contextlib.closing(body):
        while True:
            try:
                chunk = body.read(_READ)
            except FlexibleChecksumError:
                raise
            except (HTTPClientError, IncompleteReadError, BodyTimeoutError, HTTPError, OSError) as error:
                yield error
                return
            if not chunk:
                return
            yield chunk


def _headers_of(answer: Any) -> dict[str, str]:
    return dict(answer["ResponseMetadata"]["HTTPHeaders"])


def _was_verified(answer: GetObjectOutputTypeDef, attempt: int) -> bool:
    """Whether boto3 held the body against a checksum of the server's; it cannot do so with a resumed one."""
    from botocore.httpchecksum import StreamingChecksumBody

    return attempt == 1 and isinstance(answer["Body"], StreamingChecksumBody)
