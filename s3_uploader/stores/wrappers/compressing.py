"""A store that compresses files, as configured, before it passes them to another store.

The other store handles the compressed bytes like any other file. They are produced completely before the upload,
because the object's metadata, which is sent first, has the original's checksum. The same file always gives the same
bytes, so an upload that is repeated after a crash recognises its own object.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Collection
from typing import Any, Protocol

import msgspec

from s3_uploader.core.errors import EngineUnavailable, StoreError, UploadCancelled, lacking
from s3_uploader.core.extras import installing
from s3_uploader.core.files import OUT_OF_DESCRIPTORS, write_all
from s3_uploader.core.limits import RAISE_SIZE_LIMIT, is_of_the_size_limit
from s3_uploader.core.model import Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.stores.base import Compression, PendingReceipt, PutOptions, Source, Store
from s3_uploader.stores.threads import ThreadPool
from s3_uploader.stores.wrappers.base import PassingStore

ORIGINAL_SHA256 = "original-sha256"
ORIGINAL_SIZE = "original-size"
"""Keys of a compressed object's metadata."""

IN_MEMORY = 2**20
"""The compressed bytes of a file of up to this size are kept in memory, of a larger one in a file without a name."""

_PIECE = 2**18
_DESCRIPTOR_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_GZIP_HEADER = bytes.fromhex("1f8b08040000000000ff") + struct.pack("<H", 36) + b"s3" + struct.pack("<H", 32)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes:
        """Some of the compressed bytes."""

    def flush(self) -> bytes:
        """The rest of the compressed bytes."""


class _Gzip:
    """gzip (RFC 1952) without name and time, and with an extra field for the original's SHA-256.

    The field is necessary. Incompressible bytes are stored unchanged, followed by their CRC-32. So any two such files
    of one length would have the same CRC-32 as a whole, and a destination could not tell them apart by it.
    """

    def __init__(self, level: int) -> None:
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc32 = self._size = 0
        self._begun = False

    def compress(self, data: bytes, /) -> bytes:
        """Some of the compressed bytes."""
        self._crc32 = zlib.crc32(data, self._crc32)
        self._size += len(data)
        return self._header() + self._deflate.compress(data)

    def flush(self) -> bytes:
        """The rest of the compressed bytes."""
        trailer = struct.pack("<II", self._crc32, self._size & 0xFFFFFFFF)
        return self._header() + self._deflate.flush() + trailer

    def _header(self) -> bytes:
        begun, self._begun = self._begun, True
        return b"" if begun else gzip_header(bytes(32))


def gzip_header(sha256: bytes) -> bytes:
    """The header of a gzip file; it has the same length for every checksum."""
    return _GZIP_HEADER + sha256


class _Job:
    """A file that is being compressed, or whose compressed bytes are in flight."""

    def __init__(self, source: Source, deadline: float) -> None:
        self.source = source
        self.deadline = deadline
        self.cancelled = False
        self.future = PendingReceipt()

    def look_whether_over(self) -> None:
        """Raise the reason if the job was cancelled or is late."""
        if self.cancelled:
            raise UploadCancelled.interrupted()
        if time.monotonic() > self.deadline:
            raise UploadCancelled.late()


class CompressingStore(PassingStore):
    """Compresses files on its own threads and passes them to ``store``; others are passed on unchanged.

    ``put`` of ``store`` is called on these threads too, but only by one at a time.

    :param directory: for compressed bytes that are too large for memory.
    :param formats: the formats that may be used.
    """

    def __init__(self, store: Store, *, directory: str, formats: Collection[str]) -> None:
        super().__init__(store)
        self._directory = directory
        self._formats = formats
        self._pool = ThreadPool(name="compress", count=max(2, min(4, os.cpu_count() or 2)))
        self._jobs: set[_Job] = set()
        self._turn = threading.RLock()

    def open(self) -> None:
        """Open the store.

        :raises EngineUnavailable: if a library is missing.
        """
        if "zstd" in self._formats:
            _zstd()
        self._store.open()

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """Compress, if the options say so, and store."""
        compression = options.compression
        if compression is None:
            with self._turn:
                return self._store.put(key, source, options=options, deadline=deadline, replaces=replaces)
        job = _Job(source, deadline)
        self._jobs.add(job)

        def work() -> None:
            try:
                self._send(job, key, options, compression, replaces)
            except Exception as error:
                self._finish(job, error)

        self._pool.do(work)
        return job.future

    def cancel(self) -> None:
        """Cancel all uploads in flight and all compression."""
        for job in list(self._jobs):
            job.cancelled = True
        with self._turn:
            self._store.cancel()

    def close(self, *, timeout: float) -> None:
        """Cancel what is in flight and close the store."""
        for job in list(self._jobs):
            job.cancelled = True
        self._pool.close(timeout=timeout / 2)
        self._store.close(timeout=timeout)

    def _send(self, job: _Job, key: str, options: PutOptions, compression: Compression, replaces: str) -> None:
        packed = self._open_packed(job)
        try:
            size, sha256 = pack(job.source, packed, compression, go_on=job.look_whether_over)
            own = msgspec.structs.replace(
                options,
                compression=None,
                content_encoding=compression.format,
                content_name=key.removesuffix(compression.suffix),
                metadata={**options.metadata, ORIGINAL_SHA256: sha256, ORIGINAL_SIZE: str(job.source.size)},
            )
            with self._turn:
                job.look_whether_over()
                stored = self._store.put(
                    key, Source(packed, size), options=own, deadline=job.deadline, replaces=replaces
                )
        except BaseException:
            close_packed(packed)
            raise

        def done(stored: PendingReceipt) -> None:
            close_packed(packed)
            outcome = stored.outcome
            assert outcome is not None
            if isinstance(outcome, Receipt):
                outcome = msgspec.structs.replace(
                    outcome, size=job.source.size, stored_size=outcome.size, encoding=compression.format
                )
            self._finish(job, outcome)

        stored.add_done_callback(done)

    def _open_packed(self, job: _Job) -> int:
        """Make room for the compressed bytes; without descriptors, as soon as others have freed one.

        :raises StoreError: if none can be made.
        """
        ends_at = time.monotonic() + _DESCRIPTOR_SECONDS
        while True:
            try:
                return open_packed(job.source.size, self._directory)
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS or time.monotonic() > ends_at:
                    raise _no_room(error) from None
            job.look_whether_over()
            time.sleep(_LOOK_SECONDS)

    def _finish(self, job: _Job, outcome: Receipt | BaseException) -> None:
        self._jobs.discard(job)
        job.future.complete(outcome)


def open_packed(size: int, directory: str) -> int:
    """A private descriptor for the compressed bytes of a file of that size.

    :raises OSError: if none can be made.
    """
    if size <= IN_MEMORY and hasattr(os, "memfd_create"):
        return os.memfd_create("s3-uploader", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(dir=directory) as file:
        return os.dup(file.fileno())


def close_packed(packed: int) -> None:
    """Close what :func:`open_packed` opened. An error (network file systems, quotas) would change no outcome."""
    with contextlib.suppress(OSError):
        os.close(packed)


def pack(
    source: Source, target: int, compression: Compression, *, go_on: Callable[[], None] = lambda: None
) -> tuple[int, str]:
    """Write the compressed bytes of a source to a descriptor. Returns their number and the source's SHA-256.

    :param go_on: called between any two pieces; raises to end the work.
    :raises SourceChanged: if there are fewer bytes than expected.
    :raises SourceUnreadable: if they cannot be read.
    :raises StoreError: if there is no room for them.
    """
    compressor = _compressor(compression, source.size)
    digest = hashlib.sha256()
    written = position = 0
    while position < source.size:
        go_on()
        piece = source.read(position, most=_PIECE)
        position += len(piece)
        digest.update(piece)
        written += _write(target, compressor.compress(piece))
    written += _write(target, compressor.flush())
    if compression.format == "gzip":
        os.pwrite(target, gzip_header(digest.digest()), 0)
    return written, digest.hexdigest()


def _write(target: int, data: bytes) -> int:
    try:
        write_all(target, data)
    except OSError as error:
        raise _no_room(error) from None
    return len(data)


def _no_room(error: OSError) -> StoreError:
    fact = "The compressed bytes could not be stored before the upload"
    return lacking(fact, error) or StoreError(
        f"{fact}: {error.strerror}.",
        code="NoRoomToCompress",
        origin=Origin.NO_ROOM_HERE,
        hint=RAISE_SIZE_LIMIT
        if is_of_the_size_limit(error)
        else "Large files are compressed into the state directory first. Make room there, or move it with state_dir.",
    )


def _compressor(compression: Compression, size: int) -> _Compressor:
    if compression.format == "gzip":
        return _Gzip(compression.level)
    zstd = _zstd()
    parameter = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(
        options={parameter.compression_level: compression.level, parameter.checksum_flag: 1}
    )
    compressor.set_pledged_input_size(size)
    result: _Compressor = compressor
    return result


def _zstd() -> Any:
    import importlib

    for name in ("compression.zstd", "backports.zstd"):  # the first is part of Python 3.14 and later
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise EngineUnavailable(
        "Files cannot be compressed with zstd: the library for it is not installed.",
        hint=f"Install it ({installing('zstd')}), or set compress to gzip.",
    )
