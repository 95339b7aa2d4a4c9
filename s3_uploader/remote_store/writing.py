"""Writing an object from an open file, in one piece or in parts, and proving that it is there."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from s3_uploader.core.text import quoted, quoted_code, shown_name
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.connection import RemoteStoreError, S3Connection
from s3_uploader.remote_store.headers import etag_of, is_encrypted

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

logger = logging.getLogger("s3_uploader.remote_store")

_READ = 1 << 20
_MOST_PARTS = 10_000


class FileSection(io.RawIOBase):
    """``size`` bytes of a file from ``offset`` on, as a file of its own that can be sent again from its beginning."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def seekable(self) -> bool:
        """A retry begins anew."""
        return True

    def tell(self) -> int:
        """Position from the beginning of the section."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into ``buffer``.

        :raises RemoteStoreError: if the file has become shorter.
        """
        view = memoryview(buffer)
        wanted = min(len(view), self._size - self._position)
        if wanted <= 0:
            return 0
        data = os.pread(self._descriptor, wanted, self._offset + self._position)
        if not data:
            # Fewer bytes than announced: the server would wait for the rest until it loses patience.
            raise RemoteStoreError("the local file became shorter while it was sent")
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


class Digests:
    """MD5 and CRC-32 of a section of a file, and of all sections so far."""

    def __init__(self) -> None:
        # For comparison with ETags, not for security: FIPS builds refuse MD5 otherwise.
        self.whole = hashlib.md5(usedforsecurity=False)

    def of_section(self, descriptor: int, offset: int, size: int) -> tuple[bytes, bytes]:
        """MD5 and CRC-32 of one section."""
        md5 = hashlib.md5(usedforsecurity=False)
        crc = 0
        section = FileSection(descriptor, offset, size)
        while chunk := section.read(_READ):
            md5.update(chunk)
            self.whole.update(chunk)
            crc = zlib.crc32(chunk, crc)
        return md5.digest(), crc.to_bytes(4, "big")


@contextlib.contextmanager
def sendable(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Descriptor and size of a file; a pipe or device is copied to a temporary file first."""
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode):
        yield file.fileno(), status.st_size
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy, _READ)
        copy.flush()
        yield copy.fileno(), os.fstat(copy.fileno()).st_size


def write_object(
    connection: S3Connection,
    bucket: str,
    key: str,
    file: BinaryIO,
    headers: Mapping[str, str],
    *,
    multipart_threshold: int,
    part_size: int,
) -> None:
    """Store the file.

    :raises RemoteStoreError: if what is stored is not what was sent.
    """
    with sendable(file) as (descriptor, size):
        if size <= multipart_threshold or header_rules.concerns_entire_body(headers):
            _put(connection, bucket, key, descriptor, size, headers)
        else:
            _put_in_parts(connection, bucket, key, descriptor, size, headers, part_size)


def _put(
    connection: S3Connection, bucket: str, key: str, descriptor: int, size: int, headers: Mapping[str, str]
) -> None:
    digests = Digests()
    md5, crc = digests.of_section(descriptor, 0, size)
    checksums: dict[str, Any] = {}
    if "content-md5" not in headers:
        checksums["ContentMD5"] = base64.b64encode(md5).decode()
    if not any(name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) for name in headers):
        # The algorithm beside the value: Ceph 20 verifies nothing without it.
        checksums |= {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": base64.b64encode(crc).decode()}
    with connection.sending(headers) as client:
        answer = client.put_object(
            Bucket=bucket, Key=key, Body=_body(descriptor, 0, size), ContentLength=size, **checksums
        )
    if answer.get("ChecksumCRC32") == base64.b64encode(crc).decode():
        return
    if etag_of(answer) == md5.hex() or is_encrypted(answer):
        return
    _prove_by_reading(connection, bucket, key, md5.hex())


def _put_in_parts(
    connection: S3Connection,
    bucket: str,
    key: str,
    descriptor: int,
    size: int,
    headers: Mapping[str, str],
    part_size: int,
) -> None:
    part_size = max(part_size, -(-size // _MOST_PARTS))
    digests = Digests()
    etags = hashlib.md5(usedforsecurity=False)
    parts: list[CompletedPartTypeDef] = []
    with multipart(connection, bucket, key, header_rules.for_create(headers)) as upload_id:
        for number, offset in enumerate(range(0, size, part_size), start=1):
            length = min(part_size, size - offset)
            md5, _ = digests.of_section(descriptor, offset, length)
            with connection.sending(header_rules.for_part(headers)) as client:
                answer = client.upload_part(
                    Bucket=bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=_body(descriptor, offset, length),
                    ContentLength=length,
                    ContentMD5=base64.b64encode(md5).decode(),
                )
            etags.update(md5)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        expected = f"{etags.hexdigest()}-{len(parts)}"
        complete(connection, bucket, key, upload_id, parts, header_rules.for_completion(headers), expected)
    answer_to_head = connection.client.head_object(Bucket=bucket, Key=key)
    if answer_to_head["ContentLength"] != size:
        raise RemoteStoreError(f"{answer_to_head['ContentLength']} bytes are stored, not {size}")
    if etag_of(answer_to_head) != expected and not is_encrypted(answer_to_head):
        _prove_by_reading(connection, bucket, key, digests.whole.hexdigest())


def _body(descriptor: int, offset: int, size: int) -> IO[bytes]:
    # A file in all but name: typing.IO is no protocol.
    return cast("IO[bytes]", FileSection(descriptor, offset, size))


@contextlib.contextmanager
def multipart(connection: S3Connection, bucket: str, key: str, headers: Mapping[str, str]) -> Iterator[str]:
    """A multipart upload that is aborted if anything goes wrong: its parts are invisible and cost money for ever."""
    with connection.sending(headers) as client:
        upload_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    try:
        yield upload_id
    except BaseException:
        try:
            connection.client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        except Exception as error:
            logger.warning(
                "The multipart upload %s of %s could not be aborted: %s",
                quoted_code(upload_id),
                shown_name(f"{bucket}/{key}"),
                quoted(str(error)),
            )
        raise


def complete(
    connection: S3Connection,
    bucket: str,
    key: str,
    upload_id: str,
    parts: list[CompletedPartTypeDef],
    headers: Mapping[str, str],
    expected_etag: str,
) -> None:
    """Put the parts together; an error may come after the work was done, so the object itself has the last word."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        with connection.sending(headers) as client:
            client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
    except (BotoCoreError, ClientError):
        with contextlib.suppress(BotoCoreError, ClientError):
            if expected_etag and etag_of(connection.client.head_object(Bucket=bucket, Key=key)) == expected_etag:
                return
        raise


def _prove_by_reading(connection: S3Connection, bucket: str, key: str, md5: str) -> None:
    """Where neither checksum nor ETag tell, read everything back."""
    from s3_uploader.remote_store.reading import read_object

    stored = hashlib.md5(usedforsecurity=False)
    read_object(connection, bucket, key, stored.update)
    if stored.hexdigest() != md5:
        raise RemoteStoreError("what is stored is not what was sent")
