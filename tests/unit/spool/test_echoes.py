"""Echoes: where an object appears in a spool to which its destination leads back."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3_uploader.spool.echoes import find, likely_places
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import write


def test_likely_places(tmp_path: Path) -> None:
    """The key itself, what remains of it where the spool lies deeper, and one directory deeper in the spool."""
    (tmp_path / "top").mkdir()
    write(tmp_path / "file")
    root = SpoolRoot(str(tmp_path))
    places = ["/".join((*names, name)) for names, name in likely_places(root, "a/b/c", one_deeper=True)]
    assert places == ["a/b/c", "b/c", "c", "top/a/b/c"]
    assert list(likely_places(root, "a//c", one_deeper=True)) == [((), "c")]
    root.close()


@pytest.mark.parametrize("path", ["name", "deep/er/than/expected/name"])
def test_find(tmp_path: Path, path: str) -> None:
    """A name that is like no other is found wherever it is, links not followed."""
    write(tmp_path / path)
    (tmp_path / "link").symlink_to(tmp_path)
    root = SpoolRoot(str(tmp_path))
    assert find(root, "prefix/name", seconds=10) == path
    assert find(root, "prefix/other", seconds=10) is None
    root.close()
