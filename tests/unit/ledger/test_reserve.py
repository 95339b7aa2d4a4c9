"""The room that is kept for the ledger on its own disk."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.ledger.database import Database
from s3_uploader.ledger.state_directory import RESERVE_NAME, RESERVE_SIZE, keep_reserve
from tests.ledger_values import NOW


def test_it_is_made_once(tmp_path: Path) -> None:
    """Room is kept for the day on which there is none; what is there already is left alone."""
    for _ in range(2):
        keep_reserve(str(tmp_path))
        kept = os.stat(tmp_path / RESERVE_NAME)
        assert kept.st_size == RESERVE_SIZE
        assert kept.st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / RESERVE_NAME).st_mtime_ns == kept.st_mtime_ns


def test_what_is_scarce_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that is nearly full nothing is put aside."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=511, f_frsize=4096))
    keep_reserve(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_costs_the_reserve_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What found no room is done again once the reserve has been given up; without one the error stands."""
    database = Database(str(tmp_path / "ledger.sqlite3"), notice=print, clock=lambda: NOW, busy_seconds=0)
    keep_reserve(str(tmp_path))
    real = Database._transact

    def refuse_while_full(self: Database, *arguments: object, **options: object) -> object:
        if (tmp_path / RESERVE_NAME).exists() or full:
            raise StateError("full", code="DiskFull")
        return real(self, *arguments, **options)  # type: ignore[arg-type]

    full = False
    monkeypatch.setattr(Database, "_transact", refuse_while_full)
    assert database.transact(lambda connection: "done", durable=True) == "done"
    assert not (tmp_path / RESERVE_NAME).exists()
    full = True
    with pytest.raises(StateError):
        database.transact(lambda connection: "done", durable=True)
    database.close()
