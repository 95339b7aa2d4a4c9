"""The spool's root: what is refused, and that nothing leads out of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import SpoolError
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import write


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


class TestRefused:
    def test_missing(self, tmp_path: Path) -> None:
        """A spool that is missing is refused, with a word about mounts."""
        with pytest.raises(SpoolError, match=r"does not exist.*mount"):
            SpoolRoot(str(tmp_path / "gone"))

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
