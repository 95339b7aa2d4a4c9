"""The ledgers of all shares, read as if they were one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import FailureBucket
from s3_uploader.core.shares import Share, parse
from s3_uploader.ledger import Ledger, LedgerReader, queries, read_only
from s3_uploader.ledger import together as together_module
from s3_uploader.ledger.database import Parameters
from s3_uploader.ledger.snapshot import Snapshot, SpoolFile
from s3_uploader.ledger.together import LedgerOfShares, open_together, shares_without_ledger
from tests.ledger_values import DAY, NOW, PRINT, begin, failing, report, shipped

Write = Callable[[str], Ledger]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """The ledger of a share, or without one that of runs of all files, to write to."""
    with ExitStack() as stack:

        def open_one(share: str) -> Ledger:
            directory = tmp_path / parse(share).name if share else tmp_path
            directory.mkdir(exist_ok=True)
            return stack.enter_context(Ledger.open(str(directory / "ledger.sqlite3"), clock=lambda: NOW))

        yield open_one


def together(path: str) -> LedgerOfShares:
    """All of them, to read."""
    opened = open_together(path, clock=lambda: NOW)
    assert isinstance(opened, LedgerOfShares)
    return opened


def ran(ledger: Ledger, *, at: float, **changes: object) -> int:
    """Note a run of a second."""
    run = begin(ledger, at=at)
    ledger.finish_run(run, report(started_at=at, duration=1.0, shipped=1, **changes))
    return run


def test_without_shares_it_is_the_ledger_itself(path: str, write: Write) -> None:
    """One ledger is read as before, and one that is not there is an empty one."""
    with open_together(path) as empty:
        assert type(empty) is LedgerReader
        assert shares_without_ledger(empty) == []
    write("")
    os.mkdir(os.path.join(os.path.dirname(path), "share-0-of-2"))
    with open_together(path) as alone:
        assert type(alone) is LedgerReader


def test_history_in_the_order_of_time(path: str, write: Write) -> None:
    """What was shipped comes in one order, from either end, however the shares took turns."""
    for number in range(6):
        share = f"{number % 3}/3"
        write(share).commit_batch(shipped=[shipped(f"{number}", shipped_at=NOW + number)])
    with together(path) as ledger:
        assert [row.path for row in ledger.history()] == ["0", "1", "2", "3", "4", "5"]
        assert [row.path for row in ledger.history(limit=2, newest_first=True)] == ["5", "4"]
        assert [row.path for row in ledger.history(since=NOW + 2, until=NOW + 4)] == ["2", "3"]


def test_sums(path: str, write: Write) -> None:
    """Totals, locations and days are those of all shares."""
    write("0/2").commit_batch(shipped=[shipped("den/a", location="den"), shipped("attic/b", location="attic")])
    write("1/2").commit_batch(shipped=[shipped("den/c", location="den", shipped_at=NOW + DAY, size=4)])
    with together(path) as ledger:
        totals = ledger.totals()
        assert (totals.shipped_files, totals.shipped_bytes, totals.last_shipped_at) == (3, 8196, NOW + DAY)
        assert [(row.location, row.files) for row in ledger.location_totals()] == [("attic", 1), ("den", 2)]
        assert [row.location for row in ledger.location_totals(limit=1)] == ["attic"]
        by_location = ledger.history_totals(by_day=False, by_location=True)
        assert [(row.location, row.files, row.bytes) for row in by_location] == [("attic", 1, 4096), ("den", 2, 4100)]
        (all_of_it,) = ledger.history_totals(by_day=False, by_location=False)
        assert (all_of_it.files, all_of_it.first_shipped_at, all_of_it.last_shipped_at) == (3, NOW, NOW + DAY)
        assert len(list(ledger.history_totals(by_day=True, by_location=False))) == 2


def test_runs(path: str, write: Write) -> None:
    """Runs come in the order of time, and a run's number leads back to what it shipped."""
    for number in range(4):
        ran(write(f"{number % 2}/2"), at=NOW + 10 * number, exit_code=number % 2, failed=number % 2)
    working = write("1/2")
    run = begin(working, at=NOW + 100)
    working.commit_batch(shipped=[shipped("x", run=run, shipped_at=NOW + 101)])
    with together(path) as ledger:
        assert [row.started_at - NOW for row in ledger.latest_runs(most=10)] == [100, 30, 20, 10, 0]
        assert [row.started_at - NOW for row in ledger.runs(limit=2)] == [100, 30]
        assert [row.started_at - NOW for row in ledger.failed_runs()] == [10, 30]
        assert ledger.shipped_in(ledger.runs(limit=1)[0].id, since=NOW + 100) == (1, 4096, NOW + 101)
        survey = ledger.survey()
        assert [row[1] - NOW for row in survey.runs()] == [0, 10, 20, 30, 100]
        assert [row.started_at - NOW for row in survey.last_runs(2)] == [100, 30]


def test_a_survey(path: str, write: Write) -> None:
    """A report's deliveries come in one order, and their numbers lead back to the files."""
    for number in range(4):
        write(f"{number % 2}/2").commit_batch(shipped=[shipped(f"{number}", shipped_at=NOW + number)])
    for share in ("0/2", "1/2"):
        ledger = write(share)
        ledger.finish_run(begin(ledger), report(failed=1), failures={FailureBucket(5, "Slow", "den"): 2})
    with together(path) as all_of_them:
        survey = all_of_them.survey(since=0.0)
        rows = list(survey.deliveries())
        assert [row[0] - NOW for row in rows] == [0, 1, 2, 3]
        assert [row.path for row in survey.files([rows[3][1], rows[0][1], rows[2][1]])] == ["3", "0", "2"]
        assert survey.first_moment() == NOW
        assert survey.failures() == {FailureBucket(5, "Slow", "den"): 4}


def test_files_that_fail(path: str, write: Write) -> None:
    """Failing files are those of all shares, in the order of their next try, and summed up by their error."""
    write("0/2").commit_batch(failed=[failing("a", next_try_at=NOW + 9), failing("b", code="Slow")])
    write("1/2").commit_batch(failed=[failing("c", next_try_at=NOW + 5, first_failed_at=NOW - 5)])
    with together(path) as ledger:
        assert [row.path for row in ledger.failing_rows()] == ["c", "a", "b"]
        assert ledger.failing_count(attempts=1) == 3
        assert ledger.any_failing
        assert ledger.failing("c") is not None
        assert ledger.failing("d") is None
        groups = {group.code: group for group in ledger.failing_kinds()}
        assert (groups["Conflict"].files, groups["Conflict"].path) == (2, "c")
        assert groups["Conflict"].next_try_at == NOW + 5
        assert groups["Slow"].files == 1


def test_what_was_noted_of_files(path: str, write: Write) -> None:
    """Files that were kept are known by any share, and notes about files are put together."""
    for number, share in enumerate(("0/2", "1/2")):
        ledger = write(share)
        ledger.commit_batch(shipped=[shipped(f"{number}", kept=PRINT)])
        ledger.remember("sightings", f'{{"{number}": [1]}}', now=NOW)
        ledger.remember("seen:files", '{"strangers": {"files": 2, "old": 1}}', now=NOW)
        ledger.remember("plain", f"text {number}", now=NOW)
    with together(path) as all_of_them:
        assert all_of_them.remembers("0", PRINT)
        assert all_of_them.remembers("1", PRINT)
        assert not all_of_them.remembers("2", PRINT)
        assert all_of_them.recall("sightings", now=NOW) == '{"0":[1],"1":[1]}'
        assert all_of_them.recall("plain", now=NOW) == "text 1"
        assert all_of_them.recall("nothing", now=NOW) is None
        assert all_of_them.endpoint_memory(prefix="seen:").get("files") == '{"strangers":{"files":4,"old":1}}'


def test_only_the_division_that_ran_last_knows_what_fails(path: str, write: Write) -> None:
    """With another number of shares files have other owners: what the former ones noted of them is over."""
    for share, at in (("", NOW), ("0/2", NOW + 10), ("1/2", NOW + 20), ("0/3", NOW + 30)):
        ledger = write(share)
        ledger.commit_batch(shipped=[shipped(share or "all", shipped_at=at)], failed=[failing(share or "all")])
        ran(ledger, at=at)
    opened = together(path)
    with opened:
        assert opened.division == 3
        assert list(opened.current) == [Share(0, 3)]
        assert shares_without_ledger(opened) == [Share(1, 3), Share(2, 3)]
        assert [row.path for row in opened.failing_rows()] == ["0/3"]
        assert opened.totals().shipped_files == 4
    ran(write(""), at=NOW + 40)
    opened = together(path)
    with opened:
        assert opened.division == 1
        assert [row.path for row in opened.failing_rows()] == ["all"]
        assert shares_without_ledger(opened) == []


def test_a_damaged_ledger_is_named(path: str, write: Write, tmp_path: Path) -> None:
    """That one share's ledger cannot be read is said, and nothing is told as if it were all."""
    write("0/2")
    (tmp_path / "share-1-of-2").mkdir()
    (tmp_path / "share-1-of-2/ledger.sqlite3").write_bytes(b"no ledger" * 500)
    with pytest.raises(StateError, match="share-1-of-2") as error:
        open_together(path)
    assert error.value.hint.endswith("If the share is not run any more, move the ledger away.")
    with pytest.raises(StateError, match="share-1-of-2"):
        Snapshot(path, destination="bucket")


def test_a_snapshot_holds_the_rows_of_all(path: str, write: Write) -> None:
    """An audit sees what every share has shipped, in the order of the keys."""
    write("0/2").commit_batch(shipped=[shipped("c"), shipped("a", destination="elsewhere")])
    write("1/2").commit_batch(shipped=[shipped("b"), shipped("d"), shipped("e", destination="elsewhere")])
    with Snapshot(path, destination="bucket") as snapshot:
        bounds = snapshot.select()
        assert (bounds.rows, bounds.first, bounds.last) == (3, "b", "d")
        assert [row.path for row in snapshot.rows()] == ["b", "c", "d"]
        assert snapshot.elsewhere() == {"elsewhere": 2}
        assert snapshot.knows_destination()
    with Snapshot(path, destination="other") as snapshot:
        assert snapshot.select().rows == 0
        assert not snapshot.knows_destination()


def test_of_a_key_the_last_row_of_all_ledgers_counts(path: str, write: Write) -> None:
    """A file that another division shipped anew is held against what it is now, and nothing older is selected."""
    write("0/2").commit_batch(shipped=[shipped("a", etag="old"), shipped("b")])
    write("0/3").commit_batch(shipped=[shipped("a", etag="new", shipped_at=NOW + 10, size=7)])
    with Snapshot(path, destination="bucket") as snapshot:
        snapshot.select()
        assert [(row.path, row.etag) for row in snapshot.rows()] == [("a", "new"), ("b", "0" * 32)]
        found = dict(snapshot.shipped_and_there([SpoolFile("a", 7, 1, ""), SpoolFile("x", 1, 1, "")]))
        assert [row.etag for row in found.values()] == ["new"]
    with Snapshot(path, destination="bucket") as snapshot:
        assert snapshot.select(until=NOW + 5).rows == 1
        assert [row.path for row in snapshot.rows()] == ["b"]
    with Snapshot(path, destination="bucket") as snapshot:
        assert snapshot.select(since=NOW + 5, match="a").rows == 1


def test_of_many_ledgers_a_few_are_open(path: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shares there are, memory and descriptors do not grow with them, and each answer is complete."""
    monkeypatch.setattr(together_module, "_MOST_OPEN", 2)
    for number in range(9):
        with write(f"{number}/9") as one:
            ran(one, at=NOW + number)
            one.commit_batch(shipped=[shipped(f"{number}", shipped_at=NOW + number)], failed=[failing(f"f{number}")])

    def open_ones() -> int:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link).endswith("ledger.sqlite3") for link in links if os.path.islink(link))

    with together(path) as ledger:
        assert open_ones() <= 3
        assert ledger.totals().shipped_files == 9
        assert [row.path for row in ledger.history()] == list("012345678")
        assert sorted(row.path for row in ledger.failing_rows()) == [f"f{number}" for number in range(9)]
        assert [run.started_at - NOW for run in ledger.latest_runs(most=9)] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
        assert open_ones() <= 3
    assert open_ones() == 0


def test_many_ledgers_together_hold_few_rows(path: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several ledgers is read in smaller pieces, and in a few when only the first rows are wanted."""
    monkeypatch.setattr(queries, "_ROWS_AT_ONCE", 2 * queries._SMALLEST_PIECE)
    rows = 3 * queries._SMALLEST_PIECE
    for share in ("0/2", "1/2"):
        write(share).commit_batch(shipped=[shipped(f"{share}-{n}", shipped_at=NOW + n) for n in range(rows)])
    read: list[int] = []
    fetched = read_only.fetched

    def counted(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        found = fetched(connection, sql, parameters)
        read.append(len(found))
        return found

    monkeypatch.setattr(read_only, "fetched", counted)
    with together(path) as ledger:
        history = ledger.history()
        first = next(history).path
        assert max(read) == queries._SMALLEST_PIECE
        assert len({first, *(row.path for row in history)}) == 2 * rows
        assert max(read) == queries._SMALLEST_PIECE
