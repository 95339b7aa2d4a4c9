"""The locks of shares: which may be held together, which are refused, and with which message."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.core.errors import LockHeld
from s3_uploader.core.shares import parse
from s3_uploader.spool import lock_file, state_lock
from s3_uploader.spool.holder import holder_of
from s3_uploader.spool.lock import Lock, acquire
from s3_uploader.spool.lock_file import Extent
from s3_uploader.spool.share_holders import holders_of_shares


class Place:
    """A spool beside its state directory, whose lock is tried without waiting."""

    def __init__(self, tmp_path: Path) -> None:
        self.spool, self.state = tmp_path / "spool", tmp_path / "state"
        self.spool.mkdir()
        self.state.mkdir()
        self.descriptor = os.open(self.spool, os.O_RDONLY)

    def take(self, share: str = "", *, claims: bool = False, by_location: bool = False) -> Lock:
        """Take the lock of a share, or of all files."""
        extent = Extent(share=parse(share) if share else None, claims=claims, by_location=by_location)
        note_dir = self.state if extent.share is None else self.state / extent.share.name
        note_dir.mkdir(exist_ok=True)
        moment = iter(range(10**6))
        return acquire(
            self.descriptor,
            base_dir="/spool",
            state_dir=str(self.state),
            note_dir=str(note_dir),
            extent=extent,
            wait_seconds=0,
            clock=lambda: next(moment),
            sleep=lambda seconds: None,
            now=lambda: 1_600_000_000.0,
            command=["s3-uploader-cli", "config.json"],
        )

    def refuses(self, share: str = "", *, claims: bool = False, by_location: bool = False) -> LockHeld:
        """The lock cannot be had."""
        with pytest.raises(LockHeld) as caught:
            self.take(share, claims=claims, by_location=by_location).release()
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A spool that nobody has."""
    made = Place(tmp_path)
    yield made
    os.close(made.descriptor)


@pytest.fixture
def no_lock_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool takes no lock file."""

    def refuse(base_fd: int, *, base_dir: str) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock_file, "open_lock_file", refuse)


def test_shares_of_one_division_go_side_by_side(place: Place) -> None:
    """Each has its own files, so none waits for another; the last one takes the lock file away."""
    locks = [place.take(f"{index}/3") for index in range(3)]
    assert (place.spool / lock_file.LOCK_NAME).exists()
    for lock in locks[:-1]:
        lock.confirm()
        lock.release()
        assert (place.spool / lock_file.LOCK_NAME).exists()
    locks[-1].release()
    assert list(place.spool.iterdir()) == []


def test_a_share_has_one_holder(place: Place) -> None:
    """A second run of a share steps aside as a second run of all files does; it is told who has it."""
    with place.take("1/3"):
        held = place.refuses("1/3")
        assert not held.is_refusal
        assert f"process {os.getpid()}" in str(held)
        assert "share 1/3" in str(held)
        place.take("2/3").release()
    place.take("1/3").release()


@pytest.mark.parametrize(("one", "other"), [("0/2", "1/3"), ("0/2", "0/3"), ("1/3", "0/2"), ("0/2", "1/4")])
def test_shares_of_two_divisions_that_meet_are_refused(place: Place, one: str, other: str) -> None:
    """Shares of different divisions have files in common, so the second one is refused without waiting."""
    with place.take(one):
        held = place.refuses(other)
        assert held.is_refusal
        assert f"share {other} " in str(held)
        assert f"share {one}" in str(held)


def test_shares_of_two_divisions_that_do_not_meet(place: Place) -> None:
    """Without a file in common they do not hold each other up."""
    with place.take("0/2"), place.take("2/4"), place.take("3/4"):
        pass


def test_a_share_and_a_run_of_all_files_exclude_each_other(place: Place) -> None:
    """A run without a share has all files, and steps aside as it does for any other run."""
    with place.take("0/2"):
        held = place.refuses()
        assert not held.is_refusal
        assert "share 0/2" in str(held)
    with place.take():
        assert not place.refuses("0/2").is_refusal


def test_a_run_of_an_older_version_excludes_shares(place: Place) -> None:
    """It locks the directory alone, and nothing else."""
    older = os.open(place.spool, os.O_RDONLY)
    try:
        fcntl.flock(older, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.refuses("0/2")
        fcntl.flock(older, fcntl.LOCK_UN)
        with place.take("0/2"), pytest.raises(BlockingIOError):
            fcntl.flock(older, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(older)


def test_uploaders_that_claim_and_shares(place: Place) -> None:
    """Uploaders that claim have a share together; one that does not claim has its share alone."""
    with place.take("0/2", claims=True), place.take("0/2", claims=True), place.take(claims=True):
        place.refuses("0/2")
    with place.take("0/2"):
        place.refuses(claims=True)
        place.take("1/2", claims=True).release()


@pytest.mark.usefixtures("no_lock_file")
def test_without_ranges_shares_go_one_after_the_other(place: Place) -> None:
    """Where they cannot be told apart, nobody ships what another one ships."""
    with place.take("0/2"):
        place.refuses("1/2")
        place.refuses()
    with place.take():
        place.refuses("1/2")


def test_a_lock_in_the_state_directory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing in the spool can be locked, shares keep apart in the state directory in the same way."""
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    with place.take("0/2"), place.take("1/2"):
        place.refuses("1/2")
        place.refuses()
        assert place.refuses("1/3").is_refusal
    with place.take():
        place.refuses("1/2")


def test_a_state_directory_on_fuse(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a share's lock is its process's, so that a killed run leaves none, and no worker may rely on it."""
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    with place.take("0/2") as lock:
        assert _kinds_of_locks(place.state / "lock") == {"FLOCK", "OFDLCK"}
        assert lock.descriptors()
    monkeypatch.setattr(state_lock, "file_system_at", lambda descriptor: "fuse.ceph")
    with place.take("0/2") as lock:
        assert _kinds_of_locks(place.state / "lock") == {"FLOCK", "POSIX"}
        assert lock.descriptors() is None


def _kinds_of_locks(path: Path) -> set[str]:
    """What kinds of locks there are on a file, as the kernel calls them."""
    lines = Path("/proc/locks").read_text().splitlines()
    return {line.split()[1] for line in lines if line.split()[5].endswith(f":{path.stat().st_ino}")}


def test_who_ships_which_share(place: Place) -> None:
    """For each share it is known who is at work on it; a note of another host counts as long as its share is locked."""
    with place.take("0/2"), place.take("1/2"):
        assert {
            str(share): one.pid for share, one in holders_of_shares(place.descriptor, str(place.state)).items()
        } == {
            "0/2": os.getpid(),
            "1/2": os.getpid(),
        }
        holder = holder_of(place.descriptor, str(place.state))
        assert holder is not None
        assert holder.share
        elsewhere = place.state / "share-1-of-2/holder.json"
        elsewhere.write_bytes(b'{"pid": 7, "host": "elsewhere", "share": "1/2"}')
        assert len(holders_of_shares(place.descriptor, str(place.state))) == 2
    assert holders_of_shares(place.descriptor, str(place.state)) == {}
    elsewhere.write_bytes(b'{"pid": 7, "host": "elsewhere", "share": "1/2"}')
    assert holders_of_shares(place.descriptor, str(place.state)) == {}


def test_shares_by_location_meet_where_their_ranges_do(place: Place) -> None:
    """Shares of one division run side by side; of another division, those with common locations are refused."""
    locks = [place.take(f"{index}/3", by_location=True) for index in range(3)]
    locks[0].release()
    assert not place.refuses("1/3", by_location=True).is_refusal
    place.take("0/3", by_location=True).release()
    assert place.refuses("1/2", by_location=True).is_refusal
    assert not place.refuses().is_refusal
    assert not place.refuses(claims=True).is_refusal
    for lock in locks[1:]:
        lock.release()
    assert not (place.spool / lock_file.LOCK_NAME).exists()
    place.take().release()


@pytest.mark.parametrize("first_by_location", [True, False])
@pytest.mark.parametrize("second", ["0/2", "1/2", "0/2000"])
def test_shares_of_different_rules_exclude_each_other(place: Place, first_by_location: bool, second: str) -> None:
    """A share by path beside one by location is refused wherever their ranges are, until the other has ended."""
    first = place.take("0/2", by_location=first_by_location)
    beside = place.take("1/2", by_location=first_by_location)
    if second == "1/2":
        beside.release()
    held = place.refuses(second, by_location=not first_by_location)
    assert held.is_refusal
    assert "share_by" in held.hint
    if second != "1/2":
        beside.release()
    first.confirm()
    first.release()
    place.take(second, by_location=not first_by_location).release()


def test_rules_in_the_state_directory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the state directory takes a lock the rules exclude each other there."""
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    with place.take("0/2", by_location=True):
        place.take("1/2", by_location=True).release()
        assert place.refuses("1/2").is_refusal
    place.take("1/2").release()


def test_runs_of_one_process_where_it_has_the_locks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FUSE, where the kernel ties a lock to the process, two runs of it have no files in common either."""
    monkeypatch.setattr("s3_uploader.spool.lock.belongs_to_process", lambda file_system: True)
    with place.take("0/2"):
        assert place.refuses("0/2").pid in (0, os.getpid())
        place.refuses("1/4")
        place.refuses("1/2", by_location=True)
        with place.take("1/2") as other:
            other.confirm()
            place.refuses("1/2")
            place.refuses()
        place.take("1/2").release()
    with place.take(claims=True), place.take(claims=True):
        place.refuses("0/2")
    with place.take() as whole:
        whole.confirm()
        place.refuses()
    assert not lock_file.locked_by_process
