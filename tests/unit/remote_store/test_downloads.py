"""Downloads that are not on the disk yet: they are brought there before their object goes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s3_uploader.remote_store import local_files
from s3_uploader.remote_store.local_files import Downloads

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files and directories that were brought to the disk, in order."""
    names: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return names


def download(downloads: Downloads, path: Path, key: str) -> None:
    """Make a file of an object."""
    with local_files.written_whole(path, made=lambda made: downloads.note("bucket", key, made)) as consume:
        consume(key.encode())


def test_a_download_is_on_the_disk_before_its_object_goes(tmp_path: Path, synced: list[str]) -> None:
    """What was read is not waited for; before the object is deleted its file and the file's name are, once."""
    downloads = Downloads()
    download(downloads, tmp_path / "file", "key")
    assert synced == []
    downloads.secure("bucket", "other")
    downloads.secure("other", "key")
    assert synced == []
    downloads.secure("bucket", "key")
    downloads.secure("bucket", "key")
    assert synced == ["file", tmp_path.name]


def test_a_file_that_another_one_replaced(tmp_path: Path, synced: list[str]) -> None:
    """A download that has lost its name to the next one is nobody's any more; the last one counts."""
    downloads = Downloads()
    for key in ("a", "b"):
        download(downloads, tmp_path / "file", key)
    downloads.secure("bucket", "a")
    assert synced == []
    downloads.secure("bucket", "b")
    assert synced == ["file", tmp_path.name]


@pytest.mark.parametrize("change", ["removed", "replaced", "link"])
def test_a_file_that_its_owner_took_away(tmp_path: Path, synced: list[str], change: str) -> None:
    """What somebody else has put under the name is not touched."""
    downloads = Downloads()
    path = tmp_path / "file"
    download(downloads, path, "key")
    other = tmp_path / "other"
    other.write_bytes(b"other")
    path.unlink()
    if change == "replaced":
        other.rename(path)
    elif change == "link":
        path.symlink_to(other)
    downloads.secure("bucket", "key")
    assert synced == []


def test_a_disk_that_fails_keeps_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file cannot be brought to the disk that is raised, each time, so that the object stays."""
    downloads = Downloads()
    download(downloads, tmp_path / "file", "key")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            downloads.secure("bucket", "key")


def test_what_is_noted_is_bounded(tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of downloads the oldest one is brought to the disk, instead of being forgotten."""
    monkeypatch.setattr(local_files, "_MOST_NOTED", 2)
    downloads = Downloads()
    for key in ("a", "b", "c"):
        download(downloads, tmp_path / key, key)
    assert synced == ["a", tmp_path.name]
    assert len(downloads._noted) == len(downloads._names) == 2


class TakesLittle(io.RawIOBase):
    """Takes a part of what is written, and nothing once it is full."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.content = b""

    def write(self, data: ReadableBuffer, /) -> int | None:
        """Take a part, and tell how much."""
        taken = bytes(data)[: min(3, self.room - len(self.content))]
        self.content += taken
        return len(taken) or None


def test_a_file_that_takes_a_part_of_what_is_written() -> None:
    """An unbuffered file may take less than it is given: it is given the rest, or the caller is told."""
    file = TakesLittle(room=10)
    write = local_files.writing_all(file)
    write(b"01234567")
    assert file.content == b"01234567"
    with pytest.raises(BlockingIOError):
        write(b"89abc")


def test_what_is_no_file_is_not_noted() -> None:
    """A device has nothing to bring to a disk."""
    made: list[object] = []
    with local_files.written_whole("/dev/null", made=made.append) as consume:
        consume(b"x")
    assert made == []
