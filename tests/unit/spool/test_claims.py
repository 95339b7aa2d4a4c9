"""Claims: taken by rename, given back without replacing anything, and taken apart whatever killed their owner."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.errors import SpoolError
from s3_uploader.core.model import Candidate, Left
from s3_uploader.core.renaming import rename_without_replacing
from s3_uploader.run.admission import Admission
from s3_uploader.spool import claim_dir
from s3_uploader.spool import claims as module
from s3_uploader.spool.claim_dir import is_claimed, left_by_others, strangers
from s3_uploader.spool.claims import Claims, recover
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, NOW, Skips, candidate, paths_below, write


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The spool's directory."""
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def working(tmp_path: Path) -> Path:
    """The claim directory."""
    return tmp_path / "working"


@pytest.fixture
def root(spool: Path) -> Iterator[SpoolRoot]:
    """The spool."""
    opened = SpoolRoot(str(spool))
    yield opened
    opened.close()


@pytest.fixture
def claims(root: SpoolRoot, working: Path) -> Iterator[Claims]:
    """The claims of one uploader."""
    made = Claims(root, str(working))
    yield made
    made.close()


def kill(claims: Claims) -> None:
    """Release everything as the kernel does when a process is killed."""
    claims.root.close()
    os.close(claims._lock)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


class TestTaking:
    def test_one_has_it(self, root: SpoolRoot, spool: Path, working: Path, claims: Claims) -> None:
        """A claimed file no longer exists for other uploaders."""
        write(spool / "a/x", "content")
        other = Claims(root, str(working))
        assert claims.take(candidate("a/x"))
        assert not other.take(candidate("a/x"))
        other.close()
        assert paths_below(spool) == set()
        assert is_claimed(str(working), "a/x")
        assert not is_claimed(str(working), "a/y")

    def test_newer_file_of_the_name(self, spool: Path, claims: Claims) -> None:
        """While a file is under way, a newer one of its name waits, and is not replaced when the first comes back."""
        write(spool / "x", "first")
        assert claims.take(candidate("x"))
        write(spool / "x", "second")
        assert not claims.take(candidate("x"))
        claims.give_back(candidate("x"))
        assert {path: (spool / path).read_text() for path in paths_below(spool)} == {"x": "second", ".x.s3u": "first"}

    def test_several_leftovers(self, spool: Path, claims: Claims) -> None:
        """A file whose private name is taken as well gets the next one; it stays claimed where there is none."""
        write(spool / ".x.s3u", "older")
        assert claims.take(candidate("x", name=".x.s3u"))
        write(spool / ".x.s3u", "old")
        claims.give_back(candidate("x", name=".x.s3u"))
        assert paths_below(spool) == {".x.s3u", ".x.s3u2"}

    def test_no_private_name(self, spool: Path, working: Path, claims: Claims) -> None:
        """A name that is too long for a private one keeps its file in the claim until the newer one is gone."""
        name = "n" * 255
        write(spool / name, "first")
        assert claims.take(candidate(name))
        write(spool / name, "second")
        claims.give_back(candidate(name))
        assert (spool / name).read_text() == "second"
        assert is_claimed(str(working), name)

    def test_pruned_directory(self, root: SpoolRoot, spool: Path, claims: Claims) -> None:
        """A directory that another uploader pruned meanwhile is made anew, for its producer to write into."""
        spool.chmod(0o2775)
        write(spool / "a/b/x")
        os.umask(before := os.umask(0o077))
        try:
            assert claims.take(candidate("a/b/x"))
            assert root.directory(("a", "b")) >= 0
            (spool / "a/b").rmdir()
            (spool / "a").rmdir()
            os.umask(0o077)
            claims.give_back(candidate("a/b/x"))
        finally:
            os.umask(before)
        assert paths_below(spool) == {"a/b/x"}
        assert stat.S_IMODE((spool / "a/b").stat().st_mode) == 0o2775

    def test_directory_made_by_somebody_else(
        self, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A directory that appears while it is being made is as good as one's own."""
        write(spool / "a/x")
        assert claims.take(candidate("a/x"))
        (spool / "a").rmdir()
        real = os.mkdir

        def mkdir(path: Any, *arguments: Any, **options: Any) -> None:
            real(path, *arguments, **options)
            real(path, *arguments, **options)

        monkeypatch.setattr(os, "mkdir", mkdir)
        claims.give_back(candidate("a/x"))
        assert paths_below(spool) == {"a/x"}

    @pytest.mark.parametrize("times", [1, 3])
    def test_directory_that_is_pruned_again_before_the_rename(
        self, root: SpoolRoot, spool: Path, working: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        """Another uploader may find the directory that was just made, and empty."""
        write(spool / "a/b/x")
        dead = Claims(root, str(working))
        assert dead.take(candidate("a/b/x"))
        kill(dead)
        pruned: list[str] = []

        def rename(source: int, old: str, target: int, new: str) -> None:
            if len(pruned) < times:
                pruned.append(new)
                (spool / "a/b").rmdir()
                (spool / "a").rmdir()
            rename_without_replacing(source, old, target, new)

        monkeypatch.setattr(module, "rename_without_replacing", rename)
        told: list[str] = []
        assert claims.recover(lambda path, error: told.append(f"{path}: {error}")) == 1
        assert (told, len(pruned), paths_below(spool)) == ([], times, {"a/b/x"})

    def test_not_renamed(self, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot be given back stays in the claim."""
        write(spool / "x")
        assert claims.take(candidate("x"))

        def fail(*arguments: Any) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(module, "rename_without_replacing", fail)
            claims.give_back(candidate("x"))
        assert paths_below(spool) == set()
        claims.close()
        assert paths_below(spool) == {"x"}


class TestClosing:
    def test_nothing_is_left(self, root: SpoolRoot, spool: Path, working: Path) -> None:
        """A run that ends puts everything back and leaves nothing behind, open or on disk."""
        before = descriptors()
        write(spool / "a/x")
        claims = Claims(root, str(working))
        claims.take(candidate("a/x"))
        claims.give_back(candidate("a/x"))
        claims.close()
        root.refresh()
        assert paths_below(spool) == {"a/x"}
        assert list(working.iterdir()) == []
        assert descriptors() == before

    def test_upload_that_does_not_end(self, root: SpoolRoot, spool: Path, working: Path) -> None:
        """A file whose upload does not even answer its cancellation stays claimed until it does."""
        write(spool / "a/x")
        write(spool / "a/y")
        claims = Claims(root, str(working))
        for name in ("a/x", "a/y"):
            claims.take(candidate(name))
        claims.close()
        other = Claims(root, str(working))
        assert other.recover() == 0
        other.close()
        assert paths_below(spool) == set()
        for name in ("a/x", "a/y"):
            thread = threading.Thread(target=claims.give_back, args=(candidate(name),))
            thread.start()
            thread.join()
        assert paths_below(spool) == {"a/x", "a/y"}
        assert list(working.iterdir()) == []

    def test_answer_from_another_thread(self, spool: Path, claims: Claims) -> None:
        """What a store's thread gives back before the end is put back at the end, by the thread that owns the spool."""
        write(spool / "x")
        claims.take(candidate("x"))
        thread = threading.Thread(target=claims.give_back, args=(candidate("x"),))
        thread.start()
        thread.join()
        assert paths_below(spool) == set()
        claims.close()
        assert paths_below(spool) == {"x"}

    def test_spool_is_gone(self, root: SpoolRoot, spool: Path, working: Path) -> None:
        """What cannot be given back is kept for the next run."""
        write(spool / "x")
        claims = Claims(root, str(working))
        claims.take(candidate("x"))
        claims._held.clear()
        spool.rename(spool.with_name("elsewhere"))
        claims.close()
        assert is_claimed(str(working), "x")


class TestRecovery:
    def test_killed(self, root: SpoolRoot, spool: Path, working: Path, claims: Claims) -> None:
        """Files claimed by a killed uploader return to the spool with their directories, and its claim is removed."""
        for path in ("x", "a/b/y", "a/.z.s3u"):
            write(spool / path, path)
        dead = Claims(root, str(working))
        for path in ("x", "a/b/y", "a/.z.s3u"):
            assert dead.take(candidate(path))
        kill(dead)
        assert claims.recover() == 3
        assert {path: (spool / path).read_text() for path in paths_below(spool)} == {
            path: path for path in ("x", "a/b/y", "a/.z.s3u")
        }
        assert [path.name for path in working.iterdir()] == [claims._name]

    @pytest.mark.parametrize("obstacle", ["link", "file", "no permission", "every name"])
    def test_cannot_be_put_back(
        self,
        root: SpoolRoot,
        spool: Path,
        working: Path,
        claims: Claims,
        obstacle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A file that cannot be put back stays in its claim and is named each time, until nothing is in its way."""
        for path in ("a/x", "b/y"):
            write(spool / path, path)
        dead = Claims(root, str(working))
        for path in ("a/x", "b/y"):
            assert dead.take(candidate(path))
        kill(dead)
        stuck: list[tuple[str, int | None]] = []

        def note(path: str, error: OSError) -> None:
            stuck.append((path, error.errno))

        def refuse(*arguments: Any) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        with monkeypatch.context() as patch:
            if obstacle == "no permission":
                patch.setattr(module, "make_directories", refuse)
            elif obstacle == "every name":
                for name in ("x", ".x.s3u", *(f".x.s3u{number}" for number in range(2, 10))):
                    write(spool / "a" / name)
            else:
                (spool / "a").rmdir()
                (spool / "a").symlink_to("b") if obstacle == "link" else write(spool / "a")
            for _ in range(2):
                assert claims.recover(note) in (0, 1)
        number = {"no permission": errno.EACCES, "every name": errno.EEXIST}.get(obstacle, errno.ENOTDIR)
        path = str(working / dead._name / "files/a/x")
        assert [each for each in stuck if each[0] == path] == [(path, number)] * 2
        if obstacle == "every name":
            (spool / "a/x").unlink()
        elif obstacle != "no permission":
            (spool / "a").unlink()
        assert claims.recover(note) >= 1
        assert (spool / "a/x").read_text() == "a/x"
        assert (spool / "b/y").read_text() == "b/y"
        assert [path.name for path in working.iterdir()] == [claims._name]

    @pytest.mark.parametrize(
        ("host", "alive", "number", "is_named"),
        [
            ("", False, errno.EACCES, True),
            ("", True, errno.EACCES, False),
            ("", None, errno.EACCES, False),
            ("other-", False, errno.EACCES, False),
            ("", False, errno.EIO, False),
        ],
    )
    def test_left_by_another_user(
        self,
        root: SpoolRoot,
        working: Path,
        claims: Claims,
        monkeypatch: pytest.MonkeyPatch,
        host: str,
        alive: bool | None,
        number: int,
        is_named: bool,
    ) -> None:
        """A claim of another user is named if its uploader is certain to have ended, for only that user can end it."""
        theirs = working / f"{host}{claims._name.rpartition('.')[0]}.0123abcd"
        theirs.mkdir()

        def refuse(path: str, *arguments: Any, **options: Any) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr(claim_dir, "is_alive", lambda pid: alive if pid == os.getpid() else None)
        working.joinpath(claims._name).rename(working / "not a claim")
        assert left_by_others(str(working), root) == ([str(theirs)] if is_named else [])
        working.joinpath("not a claim").rename(working / claims._name)

    def test_of_another_spool(
        self, tmp_path: Path, root: SpoolRoot, spool: Path, working: Path, claims: Claims
    ) -> None:
        """Files of another spool with the same claim directory go back to that spool, and to no other one."""
        write(tmp_path / "other/a/x", "theirs")
        other = SpoolRoot(str(tmp_path / "other"))
        dead = Claims(other, str(working))
        assert dead.take(candidate("a/x"))
        assert strangers(str(working), root) == []
        kill(dead)
        assert claims.recover() == 0
        assert paths_below(spool) == set()
        assert strangers(str(working), root) == [dead._name]
        assert strangers(str(working), other) == []
        assert recover(str(working), other) == 1
        assert (tmp_path / "other/a/x").read_text() == "theirs"
        assert strangers(str(working), root) == []
        other.close()

    def test_mounted_elsewhere(self, tmp_path: Path) -> None:
        """A host that has both directories in another place, or reaches them by a link, knows the claims."""
        write(tmp_path / "here/spool/x")
        before = SpoolRoot(str(tmp_path / "here/spool"))
        dead = Claims(before, str(tmp_path / "here/working"))
        assert dead.take(candidate("x"))
        kill(dead)
        before.close()
        (tmp_path / "here").rename(tmp_path / "there")
        (tmp_path / "link").symlink_to("there")
        after = SpoolRoot(str(tmp_path / "link/spool"))
        assert recover(str(tmp_path / "there/working"), after) == 1
        assert paths_below(tmp_path / "there/spool") == {"x"}
        after.close()

    def test_of_an_earlier_version(self, root: SpoolRoot, spool: Path, working: Path, claims: Claims) -> None:
        """A claim that does not name its spool is of an earlier version, and its files return as they did there."""
        write(working / "host.123.0123abcd/files/x")
        write(working / "host.123.0123abcd/lock")
        assert claims.recover() == 1
        assert paths_below(spool) == {"x"}

    def test_at_work(self, root: SpoolRoot, spool: Path, working: Path, claims: Claims) -> None:
        """The claim of an uploader that lives is left alone."""
        write(spool / "x")
        other = Claims(root, str(working))
        other.take(candidate("x"))
        assert claims.recover() == 0
        assert is_claimed(str(working), "x")
        other.give_back(candidate("x"))
        other.close()

    @pytest.mark.parametrize("unfinished", [".", ""])
    @pytest.mark.parametrize("parts", [(), ("files",), ("lock",), ("files", "lock")])
    def test_killed_between_two_steps(
        self, working: Path, claims: Claims, unfinished: str, parts: tuple[str, ...]
    ) -> None:
        """A claim that was being made or removed when its uploader was killed is removed."""
        claim = working / f"{unfinished}host.123.0123abcd"
        claim.mkdir()
        if "files" in parts:
            (claim / "files").mkdir()
        if "lock" in parts:
            (claim / "lock").touch()
        assert claims.recover() == 0
        assert [path.name for path in working.iterdir()] == [claims._name]

    def test_what_is_not_ours(self, working: Path, claims: Claims) -> None:
        """Nothing else in the claim directory is touched, and neither is what only looks like a claim."""
        (working / "completed").mkdir()
        write(working / "incoming/lock")
        write(working / "incoming/files/x")
        write(working / "host.123.0123abcd")
        before = {str(path) for path in working.rglob("*")}
        assert claims.recover() == 0
        assert {str(path) for path in working.rglob("*")} == before

    def test_claim_with_files_and_no_lock(self, working: Path, claims: Claims) -> None:
        """Files are never removed with a claim, whatever has become of its lock; with one they return."""
        write(working / "host.123.0123abcd/files/x")
        stuck: list[str] = []
        assert claims.recover(lambda path, error: stuck.append(path)) == 0
        assert is_claimed(str(working), "x")
        assert stuck == [str(working / "host.123.0123abcd")]
        (working / "host.123.0123abcd/lock").touch()
        assert claims.recover() == 1

    @pytest.mark.parametrize("is_replaced", [False, True])
    def test_dissolved_meanwhile(
        self, root: SpoolRoot, working: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
    ) -> None:
        """A claim that its owner dissolves at the very moment is none."""
        dead = Claims(root, str(working))
        real = fcntl.flock

        def flock(descriptor: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", real)
            dead.close()
            real(descriptor, operation)
            if is_replaced:
                write(working / dead._name / "lock")

        monkeypatch.setattr(fcntl, "flock", flock)
        assert claims.recover() == 0

    def test_one_takes_it_apart(
        self, root: SpoolRoot, spool: Path, working: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two runs that find the same claim do not both take it apart."""
        write(spool / "x")
        dead = Claims(root, str(working))
        dead.take(candidate("x"))
        kill(dead)
        other = Claims(root, str(working))
        counts: list[int] = []
        real = module._put_back

        def put_back(*arguments: Any) -> bool:
            counts.append(other.recover())
            return real(*arguments)

        monkeypatch.setattr(module, "_put_back", put_back)
        assert claims.recover() == 1
        assert counts == [0]
        other.close()

    def test_failure_leaves_nothing_open(
        self, root: SpoolRoot, spool: Path, working: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A claim that cannot be read costs neither the run nor a descriptor."""
        dead = Claims(root, str(working))
        kill(dead)
        before = descriptors()

        def entries(*arguments: Any) -> Any:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(SpoolRoot, "entries", entries)
            assert claims.recover() == 0
        assert descriptors() == before

    def test_unreadable_claim_directory(self, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim directory that cannot be listed just now is looked at by the next run."""

        def listdir(path: str) -> list[str]:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "listdir", listdir)
        assert claims.recover() == 0


class TestMaking:
    def test_other_file_system(self, root: SpoolRoot, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim directory on another file system is refused, and the sentence says what to do."""
        real = os.fstat

        def fstat(descriptor: int) -> Any:
            status = list(real(descriptor))
            status[2] += 1
            return os.stat_result(status)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", fstat)
            with pytest.raises(SpoolError, match=r"different file systems.*beside the spool"):
                Claims(root, str(working))
        assert list(working.iterdir()) == []

    def test_cannot_be_made(self, root: SpoolRoot, tmp_path: Path) -> None:
        """A claim directory that cannot be used is one clear sentence."""
        write(tmp_path / "file")
        with pytest.raises(SpoolError, match=r"claim_dir .*file/working cannot be used: Not a directory"):
            Claims(root, str(tmp_path / "file/working"))

    def test_a_full_disk_is_told_as_one(self, root: SpoolRoot, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there is no room for a claim, the remedy is to free some, and not a permission."""

        def mkdir(*arguments: Any, **options: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        working.mkdir()
        monkeypatch.setattr(os, "mkdir", mkdir)
        with pytest.raises(SpoolError, match="cannot be used: No space left on device") as caught:
            Claims(root, str(working))
        assert caught.value.hint == "Free some space there: a claim needs two small directories."

    @pytest.mark.parametrize("step", ["mkdir", "open", "flock", "rename"])
    def test_taken_for_a_leftover(
        self, root: SpoolRoot, working: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """A claim that another run removes while it is being made is made again."""
        other = Claims(root, str(working))
        holder: Any = fcntl if step == "flock" else os
        real = getattr(holder, step)
        seen: list[None] = []

        def interrupted(*arguments: Any, **options: Any) -> Any:
            is_ours = step != "open" or str(arguments[0]).endswith("lock")
            if is_ours:
                monkeypatch.setattr(holder, step, real)
                seen.append(None)
                other.recover()
            return real(*arguments, **options)

        def second_mkdir(*arguments: Any, **options: Any) -> Any:
            real(*arguments, **options)
            monkeypatch.setattr(os, "mkdir", interrupted)

        monkeypatch.setattr(holder, step, second_mkdir if step == "mkdir" else interrupted)
        claims = Claims(root, str(working))
        monkeypatch.undo()
        assert seen
        assert sorted(path.name for path in working.iterdir()) == sorted([claims._name, other._name])
        for each in (claims, other):
            each.close()
        assert list(working.iterdir()) == []

    def test_removal_that_was_begun(self, root: SpoolRoot, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim of which another run removed a part just before it was finished is made again."""
        real = os.rename

        def rename(old: str, new: str) -> None:
            monkeypatch.setattr(os, "rename", real)
            os.rmdir(f"{old}/files")
            real(old, new)

        monkeypatch.setattr(os, "rename", rename)
        claims = Claims(root, str(working))
        assert [path.name for path in working.iterdir()] == [claims._name]
        claims.close()

    def test_no_locks(self, root: SpoolRoot, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing can be locked nothing is claimed, and nothing is left behind."""
        before = descriptors()

        def flock(descriptor: int, operation: int) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(SpoolError, match="No locks available"):
            Claims(root, str(working))
        assert list(working.iterdir()) == []
        assert descriptors() == before

    def test_always_removed(self, root: SpoolRoot, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that is removed again and again ends the run with a sentence."""

        def flock(descriptor: int, operation: int) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(SpoolError, match="cannot be used"):
            Claims(root, str(working))

    def test_vanished_files(self, root: SpoolRoot, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim that cannot be opened after it was made leaves no descriptor behind."""
        before = descriptors()

        def refuse(path: str) -> SpoolRoot:
            raise SpoolError("it cannot be opened")

        monkeypatch.setattr(module, "SpoolRoot", refuse)
        with pytest.raises(SpoolError):
            Claims(root, str(working))
        assert descriptors() == before


class TestIntake:
    """A file is claimed only when it is ready, and looked at again when it is claimed."""

    def admit(
        self, root: SpoolRoot, claims: Claims, *, may_replace: bool = False, name: str = ""
    ) -> OpenFile | tuple[Left, str]:
        """Ask for the only candidate, or the one with that name."""
        every = TreeLayout(settle_seconds=10, globs=NO_GLOBS).scan(root, Skips())
        (found,) = (each for each in every if isinstance(each, Candidate) and name in ("", each.name))
        admission = Admission(
            root,
            settle_seconds=10,
            known_failure=lambda path: None,
            is_remembered=lambda file: False,
            claims=claims,
            may_replace=lambda candidate: may_replace,
            sleep=lambda seconds: None,
        )
        return admission.decide(found, now=NOW)

    @pytest.mark.parametrize("own", [False, True])
    @pytest.mark.parametrize("older", ["x", ".x.s3u", ".x.s3u2"])
    def test_one_that_may_replace_an_object_waits_for_older_ones(
        self, root: SpoolRoot, spool: Path, working: Path, claims: Claims, older: str, own: bool
    ) -> None:
        """Where objects may be replaced, an older file of the same name that is claimed has to be uploaded before."""
        other = Claims(root, str(working))
        write(spool / f"a/{older}", "older")
        holder = claims if own else other
        assert holder.take(candidate("a/x", name=older))
        write(spool / "a/x", "newer")
        answer = self.admit(root, claims, may_replace=True)
        assert answer == (Left.POSTPONED, "an older one of its name is claimed")
        assert paths_below(spool) == {"a/x"}
        holder.give_back(candidate("a/x", name=older))
        other.close()
        assert len(paths_below(spool)) == 2

    def test_one_that_waits_for_an_older_one_in_the_spool_stays_under_its_name(
        self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A rename there and back would wake every uploader that watches the spool, this one too, without end."""
        write(spool / "x", "newer")
        write(spool / ".x.s3u", "older")

        def take(candidate: Candidate) -> bool:
            raise AssertionError("it was claimed")

        monkeypatch.setattr(claims, "take", take)
        answer = self.admit(root, claims, may_replace=True, name="x")
        assert answer == (Left.POSTPONED, "an older one of its name or key goes first")
        with pytest.raises(AssertionError):
            self.admit(root, claims, may_replace=True, name=".x.s3u")

    def test_two_hard_links_are_uploaded_one_after_the_other(
        self, root: SpoolRoot, spool: Path, claims: Claims
    ) -> None:
        """A rename of one would look like a change of the other: claimed together, neither would ever be shipped."""
        write(spool / "x", "once")
        os.link(spool / "x", spool / "y")
        first = self.admit(root, claims, name="x")
        assert isinstance(first, OpenFile)
        assert self.admit(root, claims, name="y") == (Left.POSTPONED, "it is being uploaded under another name")
        assert first.why_changed() is None
        os.unlink("x", dir_fd=first.home.directory(()))
        first.close()
        second = self.admit(root, claims, name="y")
        assert isinstance(second, OpenFile)
        second.close()

    def test_one_without_a_private_name_does_not_wait(
        self, root: SpoolRoot, spool: Path, working: Path, claims: Claims
    ) -> None:
        """An abandoned file of a very long name comes back only when the newer one has gone, so that one goes on."""
        name = "n" * 251
        other = Claims(root, str(working))
        write(spool / name, "older")
        assert other.take(candidate(name))
        write(spool / name, "newer")
        file = self.admit(root, claims, may_replace=True)
        assert isinstance(file, OpenFile)
        other.give_back(candidate(name))
        other.close()
        assert (spool / name).read_text() == "older"
        file.close()

    def test_claims_that_nobody_can_look_into(
        self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of another user are passed over; without a descriptor nothing is claimed."""
        write(spool / "a/x")
        real, code = os.listdir, errno.EACCES

        def listdir(path: str) -> list[str]:
            if "files" in path:
                raise OSError(code, os.strerror(code))
            return real(path)

        monkeypatch.setattr(os, "listdir", listdir)
        file = self.admit(root, claims, may_replace=True)
        assert isinstance(file, OpenFile)
        file.close()
        code = errno.EMFILE
        with pytest.raises(OSError, match="Too many open files"):
            self.admit(root, claims, may_replace=True)
        assert paths_below(spool) == {"a/x"}

    def test_ready(self, root: SpoolRoot, spool: Path, claims: Claims) -> None:
        """A ready file is opened and claimed, unchanged by the claim, and returns to the spool when it is closed."""
        write(spool / "a/x")
        file = self.admit(root, claims)
        assert isinstance(file, OpenFile)
        assert paths_below(spool) == set()
        assert file.why_changed() is None
        file.close()
        assert paths_below(spool) == {"a/x"}

    def test_not_ready(self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that somebody writes to stays under its name the whole time."""
        path = write(spool / "x")

        def take(candidate: Candidate) -> bool:
            raise AssertionError("it was claimed")

        monkeypatch.setattr(claims, "take", take)
        with path.open("ab"):
            answer = self.admit(root, claims)
        assert not isinstance(answer, OpenFile)
        assert answer[0] is Left.BUSY

    def around_claim(
        self, claims: Claims, monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        """Do something right before and right after the claim."""
        real = claims.take

        def take(candidate: Candidate) -> bool:
            before()
            done = real(candidate)
            after()
            return done

        monkeypatch.setattr(claims, "take", take)

    def test_somebody_else_was_quicker(
        self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that vanishes at the last moment was claimed by another uploader."""
        path = write(spool / "x")
        self.around_claim(claims, monkeypatch, path.unlink, lambda: None)
        assert self.admit(root, claims) == (Left.VANISHED, "another uploader has it")

    def test_replaced(self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that its producer replaces at the last moment returns to the spool unchanged."""
        path = write(spool / "x", "first")
        second = write(spool.parent / "second", "second")
        self.around_claim(claims, monkeypatch, lambda: os.rename(second, path), lambda: None)
        answer = self.admit(root, claims)
        assert answer == (Left.FRESH, "it has just been replaced")
        assert path.read_text() == "second"

    def test_written_to(self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
        """A writer who opened the file at the last moment keeps it, under its name."""
        path = write(spool / "x", "first")
        writers: list[Any] = []
        self.around_claim(claims, monkeypatch, lambda: writers.append(path.open("ab")), lambda: None)
        assert self.admit(root, claims) == (Left.BUSY, "a writer has it open")
        writers[0].write(b" and more")
        writers[0].close()
        assert path.read_text() == "first and more"

    def test_changed(self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that was changed at the last moment returns to the spool."""
        path = write(spool / "x", "first")

        def change() -> None:
            with path.open("ab") as file:
                file.write(b" and more")

        self.around_claim(claims, monkeypatch, change, lambda: None)
        assert self.admit(root, claims) == (Left.FRESH, "it is being changed")
        assert path.read_text() == "first and more"

    @pytest.mark.parametrize("name", ["rename", "stat"])
    def test_errors(
        self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """A file that cannot be claimed is named with the reason, and stays."""
        path = write(spool / "x")

        def fail(*arguments: Any, **options: Any) -> Any:
            raise OSError(18, "Invalid cross-device link")

        with monkeypatch.context() as patch:
            if name == "rename":
                patch.setattr(os, "rename", fail)
            else:
                patch.setattr(claims.root, "stat", fail)
            answer = self.admit(root, claims)
        assert not isinstance(answer, OpenFile)
        assert answer[0] is Left.UNREADABLE
        assert "Invalid cross-device link" in answer[1]
        assert path.exists()

    def test_held_by_a_program_that_shares_it_with_nobody(
        self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Over SMB such a file cannot be renamed: it is busy, and no error."""
        path = write(spool / "x")

        def fail(*arguments: Any, **options: Any) -> Any:
            raise OSError(errno.EBUSY, "Device or resource busy")

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", fail)
            answer = self.admit(root, claims)
        assert answer == (Left.BUSY, "it cannot be claimed: Device or resource busy")
        assert path.exists()

    @pytest.mark.parametrize("name", ["rename", "stat"])
    def test_no_descriptors(
        self, root: SpoolRoot, spool: Path, claims: Claims, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """No file is blamed for a lack of descriptors: it stays, and the caller closes some others."""
        path = write(spool / "x")

        def fail(*arguments: Any, **options: Any) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(os if name == "rename" else claims.root, name, fail)
            with pytest.raises(OSError, match="Too many open files"):
                self.admit(root, claims)
        assert path.exists()
