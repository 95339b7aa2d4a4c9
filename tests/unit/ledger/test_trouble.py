"""What is said of SQLite's errors."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from pathlib import Path

import pytest

from s3_uploader.ledger.trouble import explained


@pytest.mark.parametrize(
    ("text", "fact"),
    [("disk I/O error", "the disk answered with an I/O error"), ("something else", "something else")],
)
def test_other_errors_of_sqlite_are_said(text: str, fact: str) -> None:
    """Whatever SQLite says becomes a sentence with the file in it."""
    error = explained(sqlite3.OperationalError(text), "/state/ledger.sqlite3")
    assert error.message == f"The ledger /state/ledger.sqlite3 cannot be written: {fact}."


@pytest.mark.parametrize("text", ["database or disk is full", "unable to open database file", "disk I/O error"])
def test_a_full_disk_is_called_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lack of room for one of SQLite's files, whatever it calls that, is told apart from a missing permission."""
    path = str(tmp_path / "ledger.sqlite3")
    values = list(os.statvfs(tmp_path))
    values[2:5] = 100, 0, 0
    monkeypatch.setattr(os, "statvfs", lambda directory: os.statvfs_result(values))
    error = explained(sqlite3.OperationalError(text), path)
    assert (error.code, "the file system is full" in error.message) == ("DiskFull", True)
    values[4] = 5
    error = explained(sqlite3.OperationalError("unable to open database file"), path)
    assert error.code == "Denied"


def test_what_nobody_can_reach_is_not_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory below one that is closed to this user is a matter of permissions; a missing one is told."""
    refused = sqlite3.OperationalError("unable to open database file")
    error = explained(refused, str(tmp_path / "none" / "ledger.sqlite3"))
    assert "none is not a directory" in error.message

    def refuse(path: object, **_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "stat", refuse)
    error = explained(refused, str(tmp_path / "ledger.sqlite3"))
    assert (error.code, "it cannot be opened" in error.message) == ("Denied", True)


def test_a_file_system_without_free_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice to free space is not given where there is some."""
    values = list(os.statvfs(tmp_path))
    values[2:8] = 100, 50, 50, 100, 0, 0
    monkeypatch.setattr(os, "statvfs", lambda directory: os.statvfs_result(values))
    error = explained(sqlite3.OperationalError("unable to open database file"), str(tmp_path / "ledger.sqlite3"))
    assert (error.code, "takes no more files" in error.message) == ("DiskFull", True)
    assert "inodes" in error.hint


@pytest.mark.parametrize("text", ["unable to open database file", "disk I/O error"])
def test_a_quota_is_called_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota that is used up is told from a disk that fails, although SQLite has the same words for both."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", refuse)
    error = explained(sqlite3.OperationalError(text), str(tmp_path / "ledger.sqlite3"))
    assert (error.code, "the quota is used up" in error.message) == ("DiskFull", True)
    assert "raise the quota" in error.hint
    error = explained(sqlite3.OperationalError(text), str(tmp_path / "ledger.sqlite3"), reading=True)
    assert "the quota" not in error.message
    assert list(tmp_path.iterdir()) == []


def test_too_many_open_files_are_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of many ledgers is not advised to check the permissions of a single one. Three are too few."""
    left, real = [3], os.open

    def refuse(path: str, flags: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    error = explained(
        sqlite3.OperationalError("unable to open database file"), str(tmp_path / "l.sqlite3"), reading=True
    )
    monkeypatch.undo()
    assert "this program has too many files open" in error.message
    assert "ulimit -n" in error.hint


@pytest.mark.parametrize(("size", "limit"), [(900_000, 1_000_000), (0, 100_000), (0, 0)])
def test_a_limit_of_the_size_of_files_is_no_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, limit: int
) -> None:
    """Where ulimit stops a ledger, nobody is sent to look for a broken disk; a limit out of reach is not blamed."""
    (tmp_path / "ledger.sqlite3-wal").write_bytes(bytes(size))
    for allowed, is_blamed in [(limit, True), (limit + 1_000_000, False), (resource.RLIM_INFINITY, False)]:
        monkeypatch.setattr(resource, "getrlimit", lambda which, allowed=allowed: (allowed, allowed))
        error = explained(sqlite3.OperationalError("disk I/O error"), str(tmp_path / "ledger.sqlite3"))
        assert ("may write no files of more than" in error.message) is is_blamed
        assert ("ulimit -f" in error.hint) is is_blamed
        text = "disk I/O error"  # the index of the write-ahead log, which a reader makes anew, has 32 KiB
        error = explained(sqlite3.OperationalError(text), str(tmp_path / "ledger.sqlite3"), reading=True)
        assert ("may write no files of more than" in error.message) is is_blamed
