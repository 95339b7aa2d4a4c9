"""Reading a file's bytes and digesting them on the way."""

from __future__ import annotations

import errno
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.core.errors import SourceChanged, SourceUnreadable
from s3_uploader.stores.s3.checksums import read_digested, read_exactly

CONTENT = os.urandom(1_000_003)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """An open file with :data:`CONTENT`."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(("first", "size"), [(0, 0), (0, 1), (5, 262_144), (5, 262_145), (0, len(CONTENT))])
def test_all_digests_are_of_the_bytes_that_are_read(descriptor: int, first: int, size: int) -> None:
    """However many steps it takes, the digests are those of the whole piece."""
    expected = CONTENT[first : first + size]
    assert read_exactly(descriptor, first, size) == expected
    read = read_digested(descriptor, first, size, md5=True, sha256=True)
    assert read.body == expected
    assert read.crc32 == zlib.crc32(expected)
    assert read.md5 == hashlib.md5(expected, usedforsecurity=False).hexdigest()
    assert read.sha256 == hashlib.sha256(expected).hexdigest()


def test_only_what_is_asked_for(descriptor: int) -> None:
    """A digest that nobody wants costs nothing and is empty."""
    read = read_digested(descriptor, 0, 10, md5=False, sha256=False)
    assert (read.md5, read.sha256) == ("", "")


def test_a_file_that_has_shrunk(descriptor: int) -> None:
    """Fewer bytes than there were is a file that changed, and how many there are is told."""
    with pytest.raises(SourceChanged, match=r"1000003 of 1000004 bytes were there from offset 0"):
        read_exactly(descriptor, 0, len(CONTENT) + 1)
    with pytest.raises(SourceChanged, match=r"1000003 of 1000004 bytes were there from offset 0"):
        read_digested(descriptor, 0, len(CONTENT) + 1, md5=True, sha256=True)


def test_a_disk_that_fails(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that fails is no change of the file: the position and the kernel's reason are told."""

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(SourceUnreadable, match="cannot be read at byte 0: input/output error"):
        read_exactly(descriptor, 0, 10)
    with pytest.raises(SourceUnreadable, match="cannot be read at byte 0: input/output error"):
        read_digested(descriptor, 0, 10, md5=True, sha256=True)


def test_a_file_that_its_server_has_removed(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system a file that is gone fails to be read; that is a change, and no failing disk."""

    def fail(*_: object) -> int:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(SourceChanged, match="gone"):
        read_exactly(descriptor, 0, 10)


def test_reads_that_bring_less_than_asked_for(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may answer with less each time; what is missing is asked for again."""
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda file, size, first: pread(file, min(size, 1000), first))
    monkeypatch.setattr(os, "preadv", lambda file, views, first: preadv(file, [views[0][:1000]], first))
    assert read_exactly(descriptor, 3, 10_000) == CONTENT[3:10_003]
    read = read_digested(descriptor, 3, 10_000, md5=True, sha256=False)
    assert read.body == CONTENT[3:10_003]
    assert read.crc32 == zlib.crc32(CONTENT[3:10_003])
