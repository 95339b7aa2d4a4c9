"""A ledger is compacted, and only old rows are deleted."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.ledger import Ledger, offline
from s3_uploader.ledger.compaction import Limits, compact, outlook
from tests.ledger_values import DAY, NOW, shipped

FILES = 3000
AT = NOW + 10 * DAY


@pytest.fixture
def filled(path: str) -> str:
    """Three thousand files, shipped within ten days."""
    with Ledger.open(path, clock=lambda: NOW) as ledger:
        rows = [shipped(f"den/{n:06}.dat", shipped_at=NOW + 10 * DAY * n / FILES) for n in range(FILES)]
        for begin in range(0, FILES, 500):
            ledger.commit_batch(shipped=rows[begin : begin + 500])
        # So that the clock is believed.
        ledger.prune(now=NOW, history_days=400, history_max_files=10**6)
    return path


@pytest.mark.parametrize(("days", "files", "left"), [(5, 10**6, 1500), (400, 100, 100), (400, 10**6, FILES)])
def test_it_does_what_it_said(filled: str, days: float, files: int, left: int) -> None:
    """A dry run names the files to forget and the approximate space, and changes nothing; compaction then does that."""
    limits = Limits(history_days=days, history_max_files=files, trusts_clock=True)
    before = Path(filled).read_bytes()
    seen = outlook(filled, limits, now=AT)
    assert Path(filled).read_bytes() == before
    assert (seen.files, seen.forgotten) == (FILES, FILES - left)
    assert seen.unaudited == ({"bucket": FILES - left} if left < FILES else {})
    freed = compact(filled, limits, clock=lambda: AT)
    with Ledger.open_readonly(filled) as ledger:
        assert [row.path for row in ledger.history()] == [f"den/{n:06}.dat" for n in range(FILES - left, FILES)]
        assert ledger.totals().shipped_files == FILES
        assert ledger.bytes_used()[1] == 0
    if left < FILES:
        assert freed == pytest.approx(seen.freed, rel=0.3)
        assert offline.size_of(filled) < len(before)


def test_a_clock_that_jumped_makes_nothing_old(filled: str) -> None:
    """With the limits of the configuration a wrong clock empties no ledger; somebody who names the days is believed."""
    far = NOW + 4000 * DAY
    limits = Limits(history_days=400, history_max_files=10**6)
    assert outlook(filled, limits, now=far).forgotten == 0
    compact(filled, limits, clock=lambda: far)
    with Ledger.open_readonly(filled) as ledger:
        assert sum(1 for _ in ledger.history()) == FILES
    sure = Limits(history_days=400, history_max_files=10**6, trusts_clock=True)
    assert outlook(filled, sure, now=far).forgotten == FILES


def test_one_that_is_in_use_is_refused(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody has it open nothing is forgotten."""
    monkeypatch.setattr(offline, "_WAIT_SECONDS", 0.0)
    with closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="in use"):
            compact(filled, Limits(history_days=1, history_max_files=10), clock=lambda: AT)
    with Ledger.open_readonly(filled) as ledger:
        assert sum(1 for _ in ledger.history()) == FILES


def test_without_room_the_old_file_stays(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the new file nothing is begun, and the ledger stays in use."""
    room = os.statvfs_result((4096, 4096, 10, 1, 1, 1, 1, 1, 0, 255))
    with monkeypatch.context() as full:
        full.setattr("s3_uploader.ledger.offline.os.statvfs", lambda place: room)
        with pytest.raises(StateError, match="no room"):
            compact(filled, Limits(history_days=400, history_max_files=10**6), clock=lambda: AT)
    with Ledger.open(filled) as ledger:
        assert sum(1 for _ in ledger.history()) == FILES


def test_who_opens_it_next_writes_as_before(filled: str) -> None:
    """Afterwards runs continue with it: rows, journal and identity are there."""
    with Ledger.open_readonly(filled) as ledger:
        identity = ledger.recall("identity", now=NOW, max_age=float("inf"))
    compact(filled, Limits(history_days=400, history_max_files=10), clock=lambda: AT)
    with Ledger.open(filled) as ledger:
        ledger.commit_batch(shipped=[shipped("one more", shipped_at=AT)])
        assert sum(1 for _ in ledger.history()) == 11
        assert ledger.recall("identity", now=NOW, max_age=float("inf")) == identity
    assert sorted(name for name in os.listdir(os.path.dirname(filled)) if "ledger.new" in name) == []


def test_owners_that_belong_to_the_mount(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FAT or SMB, where not even root may set owner and permissions, a ledger is compacted all the same."""

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in ("fchown", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    compact(filled, Limits(history_days=400, history_max_files=10), clock=lambda: AT)
    with Ledger.open_readonly(filled) as ledger:
        assert sum(1 for _ in ledger.history()) == 10


def test_a_ledger_that_was_only_begun(path: str) -> None:
    """A ledger to which no run has written is neither damaged nor of another program, and stays as it is."""
    with closing(sqlite3.connect(path, isolation_level=None)) as begun:
        begun.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(StateError, match=r"No run has written to the ledger .* yet"):
        compact(path, Limits(history_days=1, history_max_files=10))
    assert os.path.exists(path)
