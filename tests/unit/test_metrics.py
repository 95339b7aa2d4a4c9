"""The metrics file: what is in it, that Prometheus can read it, and that it can fail no run."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from s3_uploader import __version__
from s3_uploader.events import Event, Notice, RunFinished
from s3_uploader.model import Left, RunReport, Totals
from s3_uploader.reporting.metrics import MetricsFile, exposition

NOW = 1_600_000_000.25
TOTALS = Totals(
    shipped_files=1000,
    shipped_bytes=10**13,
    already_there=7,
    failed_uploads=3,
    runs=99,
    last_run_at=NOW,
    last_success_at=NOW - 60,
    last_shipped_at=NOW - 30,
)


def report(**changes: object) -> RunReport:
    """The report of a run that found nothing to do."""
    values: dict = {"base_dir": "/spool", "destination": "bucket", "started_at": NOW, "duration": 0.5, "exit_code": 0}
    return RunReport(**{**values, **changes})


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus's own parser reads, without the common prefix and label."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "spool"))
            found[sample.name.removeprefix("s3_uploader_"), labels] = sample.value
    return found


def plain(text: str) -> dict[str, float]:
    """The samples without labels of their own."""
    return {name: value for (name, labels), value in samples(text).items() if not labels}


def test_a_run_is_measured() -> None:
    """What the run did, what waits and what was counted over all runs can be read by Prometheus."""
    values = samples(
        exposition(
            report(
                exit_code=1,
                shipped=5,
                shipped_bytes=50,
                failed=2,
                left={"fresh": 3, "not of the layout": 4},
                backlog=9,
                backlog_bytes=90,
                oldest_waiting=NOW - 100,
            ),
            totals=TOTALS,
            failing_files=6,
        )
    )
    left = {dict(labels)["reason"]: value for (name, labels), value in values.items() if name == "left_entries"}
    assert left == {**dict.fromkeys((reason.name.lower() for reason in Left), 0), "fresh": 3, "undated": 4}
    assert values["build_info", (("version", __version__),)] == 1
    assert {name: value for (name, labels), value in values.items() if not labels} == {
        "last_run_timestamp_seconds": NOW + 0.5,
        "last_run_duration_seconds": 0.5,
        "last_run_exit_code": 1,
        "last_run_shipped_files": 5,
        "last_run_shipped_bytes": 50,
        "last_run_failed_files": 2,
        "backlog_files": 9,
        "backlog_bytes": 90,
        "oldest_waiting_timestamp_seconds": NOW - 100,
        "oldest_waiting_age_seconds": 100.5,
        "failing_files": 6,
        "shipped_files_total": 1000,
        "shipped_bytes_total": 10**13,
        "already_there_files_total": 7,
        "failed_uploads_total": 3,
        "runs_total": 99,
        "last_success_timestamp_seconds": NOW - 60,
        "last_shipped_timestamp_seconds": NOW - 30,
    }


def test_every_series_is_there_from_the_first_run() -> None:
    """Before anything happened every series has a value, so that alerts need not think of missing ones."""
    first = samples(exposition(report(), totals=Totals(), failing_files=0))
    later = samples(exposition(report(left={"busy": 1}, oldest_waiting=NOW), totals=TOTALS, failing_files=1))
    assert set(first) == set(later)
    assert first["last_success_timestamp_seconds", ()] == 0
    assert first["oldest_waiting_age_seconds", ()] == 0
    assert math.isnan(first["oldest_waiting_timestamp_seconds", ()])


def test_a_file_from_the_future_is_not_of_negative_age() -> None:
    """A data time in the future is no age below zero."""
    assert (
        plain(exposition(report(oldest_waiting=NOW + 99), totals=None, failing_files=None))[
            "oldest_waiting_age_seconds"
        ]
        == 0
    )


def test_without_the_ledger_the_rest_is_measured() -> None:
    """If the ledger could not be asked, what the run itself knows is measured all the same."""
    values = plain(exposition(report(exit_code=1), totals=None, failing_files=None))
    assert values["last_run_exit_code"] == 1
    assert "shipped_files_total" not in values
    assert "failing_files" not in values


def test_families_are_described() -> None:
    """Each family has a help text and a type, counters end in _total, and samples of one family stay together."""
    for family in text_string_to_metric_families(exposition(report(), totals=TOTALS, failing_files=0)):
        assert family.documentation.endswith(".")
        assert family.type in ("gauge", "counter")
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
        assert {sample.labels["spool"] for sample in family.samples} == {"/spool"}
    text = exposition(report(), totals=TOTALS, failing_files=0)
    assert text.count("# TYPE s3_uploader_left_entries ") == 1


@given(name=st.binary(min_size=1, max_size=20).map(os.fsdecode), reason=st.text(max_size=10))
def test_a_spool_of_any_name_can_be_measured(name: str, reason: str) -> None:
    """Whatever the spool is called, the file stays readable for Prometheus."""
    text = exposition(report(base_dir=name, left={reason: 1}), totals=TOTALS, failing_files=0)
    text.encode()
    assert len(samples(text)) >= 20


# ------------------------------------------------------------------------------------------------ the file


@pytest.fixture
def notices() -> list[Event]:
    """What the run's log is told."""
    return []


def test_the_file_is_replaced_at_the_end_of_each_run(tmp_path: Path, notices: list[Event]) -> None:
    """After each run the file has that run's numbers, is readable for everybody, and nothing else is left behind."""
    path = tmp_path / "spool.prom"
    subscriber = MetricsFile(str(path), notice=notices.append)
    before = os.umask(0o077)
    try:
        for number in (1, 2):
            subscriber(Notice("info", "something else"))
            subscriber(RunFinished(report(shipped=number), TOTALS, 0))
            assert plain(path.read_text())["last_run_shipped_files"] == number
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["spool.prom"]
    assert notices == []


def test_a_dry_run_is_not_measured(tmp_path: Path, notices: list[Event]) -> None:
    """A dry run leaves the metrics as they are."""
    MetricsFile(str(tmp_path / "spool.prom"), notice=notices.append)(RunFinished(report(dry_run=True)))
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path, notices: list[Event]) -> None:
    """A half-written temporary file of a killed run is replaced."""
    (tmp_path / ".spool.prom.new").write_text("half")
    MetricsFile(str(tmp_path / "spool.prom"), notice=notices.append)(RunFinished(report()))
    assert os.listdir(tmp_path) == ["spool.prom"]


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, notices: list[Event]) -> None:
    """A missing directory does not fail the run; the warning names the file and the setting."""
    MetricsFile(str(tmp_path / "no" / "spool.prom"), notice=notices.append)(RunFinished(report()))
    (notice,) = notices
    assert isinstance(notice, Notice)
    assert notice.level == "warning"
    assert "no/spool.prom cannot be written: No such file or directory." in notice.message
    assert "metrics_file" in notice.message


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, notices: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new file cannot be finished, the old one stays as it was, and nothing else."""
    path = tmp_path / "spool.prom"
    path.write_text("old")

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s3_uploader.reporting.metrics.os.fsync", fsync)
    MetricsFile(str(path), notice=notices.append)(RunFinished(report()))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["spool.prom"]
    assert len(notices) == 1
