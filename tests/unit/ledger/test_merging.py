"""Several ledgers become one, in which each row is once."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import FailureBucket
from s3_uploader.ledger import Ledger, ShippedRow, offline
from s3_uploader.ledger.columns import restored
from s3_uploader.ledger.coverage import LastAudit
from s3_uploader.ledger.merging import merge
from s3_uploader.ledger.schema import APPLICATION_ID, MIGRATIONS
from s3_uploader.ledger.snapshot import Snapshot
from tests.ledger_values import NOW, PRINT, begin, failing, report, shipped


def ledger_at(place: Path, rows: Iterable[ShippedRow], *, at: float = NOW, host: str = "pi", failed: int = 0) -> str:
    """A ledger with one run that has shipped these."""
    place.mkdir(exist_ok=True)
    path = str(place / "ledger.sqlite3")
    with Ledger.open(path, clock=lambda: at) as ledger:
        run = begin(ledger, at=at, host=host)
        batch = [msgspec.structs.replace(row, run=run) for row in rows]
        ledger.commit_batch(shipped=batch)
        ledger.finish_run(
            run,
            report(started_at=at, shipped=len(batch), failed=failed),
            failures={FailureBucket(hour=int(at // 3600), code="SlowDown", location="den"): failed} if failed else {},
        )
    return path


def rows_in(path: str) -> list[ShippedRow]:
    """All rows in the order of their numbers, without that of the run."""
    with closing(sqlite3.connect(path)) as connection:
        order = [restored(name) for (name,) in connection.execute("SELECT path FROM shipped ORDER BY id")]
    with Ledger.open_readonly(path) as ledger:
        rows = [msgspec.structs.replace(row, run=None) for row in ledger.history()]
    assert order == [row.path for row in rows], "numbers are in the order of time"
    return rows


def content_of(path: str) -> dict[str, list[tuple[object, ...]]]:
    """Every table of a ledger."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}


def test_rows_come_in_the_order_of_time(tmp_path: Path) -> None:
    """What two ledgers have shipped in turn is in one, in that order, each with its run."""
    one = ledger_at(tmp_path / "a", [shipped(f"a{n}", shipped_at=NOW + 2 * n) for n in range(5)])
    other = ledger_at(tmp_path / "b", [shipped(f"b{n}", shipped_at=NOW + 1 + 2 * n) for n in range(5)], host="den")
    before = content_of(other)
    merged = merge(one, [other])
    assert (merged.files_before, merged.files, merged.runs) == (5, 10, 2)
    assert [(each.path, each.files, each.new) for each in merged.sources] == [(other, 5, 5)]
    assert [row.path for row in rows_in(one)] == [f"{name}{n}" for n in range(5) for name in "ab"]
    with Ledger.open_readonly(one) as ledger:
        hosts = {run.id: run.host for run in ledger.runs()}
        assert {(row.path[0], hosts[row.run or 0]) for row in ledger.history()} == {("a", "pi"), ("b", "den")}
        totals = ledger.totals()
        assert (totals.shipped_files, totals.shipped_bytes, totals.runs) == (10, 40960, 2)
        assert [(each.location, each.files) for each in ledger.location_totals()] == [("bedroom", 10)]
    assert content_of(other) == before, "a source is only read"


def test_once_more_changes_nothing(tmp_path: Path) -> None:
    """A merge that is repeated leaves every table as it is, counts included."""
    one = ledger_at(tmp_path / "a", [shipped("a")], failed=2)
    other = ledger_at(tmp_path / "b", [shipped("b", shipped_at=NOW + 1)], host="den", failed=3)
    merge(one, [other])
    once = content_of(one)
    assert merge(one, [other]).files == 2
    assert content_of(one) == once
    with Ledger.open_readonly(one) as ledger:
        assert sum(ledger.survey().failures().values()) == 5
        assert ledger.totals().runs == 2


def test_a_later_copy_brings_what_is_new(tmp_path: Path) -> None:
    """A later copy of a merged ledger adds only what is new: rows and counts."""
    one = ledger_at(tmp_path / "a", [shipped("a")])
    other = ledger_at(tmp_path / "b", [shipped("b", shipped_at=NOW + 1)], host="den")
    merge(one, [other])
    ledger_at(tmp_path / "b", [shipped("c", shipped_at=NOW + 7200, location="attic")], at=NOW + 7200, failed=1)
    merged = merge(one, [other])
    assert [(each.files, each.new) for each in merged.sources] == [(2, 1)]
    assert [row.path for row in rows_in(one)] == ["a", "b", "c"]
    with Ledger.open_readonly(one) as ledger:
        assert ledger.totals().shipped_files == 3
        assert {each.location: each.files for each in ledger.location_totals()} == {"attic": 1, "bedroom": 2}
        assert sum(ledger.survey().failures().values()) == 1


def test_with_a_copy_of_itself(tmp_path: Path) -> None:
    """A ledger and an older copy of it are the ledger."""
    one = ledger_at(tmp_path / "a", [shipped("a")])
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    ledger_at(tmp_path / "a", [shipped("b", shipped_at=NOW + 60)], at=NOW + 60)
    merge(one, [str(tmp_path / "copy" / "ledger.sqlite3")])
    assert [row.path for row in rows_in(one)] == ["a", "b"]
    with Ledger.open_readonly(one) as ledger:
        assert (ledger.totals().shipped_files, ledger.totals().runs) == (2, 2)


def test_two_copies_that_both_went_on(tmp_path: Path) -> None:
    """Two machines, or a backup that was restored, may go on from one ledger: each file and run counts once."""
    one = ledger_at(tmp_path / "a", [shipped("before")])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    ledger_at(tmp_path / "a", [shipped(f"a{number}", shipped_at=NOW + 10 + number) for number in range(5)], at=NOW + 10)
    other = ledger_at(
        tmp_path / "b", [shipped(f"b{number}", shipped_at=NOW + 20 + number) for number in range(3)], at=NOW + 20
    )
    new = str(tmp_path / "new" / "ledger.sqlite3")
    os.mkdir(tmp_path / "new")
    merge(new, [one, other])
    merge(one, [other])
    merge(one, [other, new])
    for path in (new, one):
        with Ledger.open(path) as ledger:
            totals = ledger.totals()
            assert len(list(ledger.history())) == totals.shipped_files == 9
            assert totals.shipped_bytes == sum(row.size for row in ledger.history())
            assert totals.runs == sum(row.ticks for row in ledger.runs()) == 3


def test_an_older_copy_with_rows_that_were_pruned(tmp_path: Path) -> None:
    """What a ledger has forgotten since a copy of it was made does not count again."""
    one = ledger_at(tmp_path / "a", [shipped(f"{number}", shipped_at=NOW + number) for number in range(10)])
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with Ledger.open(one) as ledger:
        ledger.prune(now=NOW + 20, history_days=400, history_max_files=4)
        totals = ledger.totals()
    merge(one, [str(tmp_path / "copy" / "ledger.sqlite3")])
    with Ledger.open(one) as ledger:
        assert ledger.totals().shipped_files == totals.shipped_files == 10


def test_rows_that_are_alike_stay_as_many(tmp_path: Path) -> None:
    """Rows that differ in nothing but their number are not taken for one; of two ledgers the larger number counts."""
    one = ledger_at(tmp_path / "a", [shipped("same")] * 3)
    other = ledger_at(tmp_path / "b", [shipped("same")] * 2, host="den")
    assert merge(one, [other]).files == 3
    assert [row.path for row in rows_in(one)] == ["same"] * 3


def test_what_is_no_text_survives(tmp_path: Path) -> None:
    """Names of bytes, compressed sizes and large times arrive as they were, in a target that was not there."""
    strange = [
        shipped("a\udcff", key="k\udcfe", location="\udcfd", stored_size=5, encoding="gzip", mtime_ns=2**63 + 5),
        shipped("b", period_begin=None, destination="other"),
    ]
    other = ledger_at(tmp_path / "b", strange)
    (tmp_path / "new").mkdir()
    target = str(tmp_path / "new" / "ledger.sqlite3")
    merge(target, [other])
    assert rows_in(target) == rows_in(other)
    assert os.stat(target).st_mode & 0o077 == 0


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    """An audit of the one ledger expects of a key what was shipped last, whichever ledger that was in."""
    one = ledger_at(tmp_path / "a", [shipped("k", shipped_at=NOW + 60, size=2)])
    other = ledger_at(tmp_path / "b", [shipped("k", shipped_at=NOW, size=1)], host="den")
    merge(one, [other])
    with Snapshot(one, destination="bucket") as snapshot:
        bounds = snapshot.select()
        assert [row.size for row in snapshot.rows()] == [2]
        assert bounds.rows == 1


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """Where a ledger's own times go back, its own order stays."""
    times = [NOW + 100, NOW + 10, NOW + 20]
    one = ledger_at(tmp_path / "a", [shipped(f"{n}", key="k", shipped_at=at, size=n) for n, at in enumerate(times)])
    other = ledger_at(tmp_path / "b", [shipped("b", shipped_at=NOW)], host="den")
    merge(one, [other])
    with Snapshot(one, destination="bucket") as snapshot:
        snapshot.select()
        assert [(row.key, row.size) for row in snapshot.rows()] == [("b", 4096), ("k", 2)]


def test_what_waits_and_what_was_kept(tmp_path: Path) -> None:
    """Files that fail and files that were kept are those of all; of one that fails twice the later failure counts."""
    one = ledger_at(tmp_path / "a", [shipped("a", kept=PRINT)])
    other = ledger_at(tmp_path / "b", [shipped("b", kept=PRINT, shipped_at=NOW + 1)], host="den")
    for path, at in ((one, NOW), (other, NOW + 5)):
        with Ledger.open(path) as ledger:
            ledger.commit_batch(failed=[failing("x", last_failed_at=at, attempts=int(at - NOW) + 1)])
    merge(one, [other])
    with Ledger.open_readonly(one) as ledger:
        assert [row.attempts for row in ledger.failing_rows()] == [6]
        assert ledger.remembers("a", PRINT, destination="bucket")
        assert ledger.remembers("b", PRINT, destination="bucket")


def test_what_failed_and_was_shipped_since(tmp_path: Path) -> None:
    """A file that failed in one share, and was shipped by one of another division later, is not failing any more."""
    one = ledger_at(tmp_path / "a", [shipped("changed", shipped_at=NOW - 1)])
    with Ledger.open(one) as ledger:
        ledger.commit_batch(failed=[failing("shipped", last_failed_at=NOW), failing("changed", last_failed_at=NOW)])
    other = ledger_at(tmp_path / "b", [shipped("shipped", shipped_at=NOW + 60)])
    merge(one, [other])
    with Ledger.open_readonly(one) as ledger:
        assert [row.path for row in ledger.failing_rows()] == ["changed"]


def test_ledgers_of_its_own_are_removed(tmp_path: Path) -> None:
    """The ledger of a share is removed when its rows are merged; other files beside it stay."""
    one = ledger_at(tmp_path, [shipped("a")])
    shares = [tmp_path / "share-0-of-2", tmp_path / "share-1-of-2"]
    paths = [ledger_at(place, [shipped(place.name, shipped_at=NOW + 1)], host=place.name) for place in shares]
    (shares[1] / "mounts.json").touch()
    merge(one, paths, owned=paths)
    assert not shares[0].exists()
    assert os.listdir(shares[1]) == ["mounts.json"]
    assert len(rows_in(one)) == 3
    assert sorted(each for each in os.listdir(tmp_path) if each.startswith("ledger")) == ["ledger.sqlite3"]


@pytest.mark.parametrize("used", ["target", "source"])
def test_one_that_is_in_use_is_refused(tmp_path: Path, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run has one of them open nothing is merged, and nothing is changed."""
    monkeypatch.setattr(offline, "_WAIT_SECONDS", 0.0)
    paths = {"target": ledger_at(tmp_path / "a", [shipped("a")]), "source": ledger_at(tmp_path / "b", [shipped("b")])}
    before = content_of(paths["target"])
    with closing(sqlite3.connect(paths[used], isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="is in use by another process") as caught:
            merge(paths["target"], [paths["source"]])
        connection.execute("ROLLBACK")
    assert paths[used] in str(caught.value)
    assert content_of(paths["target"]) == before
    assert merge(paths["target"], [paths["source"]]).files == 2


def test_what_a_killed_merge_has_left(tmp_path: Path) -> None:
    """Half a ledger of a merge that was killed is no obstacle, and nothing of it is taken."""
    one, other = ledger_at(tmp_path / "a", [shipped("a")]), ledger_at(tmp_path / "b", [shipped("b")], host="den")
    for name in (offline.BUILT, offline.SCRATCH, offline.BUILT + "-journal"):
        (tmp_path / "a" / name).write_bytes(b"half of it")
    assert merge(one, [other]).files == 2
    assert {name for name in os.listdir(tmp_path / "a") if not name.startswith("ledger.sqlite3")} <= {"ledger.lock"}


def test_whatever_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that cannot put the new ledger in its place leaves the old one, and says so."""
    one, other = ledger_at(tmp_path / "a", [shipped("a")]), ledger_at(tmp_path / "b", [shipped("b")], host="den")
    before = content_of(one)

    def fail(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("s3_uploader.ledger.offline.os.rename", fail)
        with pytest.raises(StateError, match="cannot take the place"):
            merge(one, [other], owned=[other])
    assert content_of(one) == before
    assert os.path.exists(other)


def test_without_room_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is asked for before anything is written."""
    one, other = ledger_at(tmp_path / "a", [shipped("a")]), ledger_at(tmp_path / "b", [shipped("b")])
    room = os.statvfs_result((4096, 4096, 10, 1, 1, 1, 1, 1, 0, 255))
    monkeypatch.setattr("s3_uploader.ledger.offline.os.statvfs", lambda place: room)
    with pytest.raises(StateError, match="no room") as caught:
        merge(one, [other])
    assert caught.value.is_full


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_ledger_of_an_older_version(tmp_path: Path, version: int) -> None:
    """One that was never brought forward is read with what it has, and stays as it is."""
    old = str(tmp_path / "old.sqlite3")
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        for step in MIGRATIONS[:version]:
            for statement in step:
                connection.execute(statement)
        connection.execute("DELETE FROM memory")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("INSERT INTO destinations VALUES (1, 'bucket')")
        connection.execute(
            "INSERT INTO shipped (path, location, destination, size, mtime_ns, shipped_at, seconds, proof, checksum,"
            " etag, version_id, already_there) VALUES ('old', '', 1, 1, 1, 1.0, 1.0, 'md5', '', '', '', 0)"
        )
    one = ledger_at(tmp_path / "a", [shipped("a")])
    assert merge(one, [old]).files == 2
    assert merge(one, [old]).files == 2
    assert [row.path for row in rows_in(one)] == ["old", "a"]
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """A file of another program is named, and nothing is changed."""
    one = ledger_at(tmp_path / "a", [shipped("a")])
    other = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE pets (name)")
    with pytest.raises(StateError, match=r"other\.sqlite3.*another program"):
        merge(one, [str(other)])
    assert len(rows_in(one)) == 1


def test_audits_cover_what_they_have_covered_of_all(tmp_path: Path) -> None:
    """If only one of two ledgers was audited, the spans in which the other has no files are covered."""
    one = ledger_at(tmp_path / "a", [shipped(f"a{n}", shipped_at=NOW + n) for n in range(10)])
    other = ledger_at(tmp_path / "b", [shipped("b", shipped_at=NOW + 4.5)], host="den")
    with Ledger.open(one) as ledger:
        ledger.remember_audit(LastAudit(destination="bucket", at=NOW + 20, since=None, until=NOW + 9.5, problems=0))
        assert ledger.unaudited(end=NOW + 100) == {}
    merge(one, [other])
    with Ledger.open_readonly(one) as ledger:
        assert ledger.unaudited(end=NOW + 4.5) == {}
        assert ledger.unaudited(end=NOW + 100) == {"bucket": 1}
        last = ledger.coverage().last
        assert last is not None
        assert last.at == NOW + 20
