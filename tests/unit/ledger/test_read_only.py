"""The ledger opened for queries only."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.events import Totals
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.read_only import ReadOnlyDatabase
from tests.ledger_values import NOW, shipped


def test_a_ledger_that_does_not_exist_yet_is_empty_to_readers(tmp_path: Path) -> None:
    """Asking for the history before the first run gives an empty answer and creates nothing."""
    for path in (tmp_path / "ledger.sqlite3", tmp_path / "no" / "ledger.sqlite3"):
        with Ledger.open_readonly(str(path)) as reader:
            assert list(reader.history()) == []
            assert reader.runs() == []
            assert reader.totals() == Totals()
            assert reader.failing_count() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_is_being_created_is_empty_to_readers(path: str) -> None:
    """A reader that comes between the creation of the file and of its tables sees an empty ledger."""
    Path(path).touch()
    with Ledger.open_readonly(path) as reader:
        assert list(reader.history()) == []


def test_readers_see_what_a_running_run_has_committed(path: str, ledger: Ledger) -> None:
    """A reader works while a run is writing, and sees each batch as soon as it is committed."""
    with Ledger.open_readonly(path) as reader:
        ledger.commit_batch(shipped=[shipped("one")])
        assert [row.path for row in reader.history()] == ["one"]
        ledger.commit_batch(shipped=[shipped("two")])
        assert [row.path for row in reader.history()] == ["one", "two"]


def test_readers_need_not_create_anything(path: str, ledger: Ledger) -> None:
    """After a run its files stay such that a reader, also one who may only read, need not create any."""
    ledger.commit_batch(shipped=[shipped()])
    ledger.close()
    before = sorted(os.listdir(os.path.dirname(path)))
    assert before == ["ledger.sqlite3", "ledger.sqlite3-shm", "ledger.sqlite3-wal"]
    with Ledger.open_readonly(path) as reader:
        assert len(list(reader.history())) == 1
    assert sorted(os.listdir(os.path.dirname(path))) == before


def single_file(path: str) -> None:
    """Make the ledger one file, as it is where the last program to close it was another one."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert os.listdir(os.path.dirname(path)) == ["ledger.sqlite3"]


def test_a_ledger_without_its_companions_is_readable(path: str, ledger: Ledger) -> None:
    """A ledger that was copied as a single file is read, without creating files, also when a run then begins."""
    ledger.commit_batch(shipped=[shipped("one")])
    ledger.close()
    single_file(path)
    with Ledger.open_readonly(path) as reader:
        assert [row.path for row in reader.history()] == ["one"]
        assert os.listdir(os.path.dirname(path)) == ["ledger.sqlite3"]
        with Ledger.open(path) as writer:
            writer.commit_batch(shipped=[shipped("two", shipped_at=NOW + 1)])
            assert [row.path for row in reader.history()] == ["one", "two"]


def test_a_run_that_begins_under_a_reader_is_noticed(
    path: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a run changes the file in the very moment of a query, the query is made again."""
    ledger.commit_batch(shipped=[shipped()])
    ledger.close()
    single_file(path)
    with Ledger.open_readonly(path) as reader:
        database = reader._database
        assert isinstance(database, ReadOnlyDatabase)
        real = database._query
        answers = iter([sqlite3.DatabaseError("database disk image is malformed")])

        def query(sql: str, parameters: tuple) -> list:
            for error in answers:
                raise error
            return real(sql, parameters)

        monkeypatch.setattr(database, "_query", query)
        assert len(list(reader.history())) == 1
        answers = iter([sqlite3.DatabaseError("malformed")] * 2)
        with pytest.raises(StateError, match="cannot be read: it is damaged"):
            list(reader.history())
        database._immutable = False
        answers = iter([sqlite3.DatabaseError("malformed")])
        with pytest.raises(StateError, match="cannot be read: it is damaged"):
            list(reader.history())


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_readers_leave_a_damaged_ledger_where_it_is(path: str, content: bytes | None) -> None:
    """A reader says that the ledger is damaged or not ours, and leaves it to the next run."""
    if content is None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("CREATE TABLE notes (text)")
        connection.close()
    else:
        Path(path).write_bytes(content)
    with pytest.raises(StateError, match="cannot be read: it is damaged") as caught:
        Ledger.open_readonly(path)
    assert "The next run sets it aside" in caught.value.hint
    assert os.listdir(os.path.dirname(path)) == ["ledger.sqlite3"]


def test_readers_cannot_write(path: str, ledger: Ledger) -> None:
    """A ledger that was opened for reading has nothing that records, and SQLite lets nothing through either."""
    with Ledger.open_readonly(path) as reader:
        assert not {name for name in ("commit_batch", "begin_run", "remember", "prune") if hasattr(reader, name)}
        with pytest.raises(StateError, match="cannot be read"):
            reader._read("DELETE FROM totals")
    assert ledger.totals() == Totals()


def test_a_path_that_may_not_be_looked_at_is_said(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader without permission to look into the state directory is told so, not that there is no history."""

    def refuse(name: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(StateError, match="cannot be read: Permission denied") as caught:
        Ledger.open_readonly(path)
    assert "as root" in caught.value.hint


def test_odd_state_directories_are_readable(tmp_path: Path) -> None:
    """Characters that mean something in a URI do not get in the way of reading."""
    directory = tmp_path / "a?b#c%41d"
    directory.mkdir()
    path = str(directory / "ledger.sqlite3")
    with Ledger.open(path) as ledger:
        ledger.commit_batch(shipped=[shipped()])
    with Ledger.open_readonly(path) as reader:
        assert len(list(reader.history())) == 1
