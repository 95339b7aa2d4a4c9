"""Mounts: a directory is used only on the file system on which it was used before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader.core.errors import NotMounted, StateError
from s3_uploader.core.procfs import Mount, mount_of
from s3_uploader.spool import mounts
from s3_uploader.spool.mounts import FILE_NAME, Directory, FileSystem, KnownMounts, file_system_of, why_wrong

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
