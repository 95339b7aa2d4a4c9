"""Reading the bytes of an upload from its file, and digesting them on the way."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Callable

import msgspec

from s3_uploader.core.errors import SourceChanged
from s3_uploader.stores.s3.checksums import md5_of

_STEP = 256 * 1024
"""So many bytes at a time go through all digests while they are in the processor's cache. One digest after the other
over a part of some MiB fetches it from memory each time: the CRC alone then takes twice as long."""


class Digested(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a file, and what was asked for of their digests; ``md5`` and ``sha256`` are hexadecimal."""

    body: bytes
    crc32: int
    md5: str
    sha256: str


def read_exactly(descriptor: int, first: int, size: int) -> bytes:
    """Bytes of a file.

    :raises SourceChanged: if there are fewer.
    """
    try:
        data = os.pread(descriptor, size, first)
        if len(data) == size:
            return data
        pieces = [data]
        missing = size - len(data)
        while missing and data:
            data = os.pread(descriptor, missing, first + size - missing)
            pieces.append(data)
            missing -= len(data)
    except OSError as error:
        raise _unreadable(error) from None
    if missing:
        raise _shrunk(size - missing, size, first)
    return b"".join(pieces)


def read_digested(descriptor: int, first: int, size: int, *, md5: bool, sha256: bool) -> Digested:
    """Bytes of a file with their CRC-32, and with their MD5 and SHA-256 where those are wanted.

    :raises SourceChanged: if there are fewer.
    """
    buffer = io.BytesIO(bytes(size))
    crc32 = 0
    hashes = [md5_of(b"") if md5 else None, hashlib.sha256() if sha256 else None]
    updates: list[Callable[[memoryview], None]] = [each.update for each in hashes if each is not None]
    with buffer.getbuffer() as view:
        done = 0
        while done < size:
            with view[done : done + _STEP] as room:
                try:
                    count = os.preadv(descriptor, [room], first + done)
                except OSError as error:
                    raise _unreadable(error) from None
                if not count:
                    raise _shrunk(done, size, first)
                with room[:count] as piece:
                    crc32 = zlib.crc32(piece, crc32)
                    for update in updates:
                        update(piece)
            done += count
    texts = ["" if each is None else each.hexdigest() for each in hashes]
    # The bytes of the buffer themselves and not a copy, now that nothing can write to them any more.
    return Digested(body=buffer.getvalue(), crc32=crc32, md5=texts[0], sha256=texts[1])


def _unreadable(error: OSError) -> SourceChanged:
    return SourceChanged(f"The file could not be read: {error.strerror}.")


def _shrunk(there: int, size: int, first: int) -> SourceChanged:
    return SourceChanged(f"The file shrank: {there} of {size} bytes were there from offset {first}.")
