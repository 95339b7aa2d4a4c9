"""The metrics file: what is in it, that Prometheus can read it, and that it can fail no run."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from s3_uploader._version import __version__
from s3_uploader.core.events import (
    MOST_LOCATIONS,
    ActiveProblem,
    Event,
    LocationTotals,
    Notice,
    RunInProgress,
    RunMeasured,
    RunNotBegun,
    Totals,
)
from s3_uploader.core.model import OTHER_LOCATIONS, Left, RunReport, Waiting
from s3_uploader.monitoring.metrics import textfile
from s3_uploader.monitoring.metrics.exposition import FAMILIES, PREFIX
from s3_uploader.monitoring.metrics.samples import CAUSES, OUTCOMES, exposition
from s3_uploader.monitoring.metrics.textfile import MetricsFile, check_metrics_file

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
LocationLabels = tuple[tuple[str, str], ...]


def report(**changes: Any) -> RunReport:
    """The report of a run that found nothing to do."""
    values: dict = {"base_dir": "/spool", "destination": "bucket", "started_at": NOW, "duration": 0.5, "exit_code": 0}
    return RunReport(**{**values, **changes})


def measured(**changes: Any) -> RunMeasured:
    """Such a run, and what the ledger says after it."""
    values: dict = {"totals": TOTALS, "failing_files": 0, "locations": ()}
    ledgers = {name: changes.pop(name) for name in [*values, "problems"] if name in changes}
    return RunMeasured(report=report(**changes), **{**values, **ledgers})


def shipped(location: str, files: int, size: int = 0) -> LocationTotals:
    """What a location has shipped."""
    return LocationTotals(location=location, files=files, bytes=size, last_shipped_at=NOW, last_period_begin=None)


def samples(text: str) -> dict[tuple[str, LocationLabels], float]:
    """What Prometheus's own parser reads, without the common prefix and label."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "spool"))
            key = sample.name.removeprefix(PREFIX), labels
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def plain(text: str) -> dict[str, float]:
    """The samples without labels of their own."""
    return {name: value for (name, labels), value in samples(text).items() if not labels}


def by_label(text: str, name: str) -> dict[str, float]:
    """The samples of one name with one label of its own."""
    return {labels[0][1]: value for (found, labels), value in samples(text).items() if found == name}


def test_a_run_is_measured() -> None:
    """What the run did, what waits and what was counted over all runs can be read by Prometheus."""
    text = exposition(
        measured(
            exit_code=1,
            shipped=5,
            shipped_bytes=50,
            failed=2,
            left={"fresh": 3, "unmatched": 4},
            backlog=9,
            backlog_bytes=90,
            oldest_waiting=NOW - 100,
            failing_files=6,
        )
    )
    left = by_label(text, "left_entries")
    assert left == {**dict.fromkeys((reason.value for reason in Left), 0), "fresh": 3, "unmatched": 4}
    assert samples(text)["build_info", (("version", __version__),)] == 1
    assert plain(text) == {
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
        "last_attempt_timestamp_seconds": NOW,
        "lock_held_since_timestamp_seconds": 0,
        "run_in_progress_since_timestamp_seconds": 0,
    }


def test_every_series_is_there_from_the_first_run() -> None:
    """Before anything happened every series has a value, so that alerts need not think of missing ones."""
    first = samples(exposition(measured(totals=Totals())))
    later = samples(
        exposition(
            measured(
                left={"busy": 1},
                oldest_waiting=NOW,
                failing_files=1,
                problems=(ActiveProblem("clock", NOW),),
                exit_code=1,
            )
        )
    )
    assert set(first) == set(later)
    assert {PREFIX + name for name, _ in first} == {each.full_name for each in FAMILIES if not each.only_in_watch}
    assert first["last_success_timestamp_seconds", ()] == 0
    assert first["oldest_waiting_age_seconds", ()] == 0
    assert math.isnan(first["oldest_waiting_timestamp_seconds", ()])


def test_a_file_from_the_future_is_not_of_negative_age() -> None:
    """A data time in the future is no age below zero."""
    assert plain(exposition(measured(oldest_waiting=NOW + 99)))["oldest_waiting_age_seconds"] == 0


def test_families_are_described() -> None:
    """Each family has a help text and a type, counters end in _total, and samples of one family stay together."""
    text = exposition(measured())
    for family in text_string_to_metric_families(text):
        assert family.documentation.endswith((".", "1 while this keeps files from being shipped, else 0, by cause."))
        assert family.type in ("gauge", "counter")
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
        assert {sample.labels["spool"] for sample in family.samples} == {"/spool"}
    for each in FAMILIES:
        assert text.count(f"# TYPE {each.full_name} ") == (not each.only_in_watch)


# ------------------------------------------------------------------------------------------------ locations


def test_locations_have_series_of_their_own() -> None:
    """What each location shipped and what of it waits is told, one that only ships or only waits included."""
    text = exposition(
        measured(
            totals=Totals(shipped_files=12, shipped_bytes=120),
            locations=(shipped("attic", 5, 50), shipped("hall", 7, 70)),
            waiting={"hall": Waiting(1, 10, NOW - 5), "": Waiting(2, 20, NOW - 9)},
        )
    )
    assert by_label(text, "location_shipped_files_total") == {"attic": 5, "hall": 7, ".": 0, OTHER_LOCATIONS: 0}
    assert by_label(text, "location_shipped_bytes_total") == {"attic": 50, "hall": 70, ".": 0, OTHER_LOCATIONS: 0}
    assert by_label(text, "location_backlog_files") == {"attic": 0, "hall": 1, ".": 2, OTHER_LOCATIONS: 0}
    assert by_label(text, "location_backlog_bytes") == {"attic": 0, "hall": 10, ".": 20, OTHER_LOCATIONS: 0}
    oldest = by_label(text, "location_oldest_waiting_timestamp_seconds")
    assert (oldest["hall"], oldest["."]) == (NOW - 5, NOW - 9)
    assert math.isnan(oldest["attic"])


def test_there_are_only_so_many_series() -> None:
    """Of very many locations the rest is summed up under a name that none can have, and nothing is lost."""
    known = tuple(shipped(f"room-{number:03d}", 2, 20) for number in range(MOST_LOCATIONS - 1))
    waiting = {f"shed-{number}": Waiting(1, 10, NOW - number) for number in range(100)}
    text = exposition(
        measured(
            totals=Totals(shipped_files=1000, shipped_bytes=10_000),
            locations=known,
            waiting={**waiting, OTHER_LOCATIONS: Waiting(4, 40, NOW - 500)},
        )
    )
    for name, total in (
        ("location_shipped_files_total", 1000),
        ("location_shipped_bytes_total", 10_000),
        ("location_backlog_files", 104),
        ("location_backlog_bytes", 1040),
    ):
        values = by_label(text, name)
        assert len(values) <= MOST_LOCATIONS + 1
        assert sum(values.values()) == total
    assert by_label(text, "location_oldest_waiting_timestamp_seconds")[OTHER_LOCATIONS] == NOW - 500


@given(names=st.lists(st.binary(min_size=1, max_size=20).map(os.fsdecode), min_size=2, unique=True), reason=st.text())
def test_names_may_be_anything(names: list[str], reason: str) -> None:
    """Whatever spool and locations are called, the file stays readable for Prometheus, and no two series are one."""
    spool, *locations = names
    text = exposition(
        measured(
            base_dir=spool,
            left={reason: 1},
            locations=tuple(shipped(name, 1) for name in locations),
            waiting={name: Waiting(1, 1, 1.0) for name in locations},
        )
    )
    text.encode()
    assert len(by_label(text, "location_backlog_files")) >= min(len(locations), MOST_LOCATIONS)
    # A run that steps aside reads what was written, and changes nothing of it but what it knows better.
    again = exposition(RunNotBegun(base_dir=spool, at=NOW + 60, message="", is_held=True), before=text)
    kept = {key: value for key, value in samples(again).items() if "attempt" not in key[0] and "lock" not in key[0]}
    assert kept["run_in_progress_since_timestamp_seconds", ()] == 0
    assert repr(kept) == repr({key: value for key, value in samples(text).items() if key in kept})


# ------------------------------------------------------------------------------------------------ problems, attempts


def test_every_cause_is_there() -> None:
    """Each cause has a series from the first run on, 1 and since when while it is met."""
    text = exposition(measured(problems=(ActiveProblem("disk_full", NOW - 70),)))
    assert by_label(text, "problem") == {**dict.fromkeys(CAUSES, 0), "disk_full": 1}
    assert by_label(text, "problem_since_timestamp_seconds") == {**dict.fromkeys(CAUSES, 0), "disk_full": NOW - 70}


def test_a_run_that_steps_aside_keeps_the_numbers(tmp_path: Path, notices: list[Event]) -> None:
    """It says that it did and since when the other has the spool, and leaves the numbers of real runs as they are."""
    path = tmp_path / "spool.prom"
    file = MetricsFile(str(path), notice=notices.append)
    file.measure(measured(shipped=7, locations=(shipped("hall", 7),), oldest_waiting=NOW - 5))
    before = plain(path.read_text())
    file.measure(
        RunNotBegun(
            base_dir="/spool",
            at=NOW + 60,
            message="another",
            is_held=True,
            held_since=NOW - 900,
            problems=(ActiveProblem("hung_run", NOW - 900),),
        )
    )
    text = path.read_text()
    assert plain(text) == {
        **before,
        "last_attempt_timestamp_seconds": NOW + 60,
        "lock_held_since_timestamp_seconds": NOW - 900,
        "run_in_progress_since_timestamp_seconds": 0,
    }
    assert by_label(text, "location_shipped_files_total")["hall"] == 7
    assert by_label(text, "last_attempt_outcome") == {"ran": 0, "stepped_aside": 1, "could_not_begin": 0}
    assert by_label(text, "problem")["hung_run"] == 1
    file.measure(measured(shipped=8))
    text = path.read_text()
    assert by_label(text, "last_attempt_outcome")["ran"] == 1
    assert plain(text)["lock_held_since_timestamp_seconds"] == 0
    assert notices == []


@pytest.mark.parametrize("before", [None, b"\xff", b"# HELP s3_uploader_backlog_files", b"nonsense\n"])
def test_a_first_run_that_cannot_begin(tmp_path: Path, notices: list[Event], before: bytes | None) -> None:
    """Without a file that says more, every series is there with nothing in it, and the outcome."""
    path = tmp_path / "spool.prom"
    if before is not None:
        path.write_bytes(before)
    MetricsFile(str(path), notice=notices.append).measure(RunNotBegun(base_dir="/spool", at=NOW, message="no disk"))
    text = path.read_text()
    assert set(samples(text)) == set(samples(exposition(measured())))
    assert by_label(text, "last_attempt_outcome") == {each: int(each == "could_not_begin") for each in OUTCOMES}


def test_numbers_of_another_spool_are_not_taken_over() -> None:
    """A file that belonged to another spool says nothing about this one."""
    before = exposition(measured(base_dir="/elsewhere", shipped=9))
    text = exposition(RunNotBegun(base_dir="/spool", at=NOW, message=""), before=before)
    assert plain(text)["last_run_shipped_files"] == 0
    assert "elsewhere" not in text


def test_without_the_ledger_the_rest_is_measured(tmp_path: Path, notices: list[Event]) -> None:
    """If the ledger could not be asked, what the run itself knows is new, and the totals stay what they were."""
    path = tmp_path / "spool.prom"
    file = MetricsFile(str(path), notice=notices.append)
    file.measure(measured())
    file.measure(measured(exit_code=1, totals=None, failing_files=None, locations=None))
    values = plain(path.read_text())
    assert values["last_run_exit_code"] == 1
    assert values["shipped_files_total"] == 1000


def test_a_run_at_work_is_told(tmp_path: Path, notices: list[Event]) -> None:
    """A long run says since when it is at work and what was shipped so far; what only its end can tell stays."""
    path = tmp_path / "spool.prom"
    file = MetricsFile(str(path), notice=notices.append)
    file.measure(
        measured(
            exit_code=3,
            backlog=9,
            waiting={"hall": Waiting(9, 90, NOW - 5)},
            locations=(shipped("hall", 900),),
            problems=(ActiveProblem("destination", NOW - 70),),
        )
    )
    before = samples(path.read_text())
    ledger = measured(totals=Totals(shipped_files=1005, last_shipped_at=NOW + 80), locations=(shipped("hall", 905),))
    file.progress(RunInProgress(base_dir="/spool", since=NOW + 60, is_news=True, ledger=ledger))
    text = path.read_text()
    assert set(samples(text)) == set(before)
    values = plain(text)
    assert values["run_in_progress_since_timestamp_seconds"] == NOW + 60
    assert values["last_attempt_timestamp_seconds"] == NOW + 60
    assert (values["shipped_files_total"], values["last_shipped_timestamp_seconds"]) == (1005, NOW + 80)
    assert by_label(text, "location_shipped_files_total") == {"hall": 905, OTHER_LOCATIONS: 100}
    assert (values["last_run_exit_code"], values["backlog_files"]) == (3, 9)
    assert by_label(text, "location_backlog_files")["hall"] == 9
    assert by_label(text, "problem")["destination"] == 1
    file.measure(measured())
    assert plain(path.read_text())["run_in_progress_since_timestamp_seconds"] == 0
    assert notices == []


def test_who_steps_aside_and_who_is_at_work_do_not_undo_each_other(tmp_path: Path, notices: list[Event]) -> None:
    """The run at work stays told when another steps aside for it, and does not take back what that one found."""
    path = tmp_path / "spool.prom"
    file = MetricsFile(str(path), notice=notices.append)
    file.progress(RunInProgress(base_dir="/spool", since=NOW, is_news=True))
    hung = (ActiveProblem("hung_run", NOW),)
    file.measure(RunNotBegun(base_dir="/spool", at=NOW + 60, message="", is_held=True, held_since=NOW, problems=hung))
    assert plain(path.read_text())["run_in_progress_since_timestamp_seconds"] == NOW
    file.progress(RunInProgress(base_dir="/spool", since=NOW))
    text = path.read_text()
    assert by_label(text, "problem")["hung_run"] == 1
    assert by_label(text, "last_attempt_outcome")["stepped_aside"] == 1
    assert plain(text)["last_attempt_timestamp_seconds"] == NOW + 60
    file.measure(RunNotBegun(base_dir="/spool", at=NOW + 90, message="not mounted"))
    assert plain(path.read_text())["run_in_progress_since_timestamp_seconds"] == 0


# ------------------------------------------------------------------------------------------------ the file


@pytest.fixture
def notices() -> list[Event]:
    """What the run's log is told."""
    return []


def test_the_file_is_replaced_at_the_end_of_each_run(tmp_path: Path, notices: list[Event]) -> None:
    """After each run the file has that run's numbers, is readable for everybody, and nothing else is left behind."""
    path = tmp_path / "spool.prom"
    file = MetricsFile(str(path), notice=notices.append)
    before = os.umask(0o077)
    try:
        for number in (1, 2):
            file.measure(measured(shipped=number))
            assert plain(path.read_text())["last_run_shipped_files"] == number
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["spool.prom"]
    assert notices == []


def test_a_dry_run_is_not_measured(tmp_path: Path, notices: list[Event]) -> None:
    """A dry run leaves the metrics as they are."""
    MetricsFile(str(tmp_path / "spool.prom"), notice=notices.append).measure(measured(dry_run=True))
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path, notices: list[Event]) -> None:
    """A half-written temporary file of a killed run is replaced."""
    (tmp_path / ".spool.prom.new").write_text("half")
    MetricsFile(str(tmp_path / "spool.prom"), notice=notices.append).measure(measured())
    assert os.listdir(tmp_path) == ["spool.prom"]


def test_somebody_who_never_lets_go_is_no_obstacle(
    tmp_path: Path, notices: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run that stopped while it wrote its metrics is waited for, but not for long."""
    monkeypatch.setattr("s3_uploader.monitoring.metrics.textfile._LOCK_TIMEOUT_SECONDS", 0.02)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        MetricsFile(str(tmp_path / "spool.prom"), notice=notices.append).measure(measured())
    finally:
        os.close(descriptor)
    assert os.listdir(tmp_path) == ["spool.prom"]
    assert notices == []


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, notices: list[Event]) -> None:
    """A missing directory does not fail the run; the warning names the file and the setting."""
    MetricsFile(str(tmp_path / "no" / "spool.prom"), notice=notices.append).measure(measured())
    (notice,) = notices
    assert isinstance(notice, Notice)
    assert notice.level == "warning"
    assert "no/spool.prom cannot be written: No such file or directory." in notice.message
    assert "metrics_file" in notice.message


def test_what_to_do_about_it_follows_from_the_reason(
    tmp_path: Path, notices: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is sent to look at permissions where a read-only disk is the reason."""
    refuse_new_files(monkeypatch, errno.EROFS)
    MetricsFile(str(tmp_path / "spool.prom"), notice=notices.append).measure(measured())
    (notice,) = notices
    assert isinstance(notice, Notice)
    assert notice.message.endswith(
        "spool.prom cannot be written: Read-only file system. Mount its file system writable."
    )


def refuse_new_files(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No file can be finished beside the old one."""

    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("s3_uploader.monitoring.metrics.textfile.os.fsync", fsync)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_of_in_the_old_file(
    tmp_path: Path, notices: list[Event], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Without room for a new file, the new numbers are written into the blocks of the old one."""
    path = tmp_path / "spool.prom"
    path.write_text(exposition(measured()) + "# some more\n" * 9)
    refuse_new_files(monkeypatch, number)
    full = measured(problems=(ActiveProblem("disk_full", NOW),))
    MetricsFile(str(path), notice=notices.append).measure(full)
    assert path.read_text() == exposition(full)
    assert os.listdir(tmp_path) == ["spool.prom"]
    assert notices == []


@pytest.mark.parametrize("problem", ["another errno", "no old file", "written nowhere in place"])
def test_where_not_even_that_is_possible(
    tmp_path: Path, notices: list[Event], monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """Any other trouble, and a file system that never writes in place, leave what there was, with a warning."""
    path = tmp_path / "spool.prom"
    old = exposition(measured())
    if problem != "no old file":
        path.write_text(old)
    refuse_new_files(monkeypatch, errno.EIO if problem == "another errno" else errno.ENOSPC)
    if problem == "written nowhere in place":

        def ftruncate(descriptor: int, length: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("s3_uploader.monitoring.metrics.textfile.os.ftruncate", ftruncate)
    MetricsFile(str(path), notice=notices.append).measure(measured(exit_code=1))
    assert [each.read_text() for each in tmp_path.iterdir()] == ([] if problem == "no old file" else [old])
    assert len(notices) == 1


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, notices: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new content has room neither beside the old one nor in its place, the old one stays as it was."""
    path = tmp_path / "spool.prom"
    path.write_text("old")
    refuse_new_files(monkeypatch, errno.ENOSPC)
    MetricsFile(str(path), notice=notices.append).measure(measured())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["spool.prom"]
    assert len(notices) == 1


@pytest.mark.parametrize("kind", ["pipe", "huge"])
def test_what_stands_in_the_place_of_the_file_is_not_read(
    tmp_path: Path, notices: list[Event], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A pipe is not waited for, and a file of any length is not read as a whole; both are replaced."""
    monkeypatch.setattr(textfile, "_MOST_BEFORE", 1000)
    path = tmp_path / "x.prom"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("# x\n" * 1000)
    MetricsFile(str(path), notice=notices.append).progress(RunInProgress(base_dir="/spool", since=NOW, is_news=True))
    assert plain(path.read_text())["run_in_progress_since_timestamp_seconds"] == NOW
    assert "# x" not in path.read_text()
    assert notices == []


@pytest.mark.parametrize("kind", ["device", "stream"])
def test_a_device_is_not_replaced(tmp_path: Path, notices: list[Event], kind: str) -> None:
    """Whoever sets the metrics file to /dev/null or /dev/stdout, as root, does not take it from the whole machine."""
    path = tmp_path / "x.prom"
    with (tmp_path / "output").open("w") as output:
        target = "/dev/null" if kind == "device" else f"/proc/self/fd/{output.fileno()}"
        path.symlink_to(target)
        found = check_metrics_file(str(path))
        MetricsFile(str(path), notice=notices.append).measure(measured())
    assert os.readlink(path) == target
    assert sorted(os.listdir(tmp_path)) == ["output", "x.prom"]
    assert found.fact == f"{path} cannot be written: Is not a regular file."
    (notice,) = notices
    assert isinstance(notice, Notice)
    assert "x.prom cannot be written: Is not a regular file." in notice.message
