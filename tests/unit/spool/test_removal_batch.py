"""How files leave the spool once they are recorded: in steps, each batch as a whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_uploader.core.model import Left
from s3_uploader.spool import removal
from s3_uploader.spool.move_target import MoveTarget
from s3_uploader.spool.open_file import OpenFile, open_candidate
from s3_uploader.spool.removal import RemovalBatch
from s3_uploader.spool.root import Names, SpoolRoot
from tests.fakes import FakeClock, candidate, paths_below, write


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool with two files."""
    for name in "ab":
        write(tmp_path / "spool" / name)
    return tmp_path / "spool"


@pytest.fixture
def root(spool: Path) -> Iterator[SpoolRoot]:
    """The spool, open."""
    root = SpoolRoot(str(spool))
    yield root
    root.close()


def opened(root: SpoolRoot) -> list[tuple[OpenFile, str]]:
    """The two files, each with its name as the payload."""
    files = []
    for name in "ab":
        file = open_candidate(root, candidate(name))
        assert isinstance(file, OpenFile)
        files.append((file, name))
    return files


def made(
    root: SpoolRoot, *, keep: bool = False, move_to: MoveTarget | None = None
) -> tuple[RemovalBatch[str], FakeClock]:
    """What is tested, and its clock."""
    clock = FakeClock()
    return RemovalBatch(root, clock=clock.clock(), keep=keep, move_to=move_to), clock


def test_step_by_step(root: SpoolRoot, spool: Path) -> None:
    """The names are removed first, the files a moment later, and then both are reported."""
    out, clock = made(root)
    files = opened(root)
    assert out.take(files) == []
    assert paths_below(spool) == {".a.s3u", ".b.s3u"}
    assert out.has_taken
    assert out.is_taken(".a.s3u")
    assert not out.is_taken("a")
    assert out.identities() == {id(file) for file, _ in files}
    out.dispose(changed=pytest.fail)
    assert clock.slept == pytest.approx([removal.MOMENT_SECONDS], rel=1e-3)
    assert paths_below(spool) == set()
    assert not out.is_taken(".a.s3u")
    assert (out.has_taken, out.disposed) == (False, 2)
    assert list(out.conclude()) == [("a", None), ("b", None)]
    assert [file.descriptor for file, _ in files] == [-1, -1]
    assert out.disposed == 0
    out.dispose(changed=pytest.fail)
    assert list(out.conclude()) == []


def test_nobody_waits_for_a_moment_that_has_passed(root: SpoolRoot) -> None:
    """Where other work took as long, the last look comes at once."""
    out, clock = made(root)
    out.take(opened(root))
    clock.seconds += 1
    out.dispose()
    assert clock.slept == []
    assert len(list(out.conclude())) == 2


def test_files_that_are_kept(root: SpoolRoot, spool: Path) -> None:
    """They stay under their names, and are closed."""
    out, clock = made(root, keep=True)
    files = opened(root)
    out.take(files)
    out.dispose(changed=pytest.fail)
    assert list(out.conclude()) == [("a", None), ("b", None)]
    assert (paths_below(spool), clock.slept) == ({"a", "b"}, [])
    assert [file.descriptor for file, _ in files] == [-1, -1]


def test_files_that_are_moved(root: SpoolRoot, tmp_path: Path) -> None:
    """They are moved when they would be removed."""
    out, _ = made(root, move_to=MoveTarget(str(tmp_path / "done")))
    out.take(opened(root))
    assert not (tmp_path / "done").exists()
    out.dispose()
    assert paths_below(tmp_path / "done") == {"a", "b"}
    assert list(out.conclude()) == [("a", None), ("b", None)]


def test_changes_are_told_at_each_step(root: SpoolRoot, spool: Path) -> None:
    """What has changed before it was taken, and what has changed since, is left and named."""
    out, _ = made(root)
    files = opened(root)
    (spool / "a").write_text("changed")
    assert out.take(files) == ["a"]
    (spool / ".b.s3u").write_text("changed")
    changed: list[str] = []
    out.dispose(changed=changed.append)
    assert changed == ["b"]
    assert list(out.conclude()) == [("a", Left.CHANGED), ("b", Left.CHANGED)]
    assert paths_below(spool) == {"a", "b"}


def test_errors_are_outcomes(root: SpoolRoot, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be removed costs itself only."""

    def refuse(name: str, *, dir_fd: int) -> None:
        raise PermissionError(13, "Permission denied")

    out, _ = made(root)
    out.take(opened(root))
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        out.dispose(changed=pytest.fail)
    outcomes = dict(out.conclude())
    assert all(isinstance(outcome, PermissionError) for outcome in outcomes.values())
    assert paths_below(spool) == {"a", "b"}


@pytest.mark.parametrize("step", ["take", "dispose"])
@pytest.mark.parametrize("is_file", [True, False])
def test_a_file_that_another_host_has_replaced(
    root: SpoolRoot, spool: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_file: bool
) -> None:
    """A file that its server no longer knows has changed. The stale handle of a directory is an error."""
    out, _ = made(root)
    files = opened(root)
    gone = files[0][0].descriptor
    real = os.fstat

    def status(descriptor: int) -> os.stat_result:
        if descriptor == gone:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(descriptor)

    def directory(self: SpoolRoot, names: Names) -> int:
        raise OSError(errno.ESTALE, "Stale file handle")

    def go_stale() -> None:
        if is_file:
            (spool / "new").write_bytes(b"of the other host")
            (spool / "new").replace(next(iter(spool.glob("*a*"))))
            monkeypatch.setattr(os, "fstat", status)
        else:
            monkeypatch.setattr(SpoolRoot, "directory", directory)

    if step == "take":
        go_stale()
    out.take(files)
    go_stale()
    out.dispose()
    monkeypatch.undo()
    outcomes = dict(out.conclude())
    if is_file:
        assert outcomes == {"a": Left.CHANGED, "b": None}
    else:
        assert [type(outcome) for outcome in outcomes.values()] == [OSError, OSError]


def test_goes_on_after_an_exception(root: SpoolRoot, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug while one file is removed loses track of none."""
    real = removal.remove_taken
    calls: list[str] = []

    def fail_once(home: SpoolRoot, file: OpenFile, taken: removal.Detached) -> Left | None:
        calls.append(file.candidate.name)
        if len(calls) == 2:
            raise ZeroDivisionError
        return real(home, file, taken)

    monkeypatch.setattr(removal, "remove_taken", fail_once)
    out, _ = made(root)
    out.take(opened(root))
    with pytest.raises(ZeroDivisionError):
        out.dispose()
    assert out.has_taken
    out.dispose()
    assert calls == ["a", "b", "b"]
    assert list(out.conclude()) == [("a", None), ("b", None)]
    assert paths_below(spool) == set()
