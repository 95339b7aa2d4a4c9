"""Columns that are added without a new version: older and newer versions of the program share one ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import msgspec
import pytest

from s3_uploader.ledger import Ledger
from s3_uploader.ledger.schema import APPLICATION_ID, MIGRATIONS, VERSION
from tests.ledger_values import begin, failing, report

FAILING_OF_OLDER = "path, key, size, mtime_ns, attempts, first_failed_at, last_failed_at, next_try_at, code, message"


def of_older(path: str) -> None:
    """A ledger as the version before the first added column makes it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for step in MIGRATIONS:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


def older_fails(path: str, name: str) -> None:
    """What that version writes about a file that fails, and about its run."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            f"INSERT OR REPLACE INTO failing ({FAILING_OF_OLDER}) VALUES (?, ?, 1, 1, 1, 1.0, 1.0, 2.0, 'X', 'no')",
            (name, name),
        )
        connection.execute("INSERT INTO runs (started_at, pid, host, destination, code) VALUES (1.0, 7, 'h', 'd', 'X')")


def test_a_ledger_of_an_older_version_gets_them(path: str) -> None:
    """They are added by the next run; what is there stays, and says that nothing is known."""
    of_older(path)
    older_fails(path, "a")
    with Ledger.open(path) as ledger:
        assert [(row.path, row.origin) for row in ledger.failing_rows()] == [("a", "")]
        assert [(row.code, row.origin) for row in ledger.runs()] == [("X", "")]
        ledger.commit_batch(failed=[msgspec.structs.replace(failing(path="b"), origin="file_right")])
        run = begin(ledger)
        ledger.finish_run(run, msgspec.structs.replace(report(), exit_code=3, origin="bucket"))
        assert {row.path: row.origin for row in ledger.failing_rows()} == {"a": "", "b": "file_right"}
        assert [row.origin for row in ledger.runs()] == ["bucket", ""]
        assert {group.origin for group in ledger.failing_kinds()} <= {"", "file_right"}


def test_an_older_version_goes_on_with_it(path: str) -> None:
    """The version of the ledger stays what it was, and an older program writes beside a newer one."""
    with Ledger.open(path) as ledger:
        ledger.commit_batch(failed=[msgspec.structs.replace(failing(path="b"), origin="file_right")])
        older_fails(path, "a")
        older_fails(path, "b")
        assert {row.path: row.origin for row in ledger.failing_rows()} == {"a": "", "b": ""}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,) == (4,)


@pytest.mark.parametrize("opened", [Ledger.open_readonly, Ledger.open], ids=["reading", "writing"])
def test_either_is_read(path: str, opened: Callable[..., Ledger]) -> None:
    """A reader adds no columns, and reads the same values."""
    of_older(path)
    older_fails(path, "a")
    with opened(path) as ledger:
        assert [row.origin for row in ledger.failing_rows()] == [""]
        assert [row.origin for row in ledger.runs()] == [""]
        assert [group.origin for group in ledger.failing_kinds()] == [""]
    with closing(sqlite3.connect(path)) as connection:
        names = {name for _, name, *_ in connection.execute("PRAGMA table_info(failing)")}
    assert ("origin" in names) == (opened == Ledger.open)
