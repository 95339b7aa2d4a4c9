"""The methods that raise their failures: bytes, file objects, streams, listings, URLs."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Literal, overload

from s3_uploader.core.model import Receipt
from s3_uploader.remote_store import headers as header_rules
from s3_uploader.remote_store.connection import S3Connection
from s3_uploader.remote_store.errors import ObjectExists, ObjectNotFound, RemoteStoreError
from s3_uploader.remote_store.local_files import Readable, Writable
from s3_uploader.remote_store.names import RemoteName, S3Name
from s3_uploader.stores.s3.meanings import Kind, kind_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from s3_uploader.remote_store.objects import ObjectInfo
    from s3_uploader.remote_store.reading import Progress
    from s3_uploader.remote_store.streams import ObjectWriter, TextObjectWriter
    from s3_uploader.stores.base import Source

Headers = Mapping[str, object] | None
BinaryReading = Literal["rb"]
TextReading = Literal["r", "rt"]
BinaryWriting = Literal["wb", "xb"]
TextWriting = Literal["w", "wt", "x", "xt"]
Method = Literal["GET", "HEAD", "PUT", "DELETE"]

_LONGEST_SECONDS = 7 * 24 * 3600


class ObjectMethods:
    """The methods of a store that raise every failure, as a :class:`RemoteStoreError`.

    :param connection: where the objects are.
    """

    def __init__(self, connection: S3Connection, *, multipart_threshold: int, part_size: int) -> None:
        self.connection = connection
        self._multipart_threshold = multipart_threshold
        self._part_size = part_size

    # Bytes and file objects.

    def write_bytes(self, data: ReadableBuffer, remote_name: RemoteName, headers: Headers = None) -> Receipt:
        """Write bytes to an object. Returns the receipt when the object is proven to have them.

        :raises RemoteStoreError: if the object was not stored, or its content is not proven.
        """
        from s3_uploader.remote_store import writing

        name, key = self.connection.resolve(remote_name)
        sent = header_rules.normalised(headers)
        content = data if isinstance(data, bytes) else memoryview(data).tobytes()
        if len(content) > self._multipart_threshold:
            return self.write_file(io.BytesIO(content), remote_name, headers)
        self.connection.downloads.secure(name, key)
        with self.connection.bucket(name) as bucket:
            return writing.write_bytes(bucket, key, content, sent)

    def write_file(
        self,
        file: Readable,
        remote_name: RemoteName,
        headers: Headers = None,
        *,
        progress: Progress | None = None,
    ) -> Receipt:
        """Write the rest of an open file, from its position, to an object.

        :param progress: called on this thread with the number of bytes that the server has received, and the total.
        :raises RemoteStoreError: if the object was not stored, or its content is not proven.
        """
        from s3_uploader.remote_store.writing import whole_file

        name, key = self.connection.resolve(remote_name)
        sent = header_rules.normalised(headers)
        with whole_file(file) as source:
            return self._write_source(name, key, source, sent, progress)

    def read_bytes(self, remote_name: RemoteName, *, start: int = 0, length: int | None = None) -> bytes:
        """Read an object, or ``length`` bytes of it from ``start``, fewer at its end.

        :raises ObjectNotFound: if it does not exist.
        :raises RemoteStoreError: if it cannot be read, or a complete read does not match the server's checksum.
        """
        if start < 0 or (length is not None and length < 0):
            raise ValueError("start and length cannot be negative")
        if start or length is not None:
            with self.open(remote_name, "rb") as reader:
                reader.seek(start)
                return reader.read(length)
        content = io.BytesIO()
        self.read_file(remote_name, content)
        return content.getvalue()

    def read_file(self, remote_name: RemoteName, file: Writable, *, progress: Progress | None = None) -> dict[str, str]:
        """Write the bytes of an object to an open file and return its metadata.

        If the verification at the end fails, the file has the wrong bytes already.

        :param progress: called on this thread with the number of bytes received, and the total.
        :raises ObjectNotFound: if it does not exist.
        :raises RemoteStoreError: if it cannot be read, or does not match the server's checksum.
        :raises OSError: if the file does not take the bytes.
        """
        from s3_uploader.remote_store.local_files import writing_all
        from s3_uploader.remote_store.reading import read_object

        name, key = self.connection.resolve(remote_name)
        with self.connection.bucket(name) as bucket:
            return header_rules.metadata_of(read_object(bucket, key, writing_all(file), progress=progress))

    # Streams.

    @overload
    def open(self, remote_name: RemoteName, mode: BinaryReading = ...) -> io.BufferedReader: ...

    @overload
    def open(
        self,
        remote_name: RemoteName,
        mode: TextReading,
        *,
        encoding: str = ...,
        errors: str = ...,
        newline: str | None = ...,
    ) -> io.TextIOWrapper: ...

    @overload
    def open(self, remote_name: RemoteName, mode: BinaryWriting, *, headers: Headers = ...) -> ObjectWriter: ...

    @overload
    def open(
        self,
        remote_name: RemoteName,
        mode: TextWriting,
        *,
        headers: Headers = ...,
        encoding: str = ...,
        errors: str = ...,
        newline: str | None = ...,
    ) -> TextObjectWriter: ...

    def open(
        self,
        remote_name: RemoteName,
        mode: BinaryReading | TextReading | BinaryWriting | TextWriting = "rb",
        *,
        headers: Headers = None,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | None = None,
    ) -> io.BufferedReader | io.TextIOWrapper | ObjectWriter | TextObjectWriter:
        """Open an object as a file.

        For reading (``rb``, ``r``): any position can be sought, and only the bytes that are read are requested. If the
        object is replaced meanwhile, reading raises :class:`ObjectChanged`.

        For writing (``wb``, ``w``; ``xb``, ``x`` only if it does not exist): the object is stored when the stream is
        closed without an error; ``receipt`` has the details. If the ``with`` block ends with an exception, or the
        stream is aborted or garbage-collected, nothing is written.

        :raises ObjectNotFound: if there is no such object to read.
        :raises ObjectExists: on closing, if the object was not to be replaced.
        :raises RemoteStoreError: if it cannot be read, or on closing, if it cannot be written.
        """
        if mode not in ("rb", "r", "rt", "wb", "w", "wt", "xb", "x", "xt"):
            raise ValueError(f"an object cannot be opened with the mode {mode!r}")
        text = {"encoding": encoding, "errors": errors, "newline": newline}
        if mode.startswith("r"):
            reader = self._reader(remote_name)
            return reader if mode == "rb" else io.TextIOWrapper(reader, **text)  # type: ignore[arg-type]
        from s3_uploader.remote_store.streams import TextObjectWriter

        writer = self._writer(remote_name, headers, exclusively=mode.startswith("x"))
        return writer if mode.endswith("b") else TextObjectWriter(writer, **text)

    def _reader(self, remote_name: RemoteName) -> io.BufferedReader:
        from s3_uploader.remote_store import reading, streams

        name, key = self.connection.resolve(remote_name)
        path = reading.path_of(key)
        with self.connection.bucket(name) as bucket:
            opened = reading.open_object(bucket, key, path)
            etag_counts = not bucket.capabilities.etags_are_other

        def fetch(first: int, count: int) -> bytes:
            with self.connection.bucket(name) as bucket:
                return reading.read_range(bucket, key, path, first, count, etag=opened.etag)

        raw = streams.ObjectReader(opened, fetch, name=key, etag_counts=etag_counts)
        return io.BufferedReader(raw, streams.BUFFER)

    def _writer(self, remote_name: RemoteName, headers: Headers, *, exclusively: bool) -> ObjectWriter:
        from s3_uploader.remote_store.streams import ObjectWriter

        _, key = self.connection.resolve(remote_name)
        given = {**(headers or {}), "if-none-match": "*"} if exclusively else headers
        header_rules.normalised(given)

        def store(kept: bytes | IO[bytes]) -> Receipt:
            try:
                if isinstance(kept, bytes):
                    return self.write_bytes(kept, remote_name, given)
                return self.write_file(kept, remote_name, given)
            except RemoteStoreError as error:
                if exclusively and kind_of(error) is Kind.TAKEN:
                    raise ObjectExists(error.message, status=error.status, code=error.code) from error
                raise

        return ObjectWriter(store, name=key)

    # Lookups.

    def stat(self, remote_name: RemoteName) -> ObjectInfo:
        """The properties of an object.

        :raises ObjectNotFound: if it does not exist.
        :raises RemoteStoreError: if the server does not say whether it exists.
        """
        from s3_uploader.remote_store import objects

        name, key = self.connection.resolve(remote_name)
        with self.connection.bucket(name) as bucket:
            return objects.look(bucket, key)

    def list(
        self, prefix: str = "", *, bucket: str | None = None, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """The objects whose keys begin with ``prefix``, in the server's order. Pages are requested as needed.

        :param bucket: instead of the default one.
        :param start_after: only keys after this one.
        :param limit: the maximum number of objects.
        :raises RemoteStoreError: during iteration, if the objects cannot be listed.
        :raises ValueError: if there is no bucket.
        """
        pages = self.pages(prefix, bucket=bucket, start_after=start_after)
        return itertools.islice(itertools.chain.from_iterable(pages), limit)

    def __contains__(self, remote_name: object) -> bool:
        """Whether an object exists; without this, Python would compare the name with each object of the bucket."""
        if not isinstance(remote_name, str | S3Name | PurePosixPath):
            return False
        try:
            self.stat(remote_name)
        except ObjectNotFound:
            return False
        return True

    def __iter__(self) -> Iterator[ObjectInfo]:
        """Every object of the default bucket."""
        return self.list()

    def pages(
        self, prefix: str = "", *, bucket: str | None = None, start_after: str = ""
    ) -> Iterator[Sequence[ObjectInfo]]:
        """The same as :meth:`list`, page by page."""
        from s3_uploader.remote_store import objects

        name, _ = self.connection.resolve(S3Name(prefix, bucket))
        return objects.pages(lambda: self.connection.bucket(name), prefix, after=start_after)

    def presign(
        self,
        remote_name: RemoteName,
        *,
        method: Method = "GET",
        expires_seconds: int = 3600,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """A URL that allows anybody one request without credentials, for a limited time. No request is sent.

        :param expires_seconds: at most seven days. It expires earlier if the credentials do.
        :param headers: headers that the request must send unchanged, for example its content type.
        :raises ValueError: if the time is out of range.
        """
        if not 1 <= expires_seconds <= _LONGEST_SECONDS:
            raise ValueError(f"a URL can be valid for 1 to {_LONGEST_SECONDS} seconds, not for {expires_seconds}")
        sent = header_rules.normalised(headers)
        name, key = self.connection.resolve(remote_name)
        with self.connection.bucket(name) as bucket:
            if not bucket.access.endpoint.only_boto3:
                return bucket.presign(key, method=method, seconds=expires_seconds, headers=sent)
        return self.connection.client.generate_presigned_url(
            f"{method.lower()}_object", Params={"Bucket": name, "Key": key}, ExpiresIn=expires_seconds
        )

    # Shared with the methods that return failures.

    def _write_source(
        self, name: str, key: str, source: Source, sent: Mapping[str, str], progress: Progress | None
    ) -> Receipt:
        from s3_uploader.remote_store.writing import write_object

        self.connection.downloads.secure(name, key)
        with self.connection.bucket(name) as bucket:
            return write_object(
                bucket,
                key,
                source,
                sent,
                multipart_threshold=self._multipart_threshold,
                part_size=self._part_size,
                progress=progress,
            )
