"""The time by which records age when the clock runs, jumps, is corrected, or was wrong for long."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from s3_uploader.ledger.records import BelievedClock
from tests.ledger_values import DAY, NOW

HISTORY = 400 * DAY


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
