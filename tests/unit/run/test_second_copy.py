"""Second copies: what goes and comes with its file is the file itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import Left, OnConflict, Receipt
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.spool import open_file, removal
from s3_uploader.spool.probe import CONTENT
from s3_uploader.stores.base import PendingReceipt
from tests.fakes import FakeStore, Harness, Put


class Mirror(FakeStore):
    """A destination that leads to a directory: keys are paths below it, after a prefix."""

    def __init__(self, directory: Path, *, prefix: str = "") -> None:
        super().__init__()
        self.directory = directory
        self.prefix = prefix

    def object_of(self, key: str) -> bytes | None:
        """What lies there."""
        path = self.directory / key.removeprefix(self.prefix)
        return path.read_bytes() if path.is_file() else None

    def store_silently(self, asked: Put) -> Receipt:
        """Answer as a store does that looks first; write the file where there is none."""
        there = self.object_of(asked.key)
        if there is not None:
            self.objects[asked.key] = there
        receipt = super().store_silently(asked)
        if there is None:
            path = self.directory / asked.key.removeprefix(self.prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.objects[asked.key])
        return receipt


class Remembering(Mirror):
    """The same behind a cache, which goes on to show what it has seen."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.seen: dict[str, bytes] = {}

    def object_of(self, key: str) -> bytes | None:
        """What lies there, or did once."""
        found = super().object_of(key)
        if found is not None:
            self.seen[key] = found
        return self.seen.get(key)


class Unanswering(Mirror):
    """The same, but the answer to the first attempt is lost each time, and the second one finds the object."""

    def store_silently(self, asked: Put) -> Receipt:
        """Answer as a store does that cannot tell whether its first attempt has stored the object."""
        receipt = super().store_silently(asked)
        return msgspec.structs.replace(receipt, already_there=False, after_lost_answer=True)


def mirror(tmp_path: Path, below: str = ".", *, prefix: str = "") -> Harness:
    """A spool whose destination is the spool, or a directory of it."""
    harness = Harness(tmp_path)
    harness.key_prefix = prefix
    harness.store = Mirror(harness.base / below, prefix=prefix)
    return harness


@pytest.mark.parametrize("prefix", ["", "some/where/"])
@pytest.mark.parametrize("keep", [False, True])
def test_the_spool_itself(tmp_path: Path, prefix: str, keep: bool) -> None:
    """Nothing is removed, and the run says why it ended."""
    harness = mirror(tmp_path, prefix=prefix)
    harness.on_success = SuccessPolicy(keep=keep)
    names = {f"d/{number}" for number in range(5)}
    for name in names:
        harness.write(name, name)
    report = harness.run()
    assert (report.exit_code, report.code) == (3, "SameAsSpool")
    assert report.shipped == 0
    assert report.left == {Left.POSTPONED.value: 5}
    assert harness.names() == names


@pytest.mark.parametrize("keep", [False, True])
def test_the_spool_itself_and_a_lost_answer(tmp_path: Path, keep: bool) -> None:
    """An object that is found after a lost answer may be the file itself, as one that was there already."""
    harness = mirror(tmp_path)
    harness.store = Unanswering(harness.base)
    harness.on_success = SuccessPolicy(keep=keep)
    harness.write("d/1", "the only copy")
    report = harness.run()
    assert (report.exit_code, report.code, report.shipped) == (3, "SameAsSpool", 0)
    assert harness.names() == {"d/1"}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("content", ["some", ""])
def test_the_spool_itself_behind_a_cache(tmp_path: Path, keep: bool, content: str) -> None:
    """A name that nobody has asked for before is in no cache: it shows that the destination is the spool."""
    harness = Harness(tmp_path)
    harness.store = Remembering(harness.base)
    harness.on_success = SuccessPolicy(keep=keep)
    names = {f"d/{number}" for number in range(5)}
    for name in names:
        harness.write(name, content)
    report = harness.run()
    assert (report.exit_code, report.code) == (3, "SameAsSpool")
    assert report.shipped == 0
    assert harness.names() == names


def test_below_the_spool(tmp_path: Path) -> None:
    """A delivery that comes back as a candidate, one directory deeper, ends the run that would deliver it again."""
    harness = mirror(tmp_path, "a/b/c")
    (harness.base / "a/b/c").mkdir(parents=True)
    harness.prune = False
    harness.write("x", "content")
    reports = [harness.run() for _ in range(2)]
    kept = harness.settlement.second_copies.dump()
    harness.clock.seconds += 2e9  # the delivery has the time of the real clock
    reports.append(harness.run())
    assert "SameAsSpool" in {report.code for report in reports} or kept
    assert b"content" in {(harness.base / name).read_bytes() for name in harness.names()}


def test_what_an_earlier_run_delivered(tmp_path: Path) -> None:
    """A run goes on with the suspicion of the one before; a note that makes no sense is none."""
    harness = mirror(tmp_path, "sub")
    harness.write("sub/x", "content")
    harness.write("y", "other")
    is_loaded = False

    def load() -> None:
        nonlocal is_loaded
        if not is_loaded:
            is_loaded = True
            harness.settlement.second_copies.load('[["x", 7]]')

    harness.beat = load
    report = harness.run()
    assert (report.exit_code, report.code) == (3, "SameAsSpool")
    assert (harness.base / "sub/x").read_bytes() == b"content"
    harness.settlement.second_copies.load('{"of": "another version"}')
    harness.settlement.second_copies.load("no JSON")


def test_only_alike(tmp_path: Path) -> None:
    """Files of one name, size and content in several directories are shipped like any others."""
    harness = Harness(tmp_path)
    for path in ("x", "a/x", "a/b/x"):
        harness.write(path, "same")
    assert harness.run().shipped == 3
    assert harness.names() == set()
    assert set(harness.store.objects) == {"x", "a/x", "a/b/x"}


def test_looks_only_at_what_was_there(tmp_path: Path) -> None:
    """New objects cost no look; one that was there before costs one, and its directory another, for a test file."""
    harness = Harness(tmp_path)
    harness.write("new", "1")
    harness.write("old", "2")
    harness.store.objects["old"] = b"2"
    assert harness.run().shipped == 2
    old, probe = harness.store.looks
    assert old == "old"
    assert probe.startswith("s3-uploader-probe-")
    assert harness.names() == set()


@pytest.mark.parametrize("prefix", ["", "sub/", "from/outside/sub/"])
@pytest.mark.parametrize("place", ["sub/x", "sub/a/b/x"])
def test_replaces_no_other_file_of_the_spool(tmp_path: Path, prefix: str, place: str) -> None:
    """A destination in the spool would replace another file there: found out before the first file is sent."""
    harness = mirror(tmp_path, "sub", prefix=prefix)
    harness.on_conflict = OnConflict.OVERWRITE
    harness.write(place.removeprefix("sub/"), "the one")
    harness.write(place, "the other")
    report = harness.run()
    assert (report.exit_code, report.code) == (3, "SameAsSpool")
    assert harness.names() == {place, place.removeprefix("sub/")}
    assert (harness.base / place).read_text() == "the other"


def test_only_in_a_like_place(tmp_path: Path) -> None:
    """Files that lie where a key would lead replace objects like any others if the destination is elsewhere."""
    harness = Harness(tmp_path)
    harness.on_conflict = OnConflict.OVERWRITE
    names = {"x", *(f"{number}/x" for number in range(20))}
    for name in names:
        harness.write(name, name)
    harness.store.objects["x"] = b"older"
    assert harness.run().shipped == len(names)
    assert harness.names() == set()
    assert harness.store.objects["x"] == b"x"


def test_a_kept_file_that_changes_during_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to a kept file while the destination is asked is shipped by the next run, and not remembered."""
    for module, name in ((removal, "take_lease"), (removal, "is_being_written"), (open_file, "is_being_written")):
        monkeypatch.setattr(module, name, lambda descriptor, **choice: None)
    harness = Harness(tmp_path)
    harness.on_success = SuccessPolicy(keep=True)
    harness.on_conflict = OnConflict.OVERWRITE
    harness.store.objects["x"] = b"data"
    path = harness.write("x", "data")
    descriptor = os.open(path, os.O_RDWR)
    real = harness.store.confirm

    def confirm(receipt: Receipt, *, deadline: float) -> PendingReceipt:
        os.pwrite(descriptor, b"DATA", 0)
        os.utime(descriptor, (harness.clock.seconds - 100,) * 2)
        return real(receipt, deadline=deadline)

    monkeypatch.setattr(harness.store, "confirm", confirm)
    assert harness.run().left == {"changed": 1}
    monkeypatch.undo()
    os.close(descriptor)
    assert harness.run().shipped == 1
    assert harness.store.objects["x"] == b"DATA"


class Forgetful(FakeStore):
    """The object that was there is gone at the second look, or there is no answer."""

    error: Exception | None = None

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """Take the object away first, as a consumer does that has waited for it."""
        if self.error is not None:
            raise self.error
        self.objects.pop(receipt.key, None)
        return super().confirm(receipt, deadline=deadline)


@pytest.mark.parametrize("error", [None, StoreError("no way", code="Down"), RuntimeError("a bug")])
def test_not_confirmed(tmp_path: Path, error: Exception | None) -> None:
    """A file whose object is not seen again is kept, whatever is to become of files that fail; the others go."""
    store = Forgetful()
    store.error = error
    harness = Harness(tmp_path, store=store)
    harness.on_failure = FailurePolicy(delete=True)
    harness.write("x", "content")
    harness.write("y", "other")
    store.objects["x"] = b"content"
    report = harness.run()
    assert (report.exit_code, report.shipped, report.failed) == (1, 1, 1)
    assert harness.names() == {"x"}
    assert harness.records.failing_rows["x"].code == "NotConfirmed"


@pytest.mark.parametrize("older", [".x.s3u", ".x.s3u2"])
def test_not_confirmed_beside_a_newer_leftover(tmp_path: Path, older: str) -> None:
    """A leftover whose object is not seen again does not get its name, or it would replace the newer one's content."""
    store = Forgetful()
    store.error = StoreError("no way", code="Down")
    store.objects["x"] = b"old"
    harness = Harness(tmp_path, store=store)
    harness.on_conflict = OnConflict.OVERWRITE
    (newer,) = {".x.s3u", ".x.s3u2"} - {older}
    harness.write(older, "old", age=7200)
    harness.write(newer, "new", age=3600)
    assert harness.run().failed == 1
    assert harness.names() == {older, newer}
    harness.store = FakeStore()
    for _ in range(3):
        harness.clock.seconds += 1000
        harness.run()
    assert harness.names() == set()
    assert harness.store.objects == {"x": b"new"}


class Mute(FakeStore):
    """It does not answer the second look, and meanwhile the run is stopped."""

    stop: Callable[[], None]

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """Do not answer."""
        self.stop()
        return PendingReceipt()


def test_not_confirmed_before_a_stop(tmp_path: Path) -> None:
    """A stop hardly waits for the second look. No file is called a failing one for that."""
    store = Mute()
    harness = Harness(tmp_path, store=store)
    store.stop = lambda: harness.stop.request(15)

    def pass_time() -> None:
        harness.clock.seconds += 0.5

    harness.beat = pass_time
    harness.write("x", "content")
    store.objects["x"] = b"content"
    report = harness.run()
    assert (report.shipped, report.failed) == (0, 0)
    assert report.left == {Left.POSTPONED.value: 1}
    assert harness.names() == {"x"}
    assert harness.records.failing_rows == {}


def test_names_that_are_no_text_are_no_traceback(tmp_path: Path) -> None:
    """What a run has delivered is noted for the next one, whatever bytes the names have."""
    harness = Harness(tmp_path)
    harness.write("d/na\udcefve", "content")
    harness.write("d/plain", "content")
    assert harness.run().exit_code == 0
    assert "plain" in harness.settlement.second_copies.dump()


@pytest.mark.parametrize("is_dated", [True, False])
def test_the_test_file_of_a_killed_run_is_removed(tmp_path: Path, is_dated: bool) -> None:
    """The next run does so, and neither ships it nor counts it as a stranger."""
    harness = Harness(tmp_path)
    if is_dated:
        harness.use_dated()
    harness.write("room/2019/01/01/00/00-topic.dat", "content")
    harness.write("room/2019/01/01/00/s3-uploader-probe-0123456789ab.tmp", CONTENT)
    report = harness.run()
    assert report.shipped == 1
    assert harness.names() == set()
    assert not report.left
