"""The ledger's file: newer, missing, in a transaction, closed."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.events import Totals
from s3_uploader.ledger import Ledger
from s3_uploader.ledger import database as database_module
from s3_uploader.ledger.database import Journal, choose, journal_of
from tests.ledger_values import set_aside_in, shipped


@pytest.mark.parametrize(
    ("file_system", "block", "journal"),
    [
        ("ext4", 4096, Journal.WAL),
        ("xfs", 4096, Journal.WAL),
        ("tmpfs", 4096, Journal.WAL),
        ("ext4", 1024, Journal.ROLLBACK),
        ("xfs", 512, Journal.ROLLBACK),
        ("btrfs", 4096, Journal.ROLLBACK),
        ("zfs", 131072, Journal.ROLLBACK),
        ("overlay", 4096, Journal.ROLLBACK),
        ("vfat", 4096, Journal.ROLLBACK),
        ("nfs", 1048576, Journal.ROLLBACK),
        ("nfs4", 1048576, Journal.ROLLBACK),
        ("cifs", 4096, Journal.ROLLBACK),
        ("smb3", 4096, Journal.ROLLBACK),
        ("9p", 4096, Journal.ROLLBACK),
        ("fuse", 4096, Journal.CAUTIOUS),
        ("fuse.sshfs", 4096, Journal.CAUTIOUS),
        ("fuseblk", 4096, Journal.CAUTIOUS),
        ("virtiofs", 4096, Journal.CAUTIOUS),
        ("", 4096, Journal.CAUTIOUS),
    ],
)
def test_what_the_state_directory_lies_on_decides(file_system: str, block: int, journal: Journal) -> None:
    """A log is for disks of one host that write in place; what is not known is treated with the most caution."""
    assert choose(file_system, block=block) is journal


def test_a_directory_that_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is missing is for SQLite to complain of; of one that does not answer nothing is assumed."""
    assert journal_of(str(tmp_path / "missing")) is Journal.WAL

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fstatvfs", fail)
    assert journal_of(str(tmp_path)) is Journal.CAUTIOUS


def test_a_directory_that_cannot_be_opened_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system that fails for a moment a log would be what two hosts damage together."""

    def fail(*arguments: object, **options: object) -> int:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "open", fail)
    assert journal_of(str(tmp_path)) is Journal.CAUTIOUS


def test_a_directory_that_may_not_be_read(tmp_path: Path) -> None:
    """It may be used, and it has a file system like any other; as root the flags of its opening are looked at."""
    with patch.object(os, "open", wraps=os.open) as opened:
        journal_of(str(tmp_path))
    assert opened.call_args.args[1] & os.O_PATH


def test_a_ledger_that_is_damaged_as_often_as_it_is_begun_ends_the_run(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One new ledger is begun, not one after the other."""
    monkeypatch.setattr(database_module, "is_damage", lambda error: isinstance(error, sqlite3.Error))

    def fail_always(connection: sqlite3.Connection, patience: float) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(database_module, "_switch_to_wal", fail_always)
    with pytest.raises(StateError, match="it is damaged"):
        Ledger.open(path)
    assert len(set_aside_in(path)) == 1


def test_damage_twice_in_one_operation_ends_the_run(ledger: Ledger) -> None:
    """An operation is repeated once on a new ledger, and then it fails."""

    def work(connection: sqlite3.Connection) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(StateError, match="it is damaged"):
        ledger._database.transact(work, durable=True)


def test_a_newer_ledger_is_not_touched(path: str, ledger: Ledger) -> None:
    """The ledger of a newer version is neither changed nor set aside, and the error says what to do."""
    ledger.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for opening in (Ledger.open, Ledger.open_readonly):
        with pytest.raises(StateError, match="newer version of this program") as caught:
            opening(path)
        assert "move the ledger away" in caught.value.hint
    assert set_aside_in(path) == []


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    """A ledger whose directory is missing is an error that names the directory."""
    with pytest.raises(StateError, match=r"cannot be written: .*nowhere is not a directory"):
        Ledger.open(str(tmp_path / "nowhere" / "ledger.sqlite3"))


def test_a_directory_in_the_ledgers_place_is_said(tmp_path: Path) -> None:
    """A directory where the ledger should be is an error, not a crash."""
    (tmp_path / "ledger.sqlite3").mkdir()
    with pytest.raises(StateError, match="it is not a regular file"):
        Ledger.open(str(tmp_path / "ledger.sqlite3"))


def test_an_error_of_ours_in_a_transaction_is_not_hidden(ledger: Ledger) -> None:
    """An error that is not SQLite's undoes the transaction and comes out as it is."""

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM totals")
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        ledger._database.transact(work, durable=False)
    assert ledger.totals() == Totals()


def test_switching_to_wal_waits_for_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that create the ledger at once wait for each other, and not for ever."""
    answers = iter([sqlite3.OperationalError("database is locked"), None])
    times = iter([0.0, 1.0, 0.0, 99.0, 0.0])
    slept: list[float] = []

    class Connection:
        def execute(self, statement: str) -> Connection:
            answer = next(answers)
            if answer is not None:
                raise answer
            return self

        def fetchall(self) -> None:
            pass

    monkeypatch.setattr("s3_uploader.ledger.database.time.monotonic", lambda: next(times))
    monkeypatch.setattr("s3_uploader.ledger.database.time.sleep", slept.append)
    database_module._switch_to_wal(Connection(), 10.0)  # type: ignore[arg-type]
    assert slept == [0.01]
    answers = iter([sqlite3.OperationalError("database is locked")])
    with pytest.raises(sqlite3.OperationalError):
        database_module._switch_to_wal(Connection(), 10.0)  # type: ignore[arg-type]
    answers = iter([sqlite3.OperationalError("disk I/O error")])
    with pytest.raises(sqlite3.OperationalError):
        database_module._switch_to_wal(Connection(), 10.0)  # type: ignore[arg-type]


def test_closing_tidies_a_large_log_away(path: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a big run wrote is in the main file when it ends, and closing twice is fine."""
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(3000)])
    assert os.path.getsize(path + "-wal") > 256 * 1024
    ledger.close()
    ledger.close()
    assert os.path.getsize(path + "-wal") == 0


def test_opening_the_ledgers_module_does_not_load_sqlite() -> None:
    """SQLite is loaded when a ledger is opened and not before."""
    # Not sqlite3 itself: where coverage is measured, that is loaded already.
    code = "import sys, s3_uploader.ledger as ledger; print('s3_uploader.ledger.database' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
