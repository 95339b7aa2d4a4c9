"""What a large history costs a run: nothing. Counted in steps of SQLite's machine, which no other load changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from s3_uploader.ledger import Ledger
from s3_uploader.ledger.coverage import LastAudit
from s3_uploader.ledger.snapshot import Snapshot
from tests.ledger_values import DAY, NOW, PRINT, report, shipped

FEW, MANY = 300, 30_000
HISTORY_DAYS = 100


def made(place: Path, rows: int, *, destination: str = "bucket") -> str:
    """A ledger whose files were shipped at even intervals over 90 days, the last of them now."""
    place.mkdir()
    path = str(place / "ledger.sqlite3")
    with Ledger.open(path) as ledger:
        ledger.commit_batch(shipped=[shipped("room/first.dat", destination=destination, shipped_at=NOW - 90 * DAY)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
            " INSERT INTO shipped (path, location, destination, size, mtime_ns, shipped_at, seconds, proof, checksum,"
            " etag, version_id, already_there) SELECT 'room/' || n, 'room', 1, 9, 9, ? - ? * (1 - n * 1.0 / ?), 1,"
            " 'md5', '', '', '', 0 FROM numbers",
            (rows, NOW, 90 * DAY, rows),
        )
        connection.execute("UPDATE totals SET shipped_rows = (SELECT count(*) FROM shipped)")
    return path


class Counting:
    """Counts the steps of SQLite's machine."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self) -> int:
        """Count one."""
        self.steps += 1
        return 0


def steps(ledger: Ledger, work: Callable[[Ledger], object]) -> int:
    """How many steps SQLite makes for some work."""
    count = Counting()
    connection = ledger._database._connection
    connection.set_progress_handler(count, 1)
    try:
        work(ledger)
    finally:
        connection.set_progress_handler(None, 1)
    return count.steps


def a_run(ledger: Ledger, *, at: float) -> None:
    """All that a run that ships one file asks and writes, from its beginning to its end."""
    number = ledger.begin_run(started_at=at, pid=1, host="den", destination="bucket")
    ledger.endpoint_memory()
    ledger.failing("room/new.dat")
    assert not ledger.remembers("room/new.dat", PRINT)
    ledger.commit_batch(shipped=[shipped("room/new.dat", shipped_at=at, run=number)])
    ledger.about_to_forget(now=at, destination="bucket", history_days=HISTORY_DAYS, history_max_files=1_000_000)
    ledger.sweep_failed(lambda path: True, now=at)
    ledger.sweep_kept(lambda path: True, now=at)
    ledger.prune(now=at, history_days=HISTORY_DAYS, history_max_files=1_000_000)
    ledger.finish_run(number, report(started_at=at, shipped=1))
    ledger.totals()
    ledger.failing_count(attempts=1)


@pytest.mark.parametrize("at", [NOW + 60, NOW + 5 * DAY, NOW + 9 * DAY])
def test_a_run_costs_the_same_however_large_the_history_is(tmp_path: Path, at: float) -> None:
    """A run reads no more of a history a hundred times as long, nor shortly before rows are forgotten."""
    counted = []
    for rows in (FEW, MANY):
        with Ledger.open(made(tmp_path / f"{rows}", rows), clock=lambda: at) as ledger:
            counted.append(steps(ledger, lambda opened: a_run(opened, at=at)))
    few, many = counted
    assert many <= few * 1.2


def test_files_at_a_former_destination_do_not_slow_down_runs(tmp_path: Path) -> None:
    """Old files of another bucket are passed over once, when it is asked what no audit has covered."""
    at = NOW + 9 * DAY
    with Ledger.open(made(tmp_path / "many", MANY, destination="former"), clock=lambda: at) as ledger:
        first, second, third = (steps(ledger, lambda opened: a_run(opened, at=at)) for _ in range(3))
    assert first < 100_000
    assert second == third < 2000


def test_a_lowered_limit_does_not_slow_down_runs(tmp_path: Path) -> None:
    """Very many files above the number that is kept are not counted by a run that looks for unaudited ones."""
    at = NOW + 60
    with Ledger.open(made(tmp_path / "many", 4 * MANY), clock=lambda: at) as ledger:
        limits = {"history_days": HISTORY_DAYS, "history_max_files": 10}
        ledger.remember_audit(LastAudit(destination="bucket", at=at, since=None, until=at, problems=0))
        counted = steps(ledger, lambda opened: opened.about_to_forget(now=at, destination="bucket", **limits))
    assert counted < 1000


def test_files_of_other_destinations_are_counted_in_one_pass(tmp_path: Path) -> None:
    """An audit counts what was shipped elsewhere without reading the history once for each former destination."""
    counted = []
    for former in (1, 8):
        path = made(tmp_path / f"{former}", FEW)
        with Ledger.open(path) as ledger:
            ledger.commit_batch(shipped=[shipped(f"{n}", destination=f"former-{n}") for n in range(former)])
        with Snapshot(path, destination="bucket") as snapshot:
            count = Counting()
            snapshot._connection.set_progress_handler(count, 1)
            assert snapshot.elsewhere() == {f"former-{n}": 1 for n in range(former)}
            snapshot._connection.set_progress_handler(None, 1)
            counted.append(count.steps)
    assert counted[1] < 1.5 * counted[0]
