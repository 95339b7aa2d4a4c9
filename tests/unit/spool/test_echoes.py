"""Echoes: where an object appears in a spool to which its destination leads back."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3_uploader.spool import echoes
from s3_uploader.spool.echoes import DeepPlaces, find
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import write


@pytest.mark.parametrize("path", ["name", "deep/er/than/expected/name"])
def test_find(tmp_path: Path, path: str) -> None:
    """A name that is like no other is found wherever it is, links not followed."""
    write(tmp_path / path)
    (tmp_path / "link").symlink_to(tmp_path)
    root = SpoolRoot(str(tmp_path))
    assert find(root, "prefix/name", seconds=10) == path
    assert find(root, "prefix/other", seconds=10) is None
    root.close()


def test_places_further_down(tmp_path: Path) -> None:
    """From two directories down on: where the begin of a key exists, and where anything could have been written."""
    for path in ("f", "a/f", "a/b/f", "a/b/c/d/f", "a/b/x/f", "o/p/q"):
        write(tmp_path / path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    root = SpoolRoot(str(tmp_path))
    deep = DeepPlaces(root)
    places = {"/".join((*names, name)) for names, name in deep.taken("f")}
    assert places == {"a/b/f", "a/b/c/d/f", "a/b/x/f"}
    assert ["/".join((*names, name)) for names, name in deep.taken("x/f")] == ["a/b/x/f"]
    assert [*deep.taken("f//x"), *deep.all("")] == []
    written = {"/".join((*names, name)) for names, name in deep.all("new/f")}
    assert written == {f"{directory}/new/f" for directory in ("a/b", "a/b/c", "a/b/x", "a/b/c/d", "o/p")}
    root.close()


def test_places_in_a_wide_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk ends after so many entries, however many there are."""
    for number in range(20):
        write(tmp_path / f"a/b/{number}")
    monkeypatch.setattr(echoes, "_MOST_ENTRIES", 12)
    root = SpoolRoot(str(tmp_path))
    deep = DeepPlaces(root)
    assert sum(len(list(deep.taken(str(number)))) for number in range(20)) == 10
    root.close()
