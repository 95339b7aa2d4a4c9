"""Opens a ledger's file with SQLite: its address, the index of its journal, its rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]

COMPANIONS = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite makes beside a ledger."""


def uri(path: str, query: str) -> str:
    """The address of a file, for :func:`sqlite3.connect` with ``uri``."""
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?{query}"


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; ``None`` if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def has_log(path: str) -> bool:
    """Whether a ledger has a write-ahead log with something in it."""
    try:
        return os.path.getsize(path + "-wal") > 0
    except OSError:
        return False


def is_half_written(path: str) -> bool:
    """Whether a rollback journal says that a transaction was not finished (https://www.sqlite.org/fileformat.html)."""
    try:
        with open(path + "-journal", "rb") as file:
            return any(file.read(8))
    except OSError:
        return False


def map_no_index(connection: sqlite3.Connection) -> None:
    """Make SQLite keep the index of a write-ahead log in its own memory and map no file.

    To be called before anything is read.

    Not by a look at the file's header: to close a file drops all locks that this process has on it, SQLite's included.
    """
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()


def share_again(connection: sqlite3.Connection) -> None:
    """Undo :func:`map_no_index`, so that other processes may use the ledger too."""
    connection.execute("PRAGMA locking_mode = NORMAL").fetchall()
    # With the next access the lock goes back.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


def fetched(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[Row]:
    """All rows of a query."""
    return connection.execute(sql, parameters).fetchall()
