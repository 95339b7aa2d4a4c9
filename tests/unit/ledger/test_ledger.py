"""The ledger: what it records and what it answers."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.errors import StateError
from s3_uploader.core.events import Totals
from s3_uploader.core.model import FailureBucket, Fingerprint
from s3_uploader.ledger import (
    EndpointMemory,
    FailingRow,
    Ledger,
    LocationTotals,
    after_failure,
    next_pause,
)
from s3_uploader.ledger.records import int64
from s3_uploader.ledger.rows import LONGEST_PAUSE
from s3_uploader.ledger.schema import APPLICATION_ID, MIGRATIONS
from tests.ledger_values import DAY, NOW, PRINT, begin, connection_of, failing, report, shipped

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
    """Totals are sums over all batches and runs; a file that is only suspected has not failed."""
    refused = FailureBucket(int(NOW // 3600), "AccessDenied", "hall")
    ledger.commit_batch(
        shipped=[shipped("a"), shipped("b", size=4, already_there=True)], failed=[failing()], failures={refused: 1}
    )
    ledger.commit_batch(shipped=[shipped("c", shipped_at=NOW - 5)], failed=[failing("x"), failing("y")])
    ledger.finish_run(begin(ledger), report(exit_code=1, failed=3), failures={refused: 2})
    assert ledger.survey().failures() == {refused: 3}
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
    assert ledger.location_totals(limit=1) == ledger.location_totals()[:1]


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
    """Each sweep examines some of the kept files, continues where the last one ended, and starts over at the end."""
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
        ended_by="destination",
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
    for at in (NOW - 11 * DAY, NOW - 9 * DAY, NOW - DAY):
        ledger.finish_run(begin(ledger, at=at), report(started_at=at, shipped=1))
    assert ledger.prune(now=NOW, history_days=10, history_max_files=100, chunk=3) == 8
    assert [row.path for row in ledger.history()] == ["new"]
    assert len(ledger.runs()) == 2
    assert ledger.totals().shipped_files == 8
    assert ledger.prune(now=NOW, history_days=10, history_max_files=100) == 0


YEAR = 365 * DAY


def test_a_clock_that_is_wrong_empties_no_history(ledger: Ledger) -> None:
    """Runs at a wrong time, one or a day of them, forget nothing; what they record is still counted."""
    ledger.commit_batch(shipped=[shipped("before", shipped_at=NOW)])
    ledger.finish_run(begin(ledger, at=NOW), report(started_at=NOW, shipped=1))
    for wrong in (NOW + 14 * YEAR, NOW + 14 * YEAR + 60, NOW + 14 * YEAR + DAY, NOW + 20 * YEAR, 0.0):
        run = begin(ledger, at=wrong)
        ledger.commit_batch(shipped=[shipped(f"at {wrong}", shipped_at=wrong)])
        assert ledger.prune(now=wrong, history_days=400, history_max_files=100) == 0
        ledger.finish_run(run, report(started_at=wrong, shipped=1))
    assert ledger.prune(now=NOW + 120, history_days=400, history_max_files=100) == 2  # a file and a run of 1970
    assert "before" in {row.path for row in ledger.history()}
    ledger.commit_batch(shipped=[shipped("after", shipped_at=NOW + 120)])
    assert ledger.totals().last_shipped_at == NOW + 120
    assert ledger.location_totals()[0].last_shipped_at == NOW + 120


def test_the_first_run_of_all_believes_its_clock(ledger: Ledger) -> None:
    """Where nothing was recorded there is nothing to hold the clock against, and nothing to lose."""
    begin(ledger, at=NOW)
    assert ledger.prune(now=NOW, history_days=400, history_max_files=100) == 0
    assert ledger.prune(now=NOW + 30 * DAY, history_days=400, history_max_files=100) == 0


def test_failures_are_counted_by_hour_code_and_location(ledger: Ledger) -> None:
    """Failed uploads add up in the hour of each, and are forgotten with the history of that time."""
    old, new = FailureBucket(1000, "SlowDown", "attic"), FailureBucket(int(NOW // 3600), "Conflict", "caf\udce9")
    ledger.finish_run(begin(ledger), report(failed=3), failures={old: 1, new: 2})
    ledger.finish_run(begin(ledger), report(failed=1), failures={new: 1})
    assert ledger.survey().failures() == {old: 1, new: 3}
    assert ledger.survey(since=NOW, until=NOW + 1).failures() == {new: 3}
    assert ledger.survey(until=NOW - 3600).failures() == {old: 1}
    assert ledger.prune(now=NOW, history_days=10, history_max_files=100) == 1
    assert ledger.survey().failures() == {new: 3}
    assert ledger.prune(now=NOW, history_days=10, history_max_files=100) == 0


def test_a_ledger_of_before_failures_were_counted_has_none(tmp_path: Path) -> None:
    """A ledger that no run has brought up to date yet can be read all the same."""
    path = str(tmp_path / "old.sqlite3")
    with sqlite3.connect(path) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with Ledger.open_readonly(path) as ledger:
        assert ledger.survey().failures() == {}
        assert ledger.runs() == []


def test_a_history_that_is_too_long_loses_its_oldest_files(ledger: Ledger) -> None:
    """No more files are remembered than configured; the oldest are forgotten first."""
    ledger.commit_batch(shipped=[shipped(f"{number}", shipped_at=NOW - number) for number in range(10)])
    assert ledger.prune(now=NOW, history_days=10, history_max_files=4, chunk=5) == 6
    assert [row.path for row in ledger.history()] == ["3", "2", "1", "0"]


def test_pruning_ends_although_rows_were_removed_by_hand(ledger: Ledger) -> None:
    """If somebody has removed rows from the table, the ledger counts anew instead of pruning for ever."""
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(5)])
    connection_of(ledger).execute("DELETE FROM shipped")
    assert ledger.prune(now=NOW, history_days=1, history_max_files=2) == 0
    ledger.commit_batch(shipped=[shipped(f"{number}") for number in range(3)])
    assert ledger.prune(now=NOW, history_days=1, history_max_files=2) == 1


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


def test_what_is_forgotten_takes_no_room(path: str, ledger: Ledger) -> None:
    """Files that change during their upload, over the years, leave nothing behind that each run would have to read."""
    for number in range(3):
        ledger.remember(f"superseded:bucket/{number}", "etag", now=NOW)
    assert ledger.knows_any("superseded:")
    for number in range(3):
        ledger.remember(f"superseded:bucket/{number}", "", now=NOW)
    assert not ledger.knows_any("superseded:")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM memory WHERE name LIKE 'superseded:%'").fetchone() == (0,)


def test_an_outdated_object_is_forgotten_with_the_history(ledger: Ledger) -> None:
    """One that no upload has replaced for as long as the history lasts is protected again like any other."""
    ledger.remember("superseded:bucket/old", "etag", now=NOW - 50 * DAY)
    ledger.remember("superseded:bucket/new", "etag", now=NOW)
    ledger.commit_batch(shipped=[shipped(shipped_at=NOW - 50 * DAY)])
    ledger.prune(now=NOW, history_days=30, history_max_files=100)
    found = [ledger.recall(f"superseded:bucket/{name}", now=NOW, max_age=99 * DAY) for name in ("old", "new")]
    assert found == [None, "etag"]


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


def test_what_was_learned_is_not_worth_an_error(path: str, ledger: Ledger) -> None:
    """A full disk does not turn the end of a run into a failure for the sake of what a store has learned."""
    ledger.endpoint_memory().set("checksums", "no")
    connection_of(ledger).execute("PRAGMA query_only = 1")
    ledger.close()
    with Ledger.open(path, clock=lambda: NOW) as again:
        assert again.endpoint_memory().get("checksums") is None


def test_a_fact_that_changes_while_it_is_written_is_written_again() -> None:
    """A value set between the write and its end is not taken for written."""
    memory = EndpointMemory({})
    memory.set("a", "1")
    values = memory.unwritten()
    memory.set("a", "2")
    memory.written(values)
    assert memory.unwritten() == {"a": "2"}


def test_a_file_that_fails_in_another_process(path: str, ledger: Ledger) -> None:
    """It is seen from the next count of failing files on, and no longer counts as failing once it is shipped here."""
    with Ledger.open(path) as other:
        other.commit_batch(failed=[failing("a")])
    assert ledger.failing_count() == 1
    assert ledger.failing("a") is not None
    ledger.commit_batch(shipped=[shipped("a")])
    assert ledger.failing_count() == 0
