"""The entries of a spool: their kinds, private names, temporary names."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.model import Left
from s3_uploader.spool.root import (
    EntryKind,
    SpoolRoot,
    Unreadable,
    in_blocks,
    is_temporary,
    kind_of,
    listed,
    original_name,
    skip_entry,
    taken_name,
    taken_names,
)
from tests.fakes import Skips, write

# A name can hold every byte but these two.
names = st.binary(min_size=1, max_size=255).filter(lambda raw: b"/" not in raw and b"\0" not in raw).map(os.fsdecode)


class TestPrivateNames:
    @given(names)
    def test_original_of_taken(self, name: str) -> None:
        """From every private name the producer's name is found again."""
        for private in taken_names(name):
            assert original_name(private) == name
            assert len(os.fsencode(private)) <= 255

    @given(names.filter(lambda name: not name.startswith(".")))
    def test_visible_names_are_their_own(self, name: str) -> None:
        """A name that begins with no dot is nobody's private name."""
        assert original_name(name) == name

    def test_no_room(self) -> None:
        """A name may be too long for a private one."""
        assert taken_name("x" * 250) == "." + "x" * 250 + ".s3u"
        assert taken_name("x" * 251) is None
        assert list(taken_names("x" * 250)) == ["." + "x" * 250 + ".s3u"]

    @pytest.mark.parametrize("name", [".s3u", "..s3", ".hidden", "x.s3u", ".x.s3u1", ".x.s3u22"])
    def test_names_that_only_look_alike(self, name: str) -> None:
        """Other hidden names stay what they are."""
        assert original_name(name) == name


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        (".x", True),
        ("x~", True),
        ("x.TMP", True),
        ("x.part", True),
        ("x.dat", False),
        ("tmp", False),
        ("a.tmp.b", False),
    ],
)
def test_temporary_names(name: str, temporary: bool) -> None:
    """Names that programs give to unfinished files are known."""
    assert is_temporary(name) is temporary


@given(st.lists(st.integers()), st.integers(min_value=1, max_value=5))
def test_blocks(items: list[int], size: int) -> None:
    """Blocks hold everything in order, and none is larger than asked for."""
    blocks = list(in_blocks(items, size))
    assert [item for block in blocks for item in block] == items
    assert all(0 < len(block) <= size for block in blocks)


class TestListed:
    def test_kinds(self, tmp_path: Path) -> None:
        """Entries are told apart without following a link or opening anything."""
        write(tmp_path / "file")
        (tmp_path / "directory").mkdir()
        (tmp_path / "link").symlink_to("file")
        os.mkfifo(tmp_path / "fifo")
        root = SpoolRoot(str(tmp_path))
        assert dict(listed(root, (), Skips())) == {
            "file": EntryKind.FILE,
            "directory": EntryKind.DIRECTORY,
            "link": EntryKind.LINK,
            "fifo": EntryKind.SPECIAL,
        }
        root.close()

    def test_lost_and_found(self, tmp_path: Path) -> None:
        """The file system's own directory is neither read nor pruned, but only where file systems have it."""
        (tmp_path / "lost+found").mkdir()
        (tmp_path / "a" / "lost+found").mkdir(parents=True)
        root = SpoolRoot(str(tmp_path))
        assert list(listed(root, (), Skips())) == [("a", EntryKind.DIRECTORY)]
        assert list(listed(root, ("a",), Skips())) == [("lost+found", EntryKind.DIRECTORY)]
        root.close()

    def test_gone_directory(self, tmp_path: Path) -> None:
        """A directory that went away is nothing to speak of."""
        root, skips = SpoolRoot(str(tmp_path)), Skips()
        assert list(listed(root, ("gone",), skips)) == []
        assert skips.seen == []
        root.close()

    def test_swapped_directory(self, tmp_path: Path) -> None:
        """A directory that became a link is reported and not entered."""
        outside = tmp_path / "outside"
        write(outside / "secret")
        spool = tmp_path / "spool"
        spool.mkdir()
        (spool / "a").symlink_to(outside)
        root, skips = SpoolRoot(str(spool)), Skips()
        assert list(listed(root, ("a",), skips)) == []
        assert skips.reasons() == {"a": Left.SPECIAL}
        root.close()

    def test_broken_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A directory that cannot be read costs only itself."""
        root, skips = SpoolRoot(str(tmp_path)), Skips()

        def fail(*_: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(root, "entries", fail)
        assert list(listed(root, ("a", "b"), skips)) == []
        assert list(listed(root, (), skips)) == []
        assert skips.seen == [
            ("a/b", Left.UNREADABLE, "Input/output error"),
            ("", Left.UNREADABLE, "Input/output error"),
        ]
        root.close()


class Entry:
    """A directory entry whose kind has to be looked for, as on file systems that do not tell it."""

    name = "x"

    def __init__(self, *errors: OSError | None) -> None:
        self.errors = iter(errors)

    def _look(self, *, follow_symlinks: bool = True) -> bool:
        error = next(self.errors)
        if error is not None:
            raise error
        return False

    is_file = is_dir = is_symlink = stat = _look


def test_kind_of_an_entry_that_cannot_be_looked_at() -> None:
    """Looking at an entry may fail at any moment; that is reported, or nothing if it is gone."""
    gone, broken = FileNotFoundError(errno.ENOENT, "gone"), OSError(errno.EIO, "broken")
    assert kind_of(Entry(None, None, None, gone)) is None  # type: ignore[arg-type]
    assert kind_of(Entry(broken)) == Unreadable("broken")  # type: ignore[arg-type]
    skips = Skips()
    skip_entry(skips, ("a",), "x", Unreadable("broken"), "")
    skip_entry(skips, ("a",), "y", EntryKind.FILE, "odd")
    skip_entry(skips, ("a",), "z", EntryKind.LINK, "odd")
    skip_entry(skips, ("a",), "f", EntryKind.SPECIAL, "odd")
    assert skips.seen == [
        ("a/x", Left.UNREADABLE, "unreadable: broken"),
        ("a/y", Left.UNMATCHED, "odd"),
        ("a/z", Left.SPECIAL, "a symbolic link"),
        ("a/f", Left.SPECIAL, "a FIFO, socket or device"),
    ]


def test_entries_survive_a_refresh(tmp_path: Path) -> None:
    """A listing that pauses continues although cached descriptors were closed and their numbers reused meanwhile."""
    for number in range(5):
        write(tmp_path / "a" / str(number))
    root = SpoolRoot(str(tmp_path))
    entries = root.entries(("a",))
    first = next(entries)
    root.refresh()
    other = os.open(tmp_path, os.O_RDONLY)
    rest = [entry.name for entry in entries if entry.stat(follow_symlinks=False).st_size == 4]
    assert len({first.name, *rest}) == 5
    os.close(other)
    root.close()
