"""The ledger when it is damaged, foreign, newer, missing; and opened for reading only."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import Totals
from s3_uploader.ledger import Ledger
from s3_uploader.ledger import database as database_module
from tests.ledger_values import NOW, PRINT, begin, failing, report, shipped

# ------------------------------------------------------------------------------------------------ damage


def set_aside(path: str) -> list[str]:
    """Names of the ledgers that were set aside."""
    directory = os.path.dirname(path)
    return sorted(name for name in os.listdir(directory) if ".corrupt-" in name and not name.endswith(("-wal", "-shm")))


def test_a_lost_ledger_is_begun_anew(path: str, ledger: Ledger) -> None:
    """Deleting the ledger loses its history and nothing else."""
    ledger.commit_batch(shipped=[shipped()])
    ledger.close()
    for name in os.listdir(os.path.dirname(path)):
        os.unlink(os.path.join(os.path.dirname(path), name))
    with Ledger.open(path) as again:
        assert list(again.history()) == []


def test_a_file_that_is_no_ledger_is_set_aside(path: str, notices: list[str]) -> None:
    """Rubbish in the ledger's place is kept under another name, said, and a new ledger is begun."""
    Path(path).write_bytes(b"not a database" * 1000)
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW) as ledger:
        ledger.commit_batch(shipped=[shipped()])
        assert len(list(ledger.history())) == 1
    assert set_aside(path) == ["ledger.corrupt-20200913T122640Z"]
    assert Path(path).with_name(set_aside(path)[0]).read_bytes() == b"not a database" * 1000
    (notice,) = notices
    assert "ledger.corrupt-20200913T122640Z" in notice
    assert "No file is lost" in notice


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE notes (text)", "PRAGMA user_version = 3", "PRAGMA application_id = 5"]
)
def test_another_programs_database_is_left_as_it_is(path: str, notices: list[str], statement: str) -> None:
    """A database of another program is set aside without a byte of it changed."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    before = Path(path).read_bytes()
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW):
        pass
    assert Path(path).with_name(set_aside(path)[0]).read_bytes() == before
    assert "another program" in notices[0]


def test_a_ledger_without_its_tables_is_set_aside(path: str, notices: list[str], ledger: Ledger) -> None:
    """A ledger that somebody took apart counts as damaged."""
    ledger.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TABLE totals")
    connection.close()
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW) as again:
        assert again.totals() == Totals()
    assert len(notices) == 1


def rubbish(path: str, content: bytes) -> None:
    """Put something in the ledger's place. Its write-ahead log goes too, else SQLite repairs the file from it."""
    for companion in ("-wal", "-shm"):
        Path(path + companion).unlink(missing_ok=True)
    Path(path).write_bytes(content * 100)


def damage(path: str) -> None:
    """Overwrite all but the first page, behind SQLite's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


@pytest.mark.parametrize("first", ["write", "read"])
def test_damage_that_comes_to_light_in_a_run_does_not_end_it(
    path: str, notices: list[str], ledger: Ledger, first: str
) -> None:
    """A ledger that turns out to be damaged in the middle of a run is replaced, and the run goes on recording."""
    run = begin(ledger)
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(300)], failed=[failing()])
    damage(path)
    if first == "read":
        assert ledger.failing("a.dat") is None
    ledger.commit_batch(shipped=[shipped("after", kept=PRINT)])
    ledger.finish_run(run, report(shipped=301))
    assert [row.path for row in ledger.history()] == ["after"]
    assert [(row.id, row.shipped, row.started_at, row.pid) for row in ledger.runs()] == [(run, 301, NOW, 4711)]
    assert ledger.remembers("after", PRINT, destination="bucket")
    assert len(notices) == 1
    assert len(set_aside(path)) == 1


def test_a_ledger_that_another_process_has_replaced_is_not_replaced_again(
    path: str, notices: list[str], ledger: Ledger
) -> None:
    """Of two processes that find the ledger damaged, the second one uses the new ledger of the first."""
    other_notices: list[str] = []
    with Ledger.open(path, notice=other_notices.append, clock=lambda: NOW) as other:
        other.commit_batch(shipped=[shipped(f"{number}") for number in range(300)])
        damage(path)
        other.commit_batch(shipped=[shipped("first")])
        ledger.commit_batch(shipped=[shipped("second")])
        assert [row.path for row in other.history()] == ["first", "second"]
    assert (len(notices), len(other_notices)) == (0, 1)


def test_a_damaged_ledger_that_is_gone_is_not_set_aside(path: str, notices: list[str], ledger: Ledger) -> None:
    """If another process is just replacing the damaged ledger, a new one is begun together with it."""
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(300)])
    damage(path)
    os.rename(path, path + ".away")
    ledger.commit_batch(shipped=[shipped("after")])
    assert [row.path for row in ledger.history()] == ["after"]
    assert notices == []


def test_only_the_last_damaged_ledgers_are_kept(path: str) -> None:
    """A dying disk that damages the ledger each minute does not fill up with damaged ledgers."""
    for number in range(5):
        rubbish(path, f"rubbish {number}".encode())
        at = NOW + number * 60
        with Ledger.open(path, clock=lambda at=at: at):  # type: ignore[misc]
            pass
    assert set_aside(path) == [f"ledger.corrupt-20200913T12{minute}40Z" for minute in (28, 29, 30)]


def test_two_damaged_ledgers_of_one_second_are_both_kept(path: str) -> None:
    """A ledger that is set aside never replaces another one."""
    for _ in range(3):
        rubbish(path, b"rubbish")
        with Ledger.open(path, clock=lambda: NOW):
            pass
    name = "ledger.corrupt-20200913T122640Z"
    assert set_aside(path) == [name, f"{name}-2", f"{name}-3"]


def test_a_damaged_ledger_that_cannot_be_set_aside_is_said(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the damaged ledger cannot be moved out of the way, the error says what to do."""
    Path(path).write_bytes(b"rubbish" * 100)

    def refuse(*names: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StateError, match="cannot be set aside: Permission denied") as caught:
        Ledger.open(path)
    assert "Move it away by hand" in caught.value.hint


def test_a_ledger_that_is_damaged_as_often_as_it_is_begun_ends_the_run(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One new ledger is begun, not one after the other."""
    monkeypatch.setattr(database_module, "_is_damage", lambda error: isinstance(error, sqlite3.Error))

    def fail_always(connection: sqlite3.Connection, patience: float) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(database_module, "_switch_to_wal", fail_always)
    with pytest.raises(StateError, match="it is damaged"):
        Ledger.open(path)
    assert len(set_aside(path)) == 1


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
    assert set_aside(path) == []


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    """A ledger whose directory is missing is an error that names the directory."""
    with pytest.raises(StateError, match=r"cannot be written: .*nowhere is no directory"):
        Ledger.open(str(tmp_path / "nowhere" / "ledger.sqlite3"))


def test_a_directory_in_the_ledgers_place_is_said(tmp_path: Path) -> None:
    """A directory where the ledger should be is an error, not a crash."""
    (tmp_path / "ledger.sqlite3").mkdir()
    with pytest.raises(StateError, match="it cannot be opened"):
        Ledger.open(str(tmp_path / "ledger.sqlite3"))


@pytest.mark.parametrize(
    ("text", "fact"),
    [("disk I/O error", "the disk answered with an I/O error"), ("something else", "something else")],
)
def test_other_errors_of_sqlite_are_said(text: str, fact: str) -> None:
    """Whatever SQLite says becomes a sentence with the file in it."""
    error = database_module.explained(sqlite3.OperationalError(text), "/state/ledger.sqlite3")
    assert error.message == f"The ledger /state/ledger.sqlite3 cannot be written: {fact}."


@pytest.mark.parametrize("text", ["database or disk is full", "unable to open database file", "disk I/O error"])
def test_a_full_disk_is_called_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever SQLite calls it when there is no room for one of its files, it is told apart from a missing right."""
    path = str(tmp_path / "ledger.sqlite3")
    values = list(os.statvfs(tmp_path))
    values[2:5] = 100, 0, 0
    monkeypatch.setattr(os, "statvfs", lambda directory: os.statvfs_result(values))
    error = database_module.explained(sqlite3.OperationalError(text), path)
    assert (error.code, "the file system is full" in error.message) == ("DiskFull", True)
    values[4] = 5
    error = database_module.explained(sqlite3.OperationalError("unable to open database file"), path)
    assert error.code == "Denied"


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


# ------------------------------------------------------------------------------------------------ reading only


def test_a_ledger_that_does_not_exist_yet_is_empty_to_readers(tmp_path: Path) -> None:
    """Asking for the history before the first run gives an empty answer and creates nothing."""
    for path in (tmp_path / "ledger.sqlite3", tmp_path / "no" / "ledger.sqlite3"):
        with Ledger.open_readonly(str(path)) as reader:
            assert list(reader.history()) == []
            assert reader.runs() == []
            assert reader.totals() == Totals()
            assert reader.failing_count() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_is_being_created_is_empty_to_readers(path: str) -> None:
    """A reader that comes between the creation of the file and of its tables sees an empty ledger."""
    Path(path).touch()
    with Ledger.open_readonly(path) as reader:
        assert list(reader.history()) == []


def test_readers_see_what_a_running_run_has_committed(path: str, ledger: Ledger) -> None:
    """A reader works while a run is writing, and sees each batch as soon as it is committed."""
    with Ledger.open_readonly(path) as reader:
        ledger.commit_batch(shipped=[shipped("one")])
        assert [row.path for row in reader.history()] == ["one"]
        ledger.commit_batch(shipped=[shipped("two")])
        assert [row.path for row in reader.history()] == ["one", "two"]


def test_readers_need_not_create_anything(path: str, ledger: Ledger) -> None:
    """After a run its files stay such that a reader, also one who may only read, need not create any."""
    ledger.commit_batch(shipped=[shipped()])
    ledger.close()
    before = sorted(os.listdir(os.path.dirname(path)))
    assert before == ["ledger.sqlite3", "ledger.sqlite3-shm", "ledger.sqlite3-wal"]
    with Ledger.open_readonly(path) as reader:
        assert len(list(reader.history())) == 1
    assert sorted(os.listdir(os.path.dirname(path))) == before


def single_file(path: str) -> None:
    """Make the ledger one file, as it is where the last program to close it was another one."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert os.listdir(os.path.dirname(path)) == ["ledger.sqlite3"]


def test_a_ledger_without_its_companions_is_readable(path: str, ledger: Ledger) -> None:
    """A ledger that was copied as a single file is read, without creating files, also when a run then begins."""
    ledger.commit_batch(shipped=[shipped("one")])
    ledger.close()
    single_file(path)
    with Ledger.open_readonly(path) as reader:
        assert [row.path for row in reader.history()] == ["one"]
        assert os.listdir(os.path.dirname(path)) == ["ledger.sqlite3"]
        with Ledger.open(path) as writer:
            writer.commit_batch(shipped=[shipped("two", shipped_at=NOW + 1)])
            assert [row.path for row in reader.history()] == ["one", "two"]


def test_a_run_that_begins_under_a_reader_is_noticed(
    path: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a run changes the file in the very moment of a query, the query is made again."""
    ledger.commit_batch(shipped=[shipped()])
    ledger.close()
    single_file(path)
    with Ledger.open_readonly(path) as reader:
        database = reader._database
        assert isinstance(database, database_module.ReadOnlyDatabase)
        real = database._query
        answers = iter([sqlite3.DatabaseError("database disk image is malformed")])

        def query(sql: str, parameters: tuple) -> list:
            for error in answers:
                raise error
            return real(sql, parameters)

        monkeypatch.setattr(database, "_query", query)
        assert len(list(reader.history())) == 1
        answers = iter([sqlite3.DatabaseError("malformed")] * 2)
        with pytest.raises(StateError, match="cannot be read: it is damaged"):
            list(reader.history())
        database._immutable = False
        answers = iter([sqlite3.DatabaseError("malformed")])
        with pytest.raises(StateError, match="cannot be read: it is damaged"):
            list(reader.history())


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_readers_leave_a_damaged_ledger_where_it_is(path: str, content: bytes | None) -> None:
    """A reader says that the ledger is damaged or not ours, and leaves it to the next run."""
    if content is None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("CREATE TABLE notes (text)")
        connection.close()
    else:
        Path(path).write_bytes(content)
    with pytest.raises(StateError, match="cannot be read: it is damaged") as caught:
        Ledger.open_readonly(path)
    assert "The next run sets it aside" in caught.value.hint
    assert os.listdir(os.path.dirname(path)) == ["ledger.sqlite3"]


def test_readers_cannot_write(path: str, ledger: Ledger) -> None:
    """A ledger that was opened for reading refuses to record."""
    with Ledger.open_readonly(path) as reader, pytest.raises(StateError, match="for reading only"):
        reader.commit_batch(shipped=[shipped()])


def test_a_path_that_may_not_be_looked_at_is_said(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader without the right to look into the state directory is told so, not that there is no history."""

    def refuse(name: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(StateError, match="cannot be read: Permission denied") as caught:
        Ledger.open_readonly(path)
    assert "as root" in caught.value.hint


def test_odd_state_directories_are_readable(tmp_path: Path) -> None:
    """Characters that mean something in a URI do not get in the way of reading."""
    directory = tmp_path / "a?b#c%41d"
    directory.mkdir()
    path = str(directory / "ledger.sqlite3")
    with Ledger.open(path) as ledger:
        ledger.commit_batch(shipped=[shipped()])
    with Ledger.open_readonly(path) as reader:
        assert len(list(reader.history())) == 1


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
