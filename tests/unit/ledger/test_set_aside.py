"""A ledger that is lost, damaged, or another program's."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.events import Totals
from s3_uploader.ledger import Ledger, database
from s3_uploader.ledger.database import Journal
from s3_uploader.ledger.read_only import ReadOnlyDatabase
from tests.ledger_values import NOW, PRINT, begin, failing, report, set_aside_in, shipped


def test_a_lost_ledger_is_begun_anew(path: str, ledger: Ledger) -> None:
    """Deleting the ledger loses its history and nothing else."""
    ledger.commit_batch(shipped=[shipped()])
    ledger.close()
    for name in os.listdir(os.path.dirname(path)):
        os.unlink(os.path.join(os.path.dirname(path), name))
    with Ledger.open(path) as again:
        assert list(again.history()) == []


def test_a_file_that_is_no_ledger_is_set_aside(path: str, notices: list[str]) -> None:
    """Rubbish in the ledger's place is kept under another name, said, and a new ledger is begun."""
    Path(path).write_bytes(b"not a database" * 1000)
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW) as ledger:
        ledger.commit_batch(shipped=[shipped()])
        assert len(list(ledger.history())) == 1
    assert set_aside_in(path) == ["ledger.corrupt-20200913T122640Z"]
    assert Path(path).with_name(set_aside_in(path)[0]).read_bytes() == b"not a database" * 1000
    (notice,) = notices
    assert "ledger.corrupt-20200913T122640Z" in notice
    assert "No file is lost" in notice


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE notes (text)", "PRAGMA user_version = 3", "PRAGMA application_id = 5"]
)
def test_another_programs_database_is_left_as_it_is(path: str, notices: list[str], statement: str) -> None:
    """A database of another program is set aside without a byte of it changed."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    before = Path(path).read_bytes()
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW):
        pass
    assert Path(path).with_name(set_aside_in(path)[0]).read_bytes() == before
    assert "another program" in notices[0]


def test_a_ledger_without_its_tables_is_set_aside(path: str, notices: list[str], ledger: Ledger) -> None:
    """A ledger that somebody took apart counts as damaged."""
    ledger.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TABLE totals")
    connection.close()
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW) as again:
        assert again.totals() == Totals()
    assert len(notices) == 1


def rubbish(path: str, content: bytes) -> None:
    """Replace the ledger, and delete its write-ahead log, from which SQLite would repair the file."""
    for companion in ("-wal", "-shm"):
        Path(path + companion).unlink(missing_ok=True)
    Path(path).write_bytes(content * 100)


def damage(path: str) -> None:
    """Overwrite all but the first page, behind SQLite's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


@pytest.mark.parametrize("first", ["write", "read"])
def test_damage_that_comes_to_light_in_a_run_does_not_end_it(
    path: str, notices: list[str], ledger: Ledger, first: str
) -> None:
    """A ledger that turns out to be damaged in the middle of a run is replaced, and the run continues to record."""
    run = begin(ledger)
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(300)], failed=[failing()])
    damage(path)
    if first == "read":
        assert ledger.failing("a.dat") is None
    ledger.commit_batch(shipped=[shipped("after", kept=PRINT)])
    ledger.finish_run(run, report(shipped=301))
    assert [row.path for row in ledger.history()] == ["after"]
    assert [(row.id, row.shipped, row.started_at, row.pid) for row in ledger.runs()] == [(run, 301, NOW, 4711)]
    assert ledger.remembers("after", PRINT, destination="bucket")
    assert len(notices) == 1
    assert len(set_aside_in(path)) == 1


@pytest.mark.parametrize("journal", list(Journal))
@pytest.mark.parametrize("how", ["removed", "moved away", "its directory removed"])
def test_a_ledger_that_is_removed_during_a_run(
    path: str, notices: list[str], how: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run records goes into no file that nobody finds any more; that the history is lost is said."""
    monkeypatch.setattr(database, "journal_of", lambda directory: journal)
    directory = Path(path).parent
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW) as ledger:
        run = begin(ledger)
        ledger.commit_batch(shipped=[shipped("before")])
        if how == "its directory removed":
            shutil.rmtree(directory)
        for name in os.listdir(directory) if directory.exists() else ():
            (directory / name).rename(directory / f"moved-{name}") if how == "moved away" else (
                directory / name
            ).unlink()
        ledger.commit_batch(shipped=[shipped("after", kept=PRINT)])
        ledger.commit_batch(shipped=[shipped("last")])
        ledger.finish_run(run, report(shipped=3))
    with Ledger.open(path) as again:
        assert [row.path for row in again.history()] == ["after", "last"]
        assert [(row.id, row.shipped, row.started_at) for row in again.runs()] == [(run, 3, NOW)]
        assert again.remembers("after", PRINT, destination="bucket")
    (notice,) = notices
    assert f"The ledger {path} was removed or replaced during the run" in notice


def test_a_ledger_that_is_replaced_during_a_run(
    path: str, notices: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A ledger that is restored from a copy during a run gets what the run records from then on."""
    copy = tmp_path_factory.mktemp("copies") / "copy"
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW) as ledger:
        ledger.commit_batch(shipped=[shipped("old")])
    shutil.copytree(Path(path).parent, copy)
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW) as ledger:
        run = begin(ledger)
        ledger.commit_batch(shipped=[shipped("before")])
        shutil.rmtree(Path(path).parent)
        copy.rename(Path(path).parent)
        ledger.commit_batch(shipped=[shipped("after")])
        ledger.finish_run(run, report(shipped=2))
    with Ledger.open(path) as again:
        assert [row.path for row in again.history()] == ["old", "after"]
    assert len(notices) == 1


def test_a_ledger_is_not_replaced_twice(path: str, notices: list[str], ledger: Ledger) -> None:
    """If two processes find the ledger damaged, the second one uses the new ledger of the first."""
    other_notices: list[str] = []
    with Ledger.open(path, notice=other_notices.append, clock=lambda: NOW) as other:
        other.commit_batch(shipped=[shipped(f"{number}") for number in range(300)])
        damage(path)
        other.commit_batch(shipped=[shipped("first")])
        ledger.commit_batch(shipped=[shipped("second")])
        assert [row.path for row in other.history()] == ["first", "second"]
    assert (len(notices), len(other_notices)) == (0, 1)


def test_a_damaged_ledger_that_is_gone_is_not_set_aside(path: str, notices: list[str], ledger: Ledger) -> None:
    """If another process is just replacing the damaged ledger, a new one is begun together with it."""
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(300)])
    damage(path)
    os.rename(path, path + ".away")
    assert list(ledger.history()) == []
    assert notices == []


def test_only_the_last_damaged_ledgers_are_kept(path: str) -> None:
    """A dying disk that damages the ledger each minute does not fill up with damaged ledgers."""
    for number in range(5):
        rubbish(path, f"rubbish {number}".encode())
        at = NOW + number * 60
        with Ledger.open(path, clock=lambda at=at: at):  # type: ignore[misc]
            pass
    assert set_aside_in(path) == [f"ledger.corrupt-20200913T12{minute}40Z" for minute in (28, 29, 30)]


def test_two_damaged_ledgers_of_one_second_are_both_kept(path: str) -> None:
    """A ledger that is set aside never replaces another one."""
    for _ in range(3):
        rubbish(path, b"rubbish")
        with Ledger.open(path, clock=lambda: NOW):
            pass
    name = "ledger.corrupt-20200913T122640Z"
    assert set_aside_in(path) == [name, f"{name}-2", f"{name}-3"]


def test_a_damaged_ledger_that_cannot_be_set_aside_is_said(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the damaged ledger cannot be moved out of the way, the error says what to do."""
    Path(path).write_bytes(b"rubbish" * 100)

    def refuse(*names: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StateError, match="cannot be set aside: Permission denied") as caught:
        Ledger.open(path)
    assert "Move it away by hand" in caught.value.hint


def test_a_pipe_in_place_of_the_journal_is_refused(path: str) -> None:
    """SQLite would wait for somebody who writes to it."""
    Ledger.open(path).close()
    os.mkfifo(path + "-journal")
    for access in (Ledger.open, ReadOnlyDatabase):
        with pytest.raises(StateError, match=r"ledger\.sqlite3-journal cannot be \w+: it is not a regular file"):
            access(path)
