"""The spool's root: what is refused, and that nothing leads out of it."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import SpoolError
from s3_uploader.core.model import Left
from s3_uploader.spool.root import SpoolRoot, listed, why_not_opened
from tests.fakes import Skips, write


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


class TestRefused:
    def test_missing(self, tmp_path: Path) -> None:
        """A spool that is missing is refused, with a word about mounts."""
        with pytest.raises(SpoolError, match=r"does not exist.*mount"):
            SpoolRoot(str(tmp_path / "gone"))

    @pytest.mark.parametrize(
        ("base", "hint"),
        [
            ("gone", "was started, {here}. Create it there, or write an absolute path."),
            ("$HOME/spool", "Environment variables are not expanded in it"),
            ("{here}/gone ", "a blank at its beginning or end"),
            ("~nosuch/spool", "There is no home directory of ~nosuch: correct base_dir."),
        ],
    )
    def test_missing_because_of_how_it_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, hint: str
    ) -> None:
        """What a person wrote and did not mean is said: nobody makes a directory of the name $HOME."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SpoolError, match="does not exist") as caught:
            SpoolRoot(base.format(here=tmp_path))
        assert hint.format(here=tmp_path) in caught.value.hint

    def test_file(self, tmp_path: Path) -> None:
        """A file is no spool, nor is what lies below one."""
        path = write(tmp_path / "file")
        for name in (path, path / "below"):
            with pytest.raises(SpoolError, match="is not a directory"):
                SpoolRoot(str(name))

    @pytest.mark.parametrize("ending", ["", "/", "//", "/.", "/./"])
    def test_link(self, tmp_path: Path, ending: str) -> None:
        """A link is refused however it is written, and what it leads to is named."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        with pytest.raises(SpoolError, match="symbolic link") as caught:
            SpoolRoot(str(tmp_path / "link") + ending)
        assert str(tmp_path / "real") in caught.value.hint

    @pytest.mark.parametrize("base", ["/", "//", "/.", "/tmp/.."])
    def test_filesystem_root(self, base: str) -> None:
        """The root of the file system is never a spool."""
        before = open_descriptors()
        with pytest.raises(SpoolError, match="root of the file system"):
            SpoolRoot(base)
        assert open_descriptors() == before

    @pytest.mark.parametrize(
        ("number", "message"), [(errno.EACCES, "cannot be read: Permission denied"), (errno.EIO, "cannot be opened")]
    )
    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
        """A spool that cannot be read is refused with the reason."""

        def fail(*_: Any, **__: Any) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(SpoolError, match=message):
            SpoolRoot(str(tmp_path))

    def test_loop_above(self, tmp_path: Path) -> None:
        """Links above the spool that lead in a circle are no link at its place."""
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(SpoolError, match="is not a directory"):
            SpoolRoot(str(tmp_path / "loop" / "spool"))


class TestPaths:
    def test_shown(self, tmp_path: Path) -> None:
        """Paths are shown as the user wrote the spool's."""
        root = SpoolRoot(f"{tmp_path}//")
        assert root.base_dir == str(tmp_path)
        assert root.shown((), "x") == f"{tmp_path}/x"
        assert root.shown(("a", "b")) == f"{tmp_path}/a/b"
        root.close()
        root.close()

    def test_open_and_stat(self, tmp_path: Path) -> None:
        """Files are reached through the descriptors of their directories."""
        write(tmp_path / "a/b/file", "12345")
        root = SpoolRoot(str(tmp_path))
        assert root.stat(("a", "b"), "file").st_size == 5
        descriptor = root.open_file(("a", "b"), "file")
        assert os.read(descriptor, 9) == b"12345"
        os.close(descriptor)
        assert root.directory(()) == root.descriptor
        root.close()

    def test_links_lead_nowhere(self, tmp_path: Path) -> None:
        """No link is followed, whatever its place in the path."""
        outside = tmp_path / "outside"
        write(outside / "b/secret")
        spool = tmp_path / "spool"
        write(spool / "a/file")
        (spool / "a/link").symlink_to(outside / "b/secret")
        (spool / "a/dir").symlink_to(outside / "b")
        (spool / "top").symlink_to(outside)
        root = SpoolRoot(str(spool))
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            root.open_file(("a",), "link")
        for names in (("a", "dir"), ("top",), ("top", "b")):
            with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
                root.directory(names)
        root.close()

    def test_swap(self, tmp_path: Path) -> None:
        """A directory that is swapped for a link is noticed at the next refresh at the latest."""
        outside = tmp_path / "outside"
        write(outside / "file", "secret")
        spool = tmp_path / "spool"
        write(spool / "a/file", "mine")
        root = SpoolRoot(str(spool))
        assert root.stat(("a",), "file").st_size == 4
        (spool / "a").rename(tmp_path / "moved")
        (spool / "a").symlink_to(outside)
        assert root.stat(("a",), "file").st_size == 4
        root.refresh()
        with pytest.raises(NotADirectoryError):
            root.stat(("a",), "file")
        root.close()


def test_descriptors_are_bounded(tmp_path: Path) -> None:
    """However many directories are visited, few are open, and none after the end."""
    before = open_descriptors()
    for number in range(200):
        (tmp_path / str(number) / "below").mkdir(parents=True)
    root = SpoolRoot(str(tmp_path))
    for number in range(200):
        root.directory((str(number), "below"))
        root.directory((str(number),))
        list(root.entries((str(number), "below")))
        with pytest.raises(FileNotFoundError):
            root.directory((str(number), "gone", "deeper"))
    assert open_descriptors() <= before + 70
    root.forget(("199",))
    root.forget(("never seen",))
    root.close()
    assert open_descriptors() == before


def test_likely_places(tmp_path: Path) -> None:
    """The key itself, what remains of it where the spool lies deeper, and one directory deeper in the spool."""
    (tmp_path / "top").mkdir()
    write(tmp_path / "file")
    root = SpoolRoot(str(tmp_path))
    places = ["/".join((*names, name)) for names, name in root.likely_places("a/b/c", one_deeper=True)]
    assert places == ["a/b/c", "b/c", "c", "top/a/b/c"]
    assert list(root.likely_places("a//c", one_deeper=True)) == [((), "c")]
    root.close()


class Handles:
    """Calls of the system of which so many are answered with ``ESTALE``, or another error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, *, stale: float, number: int = errno.ESTALE) -> None:
        self._real = getattr(os, call)
        self.stale = stale
        self._number = number
        monkeypatch.setattr(os, call, self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Answer."""
        if self.stale > 0:
            self.stale -= 1
            raise OSError(self._number, os.strerror(self._number))
        return self._real(*arguments, **options)


def test_cached_directories_take_no_descriptors_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no descriptor is left, those of the cached directories are given up; without any the error is told."""
    write(tmp_path / "a/b/x")
    root = SpoolRoot(str(tmp_path))
    for act in (
        lambda: root.directory(("a", "b")),
        lambda: list(root.entries(("a",))),
        lambda: os.close(root.open_file(("a",), "b")),
    ):
        root.refresh()
        root.directory(("a",))
        before = open_descriptors()
        with monkeypatch.context() as patch:
            Handles(patch, "open", stale=1, number=errno.EMFILE)
            act()
        assert open_descriptors() <= before
        root.refresh()
        with monkeypatch.context() as patch:
            Handles(patch, "open", stale=1, number=errno.EMFILE)
            with pytest.raises(OSError, match="Too many open files"):
                root.directory(("a", "b"))
    root.close()


class TestDirectories:
    def test_what_is_beside_another_is_opened_from_their_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A path is resolved once for all the directories that end it, until it is to be resolved anew."""
        write(tmp_path / "a/b/c/1/x")
        write(tmp_path / "a/b/c/2/x")
        root = SpoolRoot(str(tmp_path))
        real, names = os.open, []

        def opening(name: str, flags: int, *, dir_fd: int) -> int:
            names.append(name)
            return real(name, flags, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", opening)
        for _ in range(2):
            root.directory(("a", "b", "c", "1"))
            root.directory(("a", "b", "c", "2"))
            root.refresh()
        assert names == ["a", "b", "c", "1", "2"] * 2
        root.close()

    def test_made_anew(self, tmp_path: Path) -> None:
        """What was removed and made anew is found, although its directory was open."""
        write(tmp_path / "a/b/1/x")
        root = SpoolRoot(str(tmp_path))
        root.directory(("a", "b", "1"))
        shutil.rmtree(tmp_path / "a")
        write(tmp_path / "a/b/2/x")
        assert os.fstat(root.directory(("a", "b", "2"))).st_ino == (tmp_path / "a/b/2").stat().st_ino
        root.close()

    def test_gone(self, tmp_path: Path) -> None:
        """Directories that are not found leave no more open than may stay open."""
        root = SpoolRoot(str(tmp_path))
        root.most_cached = 3
        before = open_descriptors()
        for number in range(9):
            (tmp_path / f"{number}/there").mkdir(parents=True)
            with pytest.raises(FileNotFoundError):
                root.directory((str(number), "there", "gone"))
        assert open_descriptors() == before + 3
        root.close()


class TestStale:
    """A network file system calls a handle stale: of what was removed on its server, or replaced, or for no reason."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[SpoolRoot]:
        """A spool with one file in a directory that is known already."""
        write(tmp_path / "a/x")
        opened = SpoolRoot(str(tmp_path))
        opened.directory(("a",))
        yield opened
        opened.close()

    def test_a_handle_is_looked_up_anew(self, root: SpoolRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is stale once is looked up again, and nothing is missed for it."""
        for call in ("scandir", "open"):
            with monkeypatch.context() as patch:
                Handles(patch, call, stale=1)
                assert [entry.name for entry in root.entries(("a",))] == ["x"]
        with monkeypatch.context() as patch:
            Handles(patch, "stat", stale=1)
            assert root.stat(("a",), "x").st_size == 4
        with monkeypatch.context() as patch:
            Handles(patch, "open", stale=1)
            os.close(root.open_file(("a",), "x"))

    def test_what_was_removed_has_vanished(
        self, root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A directory that another host has removed is no error."""
        shutil.rmtree(tmp_path / "a")
        Handles(monkeypatch, "scandir", stale=1)
        with pytest.raises(FileNotFoundError) as caught:
            list(root.entries(("a",)))
        assert why_not_opened(caught.value)[0] is Left.VANISHED

    @pytest.mark.parametrize("names", [(), ("a",)])
    def test_what_stays_stale_is_told(
        self, root: SpoolRoot, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A directory whose handle stays stale is one that cannot be read: its files are not passed over in silence."""
        Handles(monkeypatch, "scandir", stale=math.inf)
        before = open_descriptors()
        skips = Skips()
        assert list(listed(root, names, skips)) == []
        assert list(skips.reasons().values()) == [Left.UNREADABLE]
        assert open_descriptors() <= before


def test_too_many_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without free descriptors is told so, though it can open no module either."""

    def fail(*arguments: object, **options: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.delitem(sys.modules, "s3_uploader.spool.not_opened", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(SpoolError) as caught:
            SpoolRoot(str(tmp_path))
    assert "cannot be opened: Too many open files" in caught.value.message
