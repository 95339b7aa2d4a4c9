"""The file under the ledger: opening, schema, transactions, what to do when it is damaged, errors in plain words.

Durability (https://www.sqlite.org/pragma.html#pragma_synchronous): in WAL mode ``FULL`` makes a commit wait until it is
on the disk; ``NORMAL`` leaves that to later, and a power cut may then take the last commits back but never damages the
file. What a deletion rests on is committed with ``FULL``, a note that a run began with ``NORMAL``: that costs no
``fsync``, which a minute's tick on an SD card would feel. With a rollback journal all is committed with ``FULL``, since
less might damage the file. Its file stays (``PERSIST``): another host that has the state of the directory in its cache
would miss a journal that was made a moment ago, and take what a killed run has left half written for the ledger.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import shown_name
from s3_uploader.ledger import reserve
from s3_uploader.ledger.journal import Journal, alone, journal_of, look_anew
from s3_uploader.ledger.schema import APPLICATION_ID, MIGRATIONS, VERSION, VIEWS_OF_OLDER

Result = TypeVar("Result")
Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]

_SET_ASIDE_KEPT = 3
_LARGE_WAL = 256 * 1024
_LARGE_JOURNAL = 1024 * 1024
_COMPANIONS = ("-wal", "-shm", "-journal")
_READER_SECONDS = 5.0
_CACHES_EXPIRE = 2.0
"""Seconds after which a file system in user space has looked at a file again."""
_FILES_ARE_KEPT = "Until then no file is deleted."


class Database:
    """An open ledger file, for the one thread that opened it; other processes may have it open at the same time.

    :param notice: told in one sentence when a damaged file had to be set aside.
    :param clock: wall-clock time, for the name of a file that is set aside.
    :param busy_seconds: longest wait for another process's transaction.
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

        ``work`` may be run a second time, on an empty ledger, if the first one turns out to be damaged.

        :raises StateError: if it cannot be committed; then nothing of it is.
        """
        return self._with_reserve(lambda: self._with_second_chance(lambda: self._transact(work, durable=durable)))

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """The rows of one query.

        :raises StateError: if it cannot be read.
        """
        return self._with_second_chance(lambda: _fetched(self._connection, sql, parameters))

    def close(self) -> None:
        """Close the file; may be called twice.

        The last connection to close a WAL database checkpoints it, which takes three ``fsync``, and removes the WAL,
        which keeps out readers that may not create one. A second connection that can only read prevents both: it is
        the last one, and cannot do either (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
        """
        if self._journal is not Journal.WAL:
            self._disconnect()
            return
        with contextlib.suppress(sqlite3.Error, OSError):
            if os.path.getsize(self._path + "-wal") > _LARGE_WAL:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            last = sqlite3.connect(_uri(self._path, "mode=ro"), uri=True, isolation_level=None)
            last.execute("BEGIN")
            last.execute("SELECT only FROM totals").fetchall()
            self._disconnect()
            last.close()
        self._disconnect()

    def _with_reserve(self, work: Callable[[], Result]) -> Result:
        """Do it once more, with the room that is kept for that, if the disk is full."""
        try:
            return work()
        except StateError as error:
            if error.code != "DiskFull" or not reserve.give_up(self._directory):
                raise
        return work()

    def _with_second_chance(self, work: Callable[[], Result]) -> Result:
        for is_last in (self._journal is not Journal.CAUTIOUS, True):
            try:
                with self._access():
                    return work()
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise explained(error, self._path) from error
                self._disconnect()
                if is_last:
                    self._set_aside(str(error))
                    break
            # What another host writes may have been seen by half.
            time.sleep(_CACHES_EXPIRE)
        self._open()
        try:
            with self._access():
                return work()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    @contextlib.contextmanager
    def _access(self) -> Iterator[None]:
        """Have an open connection; where that is needed, alone and a new one."""
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
        except (sqlite3.Error, _ForeignFile) as error:
            if not _is_damage(error):
                raise explained(error, self._path) from error
            self._set_aside(str(error))
        else:
            return
        try:
            self._open_once()
        except (sqlite3.Error, _ForeignFile) as error:
            raise explained(error, self._path) from error

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
        with _directory_locked(self._directory, fcntl.LOCK_SH):
            try:
                self._connect()
                self._prepare()
            except BaseException:
                self._disconnect()
                raise

    def _connect(self) -> None:
        self._identity = None
        self._connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        self._identity = _identity(self._path)
        if self._journal is not Journal.WAL:
            _map_no_index(self._connection)

    def _disconnect(self) -> None:
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        # Nothing is written before it is clear that the file is ours.
        try:
            version = _our_version(connection, self._path)
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
        if version < VERSION:
            self._transact(_migrate, durable=True)
        connection.execute("SELECT only FROM totals").fetchall()

    def _roll_back_from_now_on(self) -> None:
        """Write with a rollback journal; a ledger that has a write-ahead log loses it, once nobody else has it open."""
        for statement in ("journal_mode = PERSIST", f"journal_size_limit = {_LARGE_JOURNAL}", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {statement}").fetchall()
        _share_again(self._connection)

    def _not_converted(self) -> StateError:
        return StateError(
            f"The ledger {shown_name(self._path)} has a write-ahead log, which its file system does not allow safely, "
            "and another process has it open, so that it cannot be given another journal.",
            hint="End that process, an older version of this program perhaps on another host; or name a state_dir on a "
            f"local file system. {_FILES_ARE_KEPT}",
        )

    def _set_aside(self, reason: str) -> None:
        directory, name = os.path.split(self._path)
        stem = name.removesuffix(".sqlite3")
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        try:
            with _directory_locked(directory, fcntl.LOCK_EX):
                if self._identity is None or _identity(self._path) != self._identity:
                    return  # another process was faster: what is there now is its new ledger
                taken = set(os.listdir(directory))
                base = f"{stem}.corrupt-{moment}"
                target = next(each for each in _numbered(base) if each not in taken)
                os.rename(self._path, os.path.join(directory, target))
                for companion in _COMPANIONS:
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(self._path + companion, os.path.join(directory, target + companion))
                _forget_oldest(directory, stem)
        except OSError as error:
            raise StateError(
                f"The ledger {shown_name(self._path)} is damaged ({reason}) and cannot be set aside: {error.strerror}.",
                hint=f"Move it away by hand. {_FILES_ARE_KEPT}",
            ) from error
        self._notice(
            f"The ledger was damaged ({reason}); it is now {shown_name(os.path.join(directory, target))} and a new one "
            "has been started. No file is lost by this, only the history."
        )


class ReadOnlyDatabase:
    """A ledger file opened for queries only: nothing is created, changed or waited for.

    :raises StateError: if it is not a ledger or this user may not read it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._immutable = False
        self._journal = journal_of(os.path.dirname(path))
        with self._access():
            self._connect()

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """The rows of one query, as of now.

        :raises StateError: if it cannot be read.
        """
        with self._access():
            if self._journal is Journal.CAUTIOUS or (self.is_unchanging and not self._is_quiet()):
                self._connect()
            return self._read(sql, parameters)

    @contextlib.contextmanager
    def _access(self) -> Iterator[None]:
        """Where that is needed, have the ledger alone, and no connection open afterwards."""
        if self._journal is not Journal.CAUTIOUS:
            yield
            return
        with alone(os.path.dirname(self._path), seconds=_READER_SECONDS):
            look_anew(self._path)
            try:
                yield
            finally:
                self.close()

    def _read(self, sql: str, parameters: Parameters) -> list[Row]:
        try:
            return self._query(sql, parameters)
        except sqlite3.Error as error:
            if not self._immutable:
                raise explained(error, self._path, reading=True) from error
        # A run began in between and changed the file under a connection that took it for unchanging.
        self._connect()
        try:
            return self._query(sql, parameters)
        except sqlite3.Error as error:
            raise explained(error, self._path, reading=True) from error

    @property
    def is_unchanging(self) -> bool:
        """Whether it is read as a file that nobody changes.

        One with a write-ahead log is that while there is none. Where the log cannot be had safely, what is in it is not
        read, since to map its index might end this process; the next run gives that ledger another journal.
        """
        return self._immutable

    def transact(self, work: Callable[[sqlite3.Connection], Result], *, durable: bool) -> Result:
        """Refuse: always raises :class:`StateError`."""
        raise StateError(f"The ledger {shown_name(self._path)} was opened for reading only.")

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _query(self, sql: str, parameters: Parameters) -> list[Row]:
        assert self._connection is not None
        return _fetched(self._connection, sql, parameters)

    def _is_quiet(self) -> bool:
        return not any(os.path.exists(self._path + companion) for companion in _COMPANIONS)

    def _connect(self) -> None:
        self.close()
        if _is_absent(self._path):
            self._immutable = False
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            _migrate(self._connection)
            return
        # Without a WAL nobody is writing. SQLite would create one merely to read; "immutable" makes it leave that.
        self._immutable = self._journal is Journal.WAL and self._is_quiet()
        if self._journal is not Journal.WAL:
            _roll_back(self._path)
        try:
            version = self._open_and_ask()
            assert self._connection is not None
            if version == 0:  # a run is just creating it
                self.close()
                self._connection = sqlite3.connect(":memory:", isolation_level=None)
                _migrate(self._connection)
            else:
                for step in sorted(VIEWS_OF_OLDER):
                    if version < step:
                        self._connection.execute(VIEWS_OF_OLDER[step])
        except (sqlite3.Error, _ForeignFile) as error:
            self.close()
            raise explained(error, self._path, reading=True) from error
        except BaseException:
            self.close()
            raise

    def _open_and_ask(self) -> int:
        """Open the file; returns the version of its schema."""
        if self._journal is Journal.WAL:
            self._connection = self._opened("mode=ro&immutable=1" if self._immutable else "mode=ro")
            return _our_version(self._connection, self._path)
        self._connection = connection = self._opened("mode=ro")
        try:
            _map_no_index(connection)
            version = _our_version(connection, self._path)
            _share_again(connection)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            # It has a write-ahead log, from an older version or another place, that only its writer may look into.
            self.close()
            self._immutable = True
            self._connection = self._opened("mode=ro&immutable=1")
            return _our_version(self._connection, self._path)
        return version

    def _opened(self, query: str) -> sqlite3.Connection:
        return sqlite3.connect(_uri(self._path, query), uri=True, timeout=_READER_SECONDS, isolation_level=None)


def _map_no_index(connection: sqlite3.Connection) -> None:
    """Before anything is read: so SQLite keeps the index of a write-ahead log in its own memory and maps no file.

    Not by a look at the file's header: to close a file drops all locks that this process has on it, SQLite's included.
    """
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()


def _share_again(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA locking_mode = NORMAL").fetchall()
    # With the next access the lock goes back.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


def _roll_back(path: str) -> None:
    """Undo what a run was killed in the middle of, if this user may; a reader that may only read cannot."""
    with contextlib.suppress(OSError, sqlite3.Error):
        with open(path + "-journal", "rb") as file:
            is_hot = any(file.read(8))
        if is_hot:
            connection = sqlite3.connect(_uri(path, "mode=rw"), uri=True, timeout=_READER_SECONDS, isolation_level=None)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            finally:
                connection.close()


def _fetched(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[Row]:
    return connection.execute(sql, parameters).fetchall()


class _ForeignFile(Exception):
    """A database, but not one of this program."""


def explained(error: Exception, path: str, *, reading: bool = False) -> StateError:
    """SQLite's error as a sentence: which file, what is wrong with it, what to do."""
    # By text: sqlite_errorcode exists only since Python 3.11. The texts are those of sqlite3_errstr().
    text = str(error)
    directory = os.path.dirname(path) or "."
    place = shown_name(directory)
    code = ""
    # Where there is no room for the WAL or its index, SQLite says that it cannot open it, or speaks of an I/O error.
    is_vague = "unable to open" in text or "disk I/O error" in text
    if "disk is full" in text or (is_vague and _has_no_room(directory)):
        fact, remedy, code = "the file system is full", f"Free space for {place}.", "DiskFull"
    elif "readonly database" in text:
        fact, remedy, code = "it is read-only for this user", f"Make {place} and the files in it writable.", "Denied"
    elif "unable to open" in text and not os.path.isdir(directory):
        fact, remedy = f"{place} is no directory", "Create it, or correct state_dir."
    elif "unable to open" in text:
        wanted = "readable" if reading else "writable"
        fact, remedy = "it cannot be opened", f"Make {place} and the files in it {wanted} for this user."
        code = "Denied"
    elif "locked" in text:
        fact, remedy = "another process keeps it locked", "Find the process that has it open and end it."
    elif "disk I/O error" in text:
        fact, remedy = (
            "the disk answered with an I/O error",
            f"See what the kernel's log says about the disk of {place}.",
        )
    elif _is_damage(error):
        fact, remedy, code = f"it is damaged ({text})", "The next run sets it aside and starts a new one.", "Damaged"
    else:
        fact, remedy = text, ""
    action = "read" if reading else "written"
    hint = remedy if reading else f"{remedy} {_FILES_ARE_KEPT}".strip()
    return StateError(f"The ledger {shown_name(path)} cannot be {action}: {fact}.", hint=hint, code=code)


def _has_no_room(directory: str) -> bool:
    try:
        status = os.statvfs(directory)
    except OSError:
        return False
    return bool(status.f_blocks and not status.f_bavail) or bool(status.f_files and not status.f_favail)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, _ForeignFile):
        return True
    # The sqlite3 module raises the class DatabaseError itself for SQLITE_CORRUPT and SQLITE_NOTADB, and subclasses of
    # it for everything else that happens here.
    return type(error) is sqlite3.DatabaseError or str(error).startswith(("no such table", "no such column"))


def _our_version(connection: sqlite3.Connection, path: str) -> int:
    """Version of the schema, 0 for an empty file."""
    # One statement, so one moment: another process may just be creating it.
    ((application, version, tables),) = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchall()
    if application != APPLICATION_ID and (application or version or tables):
        raise _ForeignFile("it is a database of another program")
    if version > VERSION:
        raise StateError(
            f"The ledger {shown_name(path)} was written by a newer version of this program "
            f"(schema {version}, this one knows {VERSION}).",
            hint="Install that version again, or move the ledger away; without it no file is lost, only the history.",
        )
    return int(version)


def _migrate(connection: sqlite3.Connection) -> None:
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    for step in MIGRATIONS[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _switch_to_wal(connection: sqlite3.Connection, timeout: float) -> None:
    # SQLite does not wait by itself where two processes make this switch at the same time.
    ends_at = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > ends_at:
                raise
        time.sleep(0.01)


def _uri(path: str, query: str) -> str:
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?{query}"


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_absent(path: str) -> bool:
    """Whether the file is really missing and not only out of this user's sight."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        raise StateError(
            f"The ledger {shown_name(path)} cannot be read: {error.strerror}.",
            hint="Run this as the user that runs the uploads, or as root.",
        ) from error
    return False


@contextlib.contextmanager
def _directory_locked(directory: str, operation: int) -> Iterator[None]:
    """Lock the state directory, where that works: only processes that find the ledger damaged at once depend on it."""
    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, operation)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}-{number}"
        number += 1


def _forget_oldest(directory: str, stem: str) -> None:
    """Keep the newest of the ledgers that were set aside: a dying disk must not fill what is left of itself."""
    pattern = re.compile(re.escape(stem) + r"\.corrupt-\d{8}T\d{6}Z(-\d+)?")
    found = sorted(name for name in os.listdir(directory) if pattern.fullmatch(name))
    for name in found[:-_SET_ASIDE_KEPT]:
        for companion in ("", *_COMPANIONS):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name + companion))
