"""What cannot be removed is found out before it is sent, with a remedy."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import FAILING_DISK
from s3_uploader.spool import removable
from s3_uploader.spool.removable import Removable, remedy, remedy_of
from s3_uploader.spool.root import ReadOnlySpool, SpoolRoot, refuse_read_only


class Disk:
    """Answers of ``fstatvfs``."""

    def __init__(self, *, read_only: bool) -> None:
        self.f_flag = os.ST_RDONLY if read_only else 0


def test_writable(root: SpoolRoot) -> None:
    """An ordinary directory is accepted, and so is one that has vanished."""
    assert Removable(root).why_not(("d",), owner=os.geteuid()) is None
    assert Removable(root).why_not(("gone",), owner=os.geteuid()) is None
    refuse_read_only(root)


@pytest.mark.parametrize("read_only", [False, True])
def test_not_writable(root: SpoolRoot, monkeypatch: pytest.MonkeyPatch, read_only: bool) -> None:
    """A directory that this user may not write to is told from a file system that nobody may; it is asked once."""
    asked: list[Any] = []

    def access(*arguments: Any, **options: Any) -> bool:
        asked.append(arguments)
        return False

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: Disk(read_only=read_only))
    known = Removable(root)
    reason = known.why_not(("d",), owner=os.geteuid())
    assert reason is not None
    assert ("read-only" in reason[0]) is read_only
    assert known.why_not(("d",), owner=0) == reason
    assert len(asked) == 1


def test_read_only(root: SpoolRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool on a file system that is read-only is refused as a whole."""
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: Disk(read_only=True))
    with pytest.raises(ReadOnlySpool, match="nothing can be removed"):
        refuse_read_only(root)


@pytest.mark.parametrize("flag", [0x10, 0x20])
def test_attributes(root: SpoolRoot, monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    """What chattr has made immutable or append-only keeps its names, also for root."""
    monkeypatch.setattr(fcntl, "ioctl", lambda descriptor, request, buffer: flag.to_bytes(4, "little") + bytes(4))
    reason = Removable(root).why_not(("d",), owner=os.geteuid())
    assert reason is not None
    assert "chattr" in reason[0]


def test_sticky(root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sticky directory of somebody else only one's own files can be removed."""
    (tmp_path / "d").chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(removable, "has_capability", lambda number: False)
    known = Removable(root)
    assert known.why_not(("d",), owner=12345) is None
    reason = known.why_not(("d",), owner=4711)
    assert reason is not None
    assert "sticky" in reason[0]
    monkeypatch.setattr(removable, "has_capability", lambda number: True)
    assert Removable(root).why_not(("d",), owner=4711) is None


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM])
def test_remedy(number: int) -> None:
    """Each error has a remedy of its own: no talk of rights where the disk is read-only or full."""
    words = remedy(OSError(number, os.strerror(number)))
    assert ("user" in words) is (number in (errno.EACCES, errno.EPERM))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EUCLEAN])
def test_remedy_where_the_disk_does_not_work(number: int) -> None:
    """A disk or share that fails is not mended by rights."""
    error = OSError(number, os.strerror(number))
    assert remedy(error) == remedy_of(error, denied="rights") == FAILING_DISK


def test_no_remedy_is_made_up() -> None:
    """Where the cause is not known, nothing is advised."""
    assert remedy(OSError(errno.ENOSYS, "no such function")) == ""
