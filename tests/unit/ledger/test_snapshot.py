"""The copy of many ledgers for an audit: one that cannot be read costs the others nothing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.found import Instance, instances_in
from s3_uploader.ledger.snapshot import Snapshot
from tests.ledger_values import shipped

PAGE = 4096
NAMES = ("berlin", "oslo", "quito")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The ledgers of three uploaders, each copied as a single file."""
    for name in NAMES:
        path = tmp_path / "made.sqlite3"
        with Ledger.open(str(path)) as ledger:
            ledger.commit_batch(shipped=[shipped(f"{name}/{number}.dat") for number in range(400)])
            ledger.commit_batch(shipped=[shipped(f"{name}/other.dat", destination="elsewhere")])
        (tmp_path / "ledgers").mkdir(exist_ok=True)
        with (
            closing(sqlite3.connect(path)) as made,
            closing(sqlite3.connect(tmp_path / f"ledgers/{name}.sqlite3")) as new,
        ):
            made.backup(new)
        for file in tmp_path.glob("made.sqlite3*"):
            file.unlink()
    return tmp_path / "ledgers"


def instances(place: Path) -> list[Instance]:
    """What is found there."""
    return instances_in([str(place)], notice=lambda sentence: None, left_out=[])


def spoil(path: Path, *, page: int) -> None:
    """Overwrite some pages, as a disk that fails may."""
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xff" * 2 * PAGE)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_copy_that_is_cut_off(place: Path, part: float) -> None:
    """The others are audited; the error names the copy, and what to do with a copy."""
    cut = place / "oslo.sqlite3"
    os.truncate(cut, int(cut.stat().st_size * part))
    with Snapshot("", destination="bucket", instances=instances(place)) as snapshot:
        assert snapshot.reach().keys() == {str(place / f"{name}.sqlite3") for name in ("berlin", "quito")}
        assert snapshot.select().rows == 800
        assert snapshot.counts() == {"berlin": 400, "oslo": 0, "quito": 400}
        assert {snapshot.instance_of(row) for row in snapshot.rows()} == {"berlin", "quito"}
        assert snapshot.elsewhere() == {"elsewhere": 2}
        assert snapshot.incomplete == {"oslo"}
        ((path, error),) = snapshot.unreadable.items()
    assert path == str(cut)
    assert f"The ledger {cut} cannot be read: it is damaged" in error.message
    assert "copy it once more" in error.hint


def test_damage_that_shows_only_when_the_rows_are_read(place: Path) -> None:
    """Where a later question meets the damage, what was read before is audited, and the copy is named all the same."""
    spoiled = place / "berlin.sqlite3"
    with closing(sqlite3.connect(spoiled)) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'destinations'")
    with Snapshot("", destination="bucket", instances=instances(place)) as snapshot:
        snapshot.reach()
        assert not snapshot.unreadable
        spoil(spoiled, page=root - 1)
        assert snapshot.select().rows == 800
        assert list(snapshot.unreadable) == [str(spoiled)]
        assert snapshot.counts() == {"berlin": 0, "oslo": 400, "quito": 400}


@pytest.mark.parametrize("count", [1, 3])
def test_if_none_can_be_read_the_audit_ends(place: Path, count: int) -> None:
    """An audit of nothing is an error, whether the damage shows at once or later."""
    for name in NAMES[count:]:
        (place / f"{name}.sqlite3").unlink()
    found = instances(place)
    for file in place.iterdir():
        os.truncate(file, 2 * PAGE)
    with pytest.raises(StateError, match="it is damaged") as error:
        Snapshot("", destination="bucket", instances=found)
    assert "copy it once more" in error.value.hint


def test_if_none_can_be_read_any_more_the_audit_ends(place: Path) -> None:
    """Copies may vanish while they are audited."""
    with Snapshot("", destination="bucket", instances=instances(place)) as snapshot:
        for file in place.iterdir():
            os.truncate(file, 2 * PAGE)
        with pytest.raises(StateError, match="it is damaged"):
            snapshot.select()


def begin_only(path: Path) -> None:
    """Leave what a run leaves that is killed, or meets a full disk, while it begins its ledger."""
    with closing(sqlite3.connect(path, isolation_level=None)) as begun:
        begun.execute("PRAGMA journal_mode = WAL")


def test_a_ledger_that_was_only_begun(tmp_path: Path, place: Path) -> None:
    """A ledger to which no run has written is not called damaged; of several, it costs the others nothing."""
    path = tmp_path / "begun.sqlite3"
    begin_only(path)
    with pytest.raises(StateError, match=r"No run has written to the ledger .*begun\.sqlite3 yet") as raised:
        Snapshot(str(path), destination="bucket")
    assert not raised.value.is_damaged
    begun = Instance("begun", {None: str(path)})
    with Snapshot("", destination="bucket", instances=[*instances(place), begun]) as snapshot:
        assert snapshot.select().rows == 1200
    assert snapshot.unreadable.keys() == {str(path)}
