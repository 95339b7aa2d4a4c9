"""Shipped files in the ledger: their sums, the runs that failed, and the time by which they grow old."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.ledger import Ledger, matches
from s3_uploader.ledger.shipped import BelievedClock
from tests.ledger_values import DAY, NOW, begin, report, shipped

HISTORY = 400 * DAY


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Three files of two locations on two days."""
    with Ledger.open(str(tmp_path / "ledger.sqlite3"), clock=lambda: NOW) as opened:
        opened.commit_batch(
            shipped=[
                shipped("bedroom/a", location="bedroom", size=1, shipped_at=NOW),
                shipped("bedroom/b", location="bedroom", size=2, shipped_at=NOW + DAY, already_there=True),
                shipped("attic/c", location="attic", size=4, shipped_at=NOW + DAY),
            ]
        )
        yield opened


def day(moment: float) -> str:
    """The local day of a time."""
    return time.strftime("%Y-%m-%d", time.localtime(moment))


def test_sums_by_day_and_location(ledger: Ledger) -> None:
    """Each day and location has its files and bytes, days first."""
    sums = ledger.history_totals(by_day=True, by_location=True)
    assert [(row.day, row.location, row.files, row.bytes, row.already_there) for row in sums] == [
        (day(NOW), "bedroom", 1, 1, 0),
        (day(NOW + DAY), "attic", 1, 4, 0),
        (day(NOW + DAY), "bedroom", 1, 2, 1),
    ]


def test_sums_by_one_of_them(ledger: Ledger) -> None:
    """What is not asked for is taken together, with its first and last time."""
    (attic, bedroom) = ledger.history_totals(by_day=False, by_location=True)
    assert (attic.location, attic.files, attic.bytes, attic.day) == ("attic", 1, 4, "")
    assert (bedroom.files, bedroom.bytes) == (2, 3)
    assert (bedroom.first_shipped_at, bedroom.last_shipped_at) == (NOW, NOW + DAY)
    assert [(row.day, row.files) for row in ledger.history_totals(by_day=True, by_location=False)] == [
        (day(NOW), 1),
        (day(NOW + DAY), 2),
    ]


def test_sums_of_a_selection(ledger: Ledger) -> None:
    """Sums can be narrowed by time, location and name, as lists can."""

    def files(**selection: Any) -> int:
        return sum(row.files for row in ledger.history_totals(by_day=True, by_location=True, **selection))

    assert files(since=NOW + 1) == 2
    assert files(until=NOW + 1) == 1
    assert files(until=0.0) == 0
    assert files(location="bedroom") == 2
    assert files(match="*/c") == 1
    assert files(match="room/") == 2


def test_runs_that_failed(ledger: Ledger) -> None:
    """Runs with failed files or an exit code come back, the oldest first; others do not."""
    for number in range(700):
        failed = number % 2
        run = begin(ledger, at=NOW + number)
        ledger.finish_run(run, report(started_at=NOW + number, failed=failed, shipped=1, exit_code=failed))
    rows = list(ledger.failed_runs())
    assert [row.started_at for row in rows] == [NOW + number for number in range(1, 700, 2)]
    assert len(list(ledger.failed_runs(since=NOW + 600, until=NOW + 650))) == 25


@pytest.mark.parametrize(
    ("match", "found"), [("bedroom/*", True), ("room", True), ("room*", False), ("[ab]edroom/?", True), ("x", False)]
)
def test_the_rule_for_names_is_one(ledger: Ledger, match: str, *, found: bool) -> None:
    """A name at hand is selected by the same rule as the rows of the ledger."""
    assert matches("bedroom/a", match) is found
    assert ("bedroom/a" in [row.path for row in ledger.history(match=match)]) is found


def after(moments: Iterable[float], *, history: float = HISTORY) -> BelievedClock:
    """What is known after runs at these times."""
    clock = BelievedClock(until=NOW)
    for moment in moments:
        clock = clock.at(moment, history_seconds=history)
    return clock


@pytest.mark.parametrize("step", [60.0, 3600.0, 10 * DAY, 44 * DAY])
def test_a_clock_that_goes_on_is_believed(step: float) -> None:
    """Runs each minute and runs each month alike."""
    moments = [NOW + number * step for number in range(1, 100)]
    assert moments[-1] - after(moments).until < DAY


def test_it_is_noted_once_a_day() -> None:
    """A tick has nothing to write."""
    clock = BelievedClock(until=NOW)
    assert clock.at(NOW + 60, history_seconds=HISTORY) is clock
    assert clock.at(NOW - 60, history_seconds=HISTORY) is clock
    assert clock.at(NOW + DAY, history_seconds=HISTORY).until == NOW + DAY


@pytest.mark.parametrize("jump", [14 * 365 * DAY, 46 * DAY, -50 * 365 * DAY])
def test_a_clock_that_jumps_is_not_believed_for_weeks(jump: float) -> None:
    """For thirty days of runs nothing grows old by it; if it comes back, nothing has happened."""
    moments = [NOW + jump + number * 3600 for number in range(24 * 29)]
    clock = after(moments)
    assert clock.until == NOW
    assert clock.at(NOW + DAY, history_seconds=HISTORY) == BelievedClock(until=NOW + DAY)


def test_a_clock_that_stays_is_believed_in_the_end() -> None:
    """A machine that was off for a year forgets again after a month."""
    moments = [NOW + 365 * DAY + number * DAY for number in range(32)]
    assert after(moments).until == pytest.approx(moments[-1], abs=2 * DAY)


def test_a_clock_that_jumps_about_is_not_believed() -> None:
    """Each jump begins the trial anew."""
    assert after([NOW + number * 365 * DAY for number in range(1, 60)]).until == NOW


def test_a_short_history_is_emptied_by_smaller_jumps() -> None:
    """A jump that is worth more than a quarter of the history is not believed, but one of a day is."""
    assert after([NOW + 3 * DAY], history=8 * DAY).until == NOW
    assert after([NOW + DAY], history=1 * DAY).until == NOW + DAY


@pytest.mark.parametrize("noted", [None, "", "{", '{"until": "x"}'])
def test_what_cannot_be_read_begins_anew(noted: str | None) -> None:
    """A note that is missing or damaged stops nothing."""
    assert BelievedClock.recalled(noted, otherwise=NOW) == BelievedClock(until=NOW)
    clock = BelievedClock(until=1.5, other_from=2.0, other_until=3.0)
    assert BelievedClock.recalled(clock.noted(), otherwise=NOW) == clock


@pytest.mark.parametrize(("now", "time"), [(NOW + 40 * DAY, 40), (NOW - 40 * DAY, -40), (NOW + 9999 * DAY, 0)])
def test_what_is_believed_is_what_is_counted_from(now: float, time: int) -> None:
    """As long as the clock is believed it is exact; a wrong one counts for what was believed before."""
    assert BelievedClock(until=NOW).time(now, history_seconds=HISTORY) == NOW + time * DAY


def test_a_clock_that_was_set_back_makes_less_old() -> None:
    """A time that lies long ago is taken as it is: by it nothing is old."""
    assert BelievedClock(until=NOW).time(0.0, history_seconds=HISTORY) == 0.0
