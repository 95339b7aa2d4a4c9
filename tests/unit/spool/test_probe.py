"""The small test file with which a run finds out whether the destination leads back to the spool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3_uploader.spool.probe import CONTENT, probe_in, remove_left
from s3_uploader.spool.root import SpoolRoot

LEFT = "s3-uploader-probe-0123456789ab.tmp"


def test_a_test_file_is_there_for_a_moment(root: SpoolRoot, tmp_path: Path) -> None:
    """It is whole while it is asked for, nobody else removes it, and it is gone afterwards."""
    with probe_in(lambda: root.directory(("d",))) as name:
        assert (tmp_path / "d" / name).read_bytes() == CONTENT
        assert not remove_left(root, ("d",), name)
        assert os.listdir(tmp_path / "d") == [name]
    assert os.listdir(tmp_path / "d") == []


@pytest.mark.parametrize("content", [CONTENT, b"", CONTENT[:10]])
def test_what_a_killed_run_left_is_removed(root: SpoolRoot, tmp_path: Path, content: bytes) -> None:
    """A test file whose process is dead is nobody's, however much of it was written."""
    (tmp_path / "d" / LEFT).write_bytes(content)
    assert remove_left(root, ("d",), LEFT)
    assert os.listdir(tmp_path / "d") == []


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
    (tmp_path / "d" / name).write_bytes(content)
    assert not remove_left(root, ("d",), name)
    assert (tmp_path / "d" / name).read_bytes() == content


def test_a_name_that_is_no_file_stays(root: SpoolRoot, tmp_path: Path) -> None:
    """Neither a directory, a link nor a pipe of that name is taken for one, nor waited for."""
    place = tmp_path / "d" / LEFT
    place.mkdir()
    assert not remove_left(root, ("d",), LEFT)
    place.rmdir()
    os.mkfifo(place)
    assert not remove_left(root, ("d",), LEFT)
    place.unlink()
    (tmp_path / "target").write_bytes(CONTENT)
    place.symlink_to(tmp_path / "target")
    assert not remove_left(root, ("d",), LEFT)
    assert (tmp_path / "target").exists()
