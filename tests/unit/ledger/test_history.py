"""Shipped files in the ledger's history: their sums, the rule for names, and the runs that failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.ledger import Ledger
from s3_uploader.ledger.history import matches
from tests.ledger_values import DAY, NOW, begin, report, shipped


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
    """Columns that are not asked for are summed up, with their first and last time."""
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
