"""A ledger where a write-ahead log is not safe: what is recorded is the same, and who comes second waits."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.files import is_held
from s3_uploader.ledger import Ledger
from s3_uploader.ledger import database as database_module
from s3_uploader.ledger import read_only as read_only_module
from s3_uploader.ledger import snapshot as snapshot_module
from s3_uploader.ledger.database import Journal
from s3_uploader.ledger.exclusive import LOCK_NAME, alone
from s3_uploader.ledger.offline import directory_alone
from s3_uploader.ledger.snapshot import Snapshot
from tests.ledger_values import shipped

Choose = Callable[[Journal], None]


@pytest.fixture
def lies_on(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Says what the state directory lies on."""

    def lie(journal: Journal) -> None:
        for module in (database_module, read_only_module, snapshot_module):
            monkeypatch.setattr(module, "journal_of", lambda directory: journal)

    monkeypatch.setattr(database_module, "_CACHES_EXPIRE", 0.0)
    return lie


def journal_mode(path: Path) -> str:
    """What is written in the file about its journal."""
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchall()[0][0])


def maps_an_index() -> bool:
    """Whether this process has mapped the index of a write-ahead log."""
    return "ledger.sqlite3-shm" in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("journal", [Journal.ROLLBACK, Journal.CAUTIOUS])
def test_what_is_recorded_is_read_at_once(tmp_path: Path, lies_on: Choose, journal: Journal) -> None:
    """Several runs and readers have the ledger open at once and see what the others wrote, without any log."""
    lies_on(journal)
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(str(path)) as one, Ledger.open(str(path)) as other, Ledger.open_readonly(str(path)) as reader:
        for number, ledger in enumerate([one, other, one]):
            ledger.commit_batch(shipped=[shipped(path=f"a/{number}")])
            assert [row.path for row in reader.history()] == [f"a/{each}" for each in range(number + 1)]
        assert other.totals().shipped_files == 3
        assert not maps_an_index()
    assert journal_mode(path) != "wal"
    with Snapshot(str(path), destination=shipped().destination) as snapshot:
        assert snapshot.select().rows == 3
    assert {name.name for name in tmp_path.iterdir()} <= {path.name, f"{path.name}-journal", LOCK_NAME}


@pytest.mark.parametrize("journal", [Journal.ROLLBACK, Journal.CAUTIOUS])
def test_a_ledger_with_a_log_is_given_another_journal(tmp_path: Path, lies_on: Choose, journal: Journal) -> None:
    """What an older version recorded stays, also what is only in its log, and no index is mapped on the way."""
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(str(path)) as ledger:
        ledger.commit_batch(shipped=[shipped(path="old")])
    assert journal_mode(path) == "wal"
    lies_on(journal)
    with Ledger.open_readonly(str(path)) as reader:
        assert [row.path for row in reader.history()] == ["old"]
        assert not maps_an_index()
    with Ledger.open(str(path)) as ledger:
        ledger.commit_batch(shipped=[shipped(path="new")])
        assert not maps_an_index()
    with Ledger.open_readonly(str(path)) as reader:
        assert [row.path for row in reader.history()] == ["old", "new"]
    assert not (tmp_path / "ledger.sqlite3-wal").exists()


@pytest.mark.parametrize("journal", [Journal.ROLLBACK, Journal.CAUTIOUS])
def test_a_copied_ledger_is_read_with_its_log(tmp_path: Path, lies_on: Choose, journal: Journal) -> None:
    """A copy with its log is read as a whole, to queries and to audits, wherever it was copied to."""
    path, copy = tmp_path / "ledger.sqlite3", tmp_path / "copy/ledger.sqlite3"
    copy.parent.mkdir()
    with Ledger.open(str(path)) as ledger:
        ledger.commit_batch(shipped=[shipped(path="kitchen/a")])
        for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
            (copy.parent / name).write_bytes((tmp_path / name).read_bytes())
    lies_on(journal)
    with Snapshot(str(copy), destination=shipped().destination) as snapshot:
        snapshot.select()
        assert [row.path for row in snapshot.rows()] == ["kitchen/a"]
        assert not maps_an_index()
    with Ledger.open_readonly(str(copy)) as reader:
        assert [row.path for row in reader.history()] == ["kitchen/a"]


@pytest.mark.parametrize("journal", [Journal.ROLLBACK, Journal.CAUTIOUS])
def test_a_log_that_cannot_be_read_is_said(
    tmp_path: Path, lies_on: Choose, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is only in a log is never left out in silence: a user who may not move it into the ledger is told."""
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(str(path)) as ledger:
        ledger.commit_batch(shipped=[shipped(path="old")])
    lies_on(journal)
    connect = sqlite3.connect

    def read_only(address: str, **options: Any) -> sqlite3.Connection:
        return connect(address.replace("mode=rw", "mode=ro"), **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(StateError, match="has a write-ahead log that") as caught:
        Ledger.open_readonly(str(path))
    assert "to a directory that this user may write to" in caught.value.hint


@pytest.mark.parametrize("journal", [Journal.ROLLBACK, Journal.CAUTIOUS])
def test_a_log_that_somebody_uses_is_refused(tmp_path: Path, lies_on: Choose, journal: Journal) -> None:
    """While an older version has the ledger open with its log, nothing is written, and a local state_dir is named."""
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(str(path)):
        lies_on(journal)
        with pytest.raises(StateError, match="write-ahead log") as caught:
            Ledger.open(str(path), busy_seconds=0.1)
    assert "state_dir on a local file system" in caught.value.hint
    assert journal_mode(path) == "wal"


@pytest.mark.parametrize("journal", [Journal.ROLLBACK, Journal.CAUTIOUS])
def test_what_was_half_written_is_rolled_back(tmp_path: Path, lies_on: Choose, journal: Journal) -> None:
    """A reader after a run that was killed while it wrote sees what was there before."""
    lies_on(journal)
    path, copy = tmp_path / "ledger.sqlite3", tmp_path / "copy/ledger.sqlite3"
    with Ledger.open(str(path)) as ledger:
        ledger.commit_batch(shipped=[shipped(path="before")])
    copy.parent.mkdir()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = PERSIST")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE totals SET shipped_files = 77")
    connection.execute("CREATE TABLE filler AS SELECT randomblob(100000) AS x")
    for name in ("ledger.sqlite3", "ledger.sqlite3-journal"):
        (copy.parent / name).write_bytes((tmp_path / name).read_bytes())
    connection.close()
    with Ledger.open_readonly(str(copy)) as reader:
        assert reader.totals().shipped_files == 1
        assert [row.path for row in reader.history()] == ["before"]


def test_a_damaged_ledger_is_looked_at_twice(tmp_path: Path, lies_on: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another host wrote may be seen by half for a moment; a ledger is set aside only if it stays damaged."""
    lies_on(Journal.CAUTIOUS)
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(str(path), notice=pytest.fail) as ledger:
        ledger.commit_batch(shipped=[shipped(path="a")])
        whole = path.read_bytes()
        path.write_bytes(whole[:2000] + b"\xff" * (len(whole) - 2000))
        monkeypatch.setattr(time, "sleep", lambda seconds: path.write_bytes(whole))
        assert [row.path for row in ledger.history()] == ["a"]
    notices: list[str] = []
    with Ledger.open(str(path), notice=notices.append) as ledger:
        path.write_bytes(whole[:2000] + b"\xff" * (len(whole) - 2000))
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        assert list(ledger.history()) == []
    assert "was damaged" in notices[0]


def test_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exclusive access to a ledger makes others wait, for a bounded time."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with alone(str(tmp_path), seconds=10):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        with alone(str(tmp_path), seconds=0):
            pass
    assert waited == []
    with alone(str(tmp_path / "missing"), seconds=0):
        pass


class TestWithoutLocks:
    """A file system on which nothing can be locked with ``flock``."""

    @pytest.fixture(autouse=True)
    def no_flock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every ``flock`` is refused."""

        def flock(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("nothing is waited for"))

    def test_the_range_in_the_lock_file_is_enough(self, tmp_path: Path) -> None:
        """Other hosts are kept out by the range lock, also where the directory cannot be locked; nobody waits."""
        with alone(str(tmp_path), seconds=10):
            descriptor = os.open(tmp_path / LOCK_NAME, os.O_RDWR)
            assert is_held(descriptor, first=0, length=1, by_process=False)
            os.close(descriptor)

    def test_a_ledger_is_still_compacted(self, tmp_path: Path) -> None:
        """Work that needs only a directory continues at once, under SQLite's own locks."""
        with directory_alone(str(tmp_path)):
            pass

    @pytest.mark.parametrize("journal", list(Journal))
    def test_what_is_written_is_read(self, tmp_path: Path, lies_on: Choose, journal: Journal) -> None:
        """A ledger works there as anywhere else, with each journal."""
        lies_on(journal)
        with Ledger.open(str(tmp_path / "ledger.sqlite3")) as ledger:
            ledger.commit_batch(shipped=[shipped(path="a")])
            assert [row.path for row in ledger.history()] == ["a"]
