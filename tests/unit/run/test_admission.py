"""Whether a candidate is shipped in this run."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import Candidate, Fingerprint, Left
from s3_uploader.ledger.rows import FailingRow
from s3_uploader.run.admission import Admission
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, NOW, FakeClock, Skips, write


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SpoolRoot]:
    """The spool."""
    opened = SpoolRoot(str(tmp_path))
    yield opened
    opened.close()


def admission(
    root: SpoolRoot,
    *,
    failing: FailingRow | None = None,
    is_remembered: Callable[[OpenFile], bool] = lambda file: False,
    sleep: Callable[[float], None] = lambda seconds: None,
    reads_utf8: bool = True,
) -> Admission:
    """An intake with a settle time of 10 seconds."""
    return Admission(
        root,
        settle_seconds=10,
        known_failure=lambda path: failing,
        is_remembered=is_remembered,
        sleep=sleep,
        reads_utf8=reads_utf8,
    )


def scanned(root: SpoolRoot) -> Candidate:
    """The only candidate."""
    (found,) = TreeLayout(settle_seconds=10, globs=NO_GLOBS).scan(root, Skips())
    assert isinstance(found, Candidate)
    return found


def row(candidate: Candidate, **changes: Any) -> FailingRow:
    """A candidate that failed and waits."""
    values: dict[str, Any] = {
        "path": candidate.path,
        "key": candidate.key,
        "size": candidate.size,
        "mtime_ns": candidate.mtime_ns,
        "attempts": 2,
        "first_failed_at": NOW - 100,
        "last_failed_at": NOW - 50,
        "next_try_at": NOW + 1,
        "code": "X",
        "message": "it broke",
    }
    return FailingRow(**{**values, **changes})


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


class TestAdmit:
    def test_ready(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that is old enough comes out open."""
        write(tmp_path / "x")
        file = admission(root).decide(scanned(root), now=NOW)
        assert isinstance(file, OpenFile)
        file.close()

    def test_fresh(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that is too young is not even opened."""
        write(tmp_path / "x", mtime=NOW - 1)
        assert admission(root).decide(scanned(root), now=NOW) == (Left.FRESH, "written 1 s ago, less than 10 s")

    def test_written_since_the_scan(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that was written after it was scanned is judged by what it is now."""
        path = write(tmp_path / "x")
        found = scanned(root)
        before = open_descriptors()
        os.utime(path, (NOW - 5, NOW - 5))
        assert admission(root).decide(found, now=NOW) == (Left.FRESH, "written 5 s ago, less than 10 s")
        assert open_descriptors() == before
        os.utime(path, (NOW - 50, NOW - 50))
        file = admission(root).decide(found, now=NOW)
        assert isinstance(file, OpenFile)
        file.close()

    def test_waits(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that failed waits for its next try, but not with other content, and not longer than any pause."""
        write(tmp_path / "x")
        found = scanned(root)
        assert admission(root, failing=row(found)).decide(found, now=NOW) == (
            Left.WAITING,
            "failed 2 times, last with: it broke",
        )
        once = admission(root, failing=row(found, attempts=1)).decide(found, now=NOW)
        assert once == (Left.WAITING, "failed 1 time, last with: it broke")
        for failing in (row(found, size=1), row(found, next_try_at=NOW), row(found, next_try_at=NOW + 1e6)):
            file = admission(root, failing=failing).decide(found, now=NOW)
            assert isinstance(file, OpenFile)
            file.close()

    def test_remembered(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that was shipped and kept is not shipped again, and is closed."""
        write(tmp_path / "x")
        found = scanned(root)
        before = open_descriptors()
        assert admission(root, is_remembered=lambda file: True).decide(found, now=NOW) == (Left.REMEMBERED, "")
        assert open_descriptors() == before

    def test_ledger_breaks(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A ledger that breaks leaves no file open."""
        write(tmp_path / "x")
        found = scanned(root)
        before = open_descriptors()

        def broken(file: OpenFile) -> bool:
            raise StateError("the disk is full")

        with pytest.raises(StateError):
            admission(root, is_remembered=broken).decide(found, now=NOW)
        assert open_descriptors() == before

    def test_gone(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that went since it was scanned is left."""
        path = write(tmp_path / "x")
        found = scanned(root)
        path.unlink()
        assert admission(root).decide(found, now=NOW)[0] is Left.VANISHED  # type: ignore[index]


class TestClockTick:
    """A change within the same tick of the file system's clock leaves no trace in the times."""

    def test_waited_for(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file whose last change may be in the current tick is looked at again when the tick is over."""
        changed_at = write(tmp_path / "x").stat().st_ctime
        clock = FakeClock()
        file = admission(root, sleep=clock.sleep).decide(scanned(root), now=changed_at + 0.001)
        assert isinstance(file, OpenFile)
        assert clock.slept == [0.02]
        file.close()

    def test_not_waited_for(self, root: SpoolRoot, tmp_path: Path) -> None:
        """Any other file is not waited for."""
        changed_at = write(tmp_path / "x").stat().st_ctime
        clock = FakeClock()
        file = admission(root, sleep=clock.sleep).decide(scanned(root), now=changed_at + 0.1)
        assert isinstance(file, OpenFile)
        assert clock.slept == []
        file.close()

    @pytest.mark.parametrize(("ago", "is_left"), [(0.0, True), (1.9, True), (2.1, False)])
    def test_a_file_system_that_counts_whole_seconds(
        self, root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago: float, is_left: bool
    ) -> None:
        """There a tick is a second or two: a file that was changed in it is left, and the next run looks again."""
        write(tmp_path / "x")
        changed_at = NOW + 100

        def of(status: os.stat_result) -> Fingerprint:
            return Fingerprint(
                status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, int(changed_at) * 1_000_000_000
            )

        monkeypatch.setattr(Fingerprint, "of", of)
        answer = admission(root).decide(scanned(root), now=changed_at + ago)
        if isinstance(answer, OpenFile):
            answer.close()
            assert not is_left
        else:
            assert is_left
            assert answer[0] is Left.FRESH

    def test_changes_meanwhile(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A file that changes in that moment is left."""
        path = write(tmp_path / "x")
        before = open_descriptors()

        def change(seconds: float) -> None:
            path.write_text("more")

        answer = admission(root, sleep=change).decide(scanned(root), now=path.stat().st_ctime)
        assert answer == (Left.FRESH, "it is being changed")
        assert open_descriptors() == before

    def test_breaks_meanwhile(self, root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that fails in that moment costs this file only."""
        path = write(tmp_path / "x")

        def fail(file: OpenFile) -> bool:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(OpenFile, "look_again", fail)
        answer = admission(root).decide(scanned(root), now=path.stat().st_ctime)
        assert answer == (Left.UNREADABLE, "Input/output error")


@pytest.mark.parametrize(("name", "goes"), [("plain.dat", True), ("größe.dat", False)])
def test_no_name_is_shipped_under_other_bytes(root: SpoolRoot, tmp_path: Path, name: str, goes: bool) -> None:
    """Where names are read in another encoding than UTF-8, only those are shipped that are the same in all of them."""
    write(tmp_path / name)
    decided = admission(root, reads_utf8=False).decide(scanned(root), now=NOW)
    if isinstance(decided, OpenFile):
        decided.close()
        assert goes
    else:
        assert not goes
        assert (decided[0], "PYTHONUTF8=1" in decided[1]) == (Left.UNDECODABLE, True)
