"""Times as people write them on a command line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from s3_uploader.cli.times import parse_period, parse_time
from s3_uploader.core.errors import UsageProblem

SUNDAY = 1_600_000_000.0
"""2020-09-13 14:26:40 in Madrid, a Sunday."""


@pytest.fixture(autouse=True)
def in_madrid(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time is that of Madrid, two hours before UTC in September."""
    monkeypatch.setenv("TZ", "Europe/Madrid")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2020-09-13T14:26:40"),
        ("2h", "2020-09-13T12:26:40"),
        ("3d ago", "2020-09-10T14:26:40"),
        ("today", "2020-09-13T00:00:00"),
        ("Yesterday", "2020-09-12T00:00:00"),
        ("sunday", "2020-09-13T00:00:00"),
        ("Monday", "2020-09-07T00:00:00"),
        ("sat", "2020-09-12T00:00:00"),
        ("2020-09-01", "2020-09-01T00:00:00"),
        ("2020-09-01T10:00", "2020-09-01T10:00:00"),
        ("2020-09-01T08:00Z", "2020-09-01T10:00:00"),
    ],
)
def test_a_time(text: str, meant: str) -> None:
    """Words, distances and dates are local times; a named day is its beginning."""
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(parse_time(text, now=SUNDAY))) == meant


def test_yesterday_across_a_change_of_clocks() -> None:
    """The day before the clocks were set back begins at its own midnight, 25 hours before the next."""
    monday = time.mktime((2020, 10, 26, 12, 0, 0, 0, 0, -1))
    assert parse_time("today", now=monday) - parse_time("yesterday", now=monday) == 25 * 3600


def test_an_hour_that_occurs_twice() -> None:
    """A period has both occurrences of the hour in which it begins or ends; a day is the same for both."""
    monday = time.mktime((2020, 10, 26, 12, 0, 0, 0, 0, -1))
    for _ in range(2):
        begin, end = parse_period("2020-10-25T02:30", "2020-10-25T02:31", now=monday)
        assert (begin, end) == (1603585800.0, 1603585860.0 + 3600)
        assert parse_period("2020-10-25", "2020-10-26", now=monday) == (1603576800.0, 1603666800.0)
        # One that does not occur at all is the hour after it.
        assert parse_period("2020-03-29T02:30", "2020-03-29T04:00", now=monday) == (1585445400.0, 1585447200.0)
        time.mktime((2020, 10, 25, 2, 30, 0, 0, 0, 1))  # which the C library would take for a hint


def test_the_ends_of_the_calendar() -> None:
    """Whoever wants everything may say so with the first and the last day that can be written."""
    begin, end = parse_period("0001-01-01", "9999-12-31", now=SUNDAY)
    assert begin is not None
    assert end is not None
    assert begin < 0 < SUNDAY < end


@pytest.mark.parametrize("text", ["", "tomorrowish", "2020-13-01", "h", "mondays"])
def test_no_time(text: str) -> None:
    """What is no time is refused, with examples."""
    with pytest.raises(UsageProblem, match=r"is not a time\. Write it like 2026-11-20.*yesterday, monday"):
        parse_time(text, now=SUNDAY)


def test_a_period() -> None:
    """Both ends are optional; one that has not begun yet is one."""
    assert parse_period("2h", "1h", now=SUNDAY) == (SUNDAY - 7200, SUNDAY - 3600)
    assert parse_period(None, None, now=SUNDAY) == (None, None)
    assert parse_period("2020-10-01", None, now=SUNDAY) == (1_601_503_200.0, None)


@pytest.mark.parametrize(("since", "until"), [("1h", "2h"), ("today", "today"), ("2020-09-02", "2020-09-01")])
def test_a_period_of_no_time(since: str, until: str) -> None:
    """Ends that were exchanged are refused: nothing would be found, and an audit would find nothing wrong."""
    with pytest.raises(UsageProblem, match=f"from --since {since} until --until {until} ends before it begins"):
        parse_period(since, until, now=SUNDAY)
