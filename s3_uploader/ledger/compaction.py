"""Makes a ledger smaller: forgets old rows by the rules of a run and returns the room to the disk.

SQLite keeps the pages of deleted rows for later rows. So the remaining rows are written to a new file, which replaces
the old one in one step. An interruption at any point leaves a complete ledger, and only the new file needs room.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable

import msgspec

from s3_uploader.ledger import offline
from s3_uploader.ledger.database import map_no_index, uri
from s3_uploader.ledger.ledger import Ledger
from s3_uploader.ledger.trouble import explained


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger would forget.

    :param files: shipped files in it; ``forgotten`` is how many would be deleted.
    :param end: files that were shipped before this moment would be deleted.
    :param unaudited: how many of these no audit has covered, by destination.
    :param size: bytes of the ledger now; ``freed`` is about how many would be returned to the disk.
    """

    files: int
    forgotten: int
    end: float
    unaudited: dict[str, int]
    size: int
    freed: int


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a ledger stay: the files of the last days, and of these the newest.

    :param trusts_clock: whether to trust the clock because a person chose the days. Otherwise a clock that jumped
        makes nothing old (:class:`s3_uploader.ledger.records.BelievedClock`).
    """

    history_days: float
    history_max_files: int
    trusts_clock: bool = False


def outlook(path: str, limits: Limits, *, now: float) -> Outlook:
    """Predict what :func:`compact` would do. Changes nothing.

    :raises StateError: if the ledger cannot be read.
    """
    with Ledger.open_readonly(path) as ledger:
        fate = ledger.fate(now=now, **msgspec.structs.asdict(limits))
        unaudited = ledger.unaudited(end=fate.end) if fate.forgotten else {}
        used, free = ledger.bytes_used()
    size = offline.size_of(path)
    share = fate.forgotten / fate.files if fate.files else 0.0
    return Outlook(
        files=fate.files,
        forgotten=fate.forgotten,
        end=fate.end,
        # Some rows that stay may have the same time as the last row that is deleted.
        unaudited={name: min(number, fate.forgotten) for name, number in unaudited.items()},
        size=size,
        freed=min(size, free + int(used * share) + max(0, size - used - free)),
    )


def compact(
    path: str,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.time,
    notice: Callable[[str], None] = lambda sentence: None,
) -> int:
    """Forget old rows and return the room to the disk; returns the number of bytes freed.

    :raises StateError: if the ledger is in use, belongs to another user, or there is no room for the new file.
    """
    offline.refuse_others_ledger(path)
    before = offline.size_of(path)
    directory = os.path.dirname(path)
    with offline.directory_alone(directory):
        _insist_on_alone(path)
    with Ledger.open(path, clock=clock, notice=notice) as ledger:
        ledger.prune(now=clock(), **msgspec.structs.asdict(limits))
        used, _ = ledger.bytes_used()
    offline.insist_on_room(directory, used)
    with offline.directory_alone(directory):
        _rewrite(path, os.path.join(directory, offline.BUILT))
    return max(0, before - offline.size_of(path))


def _insist_on_alone(path: str) -> None:
    connection = sqlite3.connect(":memory:", uri=True, isolation_level=None, timeout=0)
    try:
        if not offline.attach(connection, path):
            raise explained(sqlite3.OperationalError("readonly database"), path)
        connection.execute("COMMIT")
    finally:
        connection.close()


def _rewrite(path: str, built: str) -> None:
    offline.remove(built)
    connection = sqlite3.connect(uri(path, "mode=rw"), uri=True, isolation_level=None, timeout=0)
    try:
        map_no_index(connection)
        # In this mode the lock stays after the transaction.
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        offline.rolled_back(connection, path, "main")
        connection.execute("VACUUM INTO ?", (built,))
        offline.put_in_place(built, path)
    except sqlite3.Error as error:
        raise (offline.in_use(path) if "locked" in str(error) else explained(error, path)) from error
    finally:
        connection.close()
        with contextlib.suppress(OSError):
            offline.remove(built)
