"""The ledger's file for a run: opening, transactions, and recovery from damage.

Durability (https://www.sqlite.org/pragma.html#pragma_synchronous): in WAL mode ``FULL`` makes a commit wait until it is
on the disk; ``NORMAL`` leaves that to later, and a power cut may then undo the last commits but never damages the
file. Rows that deletions depend on are committed with ``FULL``, the note that a run began with ``NORMAL``, which saves
an ``fsync`` that a tick on an SD card would feel. With a rollback journal everything is committed with ``FULL``,
because less might damage the file. The journal's file stays (``PERSIST``): another host with a cached directory would
miss a journal that was made a moment ago, and mistake a half-written ledger for a complete one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.connection import (
    Journal,
    Parameters,
    Row,
    alone,
    directory_locked,
    fetched,
    identity_of,
    is_complete,
    is_moved,
    journal_of,
    look_anew,
    map_no_index,
    migrate,
    our_version,
    rollback_journal,
    share_again,
    uri,
)
from s3_uploader.ledger.schema import VERSION, ForeignFile
from s3_uploader.ledger.state_directory import create_state_directory, give_up_reserve
from s3_uploader.ledger.trouble import FILES_ARE_KEPT, explained, is_damage, refuse_special

Result = TypeVar("Result")

_LARGE_WAL = 256 * 1024
_LARGE_JOURNAL = 1024 * 1024
_CACHES_EXPIRE = 2.0
"""Seconds after which a file system in user space has refreshed a file's attributes."""


class Database:
    """An open ledger file, for the one thread that opened it; other processes may have it open at the same time.

    :param notice: called with a sentence when a damaged file had to be set aside.
    :param clock: wall-clock time, for the name of a file that is set aside.
    :param busy_seconds: timeout for another process's transaction.
    :raises StateError: if it cannot be opened, or belongs to a newer version of the program.
    """

    def __init__(
        self, path: str, *, notice: Callable[[str], None], clock: Callable[[], float], busy_seconds: float
    ) -> None:
        self._path = path
        self._notice = notice
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection
        self._identity: tuple[int, int] | None = None
        self._durable = False
        self._directory = os.path.dirname(path)
        self._journal = journal_of(self._directory)
        self._with_reserve(self._open)

    def transact(self, work: Callable[[sqlite3.Connection], Result], *, durable: bool) -> Result:
        """Run ``work`` in one transaction; with ``durable`` it is on the disk when this returns.

        ``work`` may be called a second time, on an empty ledger, if the first ledger turns out to be damaged.

        :raises StateError: if it cannot be committed; then nothing is written.
        """
        if is_moved(self._path, self._identity, self._journal):
            self._begin_again()
        return self._with_reserve(lambda: self._with_second_chance(lambda: self._transact(work, durable=durable)))

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """The rows of one query.

        :raises StateError: if it cannot be read.
        """
        return self._with_second_chance(lambda: fetched(self._connection, sql, parameters))

    def close(self) -> None:
        """Close the file; may be called twice.

        The last connection to close a WAL database checkpoints it, which takes three ``fsync``, and removes the WAL,
        which keeps out readers that may not create one. A second, read-only connection prevents both: it is closed last
        and can do neither (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
        """
        if self._journal is not Journal.WAL:
            self._disconnect()
            return
        with contextlib.suppress(sqlite3.Error, OSError):
            if os.path.getsize(self._path + "-wal") > _LARGE_WAL:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            last = sqlite3.connect(uri(self._path, "mode=ro"), uri=True, isolation_level=None)
            last.execute("BEGIN")
            last.execute("SELECT only FROM totals").fetchall()
            self._disconnect()
            last.close()
        self._disconnect()

    def _with_reserve(self, work: Callable[[], Result]) -> Result:
        """Retry with the reserved room if the disk is full."""
        try:
            return work()
        except StateError as error:
            if not error.is_full or not give_up_reserve(self._directory):
                raise
        return work()

    def _with_second_chance(self, work: Callable[[], Result]) -> Result:
        for is_last in (self._journal is not Journal.CAUTIOUS, True):
            try:
                with self._access():
                    return work()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise explained(error, self._path) from error
                self._disconnect()
                if is_last:
                    self._set_aside(str(error))
                    break
            # Perhaps only half of what another host was writing was visible.
            time.sleep(_CACHES_EXPIRE)
        self._open()
        try:
            with self._access():
                return work()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    @contextlib.contextmanager
    def _access(self) -> Iterator[None]:
        """Provide an open connection; where the journal needs it, exclusively and newly opened."""
        if self._journal is not Journal.CAUTIOUS:
            yield
            return
        with alone(self._directory, seconds=self._busy_seconds):
            look_anew(self._path)
            try:
                self._connect()
                self._roll_back_from_now_on()
                yield
            finally:
                self._disconnect()

    def _transact(self, work: Callable[[sqlite3.Connection], Result], *, durable: bool) -> Result:
        connection = self._connection
        if durable != self._durable and self._journal is Journal.WAL:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors (disk full, I/O error), and not after others.
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        return result

    def _open(self) -> None:
        try:
            try:
                self._open_once()
            except sqlite3.OperationalError as error:
                if self._journal is not Journal.CAUTIOUS or "unable to open" not in str(error):
                    raise
                # A file beside it that another host has removed may still be in the cache of names.
                time.sleep(_CACHES_EXPIRE)
                self._open_once()
        except (sqlite3.Error, ForeignFile) as error:
            if not is_damage(error):
                raise explained(error, self._path) from error
            self._set_aside(str(error))
        else:
            return
        try:
            self._open_once()
        except (sqlite3.Error, ForeignFile) as error:
            raise explained(error, self._path) from error

    def _begin_again(self) -> None:
        """Reopen the path after its file was removed or replaced: nobody would ever read what that one contains."""
        from s3_uploader.ledger.set_aside import was_set_aside

        opened = self._identity
        self._disconnect()
        create_state_directory(self._directory)
        self._with_reserve(self._open)
        if was_set_aside(self._path, opened):
            return  # by another process, which has said it
        self._notice(
            f"The ledger {shown_name(self._path)} was removed or replaced during the run, which goes on with the one "
            "in its place. No file is lost by this, only the history. Stop all runs before you move the state "
            "directory or restore it."
        )

    def _open_once(self) -> None:
        if self._journal is Journal.CAUTIOUS:
            with alone(self._directory, seconds=self._busy_seconds):
                look_anew(self._path)
                try:
                    self._connect()
                    self._prepare()
                finally:
                    self._disconnect()
            return
        # Not while another process replaces the file: SQLite finds the WAL by its name, and would take the new file's
        # WAL for that of the old one.
        with directory_locked(self._directory, fcntl.LOCK_SH):
            try:
                self._connect()
                self._prepare()
            except BaseException:
                self._disconnect()
                raise

    def _connect(self) -> None:
        self._identity = None
        journal = rollback_journal(self._path)
        if os.path.lexists(journal) and not os.path.isfile(journal):
            refuse_special(journal, reading=False)
        self._connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        self._identity = identity_of(self._path)
        if self._journal is not Journal.WAL:
            map_no_index(self._connection)

    def _disconnect(self) -> None:
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        # Nothing is written before it is clear that the file is ours.
        try:
            version = our_version(connection, self._path)
            if self._journal is Journal.WAL:
                _switch_to_wal(connection, self._busy_seconds)
                self._durable = False
                connection.execute("PRAGMA synchronous = NORMAL")
            else:
                self._roll_back_from_now_on()
        except sqlite3.OperationalError as error:
            if self._journal is Journal.WAL or "locked" not in str(error) or not os.path.exists(self._path + "-wal"):
                raise
            raise self._not_converted() from error
        if version < VERSION or not is_complete(connection):
            self._transact(migrate, durable=True)
        connection.execute("SELECT only FROM totals").fetchall()

    def _roll_back_from_now_on(self) -> None:
        """Switch to a rollback journal. A write-ahead log is removed once no other process has the ledger open."""
        for statement in ("journal_mode = PERSIST", f"journal_size_limit = {_LARGE_JOURNAL}", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {statement}").fetchall()
        share_again(self._connection)

    def _not_converted(self) -> StateError:
        return StateError(
            f"The ledger {shown_name(self._path)} has a write-ahead log, which is not safe on its file system, and "
            "cannot be switched to another journal, because another process has it open.",
            hint="End that process (an older version of this program, perhaps on another host), or name a state_dir on "
            f"a local file system. {FILES_ARE_KEPT}",
        )

    def _set_aside(self, reason: str) -> None:
        from s3_uploader.ledger.set_aside import set_aside

        target = set_aside(self._path, reason=reason, opened=self._identity, now=self._clock())
        if target is not None:
            self._notice(
                f"The ledger was damaged ({reason}); it is now {shown_name(target)} and a new one has been started. "
                "No file is lost by this, only the history."
            )


def _switch_to_wal(connection: sqlite3.Connection, timeout: float) -> None:
    # SQLite does not wait by itself when two processes make this switch at the same time.
    ends_at = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > ends_at:
                raise
        time.sleep(0.01)
