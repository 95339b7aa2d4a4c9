"""The ledger: what it records, what it answers, and what it does when it is full, damaged or not ours."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.errors import StateError
from s3_uploader.ledger import (
    EndpointMemory,
    FailingRow,
    Ledger,
    LocationTotals,
    ShippedRow,
    after_failure,
    next_pause,
)
from s3_uploader.ledger import database as database_module
from s3_uploader.ledger.codec import int64
from s3_uploader.ledger.rows import LONGEST_PAUSE
from s3_uploader.model import Fingerprint, Proof, RunReport, Totals

NOW = 1_600_000_000.0
DAY = 86400.0


def shipped(path: str = "bedroom/2020/11/29/20/46-topic.dat", **changes: object) -> ShippedRow:
    """A shipped file with everything that can be known of one."""
    values: dict = {
        "path": path,
        "key": path,
        "destination": "bucket",
        "size": 4096,
        "mtime_ns": 1_600_000_000_123_456_789,
        "shipped_at": NOW,
        "proof": Proof.CHECKSUM,
        "location": "bedroom",
        "period_begin": NOW - 60,
        "seconds": 0.25,
        "checksum": "crc64nvme:AAAAAAAAAAA=",
        "etag": "0" * 32,
        "version_id": "v1",
        "run": 1,
    }
    return ShippedRow(**{**values, **changes})


def failing(path: str = "a.dat", **changes: object) -> FailingRow:
    """A file that failed once."""
    values: dict = {
        "path": path,
        "key": path,
        "size": 10,
        "mtime_ns": 5,
        "attempts": 1,
        "first_failed_at": NOW,
        "last_failed_at": NOW,
        "next_try_at": NOW + 60,
        "code": "Conflict",
        "message": "the key is taken by other content.",
    }
    return FailingRow(**{**values, **changes})


def report(**changes: object) -> RunReport:
    """The report of a run that found nothing to do."""
    values: dict = {
        "base_dir": "/spool",
        "destination": "bucket",
        "started_at": NOW,
        "duration": 0.5,
        "exit_code": 0,
    }
    return RunReport(**{**values, **changes})


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the ledger is."""
    return str(tmp_path / "ledger.sqlite3")


@pytest.fixture
def notices() -> list[str]:
    """What the ledger said."""
    return []


@pytest.fixture
def ledger(path: str, notices: list[str]) -> Iterator[Ledger]:
    """An open ledger that waits for nobody."""
    with Ledger.open(path, notice=notices.append, clock=lambda: NOW, busy_seconds=0) as opened:
        yield opened


def begin(ledger: Ledger, *, at: float = NOW, host: str = "pi", destination: str = "bucket") -> int:
    """Begin a run."""
    return ledger.begin_run(started_at=at, pid=4711, host=host, destination=destination)


def connection_of(ledger: Ledger) -> sqlite3.Connection:
    """The ledger's own connection, to let it feel what cannot be arranged from outside."""
    connection = ledger._database._connection
    assert connection is not None
    return connection


# ------------------------------------------------------------------------------------------------ shipped files


def test_history_gives_back_what_was_shipped(ledger: Ledger) -> None:
    """Everything that is known of a shipped file comes back out of the ledger."""
    row = shipped(key="prefix/other-key", already_there=True)
    ledger.commit_batch(shipped=[row])
    assert list(ledger.history()) == [row]


def test_history_survives_closing(path: str, ledger: Ledger) -> None:
    """What was recorded is there when the ledger is opened again."""
    ledger.commit_batch(shipped=[shipped()])
    ledger.close()
    with Ledger.open(path) as again:
        assert list(again.history()) == [shipped()]


NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name).map(os.fsdecode)


@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_names_of_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    """A file's name, whatever its bytes, is recorded and given back exactly."""
    with Ledger.open(str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite3")) as ledger:
        rows = [shipped(name, key="x" + name, location=name, destination=name) for name in names]
        ledger.commit_batch(shipped=rows, failed=[failing("f" + name, message=name, code=name) for name in names])
        assert list(ledger.history()) == rows
        for name in names:
            row = ledger.failing("f" + name)
            assert row is not None
            assert (row.path, row.message, row.code) == ("f" + name, name, name)
            assert ledger.failing(name) is None
        assert sorted(total.location for total in ledger.location_totals()) == sorted(names)


def test_names_that_are_text_are_stored_as_text(path: str, ledger: Ledger) -> None:
    """Somebody who looks with the sqlite3 shell reads names as text; only what is no text is a blob."""
    ledger.commit_batch(shipped=[shipped("caf\u00e9.dat"), shipped(os.fsdecode(b"caf\xe9.dat"))])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT path, typeof(path) FROM shipped ORDER BY id").fetchall() == [
            ("caf\u00e9.dat", "text"),
            (b"caf\xe9.dat", "blob"),
        ]


def test_a_key_that_no_file_could_have_is_recorded_all_the_same(ledger: Ledger) -> None:
    """Half a UTF-16 pair in a refused key does not end a run."""
    ledger.commit_batch(failed=[failing(key="\ud800")])
    assert ledger.failing_count() == 1


@given(value=st.integers(min_value=-(2**63), max_value=2**64 - 1))
def test_any_inode_number_fits(value: int) -> None:
    """Unsigned 64-bit numbers of inodes and times are stored without loss of distinctness."""
    assert int64(value) % 2**64 == value % 2**64
    assert -(2**63) <= int64(value) < 2**63


def test_history_can_be_limited_in_time(ledger: Ledger) -> None:
    """``since`` includes its moment, ``until`` excludes it."""
    ledger.commit_batch(shipped=[shipped(f"{number}", shipped_at=NOW + number) for number in range(5)])
    found = ledger.history(since=NOW + 1, until=NOW + 3)
    assert [row.path for row in found] == ["1", "2"]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("bed", ["bedroom/46-a.dat"]),
        ("prefix", ["kitchen/47-b.dat"]),
        ("*.dat", ["bedroom/46-a.dat", "kitchen/47-b.dat"]),
        ("kitchen/*", ["kitchen/47-b.dat"]),
        ("kitchen/4[5-7]-?.dat", ["kitchen/47-b.dat"]),
        ("%", []),
        ("BED", []),
        (os.fsdecode(b"\xff"), [os.fsdecode(b"hall/\xff.txt")]),
        (os.fsdecode(b"*\xff.txt"), [os.fsdecode(b"hall/\xff.txt")]),
    ],
)
def test_history_can_be_matched(ledger: Ledger, match: str, expected: list[str]) -> None:
    """A plain text matches anywhere in path or key, a glob pattern the whole of one of them."""
    ledger.commit_batch(
        shipped=[
            shipped("bedroom/46-a.dat"),
            shipped("kitchen/47-b.dat", key="prefix/kitchen/47-b.dat"),
            shipped(os.fsdecode(b"hall/\xff.txt")),
        ]
    )
    assert [row.path for row in ledger.history(match=match)] == expected


def test_history_of_one_location(ledger: Ledger) -> None:
    """The history can be that of one location."""
    ledger.commit_batch(shipped=[shipped("a", location="kitchen"), shipped("b")])
    assert [row.path for row in ledger.history(location="kitchen")] == ["a"]


@pytest.mark.parametrize("newest_first", [False, True])
def test_long_histories_are_read_in_pieces(ledger: Ledger, newest_first: bool) -> None:
    """A history of any length comes in order, without gaps or repetitions, from either end, also among equal times."""
    paths = [f"{number:04d}" for number in range(1203)]
    ledger.commit_batch(shipped=[shipped(each, shipped_at=NOW + int(each) // 700) for each in paths])
    expected = paths[::-1] if newest_first else paths
    assert [row.path for row in ledger.history(newest_first=newest_first)] == expected
    assert [row.path for row in ledger.history(newest_first=newest_first, limit=501)] == expected[:501]
    assert list(ledger.history(limit=0)) == []


def test_reading_does_not_hold_up_writing(path: str, ledger: Ledger) -> None:
    """Somebody who pages slowly through the history neither blocks a run nor keeps it from tidying its log."""
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(600)])
    with Ledger.open_readonly(path) as reader:
        pages = reader.history()
        next(pages)
        ledger.commit_batch(shipped=[shipped("new", shipped_at=NOW + 1)])
        assert [row.path for row in pages][-1] == "new"


# ------------------------------------------------------------------------------------------------ batches


def test_nothing_to_record_is_no_transaction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty batch costs nothing."""
    monkeypatch.setattr(ledger, "_write", None)
    ledger.commit_batch()


def test_a_batch_is_on_the_disk_when_it_is_committed(ledger: Ledger) -> None:
    """What a deletion rests on is committed with full synchronisation; the note that a run began is not."""
    modes = [
        ledger._database.transact(
            lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0], durable=durable
        )
        for durable in (True, False, True)
    ]
    assert modes == [2, 1, 2]


def test_a_batch_is_recorded_as_a_whole_or_not_at_all(path: str, ledger: Ledger) -> None:
    """If one row of a batch cannot be recorded, none is."""
    with pytest.raises(StateError):
        ledger.commit_batch(shipped=[shipped("good")], failed=[failing(next_try_at=None)])
    with Ledger.open_readonly(path) as reader:
        assert list(reader.history()) == []
    # The number that the bucket's name had in the failed batch is not used again.
    ledger.commit_batch(shipped=[shipped("better")])
    assert [(row.path, row.destination) for row in ledger.history()] == [("better", "bucket")]


def test_a_full_disk_is_said_and_costs_only_the_batch(ledger: Ledger) -> None:
    """A full disk is an error that names the file and the remedy; with room again the same batch is recorded."""
    connection = connection_of(ledger)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    batch = [shipped(f"{number}" * 40) for number in range(200)]
    with pytest.raises(StateError, match=r"ledger\.sqlite3 cannot be written: the file system is full") as caught:
        ledger.commit_batch(shipped=batch)
    assert "Free space" in caught.value.hint
    assert "no file is deleted" in caught.value.hint
    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    ledger.commit_batch(shipped=batch)
    assert len(list(ledger.history())) == 200


def test_a_read_only_ledger_is_said(ledger: Ledger) -> None:
    """A ledger that may not be written is an error that names the file and the remedy."""
    connection_of(ledger).execute("PRAGMA query_only = 1")
    with pytest.raises(StateError, match="read-only for this user"):
        ledger.commit_batch(shipped=[shipped()])


def test_two_processes_can_record_at_once(path: str, ledger: Ledger) -> None:
    """Several uploaders with one ledger see each other's files."""
    with Ledger.open(path) as other:
        ledger.commit_batch(shipped=[shipped("one", destination="first")])
        other.commit_batch(shipped=[shipped("two", destination="second")])
        ledger.commit_batch(shipped=[shipped("three", destination="second")])
        assert [(row.path, row.destination) for row in other.history()] == [
            ("one", "first"),
            ("two", "second"),
            ("three", "second"),
        ]


def test_a_ledger_that_stays_locked_is_said(path: str, ledger: Ledger) -> None:
    """Another process that never ends its transaction is an error after a bounded wait."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="another process keeps it locked"):
            ledger.commit_batch(shipped=[shipped()])


def test_totals_count_everything_since_the_beginning(ledger: Ledger) -> None:
    """Totals are sums over all batches and runs."""
    ledger.commit_batch(shipped=[shipped("a"), shipped("b", size=4, already_there=True)], failed=[failing()])
    ledger.commit_batch(shipped=[shipped("c", shipped_at=NOW - 5)], failed=[failing("x"), failing("y")])
    ledger.finish_run(begin(ledger), report(exit_code=1, failed=3))
    assert ledger.totals() == Totals(
        shipped_files=3,
        shipped_bytes=8196,
        already_there=1,
        failed_uploads=3,
        runs=1,
        last_run_at=NOW + 0.5,
        last_success_at=None,
        last_shipped_at=NOW,
    )
    ledger.finish_run(begin(ledger), report())
    assert ledger.totals().last_success_at == NOW + 0.5


def test_locations_have_totals_of_their_own(ledger: Ledger) -> None:
    """What each location shipped is counted, with the latest times, over all batches."""
    ledger.commit_batch(
        shipped=[
            shipped("a", location="attic", period_begin=None),
            shipped("b", location="attic", period_begin=5.0, shipped_at=NOW + 3),
            shipped("c", location="attic", period_begin=7.0),
            shipped("d", location="attic", period_begin=6.0),
            shipped("e", location="hall", period_begin=None),
        ]
    )
    ledger.commit_batch(shipped=[shipped("f", location="attic", period_begin=None), shipped("g", location="hall")])
    assert ledger.location_totals() == [
        LocationTotals(location="attic", files=5, bytes=5 * 4096, last_shipped_at=NOW + 3, last_period_begin=7.0),
        LocationTotals(location="hall", files=2, bytes=2 * 4096, last_shipped_at=NOW, last_period_begin=NOW - 60),
    ]


# ------------------------------------------------------------------------------------------------ failing files


@given(
    attempts=st.integers(min_value=-3, max_value=10**6), chance=st.floats(min_value=0, max_value=1, exclude_max=True)
)
def test_pauses_grow_and_stay_bounded(attempts: int, chance: float) -> None:
    """A pause is at least half a minute, at most six hours, and never shorter than the one before."""
    pause = next_pause(attempts, lambda: chance)
    assert 30 <= pause <= LONGEST_PAUSE
    assert next_pause(attempts + 1, lambda: chance) >= pause


def test_the_first_pauses_double() -> None:
    """Without jitter the pauses are 1, 2, 4, … minutes, up to six hours."""
    pauses = [next_pause(attempts, lambda: 1.0) / 60 for attempts in range(1, 12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]


def fail(before: FailingRow | None, *, size: int = 10, now: float = NOW) -> FailingRow:
    """The same file fails once more."""
    return after_failure(
        before,
        path="a.dat",
        key="k",
        size=size,
        mtime_ns=5,
        code="Conflict",
        message="no",
        now=now,
        random=lambda: 0.0,
    )


def test_failures_of_the_same_content_are_counted() -> None:
    """The same content that fails again has one attempt more and keeps the time of its first failure."""
    second = fail(fail(None), now=NOW + 100)
    assert (second.attempts, second.first_failed_at, second.last_failed_at) == (2, NOW, NOW + 100)
    assert second.next_try_at == NOW + 160


def test_other_content_begins_anew() -> None:
    """A failing file that got other content counts from one again."""
    changed = fail(fail(None), size=11, now=NOW + 100)
    assert (changed.attempts, changed.first_failed_at) == (1, NOW + 100)


def test_a_failing_file_waits_for_its_next_try() -> None:
    """A failing file waits until its pause is over, and no longer."""
    row = fail(None)
    assert row.waits(size=10, mtime_ns=5, now=NOW + 29)
    assert not row.waits(size=10, mtime_ns=5, now=NOW + 30)


def test_a_failing_file_with_other_content_is_tried_at_once() -> None:
    """Other size or mtime: no waiting."""
    row = fail(None)
    assert not row.waits(size=11, mtime_ns=5, now=NOW)
    assert not row.waits(size=10, mtime_ns=6, now=NOW)


def test_a_wrong_clock_strands_no_file() -> None:
    """A next try that a clock in the future has set does not hold a file back once the clock is right."""
    row = fail(None, now=NOW + 10 * 365 * DAY)
    assert not row.waits(size=10, mtime_ns=5, now=NOW)


def test_failing_files_are_found(ledger: Ledger) -> None:
    """A file that failed is known with its attempts; one that did not is not."""
    assert ledger.failing("a.dat") is None
    ledger.commit_batch(failed=[failing("a.dat", attempts=3)])
    assert ledger.failing("a.dat") == failing("a.dat", attempts=3)
    assert ledger.failing("b.dat") is None
    assert ledger.failing_count() == 1


def test_failing_files_are_known_to_the_next_run(path: str, ledger: Ledger) -> None:
    """Failures outlive the process."""
    ledger.commit_batch(failed=[failing()])
    with Ledger.open(path) as again:
        assert again.failing("a.dat") == failing()


def test_a_file_that_fails_again_has_one_row(ledger: Ledger) -> None:
    """Each failing file has one row, the latest."""
    ledger.commit_batch(failed=[failing()])
    ledger.commit_batch(failed=[failing(attempts=2, message="x" * 9000)])
    (row,) = ledger.failing_rows()
    assert row.attempts == 2
    assert len(row.message) == 4000


def test_a_shipped_file_fails_no_longer(ledger: Ledger) -> None:
    """Shipping a file forgets its failures, and so does recovering without shipping."""
    ledger.commit_batch(failed=[failing("a"), failing("b"), failing("c")])
    ledger.commit_batch(shipped=[shipped("a")], recovered=iter(["b"]))
    assert [row.path for row in ledger.failing_rows()] == ["c"]
    ledger.forget_failed(["c"])
    assert ledger.failing_count() == 0
    assert ledger.failing("c") is None


def test_failing_files_are_listed_by_their_next_try(ledger: Ledger) -> None:
    """However many files fail, they are listed in order and in bounded memory."""
    paths = [f"{number:04d}" for number in range(1100)]
    shuffled = random.Random(1).sample(paths, len(paths))
    ledger.commit_batch(failed=[failing(each, next_try_at=NOW + int(each) // 600) for each in shuffled])
    assert [row.path for row in ledger.failing_rows()] == paths
    assert [row.path for row in ledger.failing_rows(overdue_at=NOW + 1)] == paths[:600]


def test_failing_files_that_are_gone_are_forgotten(ledger: Ledger) -> None:
    """A failing file that somebody removed is forgotten once its next try is due; one that is there is not."""
    assert ledger.sweep_failed(lambda path: False, now=NOW) == 0
    ledger.commit_batch(
        failed=[
            failing("gone", next_try_at=NOW - 1),
            failing("there", next_try_at=NOW - 1),
            failing("not due", next_try_at=NOW + 60),
        ]
    )
    assert ledger.sweep_failed(lambda path: path == "there", now=NOW) == 1
    assert {row.path for row in ledger.failing_rows()} == {"there", "not due"}
    assert ledger.sweep_failed(lambda path: path == "there", now=NOW) == 0


def test_a_sweep_is_bounded(ledger: Ledger) -> None:
    """A sweep looks at so many files and no more."""
    ledger.commit_batch(failed=[failing(f"{number}", next_try_at=NOW - 1) for number in range(10)])
    assert ledger.sweep_failed(lambda path: False, now=NOW, most=4) == 4
    assert ledger.failing_count() == 6


# ------------------------------------------------------------------------------------------------ kept files

PRINT = Fingerprint(device=1, inode=2**64 - 1, size=10, mtime_ns=2**63 + 5, ctime_ns=7)


def test_a_kept_file_is_remembered(ledger: Ledger) -> None:
    """A file that was shipped and kept is known again, whatever device number it has after the next boot."""
    assert not ledger.remembers("a", PRINT)
    ledger.commit_batch(shipped=[shipped("a", kept=PRINT), shipped("b")])
    assert ledger.remembers("a", PRINT)
    assert ledger.remembers("a", Fingerprint(9, PRINT.inode, PRINT.size, PRINT.mtime_ns, PRINT.ctime_ns))
    assert not ledger.remembers("b", PRINT)


@pytest.mark.parametrize("changed", ["inode", "size", "mtime_ns", "ctime_ns"])
def test_a_kept_file_that_changed_is_not_remembered(ledger: Ledger, changed: str) -> None:
    """Any other fingerprint is another file."""
    ledger.commit_batch(shipped=[shipped("a", kept=PRINT)])
    fields = {name: getattr(PRINT, name) for name in PRINT.__struct_fields__}
    fields[changed] -= 1
    assert not ledger.remembers("a", Fingerprint(**fields))


def test_a_kept_file_belongs_to_its_destination(ledger: Ledger) -> None:
    """With another destination a kept file is shipped again."""
    ledger.commit_batch(shipped=[shipped("a", kept=PRINT)])
    assert ledger.remembers("a", PRINT, destination="bucket")
    assert not ledger.remembers("a", PRINT, destination="other")


def test_kept_files_that_are_gone_are_forgotten_step_by_step(path: str, ledger: Ledger) -> None:
    """Each sweep looks at some of the kept files, goes on where the last one ended, and begins again at the end."""
    names = [f"{number}" for number in range(5)]
    assert ledger.sweep_kept(lambda name: False, now=NOW) == 0
    ledger.commit_batch(shipped=[shipped(name, kept=PRINT) for name in names])
    looked: list[str] = []

    def exists(name: str) -> bool:
        looked.append(name)
        return name != "1"

    assert ledger.sweep_kept(exists, now=NOW, most=2) == 1
    ledger.close()
    with Ledger.open(path) as again:
        assert [again.sweep_kept(exists, now=NOW, most=2) for _ in range(3)] == [0, 0, 0]
        assert looked == ["0", "1", "2", "3", "4", "0", "2"]
        assert not again.remembers("1", PRINT)
        assert again.remembers("2", PRINT)


# ------------------------------------------------------------------------------------------------ runs


def test_a_run_is_recorded(ledger: Ledger) -> None:
    """What a run did is in the ledger."""
    number = begin(ledger)
    outcome = report(
        exit_code=3,
        shipped=5,
        shipped_bytes=50,
        already_there=1,
        failed=2,
        left={"fresh": 3},
        backlog=4,
        backlog_bytes=40,
        oldest_waiting=NOW - 60,
        pruned_directories=2,
        ended_by="destination unusable",
        message="no such bucket",
    )
    ledger.finish_run(number, outcome)
    (row,) = ledger.runs()
    assert (row.id, row.pid, row.host, row.destination, row.ticks) == (number, 4711, "pi", "bucket", 1)
    assert (row.started_at, row.finished_at) == (NOW, NOW + 0.5)
    for name in ("exit_code", "shipped", "shipped_bytes", "already_there", "failed", "left", "backlog"):
        assert getattr(row, name) == getattr(outcome, name)
    for name in ("backlog_bytes", "oldest_waiting", "pruned_directories", "ended_by", "message", "duration"):
        assert getattr(row, name) == getattr(outcome, name)


def test_a_run_that_was_killed_stays_unfinished(path: str, ledger: Ledger) -> None:
    """A run that did not come to its end is listed without one, also after later runs."""
    killed = begin(ledger)
    ledger.finish_run(begin(ledger), report(shipped=1))
    ledger.finish_run(begin(ledger), report())
    with Ledger.open_readonly(path) as reader:
        assert [(row.id == killed, row.finished_at is None) for row in reader.runs()] == [
            (False, False),
            (False, False),
            (True, True),
        ]


def test_ticks_without_work_are_one_row(path: str, ledger: Ledger) -> None:
    """A thousand runs that found nothing to do are one row with a count, and the files do not grow."""
    for number in range(1000):
        at = NOW + number * 60
        ledger.finish_run(begin(ledger, at=at), report(started_at=at, left={"fresh": number}))
    (row,) = ledger.runs()
    assert (row.ticks, row.started_at, row.finished_at) == (1000, NOW, NOW + 999 * 60 + 0.5)
    assert row.left == {"fresh": 999}
    assert ledger.totals().runs == 1000
    ledger.close()
    assert sum(entry.stat().st_size for entry in os.scandir(os.path.dirname(path))) < 500_000


def test_ticks_of_different_kinds_stay_apart(ledger: Ledger) -> None:
    """Work in between, another day, host or destination begins a new row of ticks."""
    ledger.finish_run(begin(ledger), report())
    ledger.finish_run(begin(ledger), report(shipped=1))
    ledger.finish_run(begin(ledger), report())
    ledger.finish_run(begin(ledger, host="other"), report())
    ledger.finish_run(begin(ledger, host="other", destination="new"), report())
    ledger.finish_run(begin(ledger, at=NOW + 2 * DAY, host="other", destination="new"), report())
    ledger.finish_run(begin(ledger, at=NOW + 2 * DAY, host="other", destination="new"), report())
    assert [row.ticks for row in ledger.runs()] == [2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "changes", [{"failed": 1}, {"pruned_directories": 1}, {"message": "look"}, {"exit_code": 1}, {"shipped": 1}]
)
def test_a_run_that_has_something_to_tell_is_no_tick(ledger: Ledger, changes: dict) -> None:
    """A run that moved, removed, failed or said something has a row of its own."""
    for _ in range(2):
        ledger.finish_run(begin(ledger), report(**changes))
    assert [row.ticks for row in ledger.runs()] == [1, 1]


def test_runs_can_be_limited(ledger: Ledger) -> None:
    """The last runs come first, as many as asked for, and not older than asked for."""
    for number in range(4):
        at = NOW + number * 60
        ledger.finish_run(begin(ledger, at=at), report(started_at=at, shipped=number + 1))
    assert [row.shipped for row in ledger.runs(limit=2)] == [4, 3]
    assert [row.shipped for row in ledger.runs(since=NOW + 120)] == [4, 3]


# ------------------------------------------------------------------------------------------------ retention


def test_old_files_and_runs_are_pruned(ledger: Ledger) -> None:
    """What is older than the history is forgotten, in small steps; totals stay."""
    ledger.commit_batch(
        shipped=[shipped(f"old{number}", shipped_at=NOW - 11 * DAY) for number in range(7)]
        + [shipped("new", shipped_at=NOW - 9 * DAY)]
    )
    for at in (NOW - 11 * DAY, NOW - 9 * DAY):
        ledger.finish_run(begin(ledger, at=at), report(started_at=at, shipped=1))
    assert ledger.prune(now=NOW, history_days=10, history_max_files=100, chunk=3) == 8
    assert [row.path for row in ledger.history()] == ["new"]
    assert len(ledger.runs()) == 1
    assert ledger.totals().shipped_files == 8
    assert ledger.prune(now=NOW, history_days=10, history_max_files=100) == 0


def test_a_history_that_is_too_long_loses_its_oldest_files(ledger: Ledger) -> None:
    """No more files are remembered than configured; the oldest go first."""
    ledger.commit_batch(shipped=[shipped(f"{number}", shipped_at=NOW - number) for number in range(10)])
    assert ledger.prune(now=NOW, history_days=10, history_max_files=4, chunk=5) == 6
    assert [row.path for row in ledger.history()] == ["3", "2", "1", "0"]


def test_pruning_stops_when_it_is_told_to(ledger: Ledger) -> None:
    """A run that has no time left stops pruning after the current step."""
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(10)])
    go_on = iter([True, True, False])
    assert ledger.prune(now=NOW, history_days=1, history_max_files=1, chunk=2, go_on=lambda: next(go_on)) == 4


# ------------------------------------------------------------------------------------------------ endpoint memory


def test_what_was_learned_is_recalled_for_a_week(ledger: Ledger) -> None:
    """A fact about the endpoint is known for a week, and one from the future was noted by a wrong clock."""
    ledger.remember("dialect", "old", now=NOW)
    ledger.remember("dialect", "new", now=NOW)
    assert ledger.recall("dialect", now=NOW + 7 * DAY) == "new"
    assert ledger.recall("dialect", now=NOW + 7 * DAY + 1) is None
    assert ledger.recall("dialect", now=NOW - 7 * DAY - 1) is None
    assert ledger.recall("dialect", now=NOW + 60, max_age=59) is None
    assert ledger.recall("other", now=NOW) is None


def test_a_store_remembers_through_a_mapping(path: str, ledger: Ledger) -> None:
    """What a store sets, on any thread, is there at once, and in the next run, apart from what other stores set."""
    memory = ledger.endpoint_memory(prefix="s3.example.com/bucket ")
    assert memory.get("checksums") is None
    thread = threading.Thread(target=memory.set, args=("checksums", "no"))
    thread.start()
    thread.join()
    assert memory.get("checksums") == "no"
    ledger.commit_batch(shipped=[shipped()])
    assert memory.unwritten() == {}
    memory.set("conditional", "yes")
    ledger.close()
    with Ledger.open(path, clock=lambda: NOW) as again:
        known = again.endpoint_memory(prefix="s3.example.com/bucket ")
        assert (known.get("checksums"), known.get("conditional")) == ("no", "yes")
        assert again.endpoint_memory(prefix="other ").get("checksums") is None
    with Ledger.open(path, clock=lambda: NOW + 8 * DAY) as later:
        assert later.endpoint_memory(prefix="s3.example.com/bucket ").get("checksums") is None


def test_a_fact_that_changes_while_it_is_written_is_written_again() -> None:
    """A value set between the write and its end is not taken for written."""
    memory = EndpointMemory({})
    memory.set("a", "1")
    values = memory.unwritten()
    memory.set("a", "2")
    memory.written(values)
    assert memory.unwritten() == {"a": "2"}


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
