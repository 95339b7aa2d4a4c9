"""The report of many uploaders: its numbers are those of all ledgers, of which one at a time is open."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import FailureBucket
from s3_uploader.inspection.report import fleet
from s3_uploader.inspection.report.data import Report, gather
from s3_uploader.inspection.report.fleet import gather_of_many
from s3_uploader.inspection.report.page import page
from s3_uploader.ledger import Ledger, LedgerReader, gathered
from s3_uploader.ledger.found import Instance, instances_in
from s3_uploader.ledger.together import open_instance, open_together
from tests.ledger_values import NOW, begin, failing, report, shipped

HOUR = 3600
END = NOW + 20 * HOUR
PAGE = 4096


def fill(path: Path, number: int) -> None:
    """A ledger with a few runs, of which no two end at the same moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Ledger.open(str(path)) as ledger:
        for hour in range(6):
            at = NOW + hour * HOUR + number * 7
            run = begin(ledger, at=at)
            files = [
                shipped(f"{number}-{hour}-{each}", location=f"room-{(each + number) % 13}", shipped_at=at + each,
                        size=each * 1000 + number, seconds=each + number / 10, run=run,
                        period_begin=None if each % 5 == 0 else at - 60 * each - number)
                for each in range(8)
            ]  # fmt: skip
            bad = [failing(f"bad-{number}-{hour}", next_try_at=NOW + (hour * 31 + number * 17) % 100)]
            ledger.commit_batch(shipped=files, failed=bad)
            failures = {FailureBucket(int(at // HOUR), ("SlowDown", "530")[hour % 2], "room-1"): hour + 1}
            ended = report(started_at=at, shipped=8, failed=1, backlog=hour, oldest_waiting=at - 60, exit_code=hour % 2)
            ledger.finish_run(run, ended, failures=failures)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The ledgers of four uploaders, one of which has two shares."""
    ledgers = tmp_path / "ledgers"
    for number, name in enumerate(("berlin", "oslo/share-0-of-2", "oslo/share-1-of-2", "quito", "rome")):
        fill(ledgers / name / "ledger.sqlite3", number)
        with closing(sqlite3.connect(ledgers / name / "ledger.sqlite3")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    return ledgers


def instances(place: Path) -> list[Instance]:
    """What is found there."""
    return instances_in([str(place)], notice=lambda sentence: None, left_out=[])


def together(place: Path, said: list[str] | None = None, since: float | None = None) -> Report:
    """The report of all."""
    said = [] if said is None else said
    return gather_of_many(instances(place), since=since, until=END, now=END, notice=said.append)


def test_two_copies_of_a_ledger(place: Path) -> None:
    """What is counted twice because a ledger was copied twice is said."""
    (place / "berlin-yesterday").mkdir()
    shutil.copy(place / "berlin/ledger.sqlite3", place / "berlin-yesterday")
    said: list[str] = []
    together(place, said)
    (sentence,) = said
    assert sentence.startswith("berlin and berlin-yesterday are copies of one ledger")


@pytest.mark.parametrize("since", [None, NOW + 2 * HOUR + 10])
def test_the_numbers_are_those_of_one_ledger_with_all_of_it(place: Path, tmp_path: Path, since: float | None) -> None:
    """Sums, quantiles, extremes and charts are the same as if all had been shares of one spool."""
    shares = tmp_path / "one"
    for number, file in enumerate(sorted(place.rglob("ledger.sqlite3"))):
        (shares / f"share-{number}-of-5").mkdir(parents=True)
        os.link(file, shares / f"share-{number}-of-5" / "ledger.sqlite3")
    with open_together(str(shares / "ledger.sqlite3")) as ledger:
        one = gather(ledger, base_dir="", destination="", since=since, until=END, now=END)
    all_of_them = together(place, since=since)
    for field in ("series", "kinds", "locations", "failures", "failing", "endings", "slowest", "largest", "latest"):
        assert getattr(all_of_them, field) == getattr(one, field), field
    assert all_of_them.levels == one.levels
    assert [(run.started_at, run.backlog) for run in all_of_them.runs] == [
        (run.started_at, run.backlog) for run in one.runs
    ]
    assert (all_of_them.summary.files, all_of_them.summary.runs) == (one.summary.files, one.summary.runs)
    assert all_of_them.summary.delay_p95 == one.summary.delay_p95
    assert all_of_them.summary.failing_files == one.summary.failing_files == 30
    assert all_of_them.summary.backlog == 5 * 4
    assert [each.name for each in all_of_them.instances] == ["berlin", "oslo", "quito", "rome"]
    assert (all_of_them.base_dir, all_of_them.destination, all_of_them.left_out) == ("4 uploaders", "bucket", [])


def test_one_ledger_is_open_at_a_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So neither memory nor the number of open files grows with the number of uploaders."""
    held: list[str] = []
    most = 0

    @contextlib.contextmanager
    def counted(instance: Instance) -> Iterator[LedgerReader]:
        nonlocal most
        held.append(instance.name)
        most = max(most, len(held))
        with open_instance(instance) as ledger:
            yield ledger
        held.remove(instance.name)

    monkeypatch.setattr(fleet, "open_instance", counted)
    assert together(place).summary.files == 5 * 6 * 8
    assert (most, held) == (1, [])


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_damaged_copy_is_left_out(place: Path, share: float) -> None:
    """The numbers are those of the others; the page and the sentence name the copy, and what to do with it."""
    damaged = place / "quito" / "ledger.sqlite3"
    os.truncate(damaged, int(damaged.stat().st_size * share))
    said: list[str] = []
    found = together(place, said)
    assert found.summary.files == 4 * 6 * 8
    assert [each.name for each in found.instances] == ["berlin", "oslo", "rome"]
    assert found.left_out == [str(damaged)]
    (sentence,) = said
    assert sentence.startswith(f"quito is not included: The ledger {damaged} cannot be read: it is damaged")
    assert "copy it once more" in sentence
    assert f"1 ledger could not be read, and nothing of it is included here: {damaged}." in page(found)


def test_damage_that_shows_while_the_rows_are_read(place: Path) -> None:
    """Nothing of that ledger is in the numbers, not even what was read before the damage."""
    damaged = place / "rome" / "ledger.sqlite3"
    with closing(sqlite3.connect(damaged)) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'")
    with damaged.open("r+b") as file:
        file.seek((root - 1) * PAGE)
        file.write(b"\xff" * PAGE)
    found = together(place)
    assert found.left_out == [str(damaged)]
    assert (found.summary.files, found.summary.runs) == (4 * 6 * 8, 4 * 6)


def test_if_none_can_be_read_there_is_no_report(place: Path) -> None:
    """An empty page would look as if nothing had been shipped."""
    for file in place.rglob("ledger.sqlite3"):
        os.truncate(file, 2 * PAGE)
    with pytest.raises(StateError, match="it is damaged"):
        together(place)


def test_a_ledger_that_vanishes_meanwhile(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its outstanding files only the sums are left."""
    opened = [0]

    def once(instance: Instance) -> LedgerReader:
        opened[0] += 1
        if opened[0] > 4 and instance.name == "rome":
            raise StateError("gone")
        return open_instance(instance)

    monkeypatch.setattr(fleet, "open_instance", once)
    found = together(place)
    assert found.summary.files == 5 * 6 * 8
    assert 0 < len(found.slowest) < 10


def test_no_room_for_the_copy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of a ledger: the report ends, and names the variable for another directory."""

    class Full(sqlite3.Connection):
        def executemany(self, *_: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("database or disk is full")

    def connected(database: str, *, isolation_level: None) -> sqlite3.Connection:
        return Full(database, isolation_level=isolation_level)

    monkeypatch.setattr(gathered, "sqlite3", SimpleNamespace(connect=connected, Error=sqlite3.Error))
    with pytest.raises(StateError, match="There is no room for a sorted copy") as error:
        together(place)
    assert "SQLITE_TMPDIR" in error.value.hint
