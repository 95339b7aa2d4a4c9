"""Metrics files of shares after their number has changed: what is no longer true is no longer collected."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3_uploader.core.events import Event, RunMeasured, RunNotBegun, Totals
from s3_uploader.core.model import RunReport
from s3_uploader.core.shares import parse
from s3_uploader.monitoring.metrics.textfile import MetricsFile

SPOOL = '/spool "a"\n\udcff'


def measured(spool: str = SPOOL) -> RunMeasured:
    """What a run tells at its end."""
    report = RunReport(base_dir=spool, destination="b", started_at=1.0, duration=1, exit_code=0)
    return RunMeasured(report=report, totals=Totals(), failing_files=0, locations=())


def ended(directory: Path, share: str, *, stem: str = "m", spool: str = SPOOL) -> None:
    """A run of a share ends; without one, a run of all files."""
    said: list[Event] = []
    own = f"-{parse(share).name}" if share else ""
    MetricsFile(str(directory / f"{stem}{own}.prom"), notice=said.append, share=share).measure(measured(spool))
    assert said == []


def names(directory: Path) -> list[str]:
    """What the collector would read."""
    return sorted(path.name.removesuffix(".prom") for path in directory.iterdir())


def test_another_number_of_shares(tmp_path: Path) -> None:
    """Four shares become two: what each of the new ones has taken over is no longer told by the old ones."""
    for index in range(4):
        ended(tmp_path, f"{index}/4")
    assert names(tmp_path) == [f"m-share-{index}-of-4" for index in range(4)]
    ended(tmp_path, "0/2")
    assert names(tmp_path) == ["m-share-0-of-2", "m-share-2-of-4", "m-share-3-of-4"]
    ended(tmp_path, "1/2")
    assert names(tmp_path) == ["m-share-0-of-2", "m-share-1-of-2"]


def test_from_shares_to_all_files_and_back(tmp_path: Path) -> None:
    """A run of all files tells of all; the first share tells that nobody does so any more."""
    ended(tmp_path, "1/2")
    ended(tmp_path, "")
    assert names(tmp_path) == ["m"]
    ended(tmp_path, "2/3")
    assert names(tmp_path) == ["m-share-2-of-3"]


@pytest.mark.parametrize("share", ["", "0/2"])
def test_what_is_not_this_spools_stays(tmp_path: Path, share: str) -> None:
    """Files of other spools, of other names and of other programs stay, whatever they are called."""
    ended(tmp_path, "0/3", spool="/another")
    ended(tmp_path, "0/4", stem="n")
    (tmp_path / "m-share-0-of-5.prom").write_text("foreign 1\n")
    (tmp_path / "m-share-0-of-6.prom").symlink_to("m-share-0-of-3.prom")
    (tmp_path / "m-share-0-of-7.prom").mkdir()
    (tmp_path / "m-share-x-of-2.prom").write_text("foreign 1\n")
    before = names(tmp_path)
    ended(tmp_path, share)
    assert names(tmp_path) == sorted([*before, "m-share-0-of-2" if share else "m"])


def test_a_run_that_could_not_begin_removes_nothing(tmp_path: Path) -> None:
    """It knows nothing of the files that the others tell of."""
    ended(tmp_path, "0/2")
    report = measured().report
    refused = RunNotBegun(base_dir=report.base_dir, at=2.0, message="taken", is_held=True)
    MetricsFile(str(tmp_path / "m.prom"), notice=lambda event: None).measure(refused)
    assert names(tmp_path) == ["m", "m-share-0-of-2"]
