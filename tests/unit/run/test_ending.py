"""What a run's counts and its end mean for the caller."""

from __future__ import annotations

import signal

import pytest

from s3_uploader.core.model import OTHER_LOCATIONS, Left, Proof, Receipt, RunCounters, RunEnd, Waiting
from s3_uploader.run.ending import exit_code, report_of
from tests.fakes import NOW, candidate


@pytest.mark.parametrize(
    ("end", "failing", "signal_number", "code"),
    [
        (RunEnd.DONE, 0, None, 0),
        (RunEnd.DONE, 1, None, 1),
        (RunEnd.BUDGET, 0, None, 0),
        (RunEnd.BUDGET, 2, None, 1),
        (RunEnd.LOCKED, 0, None, 0),
        (RunEnd.DESTINATION_BUSY, 0, None, 0),
        (RunEnd.STATE, 0, None, 1),
        (RunEnd.DESTINATION, 0, None, 3),
        (RunEnd.DESTINATION, 5, None, 3),
        (RunEnd.SIGNAL, 0, signal.SIGINT, 130),
        (RunEnd.SIGNAL, 5, signal.SIGTERM, 143),
        (RunEnd.SIGNAL, 0, None, 143),
    ],
)
def test_exit_codes(end: RunEnd, failing: int, signal_number: int | None, code: int) -> None:
    """Each way in which a run ends has its exit code."""
    assert exit_code(end, failing=failing, signal_number=signal_number) == code


def test_counts() -> None:
    """A file counts as what became of it, and only candidates that still have to go are the backlog."""
    counters = RunCounters()
    counters.count_shipped(Receipt(key="a", size=10, proof=Proof.MD5))
    counters.count_shipped(Receipt(key="b", size=5, proof=Proof.MD5, already_there=True))
    dated = candidate("a", size=3, period_begin=NOW - 60, mtime_ns=0)
    undated = candidate("b", size=4, mtime_ns=int(NOW) * 10**9)
    counters.count_left(Left.FRESH, dated)
    counters.count_left(Left.BUSY, undated)
    for reason in (Left.VANISHED, Left.SPECIAL, Left.UNMATCHED, Left.EXCLUDED, Left.REMEMBERED):
        counters.count_left(reason, undated)
    counters.count_left(Left.UNREADABLE)
    counters.pruned = 2
    report = report_of(counters, RunEnd.DONE, base_dir="/spool", destination="bucket", started_at=NOW, duration=1.5)
    assert (report.shipped, report.shipped_bytes, report.already_there) == (2, 15, 1)
    assert (report.backlog, report.backlog_bytes, report.oldest_waiting) == (2, 7, NOW - 60)
    assert report.left == {
        "fresh": 1,
        "busy": 1,
        "vanished": 1,
        "special": 1,
        "unmatched": 1,
        "excluded": 1,
        "remembered": 1,
        "unreadable": 1,
    }
    assert (report.exit_code, report.ended_by, report.pruned_directories) == (0, "done", 2)


def test_waiting_files_keep_the_code() -> None:
    """A file that failed before and waits for its next try is still not shipped: the exit code says so."""
    counters = RunCounters()
    counters.count_left(Left.WAITING, candidate("a"))
    report = report_of(counters, RunEnd.DONE, base_dir="/", destination="", started_at=0, duration=0)
    assert (report.exit_code, report.failed) == (1, 0)


def test_what_waits_is_counted_by_location() -> None:
    """Each location's backlog and oldest file are told; a new scan counts anew."""
    counters = RunCounters()
    for path, size, period in (("hall/a", 1, NOW - 5), ("hall/b", 2, NOW - 9), ("attic/c", 4, NOW - 7)):
        counters.count_left(Left.FRESH, candidate(path, size=size, period_begin=period))
    counters.count_left(Left.VANISHED, candidate("hall/d"))

    def waiting() -> dict[str, Waiting]:
        return report_of(counters, RunEnd.DONE, base_dir="/", destination="", started_at=0, duration=0).waiting

    assert waiting() == {"hall": Waiting(2, 3, NOW - 9), "attic": Waiting(1, 4, NOW - 7)}
    counters.begin_scan()
    assert waiting() == {}


def test_very_many_locations_take_no_more_memory() -> None:
    """From some number of locations on, the others are counted together, and none is lost."""
    counters = RunCounters()
    for number in range(2000):
        counters.count_left(Left.FRESH, candidate(f"room-{number}/a", size=2, period_begin=NOW - number))
    report = report_of(counters, RunEnd.DONE, base_dir="/", destination="", started_at=0, duration=0)
    assert len(report.waiting) == 501
    assert report.waiting[OTHER_LOCATIONS] == Waiting(1500, 3000, NOW - 1999)
    assert (report.backlog, report.backlog_bytes, report.oldest_waiting) == (2000, 4000, NOW - 1999)
