"""What a further file costs the coordinator, counted in calls: small files are mostly that."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

import s3_uploader
from tests.fakes import Harness

PACKAGE = os.path.dirname(s3_uploader.__file__) + os.sep
FEW, MANY = 100, 300
MOST_CALLS = 96
"""Of functions of the package, from the scan to the removal, without those of the store."""


def calls_for(place: Path, files: int) -> int:
    """The calls of a run over so many small files."""
    place.mkdir()
    harness = Harness(place)
    harness.use_dated()
    for number in range(files):
        harness.write(f"room/2019/01/01/00/{number % 60:02}-{number}.dat")
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        report = harness.run()
    finally:
        sys.setprofile(before)
    assert report.shipped == files
    return calls


def test_a_further_file_costs_few_calls(tmp_path: Path) -> None:
    """Nobody adds a layer to a file's way without seeing what it costs."""
    calls_for(tmp_path / "warm", 3)
    further = calls_for(tmp_path / "many", MANY) - calls_for(tmp_path / "few", FEW)
    assert further / (MANY - FEW) <= MOST_CALLS
