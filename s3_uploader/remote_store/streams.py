"""Objects as file objects: seekable readers, and writers that store the object when they are closed."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from s3_uploader.core.model import Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.remote_store.reading import PIECE, Opened
from s3_uploader.remote_store.verification import Verification, has_proof

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_FIRST_READ = 256 * 1024
_IN_MEMORY = 8 * 2**20
BUFFER = 128 * 1024


class ObjectReader(io.RawIOBase):
    """Reads an object by ranges, provided that it does not change. Only one thread may use it at a time.

    Sequential reads use growing pieces. An object that is read from beginning to end is verified.

    :param fetch: returns a number of bytes from a position.
    """

    def __init__(self, opened: Opened, fetch: Callable[[int, int], bytes], *, name: str, etag_counts: bool) -> None:
        super().__init__()
        self.name = name
        self.size = opened.size
        self._fetch = fetch
        self._position = 0
        self._piece = opened.data
        self._piece_first = 0
        self._next_size = _FIRST_READ
        counts = has_proof(opened.headers, etag_counts=etag_counts)
        self._verification = Verification(opened.headers, etag_counts=etag_counts) if counts else None
        self._verified = 0
        self._note_piece()

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def seekable(self) -> bool:
        """Return ``True``: any position can be read."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; this reads nothing."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"invalid whence: {whence}")
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into ``buffer``.

        :raises RemoteStoreError: if the object was replaced, or does not match the server's checksum.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        view = memoryview(buffer).cast("B")
        if not len(view) or self._position >= self.size:
            return 0
        offset = self._position - self._piece_first
        if not 0 <= offset < len(self._piece):
            self._read_piece(len(view))
            offset = 0
        data = memoryview(self._piece)[offset : offset + len(view)]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read_piece(self, wanted: int) -> None:
        goes_on = self._position == self._piece_first + len(self._piece)
        self._next_size = min(self._next_size * 2, PIECE) if goes_on else _FIRST_READ
        count = min(max(wanted, self._next_size), PIECE, self.size - self._position)
        self._piece = self._fetch(self._position, count)
        self._piece_first = self._position
        self._note_piece()

    def _note_piece(self) -> None:
        """Digest the piece if it follows the digested bytes."""
        if self._verification is None or self._piece_first != self._verified:
            return
        self._verification.update(self._piece)
        self._verified += len(self._piece)
        if self._verified == self.size:
            verification, self._verification = self._verification, None
            verification.conclude()


class ObjectWriter(io.BufferedIOBase):
    """A stream that stores its bytes as an object when it is closed, and only then. An exception prevents it.

    The bytes are buffered in memory, and beyond some MiB in a temporary file (``TMPDIR``).

    :param store: stores the bytes, or the content of the file.
    """

    def __init__(self, store: Callable[[bytes | IO[bytes]], Receipt], *, name: str) -> None:
        super().__init__()
        self.name = name
        self._store = store
        self._kept: IO[bytes] = io.BytesIO()
        self._in_memory = True
        self._failure: BaseException | None = None
        """Why not all bytes were kept. Whoever wraps the stream may close it all the same, as TextIOWrapper does."""
        self.receipt: Receipt | None = None
        """The receipt, once the stream is closed."""

    def writable(self) -> bool:
        """Return ``True``."""
        return True

    def tell(self) -> int:
        """The number of bytes written."""
        return self._open().tell()

    def write(self, data: ReadableBuffer, /) -> int:
        """Buffer bytes."""
        kept = self._open()
        view = memoryview(data).cast("B")
        try:
            if self._in_memory and kept.tell() + len(view) > _IN_MEMORY:
                kept = self._move_to_disk(kept)
            kept.write(view)
        except BaseException as error:
            self._failure = error
            raise
        return len(view)

    def close(self) -> None:
        """Store the object.

        :raises RemoteStoreError: if the object was not stored, or its content is not proven.
        :raises OSError: if an earlier write failed; then no object is stored.
        """
        if self.closed:
            return
        failure, self._failure = self._failure, None
        if failure is not None:
            self.abort()
            reason = str(failure) or type(failure).__name__
            raise OSError(f"The object {shown_name(self.name)} is not stored, because a write failed: {reason}")
        kept = self._kept
        super().close()
        with kept:
            if isinstance(kept, io.BytesIO):
                self.receipt = self._store(kept.getvalue())
            else:
                kept.flush()
                kept.seek(0)
                self.receipt = self._store(kept)

    def abort(self) -> None:
        """Discard the bytes. No object is stored, and an existing one stays."""
        if not self.closed:
            super().close()
            self._kept.close()

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # A stream that was not closed stores nothing.
        self.abort()

    def _open(self) -> IO[bytes]:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return self._kept

    def _move_to_disk(self, kept: IO[bytes]) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the stream owns and closes it.
        assert isinstance(kept, io.BytesIO)
        with kept.getbuffer() as view:
            file.write(view)
        kept.close()
        self._kept, self._in_memory = file, False
        return file


class TextObjectWriter(io.TextIOWrapper):
    """An :class:`ObjectWriter` for text."""

    def __init__(self, writer: ObjectWriter, **settings: Any) -> None:
        super().__init__(writer, **settings)
        self._writer = writer

    @property
    def receipt(self) -> Receipt | None:
        """The receipt, once the stream is closed."""
        return self._writer.receipt

    def abort(self) -> None:
        """Discard the text."""
        self._writer.abort()

    def __enter__(self) -> TextObjectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # A stream that was not closed stores nothing.
        self.abort()
