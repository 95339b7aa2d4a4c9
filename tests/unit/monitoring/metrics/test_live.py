"""The numbers of a watch at any moment: those of the last pass and those of the one under way together."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from s3_uploader.core.events import (
    ActiveProblem,
    Event,
    FileLeft,
    LocationTotals,
    RunMeasured,
    RunNotBegun,
    RunStarted,
    Totals,
    Uploaded,
    UploadFailed,
    UploadStarted,
)
from s3_uploader.core.model import Left, Proof, Receipt, RunReport, Waiting
from s3_uploader.monitoring.metrics.exposition import FAMILIES, PREFIX
from s3_uploader.monitoring.metrics.live import Live
from tests.fakes import NOW, FakeClock
from tests.unit.monitoring.metrics.test_textfile import by_label, plain, samples

STARTED = RunStarted("/spool", "bucket")


def uploaded(location: str = "hall", size: int = 10) -> Uploaded:
    """A file of that location was shipped."""
    return Uploaded("/spool/x", location, "bucket", "bucket/x", Receipt(key="x", size=size, proof=Proof.MD5), 0.1)


def failed() -> UploadFailed:
    """A file was not."""
    return UploadFailed("/spool/x", "hall", "bucket/x", "500", "no", "", 1, None)


def measured(files: int, **changes: Any) -> RunMeasured:
    """A pass ended; so many files were shipped since the ledger began."""
    values: dict = {"base_dir": "/spool", "destination": "bucket", "started_at": NOW, "duration": 1, "exit_code": 0}
    hall = LocationTotals(location="hall", files=files, bytes=files * 10, last_shipped_at=NOW, last_period_begin=None)
    return RunMeasured(
        report=RunReport(**{**values, **changes}),
        totals=Totals(shipped_files=files, shipped_bytes=files * 10),
        failing_files=0,
        locations=(hall,),
    )


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def live(clock: FakeClock) -> Live:
    """A watch whose ledger knows of 100 files."""
    numbers = Live(interval=9.0, clock=clock.clock())
    numbers.begin("/spool", measured(100))
    return numbers


def tell(live: Live, *events: Event) -> None:
    """Events of a pass."""
    for event in events:
        live(event)


def test_nothing_is_told_of_a_spool_without_a_name(clock: FakeClock) -> None:
    """A scrape while the watch loads its configuration gets no series, which would be gone a moment later."""
    live = Live(interval=9.0, clock=clock.clock())
    assert live.text() == ""
    live.begin("/spool", None)
    assert 'spool="/spool"' in live.text()
    assert 'spool=""' not in live.text()


def test_before_the_first_pass(live: Live) -> None:
    """Every series is there from the start, with what the ledger knows."""
    text = live.text()
    assert {name for name, _ in samples(text)} == {family.full_name.removeprefix(PREFIX) for family in FAMILIES}
    values = plain(text)
    assert values["shipped_files_total"] == 100
    assert values["watch_pass_running"] == 0
    assert values["watch_interval_seconds"] == 9


def test_a_pass_is_counted_while_it_goes_on(live: Live, clock: FakeClock) -> None:
    """Files that the pass under way has shipped are in the totals, by location too, long before it ends."""
    tell(live, uploaded(), STARTED, UploadStarted("/spool/x", 10, NOW - 300), uploaded(), uploaded("attic", 5))
    tell(live, failed(), FileLeft("/spool/y", Left.FRESH, "", 1))
    clock.seconds += 60
    live.beat()
    clock.seconds += 3
    text = live.text()
    values = plain(text)
    assert (values["shipped_files_total"], values["shipped_bytes_total"]) == (102, 1015)
    assert values["failed_uploads_total"] == 1
    assert by_label(text, "location_shipped_files_total") == {"hall": 101, "attic": 1, "/others": 0}
    assert (values["watch_pass_running"], values["watch_pass_start_timestamp_seconds"]) == (1, NOW)
    assert (values["watch_pass_shipped_files"], values["watch_pass_failed_files"]) == (2, 1)
    assert values["oldest_waiting_timestamp_seconds"] == NOW - 300
    assert values["oldest_waiting_age_seconds"] == 363
    assert values["watch_last_beat_timestamp_seconds"] == NOW + 60
    assert live.seconds_since_beat == 3
    live.measure(measured(102, waiting={"hall": Waiting(1, 1, NOW - 20)}, oldest_waiting=NOW - 20))
    values = plain(live.text())
    assert values["shipped_files_total"] == 102  # counted once
    assert values["oldest_waiting_timestamp_seconds"] == NOW - 20
    assert (values["watch_pass_running"], values["watch_passes_total"]) == (0, 1)


def test_what_waits_longest_is_not_forgotten_while_newer_files_go(live: Live) -> None:
    """A file that has waited since the pass before keeps its age while a pass ships newer ones."""
    live.measure(measured(100, oldest_waiting=NOW - 9000))
    tell(live, STARTED, UploadStarted("/spool/new", 1, NOW - 60))
    assert plain(live.text())["oldest_waiting_timestamp_seconds"] == NOW - 9000


def test_what_waited_longest_and_was_shipped_waits_no_more(live: Live) -> None:
    """Once the oldest file is shipped, the age is that of those that are left, long before the pass ends."""
    live.measure(measured(100, oldest_waiting=NOW - 9000))
    tell(live, STARTED, UploadStarted("/spool/x", 1, NOW - 9000), UploadStarted("/spool/new", 1, NOW - 60))
    assert plain(live.text())["oldest_waiting_timestamp_seconds"] == NOW - 9000
    tell(live, uploaded())
    assert plain(live.text())["oldest_waiting_timestamp_seconds"] == NOW - 60
    tell(live, UploadStarted("/spool/x", 1, NOW - 9000), failed())
    assert plain(live.text())["oldest_waiting_timestamp_seconds"] == NOW - 9000


def test_problems_stay_while_nothing_is_known_of_them(live: Live) -> None:
    """A pass that steps aside for another run, and knows of no problem, takes back none."""
    live.measure(msgspec.structs.replace(measured(100), problems=(ActiveProblem("destination", NOW - 70),)))
    live.measure(RunNotBegun(base_dir="/spool", at=NOW, message="", is_held=True))
    assert by_label(live.text(), "problem")["destination"] == 1
    assert by_label(live.text(), "problem_since_timestamp_seconds")["destination"] == NOW - 70
    live.measure(RunNotBegun(base_dir="/spool", at=NOW, message="", problems=()))
    assert by_label(live.text(), "problem")["destination"] == 0


def test_a_pass_under_way_is_a_run_in_progress(live: Live) -> None:
    """The alert for a run that hangs sees the passes of a watch too."""
    tell(live, STARTED)
    assert plain(live.text())["run_in_progress_since_timestamp_seconds"] == NOW
    live.measure(measured(100))
    assert plain(live.text())["run_in_progress_since_timestamp_seconds"] == 0


def test_counters_never_go_back(live: Live) -> None:
    """What a pass shipped stays counted when it ends without a word, or when the ledger cannot be asked after it."""
    tell(live, STARTED, uploaded(), STARTED, uploaded())
    assert plain(live.text())["shipped_files_total"] == 102
    live.measure(RunNotBegun(base_dir="/spool", at=NOW, message="no disk"))
    assert plain(live.text())["shipped_files_total"] == 102
    tell(live, STARTED, uploaded())
    live.measure(RunMeasured(report=measured(0, exit_code=1).report))
    values = plain(live.text())
    assert (values["shipped_files_total"], values["last_run_exit_code"]) == (103, 1)
    assert by_label(live.text(), "location_shipped_files_total")["hall"] == 103


def test_stepping_aside_is_told_until_the_next_pass(live: Live) -> None:
    """While another run has the spool that is said, with the time since which it has it; then no more."""
    live.measure(RunNotBegun(base_dir="/spool", at=NOW + 5, message="", is_held=True, held_since=NOW - 50))
    text = live.text()
    assert by_label(text, "last_attempt_outcome")["stepped_aside"] == 1
    assert plain(text)["lock_held_since_timestamp_seconds"] == NOW - 50
    assert plain(text)["shipped_files_total"] == 100
    tell(live, STARTED)
    assert by_label(live.text(), "last_attempt_outcome")["ran"] == 1


def test_another_spool_begins_from_nothing(live: Live) -> None:
    """After a reload that names another spool, the label is the new one and the old numbers are gone."""
    live.begin("/elsewhere", None)
    text = live.text()
    assert 'spool="/spool"' not in text
    assert plain(text)["shipped_files_total"] == 0
    assert math.isnan(plain(text)["oldest_waiting_timestamp_seconds"])
    live.begin("/elsewhere", None)
    assert plain(live.text())["shipped_files_total"] == 0


def test_memory_is_bounded(live: Live) -> None:
    """However many locations a pass ships from, only so many are remembered one by one; the sum is right."""
    tell(live, STARTED, *(uploaded(f"room-{number}") for number in range(2000)))
    current = live._known.current
    assert current is not None
    assert len(current.locations) == 500
    assert sum(by_label(live.text(), "location_shipped_files_total").values()) == 2100
