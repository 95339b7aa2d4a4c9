"""The lock file: who can open it, what its lock belongs to, what is written in it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.core import files
from s3_uploader.core.model import Left
from s3_uploader.spool import lock_file
from s3_uploader.spool.layouts.base import Globs
from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.layouts.queue import QueueLayout
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.lock_file import Holder
from s3_uploader.spool.root import SpoolRoot, listed

NO_GLOBS = Globs(include=[], exclude=[])


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[int]:
    """Descriptor of a spool."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def opened(spool: int) -> Iterator[int]:
    """Its lock file, open."""
    descriptor = lock_file.open_lock_file(spool, base_dir="/spool")
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
@pytest.mark.parametrize("mode", [None, 0o666, 0o640])
def test_only_the_owner_can_open_it(spool: int, tmp_path: Path, umask: int, mode: int | None) -> None:
    """Whatever the umask is, and however it was made before, nobody else can open it, and its owner can."""
    path = tmp_path / lock_file.LOCK_NAME
    if mode is not None:
        path.touch()
        path.chmod(mode)
    before = os.umask(umask)
    try:
        os.close(lock_file.open_lock_file(spool, base_dir="/spool"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_it_belongs_to_the_owner_of_the_spool(spool: int, tmp_path: Path) -> None:
    """A file that root made does not keep out the spool's own user."""
    os.chown(tmp_path, 4321, 4322)
    os.close(lock_file.open_lock_file(spool, base_dir="/spool"))
    status = (tmp_path / lock_file.LOCK_NAME).stat()
    assert (status.st_uid, status.st_gid) == (4321, 4322)


@pytest.mark.parametrize("by_process", [False, True])
def test_the_lock_can_be_asked_for(spool: int, opened: int, by_process: bool) -> None:
    """Whether it is held is told without taking it; a process does not see a lock that is its own."""
    other = lock_file.open_lock_file(spool, base_dir="/spool")
    try:
        assert lock_file.try_lock(opened, shared=False, by_process=by_process) is True
        assert lock_file.is_held(other, by_process=by_process) is not by_process
        lock_file.unlock(opened, by_process=by_process)
        assert not lock_file.is_held(other, by_process=by_process)
    finally:
        os.close(other)


def test_closing_another_descriptor_drops_nothing(spool: int, opened: int) -> None:
    """The lock belongs to the open file: a look at the file from the same process leaves it alone."""
    assert lock_file.try_lock(opened, shared=False, by_process=False)
    looked_at = lock_file.look_at_lock_file(spool)
    assert looked_at is not None
    os.close(looked_at)
    other = lock_file.open_lock_file(spool, base_dir="/spool")
    try:
        assert lock_file.try_lock(other, shared=True, by_process=False) is False
    finally:
        os.close(other)


def test_without_locks_of_open_files_there_are_those_of_processes(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older kernel or interpreter has the older kind."""
    monkeypatch.setattr(files, "_OF_OPEN_FILE", None)
    monkeypatch.setattr(files, "_WHOSE_OF_OPEN_FILE", None)
    assert lock_file.try_lock(opened, shared=False, by_process=False) is True
    assert not lock_file.is_held(opened, by_process=False)


@pytest.mark.parametrize(("number", "answer"), [(errno.EACCES, False), (errno.ENOLCK, None), (errno.EINVAL, None)])
def test_what_the_kernel_answers(
    opened: int, monkeypatch: pytest.MonkeyPatch, number: int, answer: bool | None
) -> None:
    """A lock that is held and a file system without locks are told apart."""

    def refuse(*arguments: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert lock_file.try_lock(opened, shared=False, by_process=False) is answer
    assert not lock_file.is_held(opened, by_process=False)


def test_a_disk_that_fails_is_no_held_lock(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error comes out as it is."""

    def fail(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "fcntl", fail)
    with pytest.raises(OSError, match="Input/output error"):
        lock_file.try_lock(opened, shared=False, by_process=False)


def test_only_the_file_under_its_name_counts(spool: int, opened: int, tmp_path: Path) -> None:
    """A file that was removed, or replaced, is not the one that others lock."""
    assert lock_file.is_in_place(opened, spool)
    path = tmp_path / lock_file.LOCK_NAME
    path.unlink()
    assert not lock_file.is_in_place(opened, spool)
    path.touch()
    assert not lock_file.is_in_place(opened, spool)


def test_a_note_is_written_over_notes_only(spool: int, opened: int, tmp_path: Path) -> None:
    """What is in the file is replaced if it is a note of ours, and left alone if it is not."""
    path = tmp_path / lock_file.LOCK_NAME
    lock_file.write_note(opened, Holder(pid=12345, command="s3-uploader-cli config.json"))
    lock_file.write_note(opened, Holder(pid=1))
    assert lock_file.read_note(opened) == Holder(pid=1)
    lock_file.write_note(opened, None)
    assert path.read_bytes() == b""
    assert lock_file.read_note(opened) is None
    path.write_bytes(b"somebody's")
    lock_file.write_note(opened, Holder(pid=1))
    assert path.read_bytes() == b"somebody's"


@pytest.mark.parametrize("note", [b"{", b'{"pid": "x"}', b'"\xff"', b'{"x":' + b"[" * 10_000])
def test_a_note_that_is_none_is_no_note(opened: int, tmp_path: Path, note: bytes) -> None:
    """Whoever may write to the spool may write anything into its lock file; it holds up nobody."""
    (tmp_path / lock_file.LOCK_NAME).write_bytes(note)
    assert lock_file.read_note(opened) is None


def test_what_is_not_known_of_a_holder_is_left_out() -> None:
    """A holder is described by what is known of it."""
    assert Holder(pid=7).described(now=0.0) == "process 7"


def test_the_locked_bytes_hold_a_byte_for_each_crc(opened: int) -> None:
    """The range lies behind all that is written, and can be divided by the CRC-32 of names."""
    assert lock_file.FIRST_BYTE > lock_file.MOST_NOTE_BYTES
    assert lock_file.RANGE == 2**32


@pytest.mark.parametrize(
    "layout",
    [
        TreeLayout(settle_seconds=0, globs=Globs(include=["*", ".*"], exclude=[])),
        QueueLayout(globs=NO_GLOBS),
        DatedLayout(settle_seconds=0, globs=NO_GLOBS, epoch_of=utc_epoch),
    ],
)
def test_no_layout_sees_it(spool: int, tmp_path: Path, layout: TreeLayout | QueueLayout | DatedLayout) -> None:
    """It is neither a candidate nor anything that was left; below the root such a name is nothing special."""
    os.close(lock_file.open_lock_file(spool, base_dir="/spool"))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / lock_file.LOCK_NAME).touch()
    root = SpoolRoot(str(tmp_path))
    skipped: list[tuple[tuple[str, ...], str]] = []

    def skip(names: tuple[str, ...], name: str, reason: Left, detail: str) -> None:
        skipped.append((names, name))

    try:
        assert list(layout.scan(root, skip)) == []
        assert ((), lock_file.LOCK_NAME) not in skipped
        assert [name for name, _ in listed(root, ("below",), skip)] == [lock_file.LOCK_NAME]
    finally:
        root.close()
