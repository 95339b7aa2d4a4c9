"""Objects as files: what is asked for while they are read, and when a written one comes into being."""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import os
import random
import tempfile
from typing import IO

import pytest

import s3_uploader as s3
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.remote_store import streams
from s3_uploader.remote_store.reading import Opened
from s3_uploader.remote_store.streams import ObjectReader, ObjectWriter, TextObjectWriter

CONTENT = hashlib.shake_128(b"content").digest(3 * 2**20 + 5)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Server:
    """An object that is fetched by ranges."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    def fetch(self, first: int, count: int) -> bytes:
        """Some bytes of it."""
        self.asked.append((first, count))
        assert 0 < count <= len(self.content) - first
        return self.content[first : first + count]

    def reader(self, *, etag: str = MD5, begun: int = 1000) -> ObjectReader:
        """A reader that has its first bytes."""
        opened = Opened(headers={"etag": f'"{etag}"'}, size=len(self.content), etag=etag, data=self.content[:begun])
        return ObjectReader(opened, self.fetch, name="key", etag_counts=True)


def test_reading_as_a_whole() -> None:
    """What is read on and on comes in growing pieces, each once."""
    server = Server()
    assert io.BufferedReader(server.reader(), streams.BUFFER).read() == CONTENT
    assert sum(count for _, count in server.asked) == len(CONTENT) - 1000
    assert len(server.asked) < 6


def test_only_what_is_wanted_is_asked_for() -> None:
    """Seeking costs nothing, and a few bytes far away do not bring the whole object."""
    server = Server()
    reader = io.BufferedReader(server.reader(), streams.BUFFER)
    assert reader.seek(-3, os.SEEK_END) == len(CONTENT) - 3
    assert server.asked == []
    assert reader.read() == CONTENT[-3:]
    assert server.asked == [(len(CONTENT) - 3, 3)]
    assert reader.seek(10) == 10
    assert reader.read(5) == CONTENT[10:15]


def test_any_way_of_reading_gives_the_same() -> None:
    """Reads and seeks in any order give what a local file would give."""
    server, local = Server(), io.BytesIO(CONTENT)
    reader = io.BufferedReader(server.reader(), 4096)
    chance = random.Random(5)
    for _ in range(200):
        if chance.random() < 0.4:
            place = chance.randrange(len(CONTENT) + 10)
            assert reader.seek(place) == local.seek(place)
        count = chance.choice([0, 1, 100, 5000, 300_000])
        assert reader.read(count) == local.read(count)
        assert reader.tell() == local.tell()


def test_an_empty_object() -> None:
    """An object without bytes has an end at its beginning."""
    server = Server(b"")
    reader = server.reader(etag=hashlib.md5(b"", usedforsecurity=False).hexdigest())
    assert reader.read() == b""
    assert server.asked == []


def test_reading_to_the_end_verifies() -> None:
    """Whoever reads everything in order is not given the last bytes of other content."""
    with pytest.raises(s3.RemoteStoreError, match="The received bytes have the MD5"):
        io.BufferedReader(Server().reader(etag="0" * 32)).read()


def test_places_that_are_none() -> None:
    """A place before the beginning is refused, and a closed reader reads nothing."""
    reader = Server().reader()
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        reader.seek(0, 7)
    reader.close()
    for call in (lambda: reader.seek(0), lambda: reader.read(1)):
        with pytest.raises(ValueError, match="closed"):
            call()


class Stored:
    """What writers have made."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def store(self, kept: bytes | IO[bytes]) -> Receipt:
        """Make an object of it."""
        content = kept if isinstance(kept, bytes) else kept.read()
        self.contents.append(content)
        return Receipt(key="key", size=len(content), proof=Proof.MD5, checksum="", etag="e")

    def writer(self) -> ObjectWriter:
        """A writer."""
        return ObjectWriter(self.store, name="key")


@pytest.mark.parametrize("size", [0, 10, 20 * 2**20])
def test_an_object_comes_with_the_close(size: int) -> None:
    """Nothing is there before the close; small or large, everything is then, once."""
    stored = Stored()
    content = bytes(size)
    with stored.writer() as writer:
        for first in range(0, size, 2**20):
            assert writer.write(content[first : first + 2**20]) == min(2**20, size - first)
        assert writer.tell() == size
        assert stored.contents == []
    assert stored.contents == [content]
    assert writer.receipt is not None
    assert writer.receipt.size == size
    writer.close()
    writer.abort()
    assert len(stored.contents) == 1
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")


def test_an_exception_leaves_nothing() -> None:
    """A block that ends by an exception writes nothing, binary or text."""
    stored = Stored()

    def fail(writer: ObjectWriter | TextObjectWriter) -> None:
        with writer:
            writer.write("half" if isinstance(writer, io.TextIOWrapper) else b"half")  # type: ignore[arg-type]
            raise KeyError

    for writer in (stored.writer(), TextObjectWriter(stored.writer(), encoding="utf-8")):
        with pytest.raises(KeyError):
            fail(writer)
        assert writer.closed
    assert stored.contents == []


def test_a_forgotten_stream_writes_nothing() -> None:
    """A stream that nobody has closed is no object, whatever the garbage collector does."""
    stored = Stored()
    stored.writer().write(b"half")
    text = TextObjectWriter(stored.writer(), encoding="utf-8")
    text.write("half")
    del text
    gc.collect()
    assert stored.contents == []


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for a temporary file."""

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


def test_text_that_finds_no_room_at_the_end(full_disk: None) -> None:
    """Where the last characters cannot be kept, the others are no object: they would replace a whole one."""
    stored = Stored()
    writer = TextObjectWriter(stored.writer(), encoding="utf-8")
    writer.write("x" * (8 * 2**20 - 100))
    writer.write("y" * 1000)
    with pytest.raises(OSError, match="No space left on device"):
        writer.close()
    assert writer.closed
    assert stored.contents == []


def test_a_write_that_has_failed(full_disk: None) -> None:
    """After a write that failed nothing is stored, though the program goes on and closes the stream."""
    stored = Stored()
    writer = stored.writer()
    writer.write(b"beginning")
    with pytest.raises(OSError, match="No space left on device"):
        writer.write(bytes(9 * 2**20))
    writer.write(b"end")
    with pytest.raises(OSError, match=r"The object key is not stored, because a write failed: .*No space left"):
        writer.close()
    writer.close()
    assert stored.contents == []


def test_text() -> None:
    """Text is encoded as it is asked for."""
    stored = Stored()
    with TextObjectWriter(stored.writer(), encoding="utf-16-le", newline="\r\n") as writer:
        writer.write("Größe\n")
    assert stored.contents == ["Größe\r\n".encode("utf-16-le")]
    assert writer.receipt is not None
