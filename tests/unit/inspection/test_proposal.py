"""What suits a spool, from the files that are in it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from s3_uploader.inspection.proposal import proposal_for
from tests.fakes import write


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], {"layout": "tree"}),
        (["a/2026/11/20/15/46-x.dat", "a/notes.txt"], {"layout": "dated"}),
        (["a/x.csv", "b/y.csv"], {"layout": "tree"}),
        (["2026%2F01.txt", "x"], {"layout": "queue"}),
        (["100%.txt", "x"], {"layout": "tree"}),
        (["a/2026%2F01.txt"], {"layout": "tree"}),
        (["data/a/2026/11/20/15/46-x.dat"], {"layout": "dated", "base_dir": "data"}),
    ],
)
def test_the_layout(tmp_path: Path, paths: list[str], expected: dict[str, str]) -> None:
    """The layout that ships most of them; where the dates begin one directory below, that directory is the spool."""
    for path in paths:
        write(tmp_path / path)
    found = proposal_for(str(tmp_path), monotonic=itertools.repeat(0.0).__next__).settings
    if "base_dir" in expected:
        expected = expected | {"base_dir": str(tmp_path / expected["base_dir"])}
    assert found == {"settle_seconds": 10} | expected


def test_large_files_settle_longer(tmp_path: Path) -> None:
    """Where there are large files a producer may pause for longer."""
    with open(tmp_path / "film.mp4", "wb") as file:
        file.truncate(300 * 10**6)
    found = proposal_for(str(tmp_path), monotonic=itertools.repeat(0.0).__next__)
    assert found.settings["settle_seconds"] == 60
    assert "300 MB" in found.reasons["settle_seconds"]


def test_it_looks_for_a_moment(tmp_path: Path) -> None:
    """A huge spool is sampled."""
    for number in range(100):
        write(tmp_path / f"a/{number}")
    found = proposal_for(str(tmp_path), monotonic=itertools.count(0.0, 0.1).__next__)
    assert found.settings["layout"] == "tree"
    assert "100" not in found.reasons["layout"]
