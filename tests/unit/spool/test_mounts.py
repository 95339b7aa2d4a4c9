"""Mounts: a directory is used only on the file system on which it was used before."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from s3_uploader.core import procfs
from s3_uploader.core.errors import NotMounted, StateError
from s3_uploader.core.procfs import Mount, mount_of
from s3_uploader.spool import mounts
from s3_uploader.spool.mounts import (
    FILE_NAME,
    UNKNOWN,
    Directory,
    FileSystem,
    KnownMounts,
    ReadOnlySpool,
    file_system_of,
    foreign_file_system,
    mounted_below,
    patience,
    refuse_read_only,
    refuse_silent,
    why_wrong,
)
from s3_uploader.spool.root import SpoolRoot

ROOT = FileSystem(type="ext4", device="8:1", source="/dev/sda1", is_root=True, identity="aa")
DISK = FileSystem(type="ext4", device="8:17", source="/dev/sdb1", is_root=False, identity="bb")


def changed(before: FileSystem, **changes: Any) -> FileSystem:
    """The same file system but for something."""
    return msgspec.structs.replace(before, **changes)


@pytest.mark.parametrize(
    ("before", "now", "wrong"),
    [
        (None, ROOT, ""),
        (None, DISK, ""),
        (ROOT, ROOT, ""),
        (ROOT, DISK, ""),
        (DISK, DISK, ""),
        (DISK, changed(DISK, device="8:33", source="/dev/sdc1"), ""),
        (DISK, changed(DISK, identity=""), ""),
        (DISK, ROOT, "is on the root file system now"),
        (DISK, changed(DISK, identity="cc"), "another disk"),
        (DISK, changed(DISK, type="xfs"), "another file system"),
        (changed(DISK, identity=""), ROOT, "is on the root file system now"),
    ],
)
def test_what_was_seen(before: FileSystem | None, now: FileSystem, wrong: str) -> None:
    """A disk may appear, and may have another number after a boot. It must not disappear or be replaced."""
    found = why_wrong(before, now, must_be_mount=None)
    assert wrong in found
    assert bool(found) is bool(wrong)
    assert why_wrong(before, now, must_be_mount=False) == ""


def test_what_is_configured() -> None:
    """The setting refuses the root's file system from the first time on."""
    assert why_wrong(None, ROOT, must_be_mount=True)
    assert why_wrong(ROOT, ROOT, must_be_mount=True)
    assert not why_wrong(None, DISK, must_be_mount=True)


def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen is remembered by path; a wrong state is not; a file that is damaged is none."""
    lies_on: FileSystem | None = DISK
    monkeypatch.setattr(mounts, "file_system_of", lambda path: lies_on)
    here = Directory("base_dir", "/spool", None)
    known = KnownMounts(str(tmp_path))
    known.note(known.verify([here]))
    lies_on = ROOT
    with pytest.raises(NotMounted, match="base_dir /spool is on the root file system now; it was on"):
        KnownMounts(str(tmp_path)).verify([here])
    KnownMounts(str(tmp_path)).verify([Directory("base_dir", "/other", None)])
    lies_on = None
    with pytest.raises(NotMounted, match="is not there"):
        KnownMounts(str(tmp_path)).verify([here])
    assert not KnownMounts(str(tmp_path)).verify([Directory("base_dir", "/other", None)])
    lies_on = ROOT
    allowed = KnownMounts(str(tmp_path))
    allowed.note(allowed.verify([Directory("base_dir", "/spool", False)]))
    KnownMounts(str(tmp_path)).verify([here])
    (tmp_path / FILE_NAME).write_text("{no JSON")
    KnownMounts(str(tmp_path)).verify([here])
    odd = Directory("base_dir", os.fsdecode(b"/spool\xff"), None)
    lies_on = DISK
    known = KnownMounts(str(tmp_path))
    known.note(known.verify([odd]))
    lies_on = ROOT
    with pytest.raises(NotMounted):
        KnownMounts(str(tmp_path)).verify([odd])
    KnownMounts("/nonexistent").note({"a": ROOT})


def test_a_directory_that_a_run_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a run has made it, it lies where the nearest directory above it does: its disk is known before."""
    lies_on = {str(tmp_path): DISK}
    monkeypatch.setattr(mounts, "file_system_of", lies_on.get)
    made = Directory("move_to", str(tmp_path / "year" / "sent"), None, is_made=True)
    known = KnownMounts(str(tmp_path))
    known.note(known.verify([made]))
    KnownMounts(str(tmp_path)).verify([made])
    lies_on[str(tmp_path)] = ROOT
    with pytest.raises(NotMounted, match="is on the root file system now"):
        KnownMounts(str(tmp_path)).verify([made])


def test_what_a_directory_lies_on(tmp_path: Path) -> None:
    """The file system of a directory is known; that of one that is not there is not."""
    found = file_system_of(str(tmp_path))
    assert found is not None
    assert found.type
    root = file_system_of("/")
    assert root is not None
    assert root.is_root
    assert "root" in root.words
    assert file_system_of(str(tmp_path / "gone")) is None
    assert mount_of(os.open("/", os.O_RDONLY), close=True) is not None
    assert mount_of(1_000_000) is None


def test_a_look_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be told is not taken for a disk of its own, which would be remembered; nor is it forgotten."""
    here = Directory("base_dir", str(tmp_path), None)
    known = KnownMounts(str(tmp_path))
    asked: list[int] = []

    def fails_for_the_root(descriptor: int, *, close: bool = False) -> Mount | None:
        asked.append(descriptor)
        return None if close else mount_of(descriptor)

    monkeypatch.setattr(mounts, "mount_of", fails_for_the_root)
    known.note(known.verify([here]))
    assert len(asked) == 2
    assert not (tmp_path / FILE_NAME).exists()
    known.note({f"base_dir {tmp_path}": DISK})
    with pytest.raises(NotMounted, match="does not show; it was on"):
        KnownMounts(str(tmp_path)).verify([here])
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StateError, match=r"mounts\.json cannot be read: Is a directory"):
        KnownMounts(str(tmp_path))
    (tmp_path / FILE_NAME).rmdir()
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(StateError, match=r"mounts\.json cannot be read: Is a named pipe"):
        KnownMounts(str(tmp_path))


class Dead:
    """The kernel, in which one path gets no answer until it is let go."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.asked = 0
        self.alive = threading.Event()
        self._stat = os.stat
        self._test = threading.get_ident()

    def stat(self, path: Any, **how: Any) -> os.stat_result:
        """Answer about any other path."""
        if path == self.path and threading.get_ident() != self._test:
            self.asked += 1
            self.alive.wait(20)
        return self._stat(path, **how)


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dead:
    """A directory whose disk does not answer."""
    kernel = Dead(str(tmp_path))
    monkeypatch.setattr(os, "stat", kernel.stat)
    return kernel


def test_a_disk_that_does_not_answer(dead: Dead) -> None:
    """It is named within the time, asked once however many passes there are, and used again when it answers."""
    directories = [Directory("base_dir", "/", None), Directory("The destination", dead.path, None)]
    for _ in range(3):
        with pytest.raises(NotMounted, match=f"^The destination {dead.path} does not answer") as caught:
            refuse_silent(directories, seconds=0.3)
        assert not caught.value.is_spool
    assert dead.asked == 1
    dead.alive.set()
    ((ended, _),) = mounts._UNANSWERED.values()
    assert ended.wait(10)
    refuse_silent(directories, seconds=5)
    assert dead.asked == 2


@pytest.mark.parametrize(("budget", "seconds"), [(None, 30), (100, 30), (20, 20), (0.000001, 1)])
def test_patience(budget: float | None, seconds: float) -> None:
    """A budget shortens the wait for a directory, but not to less than one that answers may need."""
    assert patience(budget) == seconds


def test_a_stop_while_a_disk_is_waited_for(dead: Dead) -> None:
    """Nobody waits for the rest of the time."""
    begun = time.monotonic()
    with pytest.raises(NotMounted, match="base_dir") as caught:
        refuse_silent([Directory("base_dir", dead.path, None)], stopped=lambda: 1)
    assert caught.value.is_spool
    assert time.monotonic() - begun < 5
    dead.alive.set()


def test_a_stop_makes_no_disk_a_dead_one(dead: Dead) -> None:
    """A disk that answers a moment after the stop is not called silent."""
    answer = threading.Timer(0.2, dead.alive.set)
    answer.start()
    refuse_silent([Directory("base_dir", dead.path, None)], stopped=lambda: 1)
    answer.join()


def test_a_directory_that_is_missing_answers(tmp_path: Path) -> None:
    """An error is an answer: others say what it means."""
    refuse_silent([Directory("base_dir", str(tmp_path / "none"), None), Directory("move_to", "a\0b", None)], seconds=5)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ({0: "ext4"}, ""),
        ({0: ""}, UNKNOWN),
        ({0: "fuse.sshfs"}, "fuse.sshfs"),
        ({0: "cifs"}, "cifs"),
        ({0: "overlay"}, ""),
        ({0: "overlay", 1: "nfs4"}, "overlay of nfs4"),
    ],
)
def test_types(types: dict[int, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of another host is known by its type, also below an overlay; one that is not known may be one."""
    overlay = Mount(device="0:1", root="/", point="/", type="overlay", source="o", options="rw,lowerdir=/,workdir=/w")
    monkeypatch.setattr(mounts, "mount_of", lambda descriptor: overlay)
    monkeypatch.setattr(mounts, "file_system_at", lambda descriptor: types.get(0 if descriptor == 0 else 1, "ext4"))
    assert foreign_file_system(0) == expected


def test_read_only(root: SpoolRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool on a file system that is read-only is refused as a whole."""
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(ReadOnlySpool, match="nothing can be removed"):
        refuse_read_only(root)


def test_what_is_mounted_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only mounts in the directory count, not itself, nor a directory that merely begins with its name."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (tmp_path / "link").symlink_to("spool")
    points = [spool / "in side", spool / "z", tmp_path / "spool-2", spool, tmp_path, Path("/")]
    escaped = [str(point).replace(" ", "\\040") for point in points]
    (tmp_path / "mounts").write_text("".join(f"20 1 8:1 / {point} rw - ext4 /dev/x rw\n" for point in escaped))
    monkeypatch.setattr(procfs, "MOUNTS", str(tmp_path / "mounts"))
    assert mounted_below(str(tmp_path / "link")) == [f"{spool}/in side", f"{spool}/z"]
    monkeypatch.setattr(procfs, "MOUNTS", "/nowhere")
    assert mounted_below(str(spool)) == []
