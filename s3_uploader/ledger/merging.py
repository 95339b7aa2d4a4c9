"""Merges several ledgers into one. Each row is in it once, however often the same ledgers are merged.

The new ledger is built beside the target and replaces it in one step. So a merge that is killed has either changed
nothing or is complete. Two rows are the same if they agree in everything except the number of the run, so a ledger can
be merged with a later copy of itself. Rows that occur several times in one ledger keep their number.

Rows are in the order of time, because an audit expects the object of the last row of each key, and the first rows are
pruned first. Each ledger's own order stays, even if its clock was set back.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import shown_name
from s3_uploader.ledger import counts, offline
from s3_uploader.ledger.columns import SHIPPED_COLUMNS
from s3_uploader.ledger.counts import Input
from s3_uploader.ledger.coverage import NOTED_AS as COVERAGE
from s3_uploader.ledger.database import columns_of, migrate
from s3_uploader.ledger.ledger import NONE_UNAUDITED
from s3_uploader.ledger.schema import OF_OLDER
from s3_uploader.ledger.state_directory import RESERVE_NAME
from s3_uploader.ledger.trouble import explained

_OWN = ("identity", "clock", counts.NOTED_AS, COVERAGE, "sweep_kept", "unaudited", NONE_UNAUDITED)
"""Names of notes that a ledger keeps about itself, and not about its spool or destination."""
_RUN = ("run", "destination")
_FILE = [name.strip() for name in SHIPPED_COLUMNS.split(",") if name.strip() not in _RUN]
_CACHE_KIBIBYTES = 16_384


class FromOne(msgspec.Struct, frozen=True, kw_only=True):
    """What one ledger contributed: the number of its files, and how many of them no other ledger has."""

    path: str
    files: int
    new: int


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The result: the number of files in the ledger before and after, and what each source contributed."""

    files_before: int
    files: int
    runs: int
    sources: list[FromOne]


def merge(
    target: str, sources: Sequence[str], *, owned: Sequence[str] = (), clock: Callable[[], float] = time.time
) -> Merged:
    """Merge ledgers into one, and remove those in ``owned`` afterwards.

    :param target: the ledger to merge into; it need not exist.
    :param sources: other ledgers; they are only read.
    :param owned: the sources that belong to the target's spool; their files would be counted twice if they stayed.
    :raises StateError: if one is in use or cannot be read, or there is no room; then nothing was changed.
    """
    paths = [path for path in dict.fromkeys([target, *sources]) if path != target or os.path.exists(target)]
    for path in (target, *owned):
        offline.refuse_others_ledger(path)
    # Shares that only began have nothing to merge, and perhaps no run will ever write to their ledgers.
    empty = {path for path in paths if path in (target, *owned) and not offline.is_begun(path)}
    directory = os.path.dirname(target)
    offline.insist_on_room(directory, 5 * sum(map(offline.size_of, paths)) // 2)
    places = dict.fromkeys(os.path.dirname(path) for path in (target, *owned))
    with contextlib.ExitStack() as held:
        for place in places:
            held.enter_context(offline.directory_alone(place))
        if target in empty:
            offline.remove(target)
        with _Merger(target, clock) as merger:
            merged = merger.merge([path for path in paths if path not in empty])
        for path in owned:
            _retire(path)
    return merged


class _Merger:
    """Builds a ledger from others."""

    def __init__(self, target: str, clock: Callable[[], float]) -> None:
        self._target = target
        self._built = os.path.join(os.path.dirname(target), offline.BUILT)
        self._scratch = os.path.join(os.path.dirname(target), offline.SCRATCH)
        self._clock = clock
        self._inputs: list[Input] = []
        self._connection: sqlite3.Connection

    def __enter__(self) -> _Merger:
        for path in (self._built, self._scratch):
            offline.remove(path)
        try:
            os.close(os.open(self._built, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.close(os.open(self._scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(self._built, uri=True, isolation_level=None, timeout=0)
            self._connection.execute("ATTACH ? AS scratch", (self._scratch,))
            for name in ("main", "scratch"):
                # If anything fails, the file is discarded.
                for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIBIBYTES}"):
                    self._connection.execute(f"PRAGMA {name}.{setting}").fetchall()
            migrate(self._connection)
        except (sqlite3.Error, OSError) as error:
            raise explained(error, self._built) from error
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        for path in (self._built, self._scratch):
            offline.remove(path)

    def merge(self, paths: Sequence[str]) -> Merged:
        """Merge these ledgers and put the result in the place of the target."""
        # If two ledgers disagree about a failing file or a server, the one with the later run is right.
        for path in sorted(paths, key=self._last_run, reverse=True):
            with self._attached(path):
                self._copy(path)
        try:
            self._write_runs()
            merged = self._write_files()
            counts.write(self._connection, self._inputs, self._target, columns=[*_FILE, "destination"])
            self._connection.execute("DETACH scratch")
        except sqlite3.Error as error:
            raise explained(error, self._built) from error
        if os.path.exists(self._target):
            with self._attached(self._target, is_target=True):
                # Until now other processes could read it.
                self._connection.execute("COMMIT")
                offline.rolled_back(self._connection, self._target)
                offline.put_in_place(self._built, self._target)
        else:
            offline.put_in_place(self._built, self._target)
        return merged

    # Reading

    @contextlib.contextmanager
    def _attached(self, path: str, *, is_target: bool = False) -> Iterator[None]:
        try:
            if path == self._target and offline.attach(self._connection, path) is False:
                raise explained(sqlite3.OperationalError("readonly database"), path)
            if path != self._target:
                offline.attach(self._connection, path)
            yield
        except sqlite3.Error as error:
            raise explained(error, path, reading=not is_target) from error
        finally:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
                self._connection.execute("DETACH ledger")

    def _last_run(self, path: str) -> float:
        with self._attached(path):
            rows = self._connection.execute(
                "SELECT coalesce(finished_at, started_at) FROM ledger.runs ORDER BY id DESC LIMIT 1"
            ).fetchall()
        return float(rows[0][0]) if rows else float("-inf")

    def _copy(self, path: str) -> None:
        number = len(self._inputs)
        if not number:
            self._make_scratch()
        execute = self._connection.execute
        execute("INSERT OR IGNORE INTO main.destinations (name) SELECT name FROM ledger.destinations ORDER BY id")
        self._copy_files(number)
        self._copy_runs(number)
        failing = self._columns("failing")
        execute(
            f"INSERT INTO main.failing ({', '.join(failing)}) SELECT {self._selected('failing', failing)}"
            " FROM ledger.failing WHERE true ON CONFLICT (path) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in failing if name != "path")
            + " WHERE excluded.last_failed_at > last_failed_at"
        )
        kept = "path, {}, inode, size, mtime_ns, ctime_ns"
        execute(
            f"INSERT OR IGNORE INTO main.kept ({kept.format('destination')}) SELECT {kept.format('new.id')}"
            " FROM ledger.kept JOIN ledger.destinations AS old ON old.id = kept.destination"
            " JOIN main.destinations AS new ON new.name = old.name ORDER BY kept.id"
        )
        execute(
            f"INSERT OR IGNORE INTO main.memory SELECT name, value, noted_at FROM ledger.memory"
            f" WHERE name NOT IN ({', '.join('?' * len(_OWN))})",
            _OWN,
        )
        self._inputs.append(counts.read(self._connection, path))

    def _make_scratch(self) -> None:
        file = ", ".join([*_FILE, "destination"])
        run = ", ".join(self._columns("runs"))
        self._connection.execute(f"CREATE TABLE scratch.files (source, id, moment, run, alike, {file})")
        self._connection.execute(f"CREATE TABLE scratch.runs (source, id, moment, alike, {run})")

    def _copy_files(self, number: int) -> None:
        names = ", ".join([*_FILE, "destination"])
        execute = self._connection.execute
        execute(
            f"INSERT INTO scratch.files SELECT {number}, id, max(shipped_at) OVER (ORDER BY id), run, 1, {names} FROM ("
            f"SELECT shipped.id AS id, run, {self._selected('shipped', _FILE)},"
            " coalesce(destinations.name, '') AS destination"
            " FROM ledger.shipped LEFT JOIN ledger.destinations ON destinations.id = shipped.destination)"
        )
        # Rows that occur several times are rare, and are looked for by two columns: sorting whole rows takes long.
        execute(
            f"CREATE TABLE scratch.doubles AS SELECT path, shipped_at FROM scratch.files WHERE source = {number}"
            " GROUP BY path, shipped_at HAVING count(*) > 1"
        )
        if execute("SELECT EXISTS (SELECT 1 FROM scratch.doubles)").fetchone()[0]:
            execute(
                "CREATE TABLE scratch.numbered AS SELECT files.rowid AS file,"
                f" row_number() OVER (PARTITION BY {', '.join(f'files.{name}' for name in [*_FILE, 'destination'])}"
                " ORDER BY id) AS alike FROM scratch.files AS files JOIN scratch.doubles AS doubles"
                f" ON doubles.path = files.path AND doubles.shipped_at = files.shipped_at WHERE source = {number}"
            )
            execute("CREATE INDEX scratch.numbered_by_file ON numbered (file)")
            execute(
                "UPDATE scratch.files SET alike = (SELECT alike FROM scratch.numbered WHERE file = files.rowid)"
                " WHERE rowid IN (SELECT file FROM scratch.numbered WHERE alike > 1)"
            )
            execute("DROP TABLE scratch.numbered")
        execute("DROP TABLE scratch.doubles")

    def _copy_runs(self, number: int) -> None:
        names = self._columns("runs")
        # In a later copy of the ledger a row of ticks may have grown; its beginning identifies it.
        self._connection.execute(
            f"INSERT INTO scratch.runs SELECT {number}, id, max(coalesce(finished_at, started_at)) OVER (ORDER BY id),"
            " row_number() OVER (PARTITION BY started_at, host, destination ORDER BY id),"
            f" {self._selected('runs', names)} FROM ledger.runs"
        )

    def _columns(self, table: str) -> list[str]:
        rows = self._connection.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,)).fetchall()
        return [f'"{name}"' for (name,) in rows if name != "id"]

    def _selected(self, table: str, names: Sequence[str]) -> str:
        """The columns of a table of the attached ledger, with a default for those that an older ledger lacks."""
        absent = _absent_columns(self._connection, table, "ledger")
        return ", ".join(
            f"{absent[name.strip(chr(34))]} AS {name}" if name.strip('"') in absent else f"{table}.{name}"
            for name in names
        )

    # Writing

    def _write_runs(self) -> None:
        names = ", ".join(self._columns("runs"))
        known_by = ("started_at", "host", "destination", "alike")
        execute = self._connection.execute
        # With one max() the other columns come from its row (https://sqlite.org/lang_select.html#bareagg).
        execute(
            "CREATE TABLE scratch.ordered AS SELECT row_number() OVER (ORDER BY moment, source, id) AS number, *"
            f" FROM (SELECT max(coalesce(finished_at, started_at)) AS last, source, id, moment, alike, {names}"
            f" FROM scratch.runs GROUP BY {', '.join(known_by)})"
        )
        execute(f"INSERT INTO main.runs (id, {names}) SELECT number, {names} FROM scratch.ordered ORDER BY number")
        execute("CREATE INDEX scratch.ordered_by_start ON ordered (started_at)")
        execute("CREATE TABLE scratch.numbers (source, id, number, PRIMARY KEY (source, id)) WITHOUT ROWID")
        same = " AND ".join(f"ordered.{name} = runs.{name}" for name in known_by)
        execute(
            "INSERT INTO scratch.numbers SELECT runs.source, runs.id, ordered.number FROM scratch.runs AS runs"
            f" JOIN scratch.ordered AS ordered ON {same}"
        )

    def _write_files(self) -> Merged:
        alike = ", ".join([*_FILE, "destination", "alike"])
        target = next((each for each, one in enumerate(self._inputs) if one.path == self._target), -1)
        execute = self._connection.execute
        # Whole rows are sorted only here. A ledger has a row once, so that count() is in how many ledgers it is.
        execute(
            "CREATE TABLE scratch.picked AS SELECT * FROM (SELECT min(source) AS source, id, moment, rowid AS file,"
            f" count(*) AS ledgers FROM scratch.files GROUP BY {alike}) ORDER BY moment, source, id"
        )
        execute(
            f"INSERT INTO main.shipped ({', '.join(_FILE)}, destination, run)"
            f" SELECT {', '.join(f'files.{name}' for name in _FILE)}, destinations.id, numbers.number"
            " FROM scratch.picked AS picked CROSS JOIN scratch.files AS files ON files.rowid = picked.file"
            " JOIN main.destinations ON destinations.name = files.destination"
            " LEFT JOIN scratch.numbers AS numbers ON numbers.source = files.source AND numbers.id = files.run"
            " ORDER BY picked.rowid"
        )
        ((groups,),) = execute("SELECT count(*) FROM scratch.picked").fetchall()
        ((files, runs),) = execute(
            "SELECT (SELECT count(*) FROM main.shipped), (SELECT count(*) FROM main.runs)"
        ).fetchall()
        if files != groups:
            raise StateError(
                f"Of {groups:,} files {files:,} are in the new ledger for {shown_name(self._target)}.",
                hint="A ledger is damaged; nothing was changed.",
                code="Damaged",
            )
        # What failed in a share may have been shipped since by one of another division, which knew nothing of it.
        execute(
            "DELETE FROM main.failing WHERE path IN (SELECT shipped.path FROM main.shipped CROSS JOIN main.failing"
            " ON failing.path = shipped.path WHERE shipped.shipped_at > failing.last_failed_at)"
        )
        only = dict(execute("SELECT source, count(*) FROM scratch.picked WHERE ledgers = 1 GROUP BY source").fetchall())
        held = dict(execute("SELECT source, count(*) FROM scratch.files GROUP BY source").fetchall())
        return Merged(
            files_before=held.get(target, 0),
            files=files,
            runs=runs,
            sources=[
                FromOne(path=one.path, files=held.get(each, 0), new=only.get(each, 0))
                for each, one in enumerate(self._inputs)
                if each != target
            ],
        )


def _retire(path: str) -> None:
    """Remove a ledger that was merged into another one, and its directory if that is empty then."""
    try:
        offline.remove(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(os.path.dirname(path), RESERVE_NAME))
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))
    except OSError as error:
        raise StateError(
            f"The ledger {shown_name(path)} is merged and cannot be removed: {error.strerror}.",
            hint="Remove it, or its files are counted twice. Merging it again changes nothing.",
        ) from error


def _absent_columns(connection: sqlite3.Connection, table: str, schema: str) -> dict[str, str]:
    """The columns that a table of an attached ledger does not have yet, with what stands for them in SQL."""
    present = columns_of(connection, table, schema)
    return {column: value for column, value in OF_OLDER.get(table, {}).items() if column not in present}
