"""File-system events: what appears in the spool wakes, our own steps and what links lead to do not."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.events import Event, Notice
from s3_uploader.service.inotify import Follower, Inotify, events, file_system_events


class Spool:
    """A spool that is followed; what the kernel has to say is taken when a test asks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir()
        self.inotify = Inotify()
        self.woken = 0
        self.said: list[Event] = []
        self.follower = Follower(str(path), self.inotify, self.wake, self.said.append)

    def wake(self) -> None:
        """Count."""
        self.woken += 1

    def wakes(self, *actions: Callable[[], object]) -> bool:
        """Whether doing that wakes the loop. The kernel has an event ready when the system call returns."""
        before = self.woken
        for action in actions:
            action()
        with contextlib.suppress(BlockingIOError):
            self.follower.take(os.read(self.inotify.descriptor, 1 << 16))
        return self.woken > before


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool with one directory."""
    made = Spool(tmp_path / "spool")
    (made.path / "a").mkdir()
    made.follower.start()
    yield made
    made.inotify.close()


class TestFollower:
    def test_start(self, spool: Spool) -> None:
        """When everything is watched the loop is woken once: what came before may have been missed."""
        assert spool.woken == 1

    def test_what_appears(self, spool: Spool, tmp_path: Path) -> None:
        """A file that is written, moved in or linked wakes the loop, in every directory."""
        (tmp_path / "outside").touch()
        assert spool.wakes(lambda: (spool.path / "x").write_bytes(b"x"))
        assert spool.wakes(lambda: (spool.path / "a/x").write_bytes(b"x"))
        assert spool.wakes(lambda: os.link(tmp_path / "outside", spool.path / "linked"))
        assert spool.wakes(lambda: os.rename(tmp_path / "outside", spool.path / "a/moved"))

    def test_what_does_not_matter(self, spool: Spool) -> None:
        """Reading, removing, half-written and temporary files, and our own private names wake nobody."""
        (spool.path / "x").write_bytes(b"x")
        with (spool.path / "y").open("wb", buffering=0) as file:
            spool.wakes()
            assert not spool.wakes(lambda: file.write(b"more"))
        spool.wakes()
        assert not spool.wakes(lambda: (spool.path / "x").read_bytes())
        assert not spool.wakes(lambda: os.rename(spool.path / "x", spool.path / ".x.s3u"))
        assert not spool.wakes(lambda: os.rename(spool.path / ".x.s3u", spool.path / ".x.s3u2"))
        assert not spool.wakes(lambda: (spool.path / ".x.s3u2").unlink())
        assert not spool.wakes(lambda: (spool.path / "z.tmp").write_bytes(b"half"))
        assert not spool.wakes()

    def test_new_directories(self, spool: Spool, tmp_path: Path) -> None:
        """A directory that is made or moved in is watched at once, with those that it has already."""
        assert spool.wakes(lambda: (spool.path / "b/c/d").mkdir(parents=True))
        assert spool.wakes(lambda: (spool.path / "b/c/d/x").touch())
        (tmp_path / "elsewhere/deep").mkdir(parents=True)
        assert spool.wakes(lambda: (tmp_path / "elsewhere").rename(spool.path / "e"))
        assert spool.wakes(lambda: (spool.path / "e/deep/x").touch())

    def test_links(self, spool: Spool, tmp_path: Path) -> None:
        """What a link in the spool leads to is not watched, whether it was there before or appears later."""
        (tmp_path / "outside").mkdir()
        (spool.path / "a/link").symlink_to(tmp_path / "outside")
        spool.wakes()
        spool.follower.start()
        assert not spool.wakes(lambda: (tmp_path / "outside/x").touch())

    def test_removed_directories(self, spool: Spool) -> None:
        """Directories are created and removed without a leak; the removal of the spool itself wakes the loop."""
        for _ in range(100):
            (spool.path / "b").mkdir()
            spool.wakes()
            (spool.path / "b").rmdir()
            spool.wakes()
        assert len(spool.follower._paths) == 2
        (spool.path / "a").rmdir()
        spool.wakes()
        assert spool.wakes(lambda: spool.path.rmdir())

    def test_overflow(self, spool: Spool) -> None:
        """When the kernel's queue has overflowed the whole tree is looked at again."""
        (spool.path / "unseen").mkdir()
        os.read(spool.inotify.descriptor, 1 << 16)
        spool.follower.take(struct.pack("iIII", -1, 0x4000, 0, 0))
        assert spool.wakes(lambda: (spool.path / "unseen/x").touch())

    def test_unknown_watch(self, spool: Spool) -> None:
        """An event of a watch that is gone is a hint all the same."""
        spool.follower.take(struct.pack("iIII", 12345, 0x40000100, 0, 4) + b"d\0\0\0")
        assert spool.woken == 2

    def test_limit_of_watches(self, tmp_path: Path) -> None:
        """Without watches left it is said once, with the name of the limit, and what is watched stays watched."""

        class Limited(Inotify):
            def __init__(self) -> None:
                super().__init__()
                self.left = 1

            def add(self, path: bytes) -> int:
                if not self.left:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.left -= 1
                return super().add(path)

        spool = Spool(tmp_path / "spool")
        limited = Limited()
        spool.follower = Follower(str(spool.path), limited, spool.wake, spool.said.append)
        spool.inotify.close()
        spool.inotify = limited
        (spool.path / "a").mkdir()
        (spool.path / "b").mkdir()
        spool.follower.start()
        assert spool.wakes(lambda: (spool.path / "c").mkdir())
        limited.close()
        (notice,) = [event for event in spool.said if isinstance(event, Notice)]
        assert notice.message == (
            "The limit of inotify watches (fs.inotify.max_user_watches) is reached: "
            "in some directories new files are found by polling alone."
        )

    def test_end_while_starting(self, spool: Spool) -> None:
        """Watching a large tree can be given up in the middle."""
        spool.follower._paths.clear()
        spool.follower.start(go_on=lambda: False)
        assert spool.follower._paths == {}


def test_names() -> None:
    """Names are bytes, filled up with zeros; an event of the directory itself has none."""
    data = struct.pack("iIII", 1, 0x100, 0, 16) + b"a\xff".ljust(16, b"\0") + struct.pack("iIII", 2, 0x8000, 0, 0)
    assert list(events(data)) == [(1, 0x100, b"a\xff"), (2, 0x8000, b"")]


class TestThread:
    def test_begins_and_ends(self, tmp_path: Path) -> None:
        """Events arrive on a thread of their own; afterwards neither the thread nor a descriptor is left."""
        before = threading.active_count(), len(os.listdir("/proc/self/fd"))
        woken = threading.Semaphore(0)
        end = file_system_events(str(tmp_path), woken.release, lambda event: None)
        assert woken.acquire(timeout=10)
        (tmp_path / "x").touch()
        assert woken.acquire(timeout=10)
        end()
        assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before

    def test_no_directory(self, tmp_path: Path) -> None:
        """A directory that is missing has no events, and that is no error."""
        woken = threading.Semaphore(0)
        end = file_system_events(str(tmp_path / "gone"), woken.release, lambda event: None)
        assert woken.acquire(timeout=10)
        end()

    @pytest.mark.parametrize(
        ("number", "words"),
        [(errno.EMFILE, "the limit of inotify instances (fs.inotify.max_user_instances)"), (errno.ENOSYS, "Function")],
    )
    def test_none_to_be_had(self, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
        """Where there is no inotify left the loop polls, and the reason is said."""

        class Library:
            def __init__(self, *_: Any, **__: Any) -> None:
                self.inotify_init1 = lambda flags: -1
                self.inotify_add_watch = lambda *arguments: -1

        monkeypatch.setattr(ctypes, "CDLL", Library)
        monkeypatch.setattr(ctypes, "get_errno", lambda: number)
        said: list[Any] = []
        file_system_events("/nowhere", lambda: None, said.append)()
        (notice,) = said
        assert notice.message.startswith("There are no file-system events. New files are found only by polling: ")
        assert words in notice.message

    def test_without_descriptors_or_threads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing more can be opened or started, files are found by polling, and nothing stays open."""
        said: list[Event] = []

        def refuse(*_: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "pipe2", refuse)
            file_system_events(str(tmp_path), lambda: None, said.append)()
        assert len(os.listdir("/proc/self/fd")) == before

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("s3_uploader.service.inotify.start_thread", start)
        file_system_events(str(tmp_path), lambda: None, said.append)()
        reasons = [event.message.rpartition(": ")[2] for event in said if isinstance(event, Notice)]
        assert reasons == ["Too many open files.", "can't start new thread."]

    def test_other_systems(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A system that knows no inotify is polled."""
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
        said: list[Any] = []
        file_system_events("/nowhere", lambda: None, said.append)()
        assert "this system has no inotify" in said[0].message

    def test_watch_refused(self, tmp_path: Path) -> None:
        """A file is not watched, and the kernel's reason is passed on."""
        inotify = Inotify()
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            inotify.add(os.fsencode(tmp_path / "file"))
        inotify.close()
