"""What ``check`` says of the layout: how many files it recognises, and that a huge foreign tree does not hold it up."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3_uploader.core.findings import Finding, Severity
from s3_uploader.spool import check
from s3_uploader.spool.check import check_layout
from s3_uploader.spool.layouts.base import Globs
from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, NOW, write


def findings(
    spool: Path, *, timezone: str = "UTC", globs: Globs = NO_GLOBS, monotonic: Callable[[], float] = lambda: 0.0
) -> list[Finding]:
    """What is found with the layout ``dated``."""
    root = SpoolRoot(str(spool))
    layout = DatedLayout(settle_seconds=10, globs=globs, epoch_of=utc_epoch)
    try:
        return check_layout(root, layout, layout="dated", timezone=timezone, globs=globs, now=NOW, monotonic=monotonic)
    finally:
        root.close()


def test_both_kinds_are_counted(tmp_path: Path) -> None:
    """Those that match are well, with examples; those that do not are a warning that says what would ship them."""
    for minute in range(5):
        write(tmp_path / f"a/2026/11/20/15/{minute}-x.dat")
    write(tmp_path / "a/2026/11/20/15/5-x.csv")
    good, bad = findings(tmp_path)
    assert (good.severity, bad.severity) == (Severity.OK, Severity.WARNING)
    assert good.fact.startswith("5 files match the layout dated")
    assert good.fact.endswith("a/2026/11/20/15/2-x.dat, …")
    assert "1 file does not, and no run ships it: a/2026/11/20/15/5-x.csv (ends in .csv, .dat expected)" in bad.fact


@pytest.mark.parametrize(("zone", "hour"), [("Asia/Tokyo", 15), ("America/Lima", 1), ("Asia/Kathmandu", 11)])
def test_local_times_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, hour: int) -> None:
    """Whoever writes local times and has not said so is told, if most files show it; in UTC nothing is wrong."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        minute = 3 if zone != "Asia/Kathmandu" else 48
        written = (utc_epoch(2026, 11, 20, 6) or 0.0) + 180
        for topic in ("a", "b", "late"):
            path = write(tmp_path / f"x/2026/11/20/{hour:02}/{minute:02}-{topic}.dat")
            os.utime(path, (NOW, written + (5000 if topic == "late" else 20)))
        good, warning = findings(tmp_path)
        assert (good.severity, warning.severity) == (Severity.OK, Severity.WARNING)
        assert "local" in warning.fact
        assert len(findings(tmp_path, timezone="local")) == 1
        os.utime(tmp_path / f"x/2026/11/20/{hour:02}/{minute:02}-a.dat", (NOW, written + 5000))
        assert len(findings(tmp_path)) == 1
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_empty_spool(tmp_path: Path) -> None:
    """What the layout expects is said before there is a file."""
    (note,) = findings(tmp_path)
    assert note.severity is Severity.NOTE
    assert "location/YYYY/MM/DD/HH/mm-topic.dat" in note.fact


def test_a_spool_of_which_everything_is_excluded(tmp_path: Path) -> None:
    """Files that the configuration keeps out are not called no files."""
    write(tmp_path / "a/2026/11/20/15/5-x.dat")
    write(tmp_path / "a/2026/11/20/15/6-x.dat")
    (note,) = findings(tmp_path, globs=Globs(include=["*.csv"], exclude=[]))
    assert note.severity is Severity.NOTE
    assert note.fact == f"include and exclude leave no file to ship in {tmp_path}; they keep out 2 files."


def test_a_tree_of_nothing_but_strangers_ends_in_time(tmp_path: Path) -> None:
    """However many directories there are of which none is of the layout, the look at them is over after seconds."""
    for number in range(500):
        write(tmp_path / f"{number}/x/y")
    looks = itertools.count(0.0, 0.1)
    (bad,) = findings(tmp_path, monotonic=lambda: next(looks))
    assert "more than" in bad.fact
    assert next(looks) < 10


def test_hidden_files_take_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hidden files there are, all others are examined."""
    monkeypatch.setattr(check, "_MOST_STRANGERS", 3)
    for number in range(9):
        write(tmp_path / f".hidden-{number}")
    write(tmp_path / "x")
    (bad,) = findings(tmp_path)
    assert bad.fact.startswith("The only file in")
