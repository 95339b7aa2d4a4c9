"""The layout ``queue``: a flat directory whose names are URL-encoded keys."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.layouts.base import Globs
from s3_uploader.spool.layouts.queue import QueueLayout, decode_key
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, NOW, Skips, write


def scan(spool: Path, *, globs: Globs = NO_GLOBS) -> tuple[list[Candidate], Skips]:
    """Candidates and what was skipped."""
    root, skips = SpoolRoot(str(spool)), Skips()
    found = list(QueueLayout(globs=globs).scan(root, skips))
    root.close()
    return [item for item in found if isinstance(item, Candidate)], skips


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_decodes_what_was_encoded(key: str) -> None:
    """A key that was encoded with the standard library comes out as it went in."""
    assert decode_key(quote(key, safe="")) == key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("2012-06-14%2F01.txt", "2012-06-14/01.txt"),
        ("a+b c", "a+b c"),
        ("%25", "%"),
        ("%c3%A9", "é"),
        ("100%", None),
        ("%zz", None),
        ("%ff", None),
        (os.fsdecode(b"\xff"), None),
        ("", None),
    ],
)
def test_keys(name: str, key: str | None) -> None:
    """A percent sign begins an escape or the name is no key; the bytes must be UTF-8."""
    assert decode_key(name) == key


def test_scan(tmp_path: Path) -> None:
    """Oldest first; what is no key is kept and reported, directories are left alone."""
    write(tmp_path / "b%2Fnew", mtime=NOW)
    write(tmp_path / "a%2Fold", mtime=NOW - 10)
    write(tmp_path / ".c%2Fleft.s3u", mtime=NOW + 1)
    write(tmp_path / "100%")
    write(tmp_path / "x.tmp")
    write(tmp_path / "dir/file")
    write(tmp_path / "no")
    (tmp_path / "link").symlink_to("no")
    found, skips = scan(tmp_path, globs=Globs(include=[], exclude=["no"]))
    assert [item.key for item in found] == ["a/old", "b/new", "c/left"]
    assert skips.reasons() == {
        "100%": Left.UNDECODABLE,
        "x.tmp": Left.UNMATCHED,
        "dir": Left.UNMATCHED,
        "no": Left.EXCLUDED,
        "link": Left.SPECIAL,
    }


def test_never_prunes() -> None:
    """A queue has no directories of its own."""
    assert not QueueLayout(globs=NO_GLOBS).may_prune(("a",), now=NOW, child=None, mtime=0)
