"""The layout ``tree``: every regular file below the spool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.layouts.base import EmptyDirectory, Globs
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, NOW, Skips, write


def scan(spool: Path, *, globs: Globs = NO_GLOBS) -> tuple[list[Candidate], list[str], Skips]:
    """Candidates, empty directories, and what was skipped."""
    root, skips = SpoolRoot(str(spool)), Skips()
    found = list(TreeLayout(settle_seconds=10, globs=globs).scan(root, skips))
    root.close()
    files = [item for item in found if isinstance(item, Candidate)]
    return files, ["/".join(item.names) for item in found if isinstance(item, EmptyDirectory)], skips


def test_candidates(tmp_path: Path) -> None:
    """Keys are relative paths; within a directory the oldest file comes first; locations are top directories."""
    write(tmp_path / "new", mtime=NOW)
    write(tmp_path / "old", mtime=NOW - 10)
    write(tmp_path / "a/b/deep", "123")
    found, _, _ = scan(tmp_path)
    assert [(item.key, item.location) for item in found] == [("old", ""), ("new", ""), ("a/b/deep", "a")]
    assert found[2].size == 3
    assert found[2].period_begin is None


def test_what_is_no_candidate(tmp_path: Path) -> None:
    """Unfinished files, their directories, links and special files are left and reported."""
    write(tmp_path / "a/x.part")
    write(tmp_path / ".rsync-partial/x")
    write(tmp_path / "b/.x.dat.abc123")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    found, _, skips = scan(tmp_path)
    assert found == []
    assert skips.reasons() == {
        "a/x.part": Left.UNMATCHED,
        ".rsync-partial": Left.UNMATCHED,
        "b/.x.dat.abc123": Left.UNMATCHED,
        "link": Left.SPECIAL,
        "fifo": Left.SPECIAL,
    }


def test_globs_and_leftovers(tmp_path: Path) -> None:
    """A leftover is judged by its original name."""
    for name in (".x.dat.s3u", ".y.tmp.s3u", "z.txt"):
        write(tmp_path / name)
    found, _, skips = scan(tmp_path, globs=Globs(include=["*.dat"], exclude=[]))
    assert [(item.name, item.key) for item in found] == [(".x.dat.s3u", "x.dat")]
    assert skips.reasons() == {".y.tmp.s3u": Left.UNMATCHED, "z.txt": Left.EXCLUDED}


def test_empty_directories(tmp_path: Path) -> None:
    """Empty directories are found, the spool itself is none of them."""
    (tmp_path / "a/b").mkdir(parents=True)
    assert scan(tmp_path)[1] == ["a/b"]
    assert scan(tmp_path / "a/b")[1] == []


def test_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be looked at is reported: as gone if it is, else as unreadable."""
    write(tmp_path / "gone")
    write(tmp_path / "locked")
    write(tmp_path / "fine")
    errors: dict[str, OSError] = {"gone": FileNotFoundError(2, "no"), "locked": PermissionError(13, "denied")}
    look = SpoolRoot.stat

    def stat(self: SpoolRoot, names: tuple[str, ...], name: str) -> os.stat_result:
        if name in errors:
            raise errors[name]
        return look(self, names, name)

    monkeypatch.setattr(SpoolRoot, "stat", stat)
    found, _, skips = scan(tmp_path)
    assert [item.name for item in found] == ["fine"]
    assert skips.reasons() == {"gone": Left.VANISHED, "locked": Left.UNREADABLE}


def test_pruning() -> None:
    """A directory may be removed when nothing was created in it or removed from it for the settle time."""
    layout = TreeLayout(settle_seconds=10, globs=NO_GLOBS)
    assert not layout.may_prune(("a",), now=NOW, child=None, mtime=NOW - 9.9)
    assert layout.may_prune(("a",), now=NOW, child=("a", "b"), mtime=NOW - 10)
