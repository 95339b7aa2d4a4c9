"""The small test file with which a run finds out whether the destination leads back to the spool."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.spool.probe import CONTENT, probe_in, remove_left
from s3_uploader.spool.root import SpoolRoot

LEFT = "s3-uploader-probe-0123456789ab.tmp"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SpoolRoot]:
    """A spool with one directory."""
    (tmp_path / "room").mkdir()
    opened = SpoolRoot(str(tmp_path))
    yield opened
    opened.close()


def test_a_test_file_is_there_for_a_moment(root: SpoolRoot, tmp_path: Path) -> None:
    """It is whole while it is asked for, nobody else removes it, and it is gone afterwards."""
    with probe_in(root, ("room",)) as name:
        assert (tmp_path / "room" / name).read_bytes() == CONTENT
        assert not remove_left(root, ("room",), name)
        assert os.listdir(tmp_path / "room") == [name]
    assert os.listdir(tmp_path / "room") == []


@pytest.mark.parametrize("content", [CONTENT, b"", CONTENT[:10]])
def test_what_a_killed_run_left_is_removed(root: SpoolRoot, tmp_path: Path, content: bytes) -> None:
    """A test file whose process is dead is nobody's, however much of it was written."""
    (tmp_path / "room" / LEFT).write_bytes(content)
    assert remove_left(root, ("room",), LEFT)
    assert os.listdir(tmp_path / "room") == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (LEFT, b"somebody's"),
        (LEFT, CONTENT + b"more"),
        ("s3-uploader-probe-mine.tmp", CONTENT),
        (f"{LEFT}.gz", CONTENT),
    ],
)
def test_another_file_stays(root: SpoolRoot, tmp_path: Path, name: str, content: bytes) -> None:
    """Name and content have to be those of a test file."""
    (tmp_path / "room" / name).write_bytes(content)
    assert not remove_left(root, ("room",), name)
    assert (tmp_path / "room" / name).read_bytes() == content


def test_a_name_that_is_no_file_stays(root: SpoolRoot, tmp_path: Path) -> None:
    """Neither a directory, a link nor a pipe of that name is taken for one, nor waited for."""
    place = tmp_path / "room" / LEFT
    place.mkdir()
    assert not remove_left(root, ("room",), LEFT)
    place.rmdir()
    os.mkfifo(place)
    assert not remove_left(root, ("room",), LEFT)
    place.unlink()
    (tmp_path / "target").write_bytes(CONTENT)
    place.symlink_to(tmp_path / "target")
    assert not remove_left(root, ("room",), LEFT)
    assert (tmp_path / "target").exists()
