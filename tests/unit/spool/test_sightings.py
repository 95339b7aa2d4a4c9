"""Sightings: where writers may be elsewhere, a file is shipped when two looks, far enough apart, have seen the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from s3_uploader.core.model import Fingerprint
from s3_uploader.core.procfs import Mount
from s3_uploader.spool import sightings
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.spool.sightings import UNKNOWN, Sightings, foreign_file_system, unseen_in_words

NOW = 1_900_000_000.0
SETTLE = 10.0


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SpoolRoot]:
    """A spool."""
    opened = SpoolRoot(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system is one on which others may write, with a clock like ours."""
    monkeypatch.setattr(sightings, "foreign_file_system", lambda descriptor: "nfs4")
    monkeypatch.setattr(Sightings, "_clock_behind", lambda self, now: 0.0)


def changed(age: float, *, size: int = 1) -> Fingerprint:
    """A file that was changed so long ago."""
    moment = int((NOW - age) * 1e9)
    return Fingerprint(device=1, inode=2, size=size, mtime_ns=moment, ctime_ns=moment)


def later(root: SpoolRoot, before: Sightings) -> Sightings:
    """What the next run knows."""
    return Sightings(root, settle_seconds=SETTLE, known=before.dump())


@pytest.mark.usefixtures("foreign")
class TestElsewhere:
    def test_two_looks(self, root: SpoolRoot) -> None:
        """The first look lets a file wait; the second one ships it if it is the same and late enough."""
        first = Sightings(root, settle_seconds=SETTLE)
        file = changed(15)
        assert "nfs4" in first.why_wait("a", file, 0, now=NOW)
        assert first.why_wait("a", file, 0, now=NOW + 1)
        assert later(root, first).why_wait("a", file, 0, now=NOW + 9)
        assert later(root, later(root, first)).why_wait("a", file, 0, now=NOW + 20)  # the one between saw nothing
        assert later(root, first).why_wait("a", file, 0, now=NOW + 11) == ""
        assert later(root, first).why_wait("b", file, 0, now=NOW + 11)

    def test_a_change(self, root: SpoolRoot) -> None:
        """Whatever has changed in between, or a clock that was set back, begins the wait anew."""
        first = Sightings(root, settle_seconds=SETTLE)
        first.why_wait("a", changed(15), 0, now=NOW)
        second = later(root, first)
        grown = changed(15, size=2)
        assert second.why_wait("a", grown, 0, now=NOW + 20)
        assert later(root, second).why_wait("a", grown, 0, now=NOW + 25)
        assert later(root, second).why_wait("a", grown, 0, now=NOW - 100)
        assert later(root, second).why_wait("a", grown, 0, now=NOW + 31) == ""

    def test_a_wait_goes_on(self, root: SpoolRoot) -> None:
        """Runs that look more often than the settle time count from the first look."""
        seen = Sightings(root, settle_seconds=SETTLE)
        seen.why_wait("a", changed(15), 0, now=NOW)
        for seconds in (4, 8):
            seen = later(root, seen)
            assert seen.why_wait("a", changed(15), 0, now=NOW + seconds)
        assert later(root, seen).why_wait("a", changed(15), 0, now=NOW + 12) == ""

    def test_long_ago(self, root: SpoolRoot) -> None:
        """What was left alone for a minute more goes at the first look; one from the future does not."""
        known = Sightings(root, settle_seconds=SETTLE)
        assert known.why_wait("a", changed(71), 0, now=NOW) == ""
        assert known.why_wait("a", msgspec.structs.replace(changed(71), ctime_ns=int(NOW * 1e9)), 0, now=NOW) == ""
        assert known.why_wait("a", changed(-3600), 0, now=NOW)

    def test_odd_notes(self, root: SpoolRoot) -> None:
        """A note that makes no sense is none; where there is nothing to remember there is no note."""
        assert Sightings(root, settle_seconds=SETTLE, known='{"a": 1}').why_wait("a", changed(15), 0, now=NOW)
        assert Sightings(root, settle_seconds=SETTLE).dump() == ""

    def test_a_name_that_is_no_text(self, root: SpoolRoot) -> None:
        """A name of any bytes is remembered like any other."""
        first = Sightings(root, settle_seconds=SETTLE)
        name = os.fsdecode(b"a\xff\xc3\xa4")
        assert first.why_wait(name, changed(15), 0, now=NOW)
        assert later(root, first).why_wait(name, changed(15), 0, now=NOW + 11) == ""


def test_clock_of_the_file_system(root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose clock is behind makes its files look older than they are; it is asked for its time."""
    monkeypatch.setattr(sightings, "foreign_file_system", lambda descriptor: "nfs4")
    (tmp_path / "file").write_text("x")
    status = os.stat(tmp_path / "file")
    an_hour_ahead = status.st_ctime + 3600
    known = Sightings(root, settle_seconds=SETTLE)
    assert known.why_wait("file", Fingerprint.of(status), 0, now=an_hour_ahead)
    assert os.listdir(tmp_path) == ["file"]


def test_here(root: SpoolRoot, tmp_path: Path) -> None:
    """On a disk of this host nothing waits, and nothing is written."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    known = Sightings(root, settle_seconds=SETTLE)
    if foreign_file_system(descriptor):
        pytest.skip("the temporary directory lies on a network file system")
    assert known.why_wait("a", changed(0), descriptor, now=NOW) == ""
    assert known.dump() == ""
    os.close(descriptor)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ({0: "ext4"}, ""),
        ({0: ""}, UNKNOWN),
        ({0: "fuse.sshfs"}, "fuse.sshfs"),
        ({0: "cifs"}, "cifs"),
        ({0: "overlay"}, ""),
        ({0: "overlay", 1: "nfs4"}, "overlay of nfs4"),
    ],
)
def test_types(types: dict[int, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of another host is known by its type, also below an overlay; one that is not known may be one."""
    overlay = Mount(device="0:1", root="/", point="/", type="overlay", source="o", options="rw,lowerdir=/,workdir=/w")
    monkeypatch.setattr(sightings, "mount_of", lambda descriptor: overlay)
    monkeypatch.setattr(sightings, "file_system_at", lambda descriptor: types.get(0 if descriptor == 0 else 1, "ext4"))
    assert foreign_file_system(0) == expected


def test_words() -> None:
    """What a person is told names the file system, or the file and the right."""
    assert "nfs4" in unseen_in_words("nfs4", "a")
    assert "CAP_LEASE" in unseen_in_words("", "a")
