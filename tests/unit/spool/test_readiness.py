"""Whether a file is ready: the probe for a writer, a second look where writers are not seen, and its removal."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader.core import procfs
from s3_uploader.core.model import Fingerprint
from s3_uploader.spool import open_file
from s3_uploader.spool.check import unseen_in_words
from s3_uploader.spool.mounts import foreign_file_system
from s3_uploader.spool.open_file import Removable, Sightings, is_being_written, release_lease, take_lease
from s3_uploader.spool.probe import remove_left
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NOW


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "file"
    path.write_bytes(b"data")
    return path


@pytest.fixture
def reader(path: Path) -> Iterator[int]:
    """The file open for reading."""
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


class TestWriter:
    def test_nobody(self, reader: int) -> None:
        """A file that nobody writes is not being written, and no lease is left behind."""
        assert is_being_written(reader) is False
        assert fcntl.fcntl(reader, fcntl.F_GETLEASE) == fcntl.F_UNLCK

    @pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
    def test_writer(self, path: Path, reader: int, flags: int) -> None:
        """Anybody who has it open for writing is seen, until they close it."""
        writer = os.open(path, flags)
        assert is_being_written(reader) is True
        os.close(writer)
        assert is_being_written(reader) is False

    def test_mapping(self, path: Path, reader: int) -> None:
        """A shared mapping counts as a writer although its descriptor is closed."""
        with path.open("r+b") as file:
            mapping = mmap.mmap(file.fileno(), 0)
        assert is_being_written(reader) is True
        mapping.close()
        assert is_being_written(reader) is False

    def test_other_readers(self, path: Path, reader: int) -> None:
        """Readers are no writers."""
        with path.open("rb"):
            assert is_being_written(reader) is False

    def test_one_that_comes_meanwhile(self, path: Path, reader: int) -> None:
        """A writer that comes while the lease is held is noticed, and its signal does no harm."""
        assert take_lease(reader) is True
        with pytest.raises(BlockingIOError):
            os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
        assert release_lease(reader) is False
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    def test_lease_that_was_taken_away(self, reader: int) -> None:
        """A lease that the kernel has taken away counts as disturbed."""
        assert release_lease(reader) is False


class TestNoTelling:
    def refuse(self, monkeypatch: pytest.MonkeyPatch, number: int, command: int = fcntl.F_SETLEASE) -> None:
        """Let the kernel refuse a command."""
        real = fcntl.fcntl

        def fake(descriptor: int, asked: int, argument: Any = 0) -> Any:
            if asked == command:
                raise OSError(number, os.strerror(number))
            return real(descriptor, asked, argument)

        monkeypatch.setattr(fcntl, "fcntl", fake)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP])
    def test_no_lease_here(self, reader: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        """Where a lease cannot be taken there is no telling, and that is no error."""
        self.refuse(monkeypatch, number)
        assert is_being_written(reader) is None

    def test_broken_disk(self, reader: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file system that fails is not mistaken for one without leases."""
        self.refuse(monkeypatch, errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            is_being_written(reader)

    def test_broken_disk_at_release(self, reader: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor when the lease is given back."""
        self.refuse(monkeypatch, errno.EIO, fcntl.F_GETLEASE)
        with pytest.raises(OSError, match="Input/output"):
            release_lease(reader)

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("20 1 {device} / /mnt rw,relatime shared:1 - nfs4 server:/x rw", None),
            ("20 1 {device} / /mnt rw - cifs //server/x rw", None),
            ("20 1 {device} / /mnt rw - ext4 /dev/sda1 rw", True),
            ("20 1 9999:9999 / /mnt rw - nfs4 server:/x rw", True),
            ("20 1 {device} / /mnt nonsense", True),
        ],
    )
    def test_network(
        self, reader: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, told: bool | None
    ) -> None:
        """Over NFSv4 and SMB the answer that means a writer elsewhere means nothing; no file is stranded by it."""
        device = os.fstat(reader).st_dev
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            "1 1 0:1 / / rw - tmpfs none rw\n" + line.format(device=f"{os.major(device)}:{os.minor(device)}") + "\n"
        )
        monkeypatch.setattr(procfs, "MOUNTS", str(mounts))
        self.refuse(monkeypatch, errno.EAGAIN)
        open_file._is_remote.cache_clear()
        assert is_being_written(reader) is told
        open_file._is_remote.cache_clear()

    def test_no_mount_table(self, reader: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a table of mounts the kernel's word is taken."""
        monkeypatch.setattr(procfs, "MOUNTS", "/nowhere")
        self.refuse(monkeypatch, errno.EAGAIN)
        open_file._is_remote.cache_clear()
        assert is_being_written(reader) is True
        open_file._is_remote.cache_clear()


SETTLE = 10.0


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system is one on which others may write, with a clock like ours."""
    monkeypatch.setattr(open_file, "foreign_file_system", lambda descriptor: "nfs4")
    monkeypatch.setattr(Sightings, "_clock_behind", lambda self, now: 0.0)


def changed(age: float, *, size: int = 1) -> Fingerprint:
    """A file that was changed so long ago."""
    moment = int((NOW - age) * 1e9)
    return Fingerprint(device=1, inode=2, size=size, mtime_ns=moment, ctime_ns=moment)


def later(root: SpoolRoot, before: Sightings) -> Sightings:
    """What the next run knows."""
    return Sightings(root, settle_seconds=SETTLE, known=before.dump())


@pytest.mark.usefixtures("foreign")
class TestElsewhere:
    def test_two_looks(self, root: SpoolRoot) -> None:
        """The first look lets a file wait; the second one ships it if it is the same and late enough."""
        first = Sightings(root, settle_seconds=SETTLE)
        file = changed(15)
        assert "nfs4" in first.why_wait("a", file, 0, now=NOW)
        assert first.why_wait("a", file, 0, now=NOW + 1)
        assert later(root, first).why_wait("a", file, 0, now=NOW + 9)
        assert later(root, later(root, first)).why_wait("a", file, 0, now=NOW + 20)  # the one between saw nothing
        assert later(root, first).why_wait("a", file, 0, now=NOW + 11) == ""
        assert later(root, first).why_wait("b", file, 0, now=NOW + 11)

    def test_a_change(self, root: SpoolRoot) -> None:
        """Whatever has changed in between, or a clock that was set back, begins the wait anew."""
        first = Sightings(root, settle_seconds=SETTLE)
        first.why_wait("a", changed(15), 0, now=NOW)
        second = later(root, first)
        grown = changed(15, size=2)
        assert second.why_wait("a", grown, 0, now=NOW + 20)
        assert later(root, second).why_wait("a", grown, 0, now=NOW + 25)
        assert later(root, second).why_wait("a", grown, 0, now=NOW - 100)
        assert later(root, second).why_wait("a", grown, 0, now=NOW + 31) == ""

    def test_a_wait_goes_on(self, root: SpoolRoot) -> None:
        """Runs that look more often than the settle time count from the first look."""
        seen = Sightings(root, settle_seconds=SETTLE)
        seen.why_wait("a", changed(15), 0, now=NOW)
        for seconds in (4, 8):
            seen = later(root, seen)
            assert seen.why_wait("a", changed(15), 0, now=NOW + seconds)
        assert later(root, seen).why_wait("a", changed(15), 0, now=NOW + 12) == ""

    def test_long_ago(self, root: SpoolRoot) -> None:
        """A file that was unchanged for another minute is shipped at the first look; one from the future is not."""
        known = Sightings(root, settle_seconds=SETTLE)
        assert known.why_wait("a", changed(71), 0, now=NOW) == ""
        assert known.why_wait("a", msgspec.structs.replace(changed(71), ctime_ns=int(NOW * 1e9)), 0, now=NOW) == ""
        assert known.why_wait("a", changed(-3600), 0, now=NOW)

    def test_odd_notes(self, root: SpoolRoot) -> None:
        """A note that makes no sense is none; where there is nothing to remember there is no note."""
        assert Sightings(root, settle_seconds=SETTLE, known='{"a": 1}').why_wait("a", changed(15), 0, now=NOW)
        assert Sightings(root, settle_seconds=SETTLE).dump() == ""

    def test_a_name_that_is_no_text(self, root: SpoolRoot) -> None:
        """A name of any bytes is remembered like any other."""
        first = Sightings(root, settle_seconds=SETTLE)
        name = os.fsdecode(b"a\xff\xc3\xa4")
        assert first.why_wait(name, changed(15), 0, now=NOW)
        assert later(root, first).why_wait(name, changed(15), 0, now=NOW + 11) == ""


def test_clock_of_the_file_system(root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose clock is behind makes its files look older than they are; it is asked for its time."""
    monkeypatch.setattr(open_file, "foreign_file_system", lambda descriptor: "nfs4")
    (tmp_path / "file").write_text("x")
    status = os.stat(tmp_path / "file")
    an_hour_ahead = status.st_ctime + 3600
    known = Sightings(root, settle_seconds=SETTLE)
    assert known.why_wait("file", Fingerprint.of(status), 0, now=an_hour_ahead)
    assert sorted(os.listdir(tmp_path)) == ["d", "file"]


def test_what_a_killed_run_leaves_of_its_clock(
    root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file whose time was read is one of those that the next run removes."""
    monkeypatch.setattr(open_file, "foreign_file_system", lambda descriptor: "nfs4")
    known = Sightings(root, settle_seconds=SETTLE)
    with monkeypatch.context() as killed:
        killed.setattr(os, "unlink", lambda *arguments, **options: None)
        assert known.why_wait("file", changed(15), 0, now=NOW)
    (left,) = {"d", *os.listdir(tmp_path)} - {"d"}
    assert remove_left(root, (), left)


def test_here(root: SpoolRoot, tmp_path: Path) -> None:
    """On a disk of this host nothing waits, and nothing is written."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    known = Sightings(root, settle_seconds=SETTLE)
    if foreign_file_system(descriptor):
        pytest.skip("the temporary directory lies on a network file system")
    assert known.why_wait("a", changed(0), descriptor, now=NOW) == ""
    assert known.dump() == ""
    os.close(descriptor)


def test_words() -> None:
    """What a person is told names the file system, or the file and the permission."""
    assert "nfs4" in unseen_in_words("nfs4", "a")
    assert "CAP_LEASE" in unseen_in_words("", "a")


class Disk:
    """Answers of ``fstatvfs``."""

    def __init__(self, *, read_only: bool) -> None:
        self.f_flag = os.ST_RDONLY if read_only else 0


def test_writable(root: SpoolRoot) -> None:
    """An ordinary directory is accepted, and so is one that has vanished."""
    assert Removable(root).why_not(("d",), owner=os.geteuid()) is None
    assert Removable(root).why_not(("gone",), owner=os.geteuid()) is None


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


@pytest.mark.parametrize("flag", [0x10, 0x20])
def test_attributes(root: SpoolRoot, monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    """What chattr has made immutable or append-only keeps its names, also for root."""
    monkeypatch.setattr(fcntl, "ioctl", lambda descriptor, request, buffer: flag.to_bytes(4, "little") + bytes(4))
    reason = Removable(root).why_not(("d",), owner=os.geteuid())
    assert reason is not None
    assert "chattr" in reason[0]


def test_a_part_that_is_read_only(root: SpoolRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of btrfs is read-only, though the flags of its file system do not say so: nobody changes a mode."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    directory = root.directory(("d",))
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(root, "directory", lambda names: directory)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        reason = Removable(root).why_not(("d",), owner=os.geteuid())
    assert reason is not None
    assert "read-only" in reason[0]
    reason = Removable(root).why_not(("d",), owner=os.geteuid())
    assert reason is not None
    assert "may not write" in reason[0]


def test_sticky(root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sticky directory of somebody else only one's own files can be removed."""
    (tmp_path / "d").chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr("s3_uploader.spool.open_file.has_capability", lambda number: False)
    known = Removable(root)
    assert known.why_not(("d",), owner=12345) is None
    reason = known.why_not(("d",), owner=4711)
    assert reason is not None
    assert "sticky" in reason[0]
    monkeypatch.setattr("s3_uploader.spool.open_file.has_capability", lambda number: True)
    assert Removable(root).why_not(("d",), owner=4711) is None
