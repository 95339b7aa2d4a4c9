"""Opening a file of the spool, and asking whether it is still the same."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_uploader.core.model import Left
from s3_uploader.spool import open_file
from s3_uploader.spool.open_file import Closing, OpenFile, open_candidate
from s3_uploader.spool.root import SpoolRoot, why_not_opened
from tests.changes import append, overwrite, overwrite_and_put_mtime_back
from tests.fakes import candidate, write


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SpoolRoot]:
    """The spool."""
    opened = SpoolRoot(str(tmp_path))
    yield opened
    opened.close()


def opened(root: SpoolRoot, path: str) -> OpenFile:
    """The file, which must be one that can be opened."""
    file = open_candidate(root, candidate(path))
    assert isinstance(file, OpenFile)
    return file


class TestOpen:
    def test_file(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A regular file is open with the fingerprint that it has."""
        status = write(tmp_path / "a/x").stat()
        file = opened(root, "a/x")
        assert (file.fingerprint.inode, file.fingerprint.size) == (status.st_ino, 4)
        assert file.fingerprint.ctime_ns == status.st_ctime_ns
        assert file.why_changed() is None
        file.close()
        file.close()

    def test_what_is_no_file(self, root: SpoolRoot, tmp_path: Path) -> None:
        """Links, FIFOs, sockets, devices and directories are not opened, or closed again unread."""
        before = len(os.listdir("/proc/self/fd"))
        (tmp_path / "link").symlink_to("/etc/passwd")
        (tmp_path / "below").symlink_to("/etc")
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "dir").mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            directory = os.open(tmp_path, os.O_RDONLY)
            # A path of a socket is short.
            listener.bind(f"/proc/self/fd/{directory}/socket")
            os.close(directory)
        for name in ("link", "below/passwd", "fifo", "dir", "socket"):
            answer = open_candidate(root, candidate(name))
            assert not isinstance(answer, OpenFile)
            assert answer[0] is Left.SPECIAL
        assert len(os.listdir("/proc/self/fd")) == before

    def test_gone(self, root: SpoolRoot) -> None:
        """A vanished file is no error."""
        assert open_candidate(root, candidate("gone")) == (Left.VANISHED, "it is gone")
        assert open_candidate(root, candidate("gone/too")) == (Left.VANISHED, "it is gone")

    def test_busy(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that somebody writes is left, and closed again."""
        with write(tmp_path / "x").open("ab"):
            assert open_candidate(root, candidate("x")) == (Left.BUSY, "a writer has it open")

    def test_broken(self, root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that fails costs this file only and leaves nothing open."""
        write(tmp_path / "x")

        def fail(descriptor: int) -> bool:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(open_file, "is_being_written", fail)
        before = len(os.listdir("/proc/self/fd"))
        assert open_candidate(root, candidate("x")) == (Left.UNREADABLE, "Input/output error")
        assert len(os.listdir("/proc/self/fd")) == before

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (errno.ENOENT, Left.VANISHED),
            (errno.ESTALE, Left.VANISHED),
            (errno.ELOOP, Left.SPECIAL),
            (errno.ENOTDIR, Left.SPECIAL),
            (errno.ENXIO, Left.SPECIAL),
            (errno.EWOULDBLOCK, Left.BUSY),
            (errno.ETXTBSY, Left.BUSY),
            (errno.EBUSY, Left.BUSY),
            (errno.EACCES, Left.UNREADABLE),
            (errno.EIO, Left.UNREADABLE),
            (errno.ENAMETOOLONG, Left.UNREADABLE),
        ],
    )
    def test_errors(self, number: int, reason: Left) -> None:
        """Each error of the system has its meaning; an unknown one is a failure and not overlooked."""
        assert why_not_opened(OSError(number, os.strerror(number)))[0] is reason


def _truncate(path: Path) -> None:
    os.truncate(path, 0)


def _touch(path: Path) -> None:
    os.utime(path)


CHANGES: list[Callable[[Path], None]] = [append, overwrite, overwrite_and_put_mtime_back, _truncate, _touch]


class TestChanges:
    @pytest.mark.parametrize("change", CHANGES)
    def test_seen(self, root: SpoolRoot, tmp_path: Path, change: Callable[[Path], None]) -> None:
        """Every change of the open file is seen, also one that puts the mtime back."""
        path = write(tmp_path / "x")
        file = opened(root, "x")
        change(path)
        assert file.why_changed() is Left.CHANGED
        assert not file.look_again()
        assert file.why_changed() is None
        assert file.look_again()
        file.close()

    def test_writer(self, root: SpoolRoot, tmp_path: Path) -> None:
        """Somebody who has it open for writing may change it any moment."""
        path = write(tmp_path / "x")
        file = opened(root, "x")
        with path.open("ab"):
            assert file.why_changed() is Left.BUSY
        file.close()

    def test_replaced(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file whose name now leads to another one has lost a link, which counts as a change."""
        path = write(tmp_path / "x")
        file = opened(root, "x")
        write(tmp_path / "new").rename(path)
        assert file.why_changed() is Left.CHANGED
        file.close()


class TestClose:
    @pytest.mark.parametrize("count", [1, 100])
    def test_all_are_closed_once(self, root: SpoolRoot, tmp_path: Path, count: int) -> None:
        """Many files are closed together; whoever waits for one is told once, however often it is closed."""
        told: list[int] = []
        files = []
        for number in range(count):
            write(tmp_path / str(number))
            file = opened(root, str(number))
            file.on_close = lambda number=number: told.append(number)
            files.append(file)
        descriptors = [file.descriptor for file in files]
        Closing(files).finish()
        Closing(files).finish()
        files[0].close()
        assert told == list(range(count))
        for descriptor in descriptors:
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.fstat(descriptor)

    def test_without_threads(self, root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system allows no more threads, files are closed one after the other."""
        names = [str(number) for number in range(40)]
        for name in names:
            write(tmp_path / name)
        files = [opened(root, name) for name in names]
        descriptors = [file.descriptor for file in files]

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        Closing(files).finish()
        for descriptor in descriptors:
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.fstat(descriptor)

    def test_one_that_fails_does_not_keep_the_others_open(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A descriptor that somebody else has closed is no reason to leave another one open."""
        names = [str(number) for number in range(5)]
        for name in names:
            write(tmp_path / name)
        files = [opened(root, name) for name in names]
        descriptors = [file.descriptor for file in files]
        os.close(descriptors[2])
        Closing(files).finish()
        for descriptor in descriptors:
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.fstat(descriptor)

    def test_only_what_belongs_to_the_files(self, root: SpoolRoot, tmp_path: Path) -> None:
        """Descriptors of others that lie between those that are closed stay open, whatever the order of the files."""
        names = [str(number) for number in range(100)]
        for name in names:
            write(tmp_path / name)
        files = [opened(root, name) for name in names]
        others = files[::7]
        closing = [file for file in files if file not in others]
        Closing(reversed(closing)).finish()
        for file in others:
            os.fstat(file.descriptor)
        assert [file.descriptor for file in closing] == [-1] * len(closing)
        Closing(others).finish()
