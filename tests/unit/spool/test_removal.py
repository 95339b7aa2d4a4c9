"""Removing and moving files: only the very file that was opened, unchanged, is ever removed."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3_uploader.core import renaming
from s3_uploader.core.model import Fingerprint, Left
from s3_uploader.spool import move_target, removal
from s3_uploader.spool.move_target import MoveTarget
from s3_uploader.spool.open_file import OpenFile, open_candidate
from s3_uploader.spool.removal import move, remove
from s3_uploader.spool.root import SpoolRoot
from tests.changes import append, overwrite
from tests.fakes import candidate, paths_below, write


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The spool's directory."""
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def root(spool: Path) -> Iterator[SpoolRoot]:
    """The spool."""
    opened = SpoolRoot(str(spool))
    yield opened
    opened.close()


@pytest.fixture
def opened(root: SpoolRoot) -> Iterator[Callable[[str], OpenFile]]:
    """Opens files and closes them at the end."""
    files: list[OpenFile] = []

    def open_path(path: str) -> OpenFile:
        file = open_candidate(root, candidate(path))
        assert isinstance(file, OpenFile)
        files.append(file)
        return file

    yield open_path
    for file in files:
        file.close()


Opened = Callable[[str], OpenFile]


class At:
    """Calls something right before or right after a function of ``os``, once; everything else goes through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], None], *, after: bool) -> None:
        real = getattr(os, name)
        self.met = False

        def wrapper(*arguments: Any, **options: Any) -> Any:
            first, self.met = not self.met, True
            if first and not after:
                action()
            result = real(*arguments, **options)
            if first and after:
                action()
            return result

        monkeypatch.setattr(os, name, wrapper)


class TestRemove:
    def test_unchanged(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """An unchanged file is removed, and leaves no lease and no private name behind."""
        write(spool / "a/x")
        file = opened("a/x")
        assert remove(root, file) is None
        assert paths_below(spool) == set()
        assert fcntl.fcntl(file.descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK

    def test_a_name_that_is_there_and_is_not_found(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the file system denies a name that it shows, the file is not said to be gone."""
        write(spool / "x")
        file = opened("x")

        def deny(*names: str, **directories: int) -> None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", deny)
            with pytest.raises(FileNotFoundError):
                remove(root, file)
        assert paths_below(spool) == {"x"}

    def test_leftover(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A file that a killed run had taken is removed under its private name."""
        write(spool / ".x.s3u")
        assert remove(root, opened(".x.s3u")) is None
        assert paths_below(spool) == set()

    def test_long_name(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A name with no room for a private one is removed by itself, after the same look."""
        name = "x" * 255
        write(spool / name)
        file = opened(name)
        assert remove(root, file) is None
        write(spool / name, "one")
        file = opened(name)
        write(spool / "new", "two").rename(spool / name)
        assert remove(root, file) is Left.CHANGED
        assert (spool / name).read_text() == "two"

    def test_file_system_with_shorter_names(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same where the file system allows less than usual."""
        write(spool / "x")
        file = opened("x")
        real = os.stat

        def stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
            if path == ".x.s3u":
                raise OSError(errno.ENAMETOOLONG, "too long")
            return real(path, *arguments, **options)

        monkeypatch.setattr(os, "stat", stat)
        assert remove(root, file) is None
        assert paths_below(spool) == set()

    def test_gone(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A file whose directory was moved has vanished; wherever it is now, it stays there."""
        write(spool / "a/x")
        file = opened("a/x")
        (spool / "a").rename(spool / "b")
        root.refresh()
        assert remove(root, file) is Left.VANISHED
        assert paths_below(spool) == {"b/x"}

    @pytest.mark.parametrize("name", ["x" * 255, ".x.s3u"])
    @pytest.mark.parametrize("replaced", [False, True])
    def test_without_a_private_name(
        self,
        spool: Path,
        root: SpoolRoot,
        opened: Opened,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        replaced: bool,
    ) -> None:
        """A name that is not changed for the removal is looked at too, and what is there by then stays."""
        path = write(spool / name)
        file = opened(name)

        def change() -> None:
            if replaced:
                write(spool / "new", "next").rename(path)
            else:
                path.unlink()

        At(monkeypatch, "stat", change, after=False)
        assert remove(root, file) is Left.CHANGED
        assert paths_below(spool) == ({name} if replaced else set())

    def test_name_gone(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A removed name has vanished although another name of the file remains."""
        write(spool / "x")
        os.link(spool / "x", spool / "y")
        file = opened("x")
        # Removing a link changes the ctime, so this is the instant between the look and the rename.
        with pytest.MonkeyPatch.context() as patch:
            At(patch, "rename", (spool / "x").unlink, after=False)
            assert remove(root, file) is Left.VANISHED
        assert paths_below(spool) == {"y"}

    def test_lost_answer(self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """A removal that is found done already, as over NFS when an answer was lost, is done."""
        write(spool / "x")
        file = opened("x")
        real = os.unlink

        def unlink(*arguments: Any, **options: Any) -> None:
            real(*arguments, **options)
            raise FileNotFoundError(errno.ENOENT, "done already")

        monkeypatch.setattr(os, "unlink", unlink)
        assert remove(root, file) is None
        assert paths_below(spool) == set()

    def test_directory_swapped_for_a_link(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """Nothing outside the spool is removed through a directory that became a link."""
        write(spool / "a/x")
        file = opened("a/x")
        (spool / "a").rename(tmp_path / "outside")
        (spool / "a").symlink_to(tmp_path / "outside")
        root.refresh()
        with pytest.raises(NotADirectoryError):
            remove(root, file)
        assert (tmp_path / "outside/x").exists()

    @pytest.mark.parametrize("replaced", [False, True])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG])
    def test_no_room_for_a_private_name(
        self,
        spool: Path,
        root: SpoolRoot,
        opened: Opened,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        replaced: bool,
    ) -> None:
        """On a full disk, at a quota, or where names are shorter, it is removed by its own name, after that check."""
        path = write(spool / "a/x", "shipped")
        file = opened("a/x")
        new = write(spool / "new", "next")

        def refuse(*_: Any, **__: Any) -> None:
            if replaced:
                new.replace(path)
            raise OSError(number, os.strerror(number))

        real = os.rename
        monkeypatch.setattr(os, "rename", refuse)
        assert remove(root, file) is (Left.CHANGED if replaced else None)
        monkeypatch.setattr(os, "rename", real)
        assert paths_below(spool) == ({"a/x"} if replaced else {"new"})

    def test_read_only_directory(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where nothing may be removed that is an error, and the file is where it was."""
        write(spool / "a/x")
        file = opened("a/x")

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "rename", refuse)
        with pytest.raises(PermissionError):
            remove(root, file)
        assert paths_below(spool) == {"a/x"}
        assert fcntl.fcntl(file.descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK

    def test_unlink_fails(self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that could be taken but not removed gets its name back."""
        write(spool / "x")
        file = opened("x")
        real, calls = os.unlink, []

        def unlink(*arguments: Any, **options: Any) -> None:
            calls.append(arguments)
            if len(calls) == 1:
                raise OSError(errno.EIO, "Input/output error")
            real(*arguments, **options)

        monkeypatch.setattr(os, "unlink", unlink)
        with pytest.raises(OSError, match="Input/output"):
            remove(root, file)
        assert paths_below(spool) == {"x"}
        assert fcntl.fcntl(file.descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK

    def test_stat_fails(self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot be looked at after it was taken gets its name back."""
        write(spool / "x")
        file = opened("x")

        def fail(*_: Any) -> bool:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(removal, "_found", fail)
        with pytest.raises(OSError, match="Input/output"):
            remove(root, file)
        assert paths_below(spool) == {"x"}
        assert fcntl.fcntl(file.descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK

    def test_a_name_that_shows_other_times_than_its_file(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a name shows the times of its file late, the open file tells whether it has changed."""
        write(spool / "x")
        real, looks = removal._found, []

        def late(directory: int, name: str) -> Fingerprint | None:
            found = real(directory, name)
            looks.append(name)
            return found if found is None or len(looks) == 1 else msgspec.structs.replace(found, ctime_ns=1)

        monkeypatch.setattr(removal, "_found", late)
        assert remove(root, opened("x")) is None
        assert looks == [".x.s3u", ".x.s3u"]
        assert paths_below(spool) == set()


class TestLeftoversAreKept:
    def test_private_name_taken(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A leftover may be the only copy of something: no file is taken over it."""
        write(spool / ".x.s3u", "only copy")
        write(spool / "x", "shipped")
        assert remove(root, opened("x")) is None
        assert (spool / ".x.s3u").read_text() == "only copy"
        assert paths_below(spool) == {".x.s3u"}

    def test_all_private_names_taken(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """Where leftovers have all the names, the file stays."""
        for number in ("", *"23456789"):
            write(spool / f".x.s3u{number}")
        write(spool / "x")
        with pytest.raises(FileExistsError):
            remove(root, opened("x"))
        assert len(paths_below(spool)) == 10

    def test_leftover_that_cannot_be_looked_at(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If there is no telling whether a private name is free, the file stays."""
        write(spool / "x")
        file = opened("x")

        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "stat", fail)
        with pytest.raises(OSError, match="Input/output"):
            remove(root, file)
        monkeypatch.undo()
        assert paths_below(spool) == {"x"}


class TestProducer:
    """A producer that does something in the very moment of the removal."""

    def replace(self, spool: Path) -> None:
        """Replace the file by rename."""
        write(spool / "new", "next").rename(spool / "x")

    def test_writer_before(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """Somebody who has the file open keeps it."""
        path = write(spool / "x")
        file = opened("x")
        with path.open("ab"):
            assert remove(root, file) is Left.BUSY
        assert paths_below(spool) == {"x"}

    def test_changed_before(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A file that changed since it was shipped stays, and is not even renamed."""
        path = write(spool / "x")
        file = opened("x")
        path.write_text("more")
        assert remove(root, file) is Left.CHANGED
        assert paths_below(spool) == {"x"}
        assert fcntl.fcntl(file.descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK

    def test_replaced_right_before_the_rename(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that has taken the place of the shipped one gets its name back."""
        write(spool / "x")
        file = opened("x")
        real = os.rename

        def rename(*arguments: Any, **options: Any) -> None:
            if arguments[0] == "x":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(os, "rename", real)
                    self.replace(spool)
            real(*arguments, **options)

        monkeypatch.setattr(os, "rename", rename)
        assert remove(root, file) is Left.CHANGED
        assert paths_below(spool) == {"x"}
        assert (spool / "x").read_text() == "next"

    def test_replaced_before_and_again_after_the_rename(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If there is a newer file meanwhile, the one that was taken stays beside it as a leftover: both are kept."""
        write(spool / "x")
        file = opened("x")
        real = os.rename

        def rename(*arguments: Any, **options: Any) -> None:
            if arguments[0] == "x":
                write(spool / "x2", "second")
                real(spool / "x2", spool / "x")
            real(*arguments, **options)
            if arguments[0] == "x":
                write(spool / "x", "third")

        monkeypatch.setattr(os, "rename", rename)
        assert remove(root, file) is Left.CHANGED
        assert {(spool / name).read_text() for name in paths_below(spool)} == {"second", "third"}
        assert paths_below(spool) == {"x", ".x.s3u"}

    def test_new_file_after_the_rename(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A producer that makes a new file of the name while the old one is removed loses nothing."""
        write(spool / "x")
        file = opened("x")

        def make_new() -> None:
            write(spool / "x", "new")

        At(monkeypatch, "rename", make_new, after=True)
        assert remove(root, file) is None
        assert (spool / "x").read_text() == "new"

    @pytest.mark.parametrize("after", [False, True])
    def test_writer_in_the_moment_of_the_rename(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch, after: bool
    ) -> None:
        """A writer that comes while the file is taken breaks our lease: it is noticed, and the file given back."""
        write(spool / "x")
        file = opened("x")

        def come() -> None:
            with pytest.raises(BlockingIOError):
                os.open(spool / (".x.s3u" if after else "x"), os.O_WRONLY | os.O_NONBLOCK)

        At(monkeypatch, "rename", come, after=after)
        assert remove(root, file) is Left.BUSY
        assert paths_below(spool) == {"x"}

    @pytest.mark.parametrize("after", [False, True])
    def test_change_without_leases(
        self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch, after: bool
    ) -> None:
        """Where there are no leases, times and size tell of a writer that came and went."""
        write(spool / "x")
        file = opened("x")
        monkeypatch.setattr(removal, "take_lease", lambda descriptor: None)

        def change() -> None:
            (spool / (".x.s3u" if after else "x")).write_text("DATA")

        At(monkeypatch, "rename", change, after=after)
        assert remove(root, file) is Left.CHANGED
        assert (spool / "x").read_text() == "DATA"

    def test_no_telling(self, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there are no leases the times and the size decide alone."""
        write(spool / "x")
        file = opened("x")
        monkeypatch.setattr(removal, "take_lease", lambda descriptor: None)
        assert remove(root, file) is None
        assert paths_below(spool) == set()

    def test_hard_link(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """Another name of the file is none of our business and stays."""
        write(spool / "x")
        os.link(spool / "x", spool / "y")
        assert remove(root, opened("x")) is None
        assert paths_below(spool) == {"y"}

    def test_leftover_is_a_hard_link_of_the_file(self, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A run that was killed while it gave a file back has left two names, and both are removed in turn."""
        write(spool / "x")
        os.link(spool / "x", spool / ".x.s3u")
        assert remove(root, opened("x")) is None
        assert paths_below(spool) == {".x.s3u"}
        assert remove(root, opened(".x.s3u")) is None
        assert paths_below(spool) == set()


class Killed(BaseException):
    """What a test raises where a process would have died."""


@pytest.mark.parametrize("step", ["rename", "unlink", "stat"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_anywhere(
    spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Killed between any two steps, the file is there under one of its names, or was removed after the last look."""
    write(spool / "x", "content")
    file = opened("x")
    dead = False
    for name in ("rename", "unlink", "stat", "link"):
        real = getattr(os, name)

        def wrapper(*arguments: Any, real: Any = real, name: str = name, **options: Any) -> Any:
            nonlocal dead
            if dead or (name == step and not after):
                dead = True
                raise Killed
            result = real(*arguments, **options)
            if name == step:
                dead = True
                raise Killed
            return result

        monkeypatch.setattr(os, name, wrapper)
    with pytest.raises(Killed):
        remove(root, file)
    monkeypatch.undo()
    left = paths_below(spool)
    assert left in ({"x"}, {".x.s3u"}) or (left == set() and step == "unlink" and after)


class TestMove:
    def test_to_a_new_directory(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A file is moved below the target under its own path."""
        write(spool / "a/b/x", "content")
        target = MoveTarget(str(tmp_path / "done"))
        assert move(root, opened("a/b/x"), target) == (None, f"{tmp_path}/done/a/b/x")
        assert (tmp_path / "done/a/b/x").read_text() == "content"
        assert paths_below(spool) == set()

    def test_leftover(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A leftover arrives under its original name."""
        write(spool / ".x.s3u")
        assert move(root, opened(".x.s3u"), MoveTarget(str(tmp_path / "done")))[1] == f"{tmp_path}/done/x"

    def test_never_over_another(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """What lies at the target is never replaced; the newcomer gets a number."""
        write(tmp_path / "done/x", "first")
        write(tmp_path / "done/x~1", "second")
        write(spool / "x", "third")
        assert move(root, opened("x"), MoveTarget(str(tmp_path / "done")))[1].endswith("/x~2")
        assert [(tmp_path / "done" / name).read_text() for name in ("x", "x~1", "x~2")] == ["first", "second", "third"]

    @pytest.mark.parametrize("name", ["x" * 255, "x" * 254, "é" * 127, b"\xff".decode(errors="surrogateescape") * 255])
    def test_a_long_name_that_is_taken(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, name: str
    ) -> None:
        """A name that has no room for a number is cut for it."""
        for number in range(12):
            write(spool / name, str(number))
            assert move(root, opened(name), MoveTarget(str(tmp_path / "done")))[0] is None
        found = sorted((tmp_path / "done").iterdir(), key=lambda path: int(path.read_text()))
        assert [path.name.rpartition("~")[2] for path in found[1:]] == [str(number) for number in range(1, 12)]
        assert paths_below(spool) == set()

    def test_changed(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A file that changed stays."""
        path = write(spool / "x")
        file = opened("x")
        path.write_text("more")
        assert move(root, file, MoveTarget(str(tmp_path / "done"))) == (Left.CHANGED, "")
        assert not (tmp_path / "done").exists()

    def test_directory_gone(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A file whose directory was removed has vanished."""
        write(spool / "a/x")
        file = opened("a/x")
        (spool / "a").rename(spool / "b")
        root.refresh()
        assert move(root, file, MoveTarget(str(tmp_path / "done"))) == (Left.VANISHED, "")

    def test_link_at_the_target(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A link below the target is not followed: the file stays."""
        write(spool / "a/x")
        (tmp_path / "done").mkdir()
        (tmp_path / "outside").mkdir()
        (tmp_path / "done/a").symlink_to(tmp_path / "outside")
        with pytest.raises(NotADirectoryError):
            move(root, opened("a/x"), MoveTarget(str(tmp_path / "done")))
        assert paths_below(spool) == {"a/x"}
        assert paths_below(tmp_path / "outside") == set()


class TestMoveToAnotherFileSystem:
    @pytest.fixture(autouse=True)
    def other_file_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make links and renames between different directories fail as between two file systems."""
        monkeypatch.setattr(renaming, "_system_call", lambda: None)
        real = os.link

        def link(*arguments: Any, **options: Any) -> None:
            if options["src_dir_fd"] != options["dst_dir_fd"]:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            real(*arguments, **options)

        def renameat2(from_directory: int, from_name: str, to_directory: int, to_name: str) -> bool:
            if from_directory != to_directory:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return False

        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(renaming, "_renameat2", renameat2)

    def test_copied(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """The file is copied, with its times, and only then removed; what a killed run left is overwritten."""
        status = write(spool / "x", "content").stat()
        write(tmp_path / "done/x", "other")
        file = opened("x")
        write(tmp_path / "done" / move_target._temporary_name(file), "half a copy")
        assert move(root, file, MoveTarget(str(tmp_path / "done")))[1] == f"{tmp_path}/done/x~1"
        assert paths_below(spool) == set()
        assert paths_below(tmp_path / "done") == {"x", "x~1"}
        copy = tmp_path / "done/x~1"
        assert (copy.read_text(), copy.stat().st_mtime_ns) == ("content", status.st_mtime_ns)

    def test_what_a_power_cut_has_left(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """Half a copy is removed by the next run, though the disk of the spool has another number since."""
        write(spool / "x", "content")
        before = opened("x")
        before.fingerprint = msgspec.structs.replace(before.fingerprint, device=before.fingerprint.device + 1)
        write(tmp_path / "done" / move_target._temporary_name(before), "half a copy")
        assert move(root, opened("x"), MoveTarget(str(tmp_path / "done")))[1] == f"{tmp_path}/done/x"
        assert paths_below(tmp_path / "done") == {"x"}

    def test_a_clone_of_this_machine(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two machines may copy files with the same numbers to the same directory: neither gets the other's content."""
        write(spool / "x", "of this machine")
        write(spool / "y", "of the clone")
        os.utime(spool / "y", (1, 1))
        here, there = opened("x"), opened("y")
        numbers = {"device": here.fingerprint.device, "inode": here.fingerprint.inode}
        there.fingerprint = msgspec.structs.replace(there.fingerprint, **numbers)
        there.candidate = here.candidate
        is_copied, may_go_on = threading.Event(), threading.Event()

        def move_there() -> None:
            target = MoveTarget(str(tmp_path / "done"))
            target.receive(root.directory(()), "y", there)

        clone = threading.Thread(target=move_there)
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if threading.current_thread() is clone:
                is_copied.set()
                assert may_go_on.wait(10)
            elif not is_copied.is_set():
                clone.start()
                assert is_copied.wait(10)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        assert move(root, here, MoveTarget(str(tmp_path / "done"))) == (None, f"{tmp_path}/done/x")
        may_go_on.set()
        clone.join()
        assert (tmp_path / "done/x").read_text() == "of this machine"
        assert (tmp_path / "done/x~1").read_text() == "of the clone"
        assert paths_below(spool) == set()

    @pytest.mark.parametrize("is_replaced", [False, True])
    def test_is_gone_when_it_is_copied(
        self,
        tmp_path: Path,
        spool: Path,
        root: SpoolRoot,
        opened: Opened,
        monkeypatch: pytest.MonkeyPatch,
        is_replaced: bool,
    ) -> None:
        """A file that is gone, once it is copied, has been moved. Another file that has its private name stays."""
        write(spool / "x", "content")
        file = opened("x")
        real = removal._why_not
        looks: list[Left | None] = []

        def why_not(*arguments: Any) -> Left | None:
            looks.append(real(*arguments))
            if len(looks) == 1:
                return None
            (spool / ".x.s3u").unlink()
            if is_replaced:
                write(spool / ".x.s3u", "another")
            return Left.VANISHED if is_replaced else None

        monkeypatch.setattr(removal, "_why_not", why_not)
        assert move(root, file, MoveTarget(str(tmp_path / "done"))) == (None, f"{tmp_path}/done/x")
        assert (tmp_path / "done/x").read_text() == "content"
        assert paths_below(spool) == ({".x.s3u"} if is_replaced else set())

    def test_rights_and_owner(self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened) -> None:
        """A copied file has the permissions of the original, and its owner, as one that is renamed."""
        write(spool / "x").chmod(0o666)
        if os.geteuid() == 0:
            os.chown(spool / "x", 1234, 2345)
        before = (spool / "x").stat()
        move(root, opened("x"), MoveTarget(str(tmp_path / "done")))
        after = (tmp_path / "done/x").stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
    def test_rights_that_belong_to_the_mount(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Where owner, permissions and times are not this user's to set (exFAT, SMB), a file is moved all the same."""
        write(spool / "x", "content")
        file = opened("x")

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        for name in ("fchown", "fchmod", "utime"):
            monkeypatch.setattr(os, name, refuse)
        assert move(root, file, MoveTarget(str(tmp_path / "done"))) == (None, f"{tmp_path}/done/x")
        assert (tmp_path / "done/x").read_text() == "content"

    @pytest.mark.parametrize("step", ["write", "fsync", "fchmod", "utime"])
    def test_failure(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """A copy that fails leaves nothing behind, and the file is where it was."""
        write(spool / "x")
        (tmp_path / "done").mkdir()
        file = opened("x")

        def fail(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space"):
            move(root, file, MoveTarget(str(tmp_path / "done")))
        assert paths_below(spool) == {"x"}
        assert paths_below(tmp_path / "done") == set()

    def test_shrinks_while_copied(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A copy that is not as long as the file is no copy."""
        write(spool / "x", "content")
        file = opened("x")
        monkeypatch.setattr(os, "pread", lambda *_: b"")
        with pytest.raises(OSError, match="changed while"):
            move(root, file, MoveTarget(str(tmp_path / "done")))
        assert paths_below(spool) == {"x"}

    def test_cannot_be_placed(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A finished copy that cannot get its name is removed again."""
        write(spool / "x")
        file = opened("x")
        real = renaming.rename_without_replacing

        def rename(from_directory: int, from_name: str, to_directory: int, to_name: str) -> None:
            if from_directory == to_directory and to_name == "x" and from_name.endswith(".tmp"):
                raise OSError(errno.EIO, "Input/output error")
            real(from_directory, from_name, to_directory, to_name)

        monkeypatch.setattr(move_target, "rename_without_replacing", rename)
        with pytest.raises(OSError, match="Input/output"):
            move(root, file, MoveTarget(str(tmp_path / "done")))
        assert paths_below(spool) == {"x"}
        assert paths_below(tmp_path / "done") == set()

    @pytest.mark.parametrize("change", [append, overwrite])
    def test_changes_while_it_is_copied(
        self,
        tmp_path: Path,
        spool: Path,
        root: SpoolRoot,
        opened: Opened,
        monkeypatch: pytest.MonkeyPatch,
        change: Callable[[Path], None],
    ) -> None:
        """A copy takes long: what a writer whom no lease shows writes meanwhile is kept, and the copy is none."""
        monkeypatch.setattr(removal, "take_lease", lambda descriptor: None)
        monkeypatch.setattr(removal, "is_being_written", lambda descriptor, again: None)
        write(spool / "x", "content")
        file = opened("x")
        At(monkeypatch, "fsync", lambda: change(Path(f"/proc/self/fd/{file.descriptor}")), after=True)
        assert move(root, file, MoveTarget(str(tmp_path / "done"))) == (Left.CHANGED, "")
        assert (spool / "x").read_text() != "content"
        assert paths_below(spool) == {"x"}
        assert paths_below(tmp_path / "done") == set()

    def test_grows_while_it_is_copied(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that is longer than it was when its copy begins has changed; that is no failure to move it."""
        monkeypatch.setattr(removal, "take_lease", lambda descriptor: None)
        monkeypatch.setattr(removal, "is_being_written", lambda descriptor, again: None)
        write(spool / "x", "content")
        file = opened("x")
        At(monkeypatch, "pread", lambda: append(Path(f"/proc/self/fd/{file.descriptor}")), after=False)
        assert move(root, file, MoveTarget(str(tmp_path / "done"))) == (Left.CHANGED, "")
        assert paths_below(spool) == {"x"}
        assert paths_below(tmp_path / "done") == set()

    def test_a_writer_comes_while_it_is_copied(
        self, tmp_path: Path, spool: Path, root: SpoolRoot, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A writer who has found the private name while the file was copied keeps the file."""
        write(spool / "x", "content")
        file = opened("x")
        writers: list[int] = []
        At(monkeypatch, "fsync", lambda: writers.append(os.open(spool / ".x.s3u", os.O_WRONLY)), after=True)
        assert move(root, file, MoveTarget(str(tmp_path / "done"))) == (Left.BUSY, "")
        os.close(writers[0])
        assert paths_below(spool) == {"x"}
        assert paths_below(tmp_path / "done") == set()
