"""One run, led by the hand: what the coordinator promises whatever files, store, ledger and clock do."""

from __future__ import annotations

import errno
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.core.control import ScanTrigger
from s3_uploader.core.errors import (
    DestinationBusy,
    KeyRefused,
    NameTaken,
    ProofError,
    Scope,
    SourceChanged,
    SourceUnreadable,
    StateError,
    StoreError,
    UploadCancelled,
    lacking,
)
from s3_uploader.core.events import LocalTrouble, Notice, Uploaded, UploadFailed, UploadStarted
from s3_uploader.core.model import Left, OnConflict, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.rows import FailingRow, after_failure
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.run.in_flight import FileTask, UploadsInFlight
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool import open_file, removal
from s3_uploader.spool.layouts.base import OlderFiles
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.move_target import MoveTarget
from s3_uploader.spool.open_file import Closing, OpenFile, open_candidate
from s3_uploader.spool.removal import RemovalBatch
from s3_uploader.spool.root import Skip, SpoolRoot
from tests import fakes
from tests.changes import append, overwrite, overwrite_and_put_mtime_back
from tests.fakes import (
    NO_GLOBS,
    FakeLoop,
    FakeStore,
    Harness,
    Put,
    candidate,
    failing,
    out_of_time,
    silent,
    stored_but_failing,
    write,
)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """A spool, a store and a ledger; at the end every fault must have been met and no file be open."""
    before = set(os.listdir("/proc/self/fd"))
    made = Harness(tmp_path)
    yield made
    made.store.assert_all_faults_met()
    leaked = {
        os.readlink(f"/proc/self/fd/{number}")
        for number in set(os.listdir("/proc/self/fd")) - before
        if os.path.exists(f"/proc/self/fd/{number}")
    }
    assert not {path for path in leaked if str(tmp_path) in path}


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


DENIED = failing("InvalidAccessKeyId", scope=Scope.DESTINATION, hint="Look at the key.")
OUT_OF_REACH = failing("ConnectionFailed", scope=Scope.DESTINATION, retryable=True, never_connected=True)
THROTTLED = failing("SlowDown", retryable=True)


def no_descriptor(store: FakeStore, asked: Put) -> None:
    """A fault: this machine can open no file for a step of the upload."""
    lacks = lacking("The upload failed", OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert lacks is not None
    asked.future.complete(lacks)


# -------------------------------------------------------------------------------------------------- the good way


class TestShipping:
    def test_all_is_well(self, harness: Harness) -> None:
        """Ready files are shipped under their paths, recorded, removed, and their directories pruned."""
        harness.use_dated()
        harness.key_prefix = "prefix/"
        for location in ("a", "b"):
            harness.write(f"{location}/2019/01/01/00/05-x.dat", location)
        report = harness.run()
        assert harness.store.objects == {f"prefix/{at}/2019/01/01/00/05-x.dat": at.encode() for at in "ab"}
        assert list(harness.base.iterdir()) == []
        assert (report.shipped, report.shipped_bytes, report.exit_code, report.ended_by) == (2, 2, 0, "done")
        assert report.pruned_directories == 10
        assert len(harness.records.shipped) == 2
        assert [event.address for event in harness.told(Uploaded)] == [
            f"bucket/prefix/{at}/2019/01/01/00/05-x.dat" for at in "ab"
        ]

    def test_nothing_to_do(self, harness: Harness) -> None:
        """A run with nothing ready does not even open the store."""
        harness.write("fresh", age=1)
        report = harness.run()
        assert harness.store.opened == 0
        assert (report.left, report.backlog, report.exit_code) == ({"fresh": 1}, 1, 0)

    def test_recorded_before_removed(self, harness: Harness) -> None:
        """When a file is recorded it is still there; it is removed afterwards."""
        path = harness.write("x")
        seen = []
        harness.records.on_commit = lambda: seen.append(path.exists())
        harness.run()
        assert (seen, path.exists()) == ([True], False)

    def test_order_of_a_file(self, harness: Harness) -> None:
        """Oldest first."""
        for age, name in ((100, "b"), (300, "c"), (200, "a")):
            harness.write(name, age=age)
        harness.run()
        assert [put.key for put in harness.store.puts] == ["c", "a", "b"]

    def test_keep(self, harness: Harness) -> None:
        """With ``keep`` the files stay and are not shipped twice, until they change."""
        harness.on_success = SuccessPolicy(keep=True)
        path = harness.write("a/x")
        assert harness.run().shipped == 1
        report = harness.run()
        assert (report.shipped, report.left, report.exit_code) == (0, {"remembered": 1}, 0)
        assert path.exists()
        harness.on_conflict = OnConflict.OVERWRITE
        harness.write("a/x", "other")
        assert harness.run().shipped == 1

    def test_move(self, harness: Harness, tmp_path: Path) -> None:
        """With ``move_to`` the files are elsewhere afterwards."""
        harness.on_success = SuccessPolicy(move_to=MoveTarget(str(tmp_path / "done")))
        harness.write("a/x")
        assert harness.run().shipped == 1
        assert (tmp_path / "done/a/x").exists()
        assert harness.names() == set()

    def test_many_batches(self, harness: Harness) -> None:
        """The ledger is written in batches of some hundred files, and early when time passes."""
        for number in range(450):
            harness.write(f"{number:03}")
        commits: list[int] = []
        harness.records.on_commit = lambda: commits.append(len(harness.records.shipped))
        harness.run()
        assert commits == [200, 400, 450]

    def test_batch_does_not_wait(self, harness: Harness) -> None:
        """While one upload takes its time, what is proven is removed after a fraction of a second."""
        harness.write("fast")
        harness.write("slow")
        harness.store.fault("slow", silent)
        began = harness.clock.seconds
        committed_after = []
        harness.records.on_commit = lambda: committed_after.append(harness.clock.seconds - began)

        def idle() -> None:
            if harness.clock.seconds - began > 5:
                for put in harness.store.pending():
                    harness.store.store(put)

        harness.idle = idle
        assert harness.run().shipped == 2
        assert committed_after[0] < 0.5

    def test_already_there(self, harness: Harness) -> None:
        """The same content at the destination is success, and counted as such."""
        harness.write("x", "same")
        harness.store.objects["x"] = b"same"
        report = harness.run()
        assert (report.shipped, report.already_there) == (1, 1)
        assert harness.names() == set()

    def test_in_flight_is_bounded(self, harness: Harness) -> None:
        """No more files and bytes are in flight than allowed; a file larger than that goes alone."""
        harness.store.manual = True
        harness.max_in_flight = 3
        for number in range(10):
            harness.write(f"{number}", b"x" * 10)
        harness.write("big", b"x" * 200, age=10_000)
        harness.max_bytes = 100
        most: list[tuple[int, int]] = []

        def idle() -> None:
            pending = harness.store.pending()
            most.append((len(pending), sum(put.source.size for put in pending)))
            harness.store.answer(pending[0])

        harness.idle = idle
        assert harness.run().shipped == 11
        assert max(count for count, _ in most) == 3
        assert most[0] == (1, 200)

    def test_too_many_open_files(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no more files can be opened some are finished first, and none is blamed for it."""
        for number in range(30):
            harness.write(f"{number:02d}", "x")
        open_file = SpoolRoot.open_file
        opened: list[int] = []

        def limited(root: SpoolRoot, names: tuple[str, ...], name: str) -> int:
            still_open = [number for number in opened if _is_open(number)]
            if len(still_open) >= 3:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            opened[:] = [*still_open, open_file(root, names, name)]
            return opened[-1]

        monkeypatch.setattr(SpoolRoot, "open_file", limited)
        report = harness.run()
        assert (report.shipped, report.left, report.exit_code) == (30, {}, 0)

    def test_no_file_can_be_opened(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where not one file can be opened the run comes to its end all the same."""

        def refuse(root: SpoolRoot, names: tuple[str, ...], name: str) -> int:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

        harness.write("file", "x")
        monkeypatch.setattr(SpoolRoot, "open_file", refuse)
        report = harness.run()
        assert (report.shipped, report.exit_code) == (0, 1)
        assert (harness.base / "file").exists()

    def test_no_more_files_can_be_opened(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where others have taken all descriptors in the middle of a run, it ends, and what it has sent is settled."""
        open_file = SpoolRoot.open_file
        refused = 0

        def limited(root: SpoolRoot, names: tuple[str, ...], name: str) -> int:
            nonlocal refused
            if name < "20":
                return open_file(root, names, name)
            refused += 1
            assert refused < 1000, "the run never ends"
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        for number in range(30):
            harness.write(f"{number:02d}", "x", age=3600 - number)
        monkeypatch.setattr(SpoolRoot, "open_file", limited)
        report = harness.run()
        assert (report.shipped, report.exit_code) == (20, 1)
        assert len(harness.names()) == 10

    def test_beats(self, harness: Harness) -> None:
        """The run shows that it is alive, between files and while it waits."""
        beats: list[None] = []
        harness.beat = lambda: beats.append(None)
        harness.write("x")
        harness.write("y.tmp")
        harness.run()
        assert len(beats) >= 2

    def test_deadline(self, harness: Harness) -> None:
        """A deadline leaves time for the bytes."""
        harness.write("x", b"x" * 65536 * 10)
        began = harness.clock.seconds
        harness.run()
        assert harness.store.puts[0].deadline == began + 60 + 10


# -------------------------------------------------------------------------------------------------- files that change


def _truncate(path: Path) -> None:
    os.truncate(path, 2)


def _replace(path: Path) -> None:
    write(path.parent.parent / "made-elsewhere", "next").rename(path)


def _replace_with_the_same_times(path: Path) -> None:
    before = path.stat()
    new = write(path.parent.parent / "made-elsewhere", "next")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


def _delete_and_make_anew(path: Path) -> None:
    path.unlink()
    write(path, "next")


CHANGES = [append, overwrite, overwrite_and_put_mtime_back, _truncate]
REPLACEMENTS = [_replace, _replace_with_the_same_times]


@pytest.mark.parametrize("change", [*CHANGES, *REPLACEMENTS, _delete_and_make_anew])
@pytest.mark.parametrize("moment", ["during_body", "before_answer", "after_answer", "commit"])
def test_a_file_that_changes(harness: Harness, change: Callable[[Path], None], moment: str) -> None:
    """Whatever a producer does to a file at whatever moment of its upload, its last content is kept and shipped.

    That goes for another file that is renamed over it, too. One that is made anew after the first was removed may be a
    later one, whose predecessor was delivered whole: then it is a conflict that is said, and both are kept.
    """
    path = harness.write("x", "data")
    if moment == "commit":
        fired: list[None] = []

        def on_commit() -> None:
            if not fired:
                fired.append(None)
                change(path)

        harness.records.on_commit = on_commit
    else:
        getattr(harness.store, moment)["x"] = lambda: change(path)
    report = harness.run()
    last = path.read_bytes()
    assert (report.shipped, report.exit_code) == (0, 0)
    assert set(report.left) == {"changed"}
    path = harness.base / "x"
    os.utime(path, (harness.clock.seconds - 100,) * 2)
    report = harness.run()
    if change is _delete_and_make_anew and report.failed:
        assert (report.failed, report.exit_code) == (1, 1)
        assert (harness.store.objects["x"], path.read_bytes()) == (b"data", last)
        return
    assert (report.shipped, report.exit_code) == (1, 0)
    assert harness.store.objects["x"] == last
    assert harness.names() == set()


@pytest.mark.parametrize("moment", ["during_body", "before_answer", "after_answer"])
def test_a_file_that_is_deleted(harness: Harness, moment: str) -> None:
    """A file whose producer deletes it meanwhile is gone, and that is no failure."""
    path = harness.write("x")
    getattr(harness.store, moment)["x"] = path.unlink
    assert harness.run().exit_code == 0
    assert harness.names() == set()


def test_a_writer_that_comes_back(harness: Harness) -> None:
    """A file that somebody opens for writing meanwhile is kept although nothing was written yet."""
    path = harness.write("x")
    writers: list[int] = []
    harness.store.before_answer["x"] = lambda: writers.append(os.open(path, os.O_WRONLY))
    assert harness.run().left == {"busy": 1}
    os.write(writers[0], b"DATA")
    os.close(writers[0])
    os.utime(path, (harness.clock.seconds - 100,) * 2)
    assert harness.run().shipped == 1
    assert harness.store.objects == {"x": b"DATA"}


class TestSuperseded:
    def test_own_outdated_object_is_replaced(self, harness: Harness) -> None:
        """The object that a changed file left behind is ours, and the next run replaces it and nothing else."""
        path = harness.write("x", "old")
        harness.store.after_answer["x"] = lambda: overwrite(path)
        harness.run()
        harness.write("x", "new")
        assert harness.run().shipped == 1
        assert harness.store.replaced == ["x"]
        assert harness.store.objects == {"x": b"new"}

    def test_somebody_elses_is_not(self, harness: Harness) -> None:
        """If somebody else has put something there meanwhile, it stays."""
        path = harness.write("x", "old")
        harness.store.after_answer["x"] = lambda: overwrite(path)
        harness.run()
        harness.store.objects["x"] = b"precious"
        harness.write("x", "new")
        report = harness.run()
        assert (report.exit_code, report.failed) == (1, 1)
        assert harness.store.objects == {"x": b"precious"}
        assert harness.names() == {"x"}

    def test_protected_once_it_is_up_to_date(self, harness: Harness) -> None:
        """A file that was only touched makes its object outdated; once it is shipped nobody may replace it."""
        path = harness.write("x", "data")
        harness.store.after_answer["x"] = lambda: os.utime(path)
        assert harness.run().left == {"changed": 1}
        harness.write("x", "data")
        assert harness.run().already_there == 1
        harness.write("x", "a later file of this name")
        assert harness.run().exit_code == 1
        assert harness.store.objects == {"x": b"data"}

    @pytest.mark.parametrize("change", [*CHANGES, *REPLACEMENTS])
    def test_a_delivery_is_not_outdated_by_what_becomes_of_our_file(
        self, harness: Harness, change: Callable[[Path], None]
    ) -> None:
        """An object that was there before the upload is a delivery, whatever is written to the file meanwhile."""
        path = harness.write("x", "data")
        harness.store.objects["x"] = b"data"
        harness.store.after_answer["x"] = lambda: change(path)
        harness.run()
        harness.store.after_answer.clear()
        os.utime(path, (harness.clock.seconds - 100,) * 2)
        assert harness.run().exit_code == 1
        assert harness.store.objects == {"x": b"data"}
        assert path.read_text() != "data"

    @pytest.mark.parametrize("when", ["before_answer", "after_answer"])
    @pytest.mark.parametrize("change", ["renamed", "removed", "chmod"])
    def test_what_was_sent_whole_is_not_outdated(
        self, harness: Harness, tmp_path: Path, when: str, change: str
    ) -> None:
        """A file that only lost its name or changed its mode was sent as it is: nobody may replace its object."""
        path = harness.write("x", "delivered")
        actions = {
            "renamed": lambda: os.rename(path, tmp_path / "elsewhere"),
            "removed": lambda: os.unlink(path),
            "chmod": lambda: path.chmod(0o640),
        }
        getattr(harness.store, when)["x"] = actions[change]
        harness.run()
        assert harness.store.objects == {"x": b"delivered"}
        getattr(harness.store, when).clear()
        harness.write("x", "a later file of this name")
        harness.clock.seconds += 100
        assert harness.run().exit_code == 1
        assert harness.store.objects == {"x": b"delivered"}
        assert harness.names() == {"x"}

    @pytest.mark.parametrize("late", ["take", "dispose"])
    def test_content_that_changes_before_the_removal_is_outdated(
        self, harness: Harness, late: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that was written to after it was recorded may replace its own object too."""
        path = harness.write("x", "old")
        real = getattr(RemovalBatch, late)
        descriptor = os.open(path, os.O_RDONLY)

        def write_first(self: RemovalBatch, *arguments: Any, **options: Any) -> Any:
            # By descriptor: the name may be a private one by now.
            if late == "take" or self.has_taken:
                overwrite(Path(f"/proc/self/fd/{descriptor}"))
            return real(self, *arguments, **options)

        monkeypatch.setattr(RemovalBatch, late, write_first)
        assert harness.run().left == {"changed": 1}
        os.close(descriptor)
        monkeypatch.undo()
        harness.write("x", "new")
        assert harness.run().shipped == 1
        assert harness.store.replaced == ["x"]

    def test_an_object_that_is_up_to_date_again_is_protected(self, harness: Harness) -> None:
        """What proves a file that is about to be removed is not replaced by another file of the same key."""
        harness.write("a/.1.s3u", b"old", age=7200)
        harness.write("a/1", b"new", age=3600)
        harness.store.objects["a/1"] = b"old"
        harness.records.facts["superseded:bucket/a/1"] = fakes.etag_of(b"old")
        harness.run()
        on_disk = {path.read_bytes() for path in harness.base.rglob("*") if path.is_file()}
        assert {b"old", b"new"} <= {*on_disk, *harness.store.objects.values()}

    @pytest.mark.parametrize("ages", [(7200, 3600), (3600, 7200)])
    @pytest.mark.parametrize("fails", [False, True])
    @pytest.mark.parametrize("private", [".1.s3u", ".1.s3u2", ".1.s3u9"])
    def test_an_older_file_never_replaces_a_newer_one(
        self, harness: Harness, ages: tuple[float, float], fails: bool, private: str
    ) -> None:
        """What a killed run has left of a name is uploaded before the next file of it, also if that takes a while."""
        harness.on_conflict = OnConflict.OVERWRITE
        harness.write(f"a/{private}", b"old", age=ages[0])
        harness.write("a/1", b"new", age=ages[1])
        harness.write("a/2", b"other")
        if fails:
            harness.store.fault("a/1", fakes.failing())
        for _ in range(3):
            harness.run()
            harness.clock.seconds += 1000
        assert harness.names() == set()
        assert harness.store.objects == {"a/1": b"new", "a/2": b"other"}

    @pytest.mark.parametrize("older", [".1.s3u", ".1.s3u2"])
    def test_of_several_leftovers_the_newest_is_last(self, harness: Harness, older: str) -> None:
        """Of what killed runs have left of a name the newest content stays, also if an older one fails for a while."""
        harness.on_conflict = OnConflict.OVERWRITE
        (newer,) = {".1.s3u", ".1.s3u2"} - {older}
        harness.write(f"a/{older}", b"old", age=7200)
        harness.write(f"a/{newer}", b"new", age=3600)
        harness.write("a/2", b"other")
        harness.store.fault("a/1", fakes.failing())
        for _ in range(3):
            harness.run()
            harness.clock.seconds += 1000
        assert harness.names() == set()
        assert harness.store.objects == {"a/1": b"new", "a/2": b"other"}

    def test_a_directory_in_which_nobody_can_look_for_older_files(self, harness: Harness) -> None:
        """Without a descriptor to look for older files nothing is replaced; a directory that is gone has none."""
        root = SpoolRoot(str(harness.base))
        files = OlderFiles(root, is_done=lambda path, fingerprint: False)
        harness.write("a/.1.s3u2")
        assert not files.exist(candidate("gone/1"))
        assert not files.exist(candidate("a/2"))
        assert files.exist(candidate("a/1"))

        def refuse(names: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        root.entries = refuse  # type: ignore[method-assign,assignment]
        assert files.exist(candidate("b/1"))
        root.close()

    def test_a_leftover_that_is_kept_is_waited_for_once(self, harness: Harness) -> None:
        """With ``keep`` a leftover stays for good if its name is taken. It is uploaded once, then the newer file."""
        harness.on_success = SuccessPolicy(keep=True)
        harness.on_conflict = OnConflict.OVERWRITE
        harness.write("a/.1.s3u", b"old", age=7200)
        harness.write("a/1", b"new")
        shipped = [harness.run().shipped for _ in range(4)]
        assert (sum(shipped), shipped[2:]) == (2, [0, 0])
        assert harness.names() == {"a/.1.s3u", "a/1"}
        assert harness.store.objects == {"a/1": b"new"}

    @pytest.mark.parametrize("older", [".1.s3u", ".1.s3u2"])
    def test_of_several_leftovers_that_are_kept_only_the_newest_gets_its_name(
        self, harness: Harness, older: str
    ) -> None:
        """With ``keep`` an older one that got the name would count as the newest, and be uploaded once more."""
        harness.on_success = SuccessPolicy(keep=True)
        harness.on_conflict = OnConflict.OVERWRITE
        (newer,) = {".1.s3u", ".1.s3u2"} - {older}
        harness.write(f"a/{older}", b"old", age=7200)
        harness.write(f"a/{newer}", b"new", age=3600)
        shipped = [harness.run().shipped for _ in range(5)]
        assert shipped[3:] == [0, 0]
        assert harness.names() == {f"a/{older}", "a/1"}
        assert (harness.base / "a/1").read_bytes() == b"new"
        assert harness.store.objects == {"a/1": b"new"}

    @pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
    def test_only_a_file_is_a_leftover(self, harness: Harness, kind: str) -> None:
        """Nothing else that has the private name of a file is waited for: nobody would ever upload it."""
        harness.on_conflict = OnConflict.OVERWRITE
        harness.write("a/1", b"new")
        private = harness.base / "a/.1.s3u"
        if kind == "directory":
            private.mkdir()
        elif kind == "link":
            private.symlink_to("1")
        else:
            os.mkfifo(private)
        assert harness.run().shipped == 1
        assert harness.store.objects == {"a/1": b"new"}

    def test_a_file_that_may_be_sent_again_keeps_its_key(self, harness: Harness) -> None:
        """While it is in doubt why a file failed, no other file of its key is sent: it would be replaced later."""

        class Layout(TreeLayout):
            """Two files of one key, as a leftover in a claim and the new file of its name."""

            def scan(self, root: SpoolRoot, skip: object) -> Iterator[Any]:
                """Those that are there, the older one first."""
                for name, key in (("old", "a"), ("new", "a"), ("other", "b")):
                    if (harness.base / name).exists():
                        yield candidate(name, key=key)

        harness.layout = Layout(settle_seconds=10, globs=NO_GLOBS)
        harness.on_conflict = OnConflict.OVERWRITE
        harness.max_in_flight = 1
        for name in ("old", "new", "other"):
            harness.write(name, name)
        harness.store.fault("a", OUT_OF_REACH)
        assert harness.run().left == {"postponed": 1}
        harness.run()
        assert harness.names() == set()
        assert harness.store.objects == {"a": b"new", "b": b"other"}

    @pytest.mark.parametrize("runs", [1, 2])
    def test_an_older_file_of_the_key_that_waits_goes_first(self, harness: Harness, runs: int) -> None:
        """While it waits after a failure, no newer file of its key is sent: the older one would replace it later."""

        class Layout(TreeLayout):
            """Two spellings of one key, as ``%61`` and ``a`` in a queue, the older one first."""

            def scan(self, root: SpoolRoot, skip: object) -> Iterator[Any]:
                """Those that are there."""
                for name, key in (("old", "a"), ("other", "b"), ("new", "a")):
                    if (harness.base / name).exists():
                        status = (harness.base / name).stat()
                        yield candidate(name, key=key, mtime_ns=status.st_mtime_ns, size=status.st_size)

        harness.layout = Layout(settle_seconds=10, globs=NO_GLOBS)
        harness.on_conflict = OnConflict.OVERWRITE
        harness.max_in_flight = 1
        harness.write("old", "old", age=7200)
        harness.write("other", "other", age=5000)
        if runs == 1:
            harness.write("new", "new", age=3600)
        harness.store.fault("a", failing("Refused"))
        harness.run()
        if runs == 2:
            harness.write("new", "new", age=3600)
            harness.run()
        assert harness.names() == {"old", "new"}
        harness.clock.seconds += 3600
        for _ in range(3):
            harness.run()
        assert harness.names() == set()
        assert harness.store.objects == {"a": b"new", "b": b"other"}

    def test_an_object_that_proves_another_file_is_not_outdated(self, harness: Harness) -> None:
        """Of two names for one key with the same content, one may change meanwhile: the other's object is protected."""

        class Layout(TreeLayout):
            """Two names of one key, as ``a%2Fb`` and ``a%2fb`` in a queue."""

            def scan(self, root: SpoolRoot, skip: object) -> Iterator[Any]:
                """Those that are there, one after the other was uploaded."""
                for name in ("first", "second"):
                    if (harness.base / name).exists():
                        yield candidate(name, key="a")

        harness.layout = Layout(settle_seconds=10, globs=NO_GLOBS)
        harness.max_in_flight = 1
        first = harness.write("first", "same")
        harness.write("second", "same")
        harness.store.during_body["a"] = lambda: None
        harness.store.before_answer["a"] = lambda: harness.store.during_body.__setitem__("a", lambda: overwrite(first))
        harness.run()
        assert harness.names() == {"first"}
        harness.write("first", "other")
        harness.run()
        assert harness.store.replaced == []
        assert harness.store.objects == {"a": b"same"}

    def test_private_names_of_files_that_were_removed_are_not_counted(self, harness: Harness) -> None:
        """The listing of a large directory shows names that the run itself gave; only a producer's file can vanish."""

        class Layout(TreeLayout):
            """What a listing shows that goes on while files of the directory are removed."""

            def scan(self, root: SpoolRoot, skip: Skip) -> Iterator[Any]:
                """A file, and some that are gone."""
                skip((), ".1.s3u", Left.VANISHED, "it is gone")
                skip((), "one", Left.VANISHED, "it is gone")
                for name in ("x", ".2.s3u", "other"):
                    yield candidate(name)

        harness.layout = Layout(settle_seconds=10, globs=NO_GLOBS)
        harness.write("x")
        report = harness.run()
        assert (report.shipped, report.left) == (1, {"vanished": 2})

    def test_an_object_that_was_deleted_and_stored_again_is_protected(self, harness: Harness) -> None:
        """A new object with the content of an outdated one proves the file that it is from, as any other does."""
        harness.records.facts["superseded:bucket/x"] = fakes.etag_of(b"old")
        harness.write("x", b"old")
        assert harness.run().shipped == 1
        harness.write("x", b"other")
        harness.run()
        assert harness.store.objects["x"] == b"old"
        assert harness.store.replaced == []

    def test_not_after_the_end(self, harness: Harness) -> None:
        """A run that was asked to stop begins no second upload."""
        harness.write("x", "new")
        harness.store.objects["x"] = b"old"
        harness.records.facts["superseded:bucket/x"] = fakes.etag_of(b"old")
        harness.store.before_answer = {}

        def conflict(store: FakeStore, put: Put) -> None:
            harness.stop.request(signal.SIGTERM)
            store.store(put)

        harness.store.fault("x", conflict)
        harness.run()
        assert len(harness.store.puts) == 1
        assert harness.names() == {"x"}


def test_conflict(harness: Harness) -> None:
    """Other content at the destination stays there, and the file here."""
    harness.write("x", "mine")
    harness.store.objects["x"] = b"theirs"
    report = harness.run()
    assert (report.exit_code, report.failed, report.backlog) == (1, 1, 1)
    assert harness.store.objects == {"x": b"theirs"}
    assert harness.names() == {"x"}


# -------------------------------------------------------------------------------------------------- failures of files


class TestOneBadFile:
    def test_costs_itself_only(self, harness: Harness) -> None:
        """A file that cannot be shipped stays and waits; the others go."""
        for name in "abc":
            harness.write(name)
        harness.store.fault("b", failing("KeyRefused", hint="Shorten it."))
        began = harness.clock.seconds
        report = harness.run()
        assert (report.shipped, report.failed, report.backlog, report.exit_code) == (2, 1, 1, 1)
        (event,) = harness.told(UploadFailed)
        assert (event.code, event.hint, event.attempts, event.disposition) == ("KeyRefused", "Shorten it.", 1, "kept")
        assert event.next_try_at == began + 45
        assert harness.names() == {"b"}

    def test_pauses_grow(self, harness: Harness) -> None:
        """It is tried again after a pause, each longer than the one before."""
        harness.write("x")
        harness.store.fault("x", failing(), failing())
        harness.run()
        report = harness.run()
        assert (report.left, report.exit_code, len(harness.store.puts)) == ({"waiting": 1}, 1, 1)
        harness.clock.seconds += 46
        harness.run()
        assert harness.records.failing_rows["x"].attempts == 2
        harness.clock.seconds += 46
        assert harness.run().left == {"waiting": 1}
        harness.clock.seconds += 46
        assert harness.run().shipped == 1
        assert harness.records.failing_rows == {}

    def test_other_content_is_tried_at_once(self, harness: Harness) -> None:
        """A failing file that changed does not wait."""
        harness.write("x")
        harness.store.fault("x", failing())
        harness.run()
        harness.write("x", "other content", age=100)
        assert harness.run().shipped == 1

    def test_counts_what_was_tried(self, harness: Harness) -> None:
        """What failed is what was opened, not what the scan saw; so the pause holds although the file had changed."""
        path = harness.write("x", "data")

        def scan_is_old(kind: Harness = harness) -> None:
            write(path, "longer", mtime=kind.clock.seconds - 50)

        harness.write("w", age=10_000)
        harness.store.before_answer["w"] = scan_is_old
        harness.store.fault("x", failing())
        harness.run()
        assert harness.records.failing_rows["x"].size == 6
        assert harness.run().left == {"waiting": 1}

    def test_too_slow_among_others(self, harness: Harness) -> None:
        """An upload that runs out of time while others come through is its own trouble."""
        for name in "abc":
            harness.write(name)
        harness.store.fault("a", silent)

        def idle() -> None:
            for put in harness.store.pending():
                out_of_time(harness.store, put)

        harness.idle = idle
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (2, 1, 1)

    def test_store_with_a_bug(self, harness: Harness) -> None:
        """A bug of a store costs the file at hand."""

        def bug(store: FakeStore, put: Put) -> None:
            put.future.complete(ZeroDivisionError("oops"))

        harness.write("x")
        harness.write("y")
        harness.store.fault("x", bug)
        report = harness.run()
        assert (report.shipped, report.failed) == (1, 1)
        assert harness.told(UploadFailed)[0].message == "internal error: ZeroDivisionError: oops"

    def test_store_that_raises(self, harness: Harness) -> None:
        """So does one that raises where it should answer."""
        harness.write("x")
        harness.store.put_error = RuntimeError("not open")
        assert harness.run().failed == 1
        assert harness.names() == {"x"}

    def test_shrinks(self, harness: Harness) -> None:
        """A store that finds the file shorter than it was says so, and that is no failure."""
        harness.write("x")

        def shrunk(store: FakeStore, put: Put) -> None:
            put.future.complete(SourceChanged("it shrank"))

        harness.store.fault("x", shrunk)
        report = harness.run()
        assert (report.left, report.exit_code) == ({"changed": 1}, 0)

    def test_hint_is_remembered(self, harness: Harness) -> None:
        """What can be done about a file's own error is recorded with it, so that `status` can say it."""
        harness.write("x")
        harness.write("y")

        def refused(store: FakeStore, put: Put) -> None:
            put.future.complete(KeyRefused("Your key is too long", hint="Shorten the file's path or key_prefix."))

        harness.store.fault("x", refused)
        harness.run()
        row = harness.records.failing("x")
        assert row is not None
        assert row.message == "Your key is too long. Shorten the file's path or key_prefix."

    def test_a_disk_that_fails(self, harness: Harness) -> None:
        """Files that the kernel does not deliver are failures with growing pauses; the destination is not to blame."""
        names = {f"x{number}" for number in range(20)}
        for name in names:
            harness.write(name)

            def dying(store: FakeStore, put: Put) -> None:
                put.future.complete(SourceUnreadable("the local file cannot be read at byte 0: input/output error"))

            harness.store.fault(name, dying)
        report = harness.run()
        assert (report.failed, report.left, report.exit_code, report.ended_by) == (20, {}, 1, "done")
        assert harness.names() == names
        event = harness.told(UploadFailed)[0]
        assert (event.attempts, event.disposition) == (1, "kept")
        assert "dmesg" in event.hint
        assert event.next_try_at is not None

    def test_unreadable(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that this user may not read is kept, reported and counted as a failure."""
        harness.write("x")

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(SpoolRoot, "open_file", refuse)
        report = harness.run()
        assert (report.failed, report.left, report.backlog, report.exit_code) == (1, {"unreadable": 1}, 1, 1)
        (event,) = harness.told(LocalTrouble)
        assert (event.action, event.message) == ("read", "Permission denied")


class TestOnFailure:
    def test_move(self, harness: Harness, tmp_path: Path) -> None:
        """After the configured number of attempts a file is moved away."""
        harness.on_failure = FailurePolicy(move_to=MoveTarget(str(tmp_path / "failed")), attempts=2)
        harness.write("a/x")
        harness.store.fault("a/x", failing(), failing())
        harness.run()
        assert harness.names() == {"a/x"}
        harness.clock.seconds += 100
        report = harness.run()
        assert (report.backlog, report.exit_code) == (0, 1)
        assert (tmp_path / "failed/a/x").exists()
        assert harness.told(UploadFailed)[1].disposition == f"moved to {tmp_path}/failed/a/x"
        assert harness.told(UploadFailed)[1].next_try_at is None

    def test_delete(self, harness: Harness) -> None:
        """Who asks for it has files deleted that cannot be shipped."""
        harness.on_failure = FailurePolicy(delete=True)
        harness.write("x")
        harness.store.fault("x", failing())
        harness.run()
        assert harness.names() == set()
        assert harness.told(UploadFailed)[0].disposition == "deleted"

    def test_a_conflict_is_never_deleted(self, harness: Harness) -> None:
        """Nothing is wrong with a file whose key is taken by other content: it stays, whatever is asked for."""
        harness.on_failure = FailurePolicy(delete=True)
        harness.write("x", "the only copy")
        harness.store.objects["x"] = b"other content"
        report = harness.run()
        assert (report.exit_code, report.backlog, harness.names()) == (1, 1, {"x"})
        assert harness.told(UploadFailed)[0].disposition == "kept"
        assert harness.store.objects == {"x": b"other content"}

    @pytest.mark.parametrize("origin", [Origin.FILE_RIGHT, Origin.CREDENTIALS, Origin.DIRECTORY])
    def test_a_missing_permission_deletes_nothing(self, harness: Harness, tmp_path: Path, origin: Origin) -> None:
        """Nor is anything wrong with a file that may not be stored; it is moved where that is asked for."""
        harness.on_failure = FailurePolicy(delete=True)
        for name in ("x", "y"):
            harness.write(name)
        harness.store.fault("x", failing(origin=origin), failing(origin=origin))
        assert harness.run().exit_code == 1
        assert harness.names() == {"x"}
        harness.on_failure = FailurePolicy(move_to=MoveTarget(str(tmp_path / "failed")))
        harness.clock.seconds += 100
        harness.run()
        assert (tmp_path / "failed/x").exists()

    @pytest.mark.parametrize(
        "error",
        [
            StoreError("The connection was lost.", code="ConnectionLost", retryable=True),
            StoreError("No answer.", code="ConnectionFailed", retryable=True, scope=Scope.DESTINATION),
            UploadCancelled.late(),
            StoreError("No such class.", code="InvalidStorageClass", scope=Scope.DESTINATION, origin=Origin.SETTING),
            StoreError("The clock is wrong.", code="ClockSkew", scope=Scope.DESTINATION, origin=Origin.CLOCK),
            ProofError("Nothing is proven."),
            NameTaken("Another file has that name in other letters."),
            StoreError("HTTP: Bad Request", code="400"),
            StoreError("FTP: Requested action not taken", code="550"),
            StoreError("SFTP: Failure", code="Failure"),
            StoreError("SFTP: no such status", code="Status99"),
        ],
        ids=lambda error: error.code,
    )
    def test_only_a_refusal_of_the_file_deletes_it(self, harness: Harness, tmp_path: Path, error: StoreError) -> None:
        """Nor does what may pass or be put right, while other files are accepted; such a file is moved on demand."""

        def fail(store: FakeStore, asked: Put) -> None:
            if asked.key == "x":
                asked.future.complete(error)
            else:
                store.store(asked)

        harness.store.any_fault = fail
        for move_to in (None, MoveTarget(str(tmp_path / "failed"))):
            harness.on_failure = FailurePolicy(delete=move_to is None, move_to=move_to)
            for name in ("x", "y"):
                harness.write(name)
            harness.clock.seconds += 100
            assert harness.run().exit_code == 1
            assert harness.names() == ({"x"} if move_to is None else set())
        assert (tmp_path / "failed/x").exists()

    def test_a_conflict_is_moved_where_that_is_asked_for(self, harness: Harness, tmp_path: Path) -> None:
        """Who has failures moved finds conflicts there too, with their content."""
        harness.on_failure = FailurePolicy(move_to=MoveTarget(str(tmp_path / "failed")))
        harness.write("x", "the only copy")
        harness.store.objects["x"] = b"other content"
        assert harness.run().exit_code == 1
        assert (tmp_path / "failed/x").read_text() == "the only copy"

    @pytest.mark.parametrize("origin", [Origin.NO_ROOM_HERE, Origin.OURS])
    def test_what_is_not_the_files_fault(self, harness: Harness, origin: Origin) -> None:
        """A disk of this machine that is full, or a bug, deletes no file whatever the configuration says."""
        harness.on_failure = FailurePolicy(delete=True)
        harness.write("x")
        harness.store.fault("x", failing(origin=origin))
        assert harness.run().exit_code == 1
        assert harness.names() == {"x"}

    def test_a_bug_of_a_store_is_not_the_files_fault(self, harness: Harness) -> None:
        """What a store raises and nobody has thought of costs no file either."""

        def bug(store: FakeStore, asked: Put) -> None:
            asked.future.complete(KeyError("a bug"))

        harness.on_failure = FailurePolicy(delete=True)
        harness.write("x")
        harness.store.fault("x", bug)
        assert harness.run().exit_code == 1
        assert harness.names() == {"x"}

    @pytest.mark.parametrize("policy", ["delete", "move"])
    def test_new_content_is_spared(self, harness: Harness, tmp_path: Path, policy: str) -> None:
        """What has the name by then was never tried, and stays."""
        harness.on_failure = (
            FailurePolicy(delete=True)
            if policy == "delete"
            else FailurePolicy(move_to=MoveTarget(str(tmp_path / "failed")))
        )
        path = harness.write("x", "old")

        def fail(store: FakeStore, put: Put) -> None:
            failing()(store, put)

        harness.store.fault("x", fail)
        with pytest.MonkeyPatch.context() as patch:
            real = after_failure

            def replace(*arguments: Any, **options: Any) -> FailingRow:
                write(tmp_path / "new", "new content").rename(path)
                return real(*arguments, **options)

            patch.setattr("s3_uploader.run.failures.after_failure", replace)
            harness.run()
        assert path.read_text() == "new content"
        assert harness.told(UploadFailed)[0].disposition == "kept"

    def test_cannot_be_moved(self, harness: Harness, tmp_path: Path) -> None:
        """A file that cannot be moved away is kept, and that is said, with where to and what to do."""
        write(tmp_path / "failed")
        harness.on_failure = FailurePolicy(move_to=MoveTarget(str(tmp_path / "failed")))
        harness.write("x")
        harness.store.fault("x", failing())
        report = harness.run()
        assert (report.backlog, harness.names()) == (1, {"x"})
        (trouble,) = harness.told(LocalTrouble)
        assert (trouble.action, trouble.message) == ("move", f"File exists: {tmp_path / 'failed'}")
        assert "Correct move_to" in trouble.hint

    def test_outage_is_no_attempt(self, harness: Harness) -> None:
        """However long a destination is out of order, no file is deleted for it."""
        harness.on_failure = FailurePolicy(delete=True, attempts=1)
        harness.write("x")
        harness.store.any_fault = THROTTLED
        for _ in range(5):
            assert harness.run().exit_code == 3
            harness.clock.seconds += 60
        harness.store.any_fault = None
        assert harness.run().shipped == 1


@pytest.mark.parametrize("step", ["rename", "unlink"])
def test_cannot_be_removed(harness: Harness, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A file that was shipped but cannot be removed is a failing one: it is not shipped again each minute."""
    harness.write("x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, step, refuse)
    report = harness.run()
    assert (report.shipped, report.failed, report.exit_code, report.backlog) == (0, 1, 1, 1)
    assert harness.told(UploadFailed)[0].code == "CannotRemove"
    assert "user" in harness.told(UploadFailed)[0].hint
    assert harness.names() == {"x"}
    assert harness.run().left == {"waiting": 1}
    assert len(harness.store.puts) == 1


@pytest.mark.parametrize(
    ("number", "origin", "advice"),
    [
        (errno.ENOTDIR, Origin.NOT_MOVED, "what is in the way"),
        (errno.EACCES, Origin.NOT_MOVED, "the user that runs this program"),
        (errno.ENOSPC, Origin.NO_ROOM_TO_MOVE, "room"),
        (errno.EROFS, Origin.NO_ROOM_TO_MOVE, "writable"),
    ],
)
def test_cannot_be_moved_to_its_target(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, origin: Origin, advice: str
) -> None:
    """Only a disk that is full or read-only is called so; what else is wrong has another remedy."""

    def refuse(*_: object, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(MoveTarget, "receive", refuse)
    harness.on_success = SuccessPolicy(move_to=MoveTarget(str(tmp_path / "done")))
    harness.write("x")
    assert harness.run().exit_code == 1
    failed = harness.told(UploadFailed)[0]
    assert (failed.code, harness.names()) == ("CannotMove", {"x"})
    assert advice in failed.hint
    assert harness.records.failing_rows["x"].origin == origin.value


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("move_to", [True, False])
def test_no_descriptor_to_dispose_of_a_file(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, move_to: bool
) -> None:
    """A file for whose move or removal this machine has no descriptor waits for no pause: the next run removes it."""
    refusals = [1]

    def refuse(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if refusals:
                refusals.pop()
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        return call

    if move_to:
        monkeypatch.setattr(MoveTarget, "receive", refuse(MoveTarget.receive))
        harness.on_success = SuccessPolicy(move_to=MoveTarget(str(tmp_path / "done")))
    else:
        monkeypatch.setattr(os, "unlink", refuse(os.unlink))
    harness.write("x")
    report = harness.run()
    (failed,) = harness.told(UploadFailed)
    assert (report.exit_code, report.failed, report.backlog) == (1, 1, 1)
    assert (failed.code, failed.next_try_at, harness.names()) == ("OutOfResources", None, {"x"})
    assert harness.records.failing_rows == {}
    assert harness.run().exit_code == 0
    assert harness.names() == set()


def test_a_file_that_cannot_be_moved_and_no_descriptor_to_look_again(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that could not be moved is not blamed again while there is no descriptor to see whether it can be."""
    harness.on_success = SuccessPolicy(move_to=MoveTarget(str(tmp_path / "done")))
    (tmp_path / "done").write_text("in the way")
    harness.write("x")
    harness.run()
    row = harness.records.failing_rows["x"]

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(MoveTarget, "try_out", refuse)
    harness.clock.seconds += 100_000
    assert harness.run().exit_code == 1
    assert harness.records.failing_rows["x"] == row


# -------------------------------------------------------------------------------------------------- the destination


class TestDestination:
    def test_no_descriptor_for_one_file(self, harness: Harness) -> None:
        """A file for which this machine has no descriptor, twice while others are shipped, is not called failing."""
        for number in range(20):
            harness.write(f"{number:02}")
        harness.store.fault("07", no_descriptor, no_descriptor)
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (19, 1, 1)
        assert harness.records.failing_rows == {}
        assert harness.run().shipped == 1

    def test_no_descriptor_for_any_file(self, harness: Harness) -> None:
        """Where this machine has none for any file the run ends, and the next one starts with no file marked."""
        for number in range(20):
            harness.write(f"{number:02}")
        harness.store.any_fault = no_descriptor
        report = harness.run()
        assert (report.shipped, report.exit_code, report.code) == (0, 3, "OutOfResources")
        assert harness.records.failing_rows == {}

    @pytest.mark.parametrize("fault", [DENIED, THROTTLED, out_of_time])
    def test_unusable(self, harness: Harness, fault: Callable[[FakeStore, Put], None]) -> None:
        """What every file would meet ends the run after a few, with one clear sentence, however many files wait."""
        for number in range(500):
            harness.write(f"{number:03}")
        harness.store.any_fault = fault
        report = harness.run()
        assert (report.exit_code, report.ended_by, report.shipped) == (3, "destination", 0)
        assert len(harness.store.puts) <= 8
        assert len(harness.told(UploadFailed)) == 1
        (notice,) = harness.told(Notice)
        assert notice.level == "error"
        assert len(harness.names()) == 500
        assert (report.backlog, report.left) == (500, {"postponed": 500})

    def test_many_at_once(self, harness: Harness) -> None:
        """The first refusal is enough to send nothing more; what is under way may still answer."""
        for number in range(100):
            harness.write(f"{number:03}")
        harness.store.manual = True
        answered: list[str] = []

        def idle() -> None:
            put = harness.store.pending()[0]
            answered.append(put.key)
            DENIED(harness.store, put)

        harness.idle = idle
        assert harness.run().exit_code == 3
        assert len(answered) == 8
        assert len(harness.told(UploadFailed)) == 1

    def test_a_file_under_way_that_does_not_answer(self, harness: Harness) -> None:
        """A refusal ends the run within seconds although another upload hangs."""
        harness.write("a")
        harness.write("b")
        harness.store.fault("a", silent)
        harness.store.fault("b", DENIED)
        began = harness.clock.seconds
        report = harness.run()
        assert report.exit_code == 3
        assert harness.clock.seconds - began < 10
        assert harness.store.cancelled == 1

    def test_not_open(self, harness: Harness) -> None:
        """A store that cannot be opened ends the run; so does one that somebody else has, but that is no failure."""
        harness.write("x")
        harness.store.open_error = StoreError("no credentials", code="NoCredentials", scope=Scope.DESTINATION)
        assert harness.run().exit_code == 3
        harness.store.open_error = DestinationBusy("locked by another")
        report = harness.run()
        assert (report.exit_code, report.ended_by, report.message) == (0, "destination_busy", "locked by another")
        assert [notice.level for notice in harness.told(Notice)] == ["error", "info"]
        assert harness.names() == {"x"}

    def test_store_that_cannot_even_be_made(self, harness: Harness) -> None:
        """An error of another kind comes out, and leaves nothing open."""
        harness.write("x")
        harness.store.open_error = ImportError("no such engine")
        with pytest.raises(ImportError):
            harness.run()

    def test_refusals_of_one_location(self, harness: Harness) -> None:
        """What is refused for the files of one location only is theirs, since others come through."""
        for number in range(20):
            harness.write(f"bad/{number:02}")
            harness.store.fault(f"bad/{number:02}", *[DENIED] * (2 if number < 16 else 1))
            harness.write(f"good/{number:02}")
        reports = [harness.run() for _ in range(3)]
        assert [report.exit_code for report in reports] == [3, 3, 1]
        assert [report.shipped for report in reports] == [0, 0, 20]
        # Four of them anew, eight again, and with that it is enough.
        assert (reports[2].failed, reports[2].left) == (12, {"waiting": 8})
        harness.clock.seconds += 40
        harness.write("good/20")
        report = harness.run()
        assert (report.shipped, report.failed, report.left) == (1, 8, {"waiting": 12})
        assert harness.names() == {f"bad/{number:02}" for number in range(20)}

    def test_bad_files_at_the_head(self, harness: Harness) -> None:
        """Bad files that come first end one run, but the next one begins with others and sees whose fault it is."""
        for number in range(8):
            harness.write(f"bad{number}", age=10_000)
            harness.store.fault(f"bad{number}", THROTTLED, THROTTLED)
        for number in range(10):
            harness.write(f"good{number}", age=1000)
        assert harness.run().exit_code == 3
        assert {row.attempts for row in harness.records.failing_rows.values()} == {0}
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (10, 8, 1)
        assert {row.attempts for row in harness.records.failing_rows.values()} == {1}

    def test_bad_files_alone(self, harness: Harness) -> None:
        """Files that failed before are tried even if there is nothing else."""
        harness.write("x")
        harness.store.fault("x", THROTTLED)
        assert harness.run().exit_code == 3
        assert harness.run().shipped == 1

    def test_deferred_files_are_counted(self, harness: Harness) -> None:
        """Files that were put back and then not reached are counted as such."""
        harness.write("x", age=10_000)
        harness.store.fault("x", THROTTLED)
        harness.run()
        harness.write("y")
        harness.write("z")
        harness.store.any_fault = DENIED
        report = harness.run()
        assert (report.exit_code, report.backlog) == (3, 3)

    def test_at_most_so_many_are_deferred(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """The list of files that wait for others is bounded."""
        monkeypatch.setattr("s3_uploader.run.flow_control._MOST_DEFERRED", 1)
        for name in "ab":
            harness.write(name)
            harness.store.fault(name, failing())
        harness.run()
        harness.clock.seconds += 100
        harness.write("c", age=5)
        assert harness.run().shipped == 2
        assert [put.key for put in harness.store.puts[2:]] == ["b", "a"]

    def test_refused_names_go_last(self, harness: Harness) -> None:
        """After a name that is not plain has failed, all files with plain names go before the others."""
        for number in range(20):
            harness.write(f"caf\u00e9{number:02}", age=10_000 - number)
            harness.store.fault(f"caf\u00e9{number:02}", failing())
            harness.write(f"good{number:02}", age=1000 - number)
        report = harness.run()
        assert (report.shipped, report.failed) == (20, 20)
        keys = [put.key for put in harness.store.puts]
        first = keys.index("good00")
        assert first <= 8  # those that were on their way
        assert all(key.startswith("good") for key in keys[first : first + 20])

    def test_outage_in_the_middle(self, harness: Harness) -> None:
        """A destination that goes away in the middle of a run ends it, and no file pays for it."""
        for number in range(300):
            harness.write(f"{number:03}", age=1000 - number)

        def outage(store: FakeStore, put: Put) -> None:
            if len(store.puts) <= 100:
                store.store(put)
            else:
                THROTTLED(store, put)

        harness.store.any_fault = outage
        report = harness.run()
        assert (report.exit_code, report.shipped) == (3, 100)
        assert {row.attempts for row in harness.records.failing_rows.values()} == {0}

    def test_doubts_at_the_end(self, harness: Harness) -> None:
        """A last file that fails in a run that shipped others is its own trouble."""
        harness.write("a", age=1000)
        harness.write("b", age=100)
        harness.store.fault("b", THROTTLED)
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (1, 1, 1)

    def test_an_outage_that_is_over(self, harness: Harness) -> None:
        """A file that met no connection is sent once more as soon as another file was taken, and pays for nothing."""
        for name in "ab":
            harness.write(name)
        harness.store.fault("a", OUT_OF_REACH)
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (2, 0, 0)
        assert harness.records.failing_rows == {}

    def test_no_connection_for_one_file(self, harness: Harness) -> None:
        """A file that never meets a connection while others do is sent twice, and is then a failing file."""
        for name in "abcd":
            harness.write(name)
        for _ in range(2):
            harness.store.fault("a", OUT_OF_REACH)
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (3, 1, 1)
        assert harness.names() == {"a"}

    def test_out_of_reach_at_the_end(self, harness: Harness) -> None:
        """A destination that goes away before the last file ends the run, and the file does not pay for it."""
        harness.write("a", age=1000)
        harness.write("b", age=100)
        harness.store.fault("b", OUT_OF_REACH)
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (1, 0, 3)
        assert {row.attempts for row in harness.records.failing_rows.values()} <= {0}
        assert harness.run().shipped == 1

    def test_credentials_that_expire_at_the_end(self, harness: Harness) -> None:
        """Too few files are left to trip the run, and none of them pays for it."""
        for number in range(3):
            harness.write(f"a{number}", age=1000)
        expired = failing("ExpiredToken", scope=Scope.DESTINATION, origin=Origin.CREDENTIALS)
        for name in ("b1", "b2"):
            harness.write(name, age=100)
            harness.store.fault(name, expired)
        report = harness.run()
        assert (report.shipped, report.failed, report.exit_code) == (3, 0, 3)
        assert {row.attempts for row in harness.records.failing_rows.values()} <= {0}
        assert harness.run().shipped == 2

    def test_lost_answer(self, harness: Harness) -> None:
        """An object that was stored though the answer was lost is found by the next run."""
        harness.write("x")
        harness.store.fault("x", stored_but_failing)
        assert harness.run().exit_code == 3
        report = harness.run()
        assert (report.shipped, report.already_there) == (1, 1)
        assert harness.store.replaced == []


# -------------------------------------------------------------------------------------------------- the end of a run


class TestStop:
    def hang(self, harness: Harness, *names: str) -> None:
        """Files whose uploads do not answer."""
        for name in names:
            harness.write(name)
            harness.store.fault(name, silent)

    def test_drains(self, harness: Harness) -> None:
        """A first request lets uploads finish and begins no new ones."""
        self.hang(harness, "a", "b", "c", "d")
        harness.write("z", age=20)

        def idle() -> None:
            if not harness.stop.requests:
                harness.stop.request(signal.SIGTERM)
            else:
                for put in harness.store.pending():
                    harness.store.store(put)

        harness.idle = idle
        report = harness.run()
        assert (report.exit_code, report.ended_by, report.shipped) == (143, "signal", 4)
        assert harness.names() == {"z"}

    def test_drain_is_bounded(self, harness: Harness) -> None:
        """Uploads that do not finish in time are cancelled and their files kept."""
        self.hang(harness, "a", "b")

        def idle() -> None:
            if not harness.stop.requests:
                harness.stop.request(signal.SIGINT)

        harness.idle = idle
        began = harness.clock.seconds
        report = harness.run()
        assert (report.exit_code, report.left) == (130, {"postponed": 2})
        assert 20 <= harness.clock.seconds - began <= 22
        assert harness.names() == {"a", "b"}

    def test_second_request(self, harness: Harness) -> None:
        """A second request cancels at once."""
        self.hang(harness, "a")
        harness.idle = lambda: harness.stop.request(signal.SIGINT)
        began = harness.clock.seconds
        assert harness.run().exit_code == 130
        assert harness.clock.seconds - began < 3
        assert harness.store.cancelled == 1

    def test_deaf_store(self, harness: Harness) -> None:
        """Uploads that do not even answer a cancellation are left behind; their files close when they end."""
        self.hang(harness, "a")
        harness.store.deaf_to_cancel = True

        def idle() -> None:
            if harness.stop.requests < 2:
                harness.stop.request(signal.SIGINT)

        harness.idle = idle
        began = harness.clock.seconds
        assert harness.run().left == {"postponed": 1}
        assert harness.clock.seconds - began < 8
        (put,) = harness.store.pending()
        os.fstat(put.source.descriptor)
        harness.store.store(put)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(put.source.descriptor)
        assert harness.names() == {"a"}

    def test_before_anything(self, harness: Harness) -> None:
        """A stop that came before the run takes in at most one file."""
        for name in "abc":
            harness.write(name)
        harness.stop.request()
        report = harness.run()
        assert report.exit_code == 143
        assert len(harness.store.puts) <= 1
        assert report.backlog == len(harness.names()) == sum(report.left.values()) > 0

    def test_among_foreign_files(self, harness: Harness) -> None:
        """A stop is noticed also while nothing but foreign files is found."""
        for number in range(10):
            harness.write(f"{number}.tmp")
        harness.stop.request(signal.SIGTERM)
        report = harness.run()
        assert (report.exit_code, sum(report.left.values())) == (143, 1)

    def test_stays_a_stop(self, harness: Harness) -> None:
        """A destination that fails while a stop drains does not change what the caller is told."""
        self.hang(harness, "a")

        def idle() -> None:
            harness.stop.request(signal.SIGTERM)
            for put in harness.store.pending():
                THROTTLED(harness.store, put)

        harness.idle = idle
        report = harness.run()
        assert report.exit_code == 143
        assert "SlowDown" in report.message

    def test_subscription_ends(self, harness: Harness) -> None:
        """After the run nobody is woken any more."""
        harness.run()
        assert harness.stop._subscribers == []


class TestBudget:
    def test_ends_in_good_order(self, harness: Harness) -> None:
        """When its time is up a run finishes what it began, counts the rest, and that is success."""
        for number in range(50):
            harness.write(f"{number:02}")
        harness.write("x.tmp")
        harness.max_runtime = 10

        def slow(store: FakeStore, put: Put) -> None:
            harness.clock.seconds += 1
            store.store(put)

        harness.store.any_fault = slow
        report = harness.run()
        assert (report.exit_code, report.ended_by, report.shipped) == (0, "budget", 10)
        assert (report.backlog, report.left["postponed"]) == (40, 40)

    def test_counting_is_bounded(self, harness: Harness) -> None:
        """Counting the rest takes a moment at most."""
        for number in range(50):
            harness.write(f"{number:02}")
        harness.max_runtime = 0.5
        read = harness.clock.read

        def tick() -> float:
            harness.clock.seconds += 0.05
            return read()

        harness.clock.read = tick  # type: ignore[method-assign]
        assert harness.run().left.get("postponed", 0) < 40


class TestState:
    def test_cannot_be_recorded(self, harness: Harness) -> None:
        """What cannot be recorded is not removed; the run says so."""
        for name in "ab":
            harness.write(name)

        def break_ledger() -> None:
            harness.records.broken = True

        harness.store.after_answer["b"] = break_ledger
        report = harness.run()
        assert (report.exit_code, report.ended_by, report.shipped) == (1, "state", 0)
        assert report.left == {"postponed": 2}
        assert harness.names() == {"a", "b"}
        assert harness.told(Notice)[0].level == "error"
        harness.records.broken = False
        assert harness.run().already_there == 2

    def test_what_was_not_reached_is_counted(self, harness: Harness) -> None:
        """The report, and with it the metrics until there is room again, tell how many files wait."""
        for number in range(50):
            harness.write(f"{number:02}")

        def slow(store: FakeStore, put: Put) -> None:
            harness.records.broken = put.key == "05"
            harness.clock.seconds += 1
            store.store(put)

        harness.store.any_fault = slow
        report = harness.run()
        assert report.ended_by == "state"
        assert (report.backlog, report.left) == (len(harness.names()), {"postponed": 50 - report.shipped})

    def test_breaks_in_the_middle(self, harness: Harness) -> None:
        """Uploads under way and in doubt are let go."""
        for name in "abcd":
            harness.write(name)
        harness.store.fault("a", THROTTLED)
        for name in "cd":
            harness.store.fault(name, silent)

        def idle() -> None:
            harness.records.broken = True
            for put in harness.store.pending()[:1]:
                harness.store.store(put)

        harness.idle = idle
        report = harness.run()
        assert (report.ended_by, report.exit_code) == ("state", 1)
        assert harness.names() == set("abcd")

    def test_breaks_before_anything(self, harness: Harness) -> None:
        """A ledger that breaks before the store was opened leaves the store alone."""
        harness.write("a")
        harness.store.fault("a", failing())
        harness.run()
        harness.records.broken = True
        harness.store.opened = 0
        assert harness.run().ended_by == "state"
        assert (harness.store.opened, harness.store.cancelled) == (0, 0)

    def test_breaks_while_removing(self, harness: Harness) -> None:
        """If the ledger breaks while a batch is removed, what it has recorded is removed, counted and named."""
        for name in "abc":
            harness.write(name)

        def on_commit() -> None:
            harness.write("b", "changed")
            harness.records.broken = True

        harness.records.on_commit = on_commit
        report = harness.run()
        assert (report.ended_by, report.shipped, report.exit_code) == ("state", 2, 1)
        assert harness.names() == {"b"}
        assert {os.path.basename(event.path) for event in harness.told(Uploaded)} == {"a", "c"}


# -------------------------------------------------------------------------------------------------- links and the rest


def test_directory_swapped_for_a_link(harness: Harness, tmp_path: Path) -> None:
    """A directory that becomes a link while its file is uploaded: nothing outside is removed."""
    harness.write("a/x")

    def swap() -> None:
        (harness.base / "a").rename(tmp_path / "outside")
        (harness.base / "a").symlink_to(tmp_path / "outside")

    harness.store.before_answer["a/x"] = swap
    report = harness.run()
    assert (tmp_path / "outside/x").exists()
    assert report.exit_code == 1
    harness.clock.seconds += 1000
    assert harness.run().left == {"special": 1}


def test_hard_links(harness: Harness) -> None:
    """Two names of one file are both shipped, if not in the same run."""
    path = harness.write("x", "content")
    os.link(path, harness.base / "y")
    for _ in range(3):
        harness.run()
    assert harness.names() == set()
    assert harness.store.objects == {"x": b"content", "y": b"content"}


def test_leftover_and_new_file(harness: Harness) -> None:
    """A leftover of a killed run and a new file of its name: no content is lost and none replaced."""
    harness.write(".x.s3u", "first", age=4000)
    harness.write("x", "second")
    report = harness.run()
    assert report.exit_code == 1
    assert harness.store.objects == {"x": b"first"}
    assert harness.names() == {"x"}
    assert (harness.base / "x").read_text() == "second"


def test_events_of_an_upload(harness: Harness) -> None:
    """Who follows a run is told when an upload begins and ends."""
    path = harness.write("x", "12345")
    changed_at = path.stat().st_mtime
    harness.run()
    assert harness.events[0] == UploadStarted(str(path), 5, changed_at)
    assert isinstance(harness.events[1], Uploaded)


def test_with_the_real_ledger(tmp_path: Path) -> None:
    """The ledger keeps its side: failing files wait, shipped ones are history, kept ones are remembered."""
    with Ledger.open(str(tmp_path / "ledger")) as ledger:
        harness = Harness(tmp_path, records=ledger)
        harness.write("a")
        harness.write("b")
        harness.store.fault("b", failing())
        assert harness.run().exit_code == 1
        assert ledger.failing_count() == 1
        assert harness.run().left == {"waiting": 1}
        harness.clock.seconds += 100
        assert harness.run().shipped == 1
        assert ledger.failing_count() == 0
        assert [row.path for row in ledger.history()] == ["a", "b"]
        harness.on_success = SuccessPolicy(keep=True)
        harness.write("c")
        assert [harness.run().shipped for _ in range(2)] == [1, 0]
        path = harness.write("d", "old")
        harness.on_success = SuccessPolicy()
        (harness.base / "c").unlink()
        harness.store.after_answer["d"] = lambda: overwrite(path)
        harness.run()
        harness.write("d", "new")
        assert harness.run().shipped == 1
        assert harness.store.objects["d"] == b"new"


class TestFlight:
    def upload(self, root: SpoolRoot, name: str) -> FileTask:
        """A file that is ready to be handed over."""
        file = open_candidate(root, candidate(name))
        assert isinstance(file, OpenFile)
        return FileTask(file, name, 0.0, 0)

    def test_waits_and_wakes(self, tmp_path: Path) -> None:
        """With the queue of the standard library: an answer, a call to wake, and a time that is up."""
        write(tmp_path / "x")
        root, store = SpoolRoot(str(tmp_path)), FakeStore()
        flight = UploadsInFlight(store, timeout_seconds=60)
        assert flight.landed(0) is None
        flight.wake()
        assert flight.has_landed()
        assert flight.landed(5) is None
        upload = self.upload(root, "x")
        flight.launch(upload)
        assert (len(flight.under_way), flight.bytes) == (1, 4)
        landed = flight.landed(5)
        assert landed is not None
        assert isinstance(landed[1], Receipt)
        assert (len(flight.under_way), flight.bytes) == (0, 0)
        upload.file.close()
        root.close()

    def test_late_answers(self, tmp_path: Path) -> None:
        """What was given up may answer later; that only closes its file."""
        write(tmp_path / "x")
        root, store = SpoolRoot(str(tmp_path)), FakeStore(manual=True)
        flight = UploadsInFlight(store, timeout_seconds=60, make_queue=queue.SimpleQueue)
        upload = self.upload(root, "x")
        flight.launch(upload)
        assert flight.abandon() == [upload]
        assert upload.file.descriptor >= 0
        store.answer(store.pending()[0])
        assert upload.file.descriptor == -1
        assert flight.landed(0) is None
        root.close()


class TestLoop:
    """The store's loop, run by the coordinator."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[SpoolRoot]:
        """A spool with two files."""
        for name in "ab":
            write(tmp_path / name)
        root = SpoolRoot(str(tmp_path))
        yield root
        root.close()

    def launch(self, flight: UploadsInFlight, root: SpoolRoot, name: str) -> FileTask:
        """Hand a file over."""
        file = open_candidate(root, candidate(name))
        assert isinstance(file, OpenFile)
        upload = FileTask(file, name, 0.0, 0)
        flight.launch(upload)
        return upload

    def test_is_run_while_waiting(self, root: SpoolRoot) -> None:
        """Answers that only a turn of the loop brings are brought by waiting for one, as long as the loop is ours."""
        store = FakeStore(manual=True)
        store.loop = loop = FakeLoop(lambda: store.answer(store.pending()[0]))
        flight = UploadsInFlight(store, timeout_seconds=60)
        flight.take_over_loop()
        assert loop.calls == ["take over"]
        upload = self.launch(flight, root, "a")
        landed = flight.landed(3.0)
        assert landed is not None
        assert landed[0] is upload
        assert loop.calls == ["take over", "turn 3.0"]
        flight.hand_back_loop()
        flight.hand_back_loop()
        assert loop.calls == ["take over", "turn 3.0", "hand back"]
        upload.file.close()

    def test_an_answer_that_is_there_needs_no_turn(self, root: SpoolRoot) -> None:
        """What has landed is taken before anything is waited for."""
        store = FakeStore()
        store.loop = loop = FakeLoop()
        flight = UploadsInFlight(store, timeout_seconds=60)
        flight.take_over_loop()
        upload = self.launch(flight, root, "a")
        assert flight.landed(3.0) is not None
        assert "turn 3.0" not in loop.calls
        upload.file.close()

    def test_is_turned_between_other_work(self, root: SpoolRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        """While files are under way the sockets are looked at every few milliseconds, and not for each file anew."""
        now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        store = FakeStore(manual=True)
        store.loop = loop = FakeLoop()
        flight = UploadsInFlight(store, timeout_seconds=60)
        flight.take_over_loop()
        flight.keep_turning()
        assert loop.calls == ["take over"]
        upload = self.launch(flight, root, "a")
        for _ in range(3):
            assert not flight.has_landed()
        assert loop.calls == ["take over", "turn 0.0"]
        now += 0.01
        flight.keep_turning()
        assert loop.calls == ["take over", "turn 0.0", "turn 0.0"]
        flight.abandon()
        store.answer(store.pending()[0])
        assert upload.file.descriptor == -1

    def test_who_answers_elsewhere_wakes_it(self, root: SpoolRoot) -> None:
        """An answer on another thread, and whoever wants the coordinator's attention, end the wait for the sockets."""
        store = FakeStore(manual=True)
        store.loop = loop = FakeLoop()
        flight = UploadsInFlight(store, timeout_seconds=60)
        flight.take_over_loop()
        here, there = self.launch(flight, root, "a"), self.launch(flight, root, "b")
        store.answer(store.pending()[0])
        assert "wake" not in loop.calls
        thread = threading.Thread(target=lambda: store.answer(store.pending()[0]))
        thread.start()
        thread.join()
        assert loop.calls.count("wake") == 1
        flight.wake()
        assert loop.calls.count("wake") == 2
        for upload in (here, there):
            assert flight.landed(0.0) is not None
            upload.file.close()

    def test_one_that_has_ended_is_left(self, root: SpoolRoot) -> None:
        """Where the loop turns no more, answers are waited for as those of any other store."""
        store = FakeStore(manual=True)
        store.loop = loop = FakeLoop()
        loop.goes_on = False
        flight = UploadsInFlight(store, timeout_seconds=60)
        flight.take_over_loop()
        upload = self.launch(flight, root, "a")
        assert flight.landed(0.0) is None
        assert loop.calls[-1] == "hand back"
        store.answer(store.pending()[0])
        assert flight.landed(5.0) is not None
        assert loop.calls.count("turn 0.0") == 1
        upload.file.close()

    def test_a_run_takes_and_returns_it(self, harness: Harness) -> None:
        """A run that ships something takes the loop over once and hands it back; one with nothing to do never asks."""
        harness.store.loop = loop = FakeLoop()
        harness.run()
        assert loop.calls == []
        harness.write("a")
        harness.write("b")
        assert harness.run().shipped == 2
        assert [call for call in loop.calls if not call.startswith("turn")] == ["take over", "hand back"]


class TestTheMomentBeforeRemoval:
    """Between a file's losing its name and the last look at it."""

    def private(self, harness: Harness) -> Path:
        """The file that was taken."""
        (found,) = [path for path in harness.base.iterdir() if path.name.startswith(".")]
        return found

    def test_a_writer_who_had_looked_the_name_up_before(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What somebody writes who was stopped in the middle of opening the file is kept, and the next run ships it."""
        harness.write("x", "one")
        sleep = harness.clock.sleep

        def write_late(seconds: float) -> None:
            sleep(seconds)
            with self.private(harness).open("a") as file:
                file.write(" two")

        monkeypatch.setattr(harness.clock, "sleep", write_late)
        report = harness.run()
        assert (report.shipped, report.left) == (0, {"changed": 1})
        assert (harness.base / "x").read_text() == "one two"
        monkeypatch.undo()
        harness.clock.seconds += 7200
        os.utime(harness.base / "x", (harness.clock.seconds - 3600,) * 2)
        assert harness.run().shipped == 1
        assert harness.store.objects["x"] == b"one two"
        assert harness.names() == set()

    def test_a_writer_who_is_still_at_it(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that somebody has open for writing by then gets its name back."""
        harness.write("x", "one")
        writers: list[int] = []
        sleep = harness.clock.sleep

        def open_late(seconds: float) -> None:
            sleep(seconds)
            writers.append(os.open(self.private(harness), os.O_WRONLY))

        monkeypatch.setattr(harness.clock, "sleep", open_late)
        report = harness.run()
        os.close(writers[0])
        assert (report.shipped, report.left) == (0, {"busy": 1})
        assert harness.names() == {"x"}

    def test_lasts_long_enough(self, harness: Harness) -> None:
        """However few files there are, the last look comes a moment later; with nothing to remove nobody waits."""
        harness.write("x")
        harness.run()
        assert sum(harness.clock.slept) == pytest.approx(0.01)
        harness.on_success = SuccessPolicy(keep=True)
        harness.write("y")
        harness.run()
        assert sum(harness.clock.slept) == pytest.approx(0.01)

    def test_a_scan_that_comes_across_it(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is about to be removed is nothing to ship, although a leftover of that name would be."""
        monkeypatch.setattr("s3_uploader.run.settlement._BATCH", 1)
        harness.write("a")
        harness.write("b")
        test = self

        class Layout(TreeLayout):
            """Comes across the private name of the second file."""

            def scan(self, root: SpoolRoot, skip: object) -> Iterator[Any]:
                """The files, and then one of them under its private name."""
                yield candidate("a")
                yield candidate("b")
                yield candidate(test.private(harness).name)

        harness.layout = Layout(settle_seconds=10, globs=NO_GLOBS)
        report = harness.run()
        assert (report.shipped, report.failed, report.left) == (2, 0, {})
        assert [put.key for put in harness.store.puts] == ["a", "b"]
        assert harness.names() == set()

    def test_nobody_waits_while_files_are_closed(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """Closing a removed file frees its blocks, which may take long; meanwhile the next answers are taken."""
        monkeypatch.setattr("s3_uploader.run.settlement._BATCH", 1)
        done: list[str] = []
        add, finish = Settlement.add, Closing.finish

        def tell_of_answer(settlement: Settlement, upload: FileTask, receipt: Receipt) -> None:
            done.append(f"answer {receipt.key}")
            add(settlement, upload, receipt)

        def tell_of_end(closing: Closing) -> None:
            done.append("closed")
            finish(closing)

        monkeypatch.setattr(Settlement, "add", tell_of_answer)
        monkeypatch.setattr(removal, "Closing", type("Told", (Closing,), {"finish": tell_of_end}))
        for name in "abc":
            harness.write(name)
        assert harness.run().shipped == 3
        assert done == ["answer a", "answer b", "answer c", "closed", "closed", "closed"]

    def test_the_ledger_fails_meanwhile(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was recorded and taken is removed and told, also if nothing more can be recorded."""
        monkeypatch.setattr("s3_uploader.run.settlement._BATCH", 1)
        harness.write("a")
        harness.write("b")
        commit = harness.records.commit_batch
        done: list[object] = []

        def fail_later(**rows: Any) -> None:
            if done:
                raise StateError("The disk is full.")
            done.append(rows)
            commit(**rows)

        monkeypatch.setattr(harness.records, "commit_batch", fail_later)
        report = harness.run()
        assert report.shipped == 1
        assert harness.names() == {"b"}
        assert len(harness.told(Uploaded)) == 1


def test_reasons_that_are_no_failure(harness: Harness) -> None:
    """A directory that cannot be read is a failure; a foreign file is not."""
    harness.write("x.tmp")
    assert harness.run().exit_code == 0
    root = SpoolRoot(str(harness.base))
    harness.settlement.leftovers.skip((), "dir", Left.UNREADABLE, "Permission denied")
    harness.settlement.leftovers.skip((), "100%", Left.UNDECODABLE, "no key")
    assert harness.settlement.counters.troubles == 2
    assert [event.action for event in harness.told(LocalTrouble)] == ["read", "ship"]
    root.close()


class TestOddEnds:
    def test_directory_that_cannot_be_pruned(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A directory that cannot be removed is reported; the file in it was shipped all the same."""
        harness.use_dated()
        harness.write("a/2019/01/01/00/05-x.dat")

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "rmdir", refuse)
        assert harness.run().exit_code == 0
        assert [(event.action, event.message) for event in harness.told(LocalTrouble)] == [
            ("prune", "Permission denied")
        ]

    def test_pruning_can_be_switched_off(self, harness: Harness) -> None:
        """Who does not want directories to go keeps them."""
        harness.use_dated()
        harness.prune = False
        harness.write("a/2019/01/01/00/05-x.dat")
        assert harness.run().shipped == 1
        assert (harness.base / "a/2019/01/01/00").is_dir()

    def test_disk_that_fails_after_the_upload(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot even be asked whether it changed counts as changed: it stays."""
        harness.write("x")

        def fail(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        harness.store.before_answer["x"] = lambda: monkeypatch.setattr(open_file, "is_being_written", fail)
        assert harness.run().left == {"changed": 1}
        assert harness.names() == {"x"}

    def test_error_that_nobody_foresaw(self, harness: Harness) -> None:
        """An exception from outside comes out, and what is under way or proven but not recorded stays and is closed."""
        for name in "abc":
            harness.write(name)
        harness.store.fault("c", silent)

        def interrupt() -> None:
            if len(harness.store.puts) == 3:
                raise KeyboardInterrupt

        harness.beat = interrupt
        with pytest.raises(KeyboardInterrupt):
            harness.run()
        assert harness.names() == set("abc")
        harness.store.store(harness.store.pending()[0])

    def test_counting_what_is_left(self, harness: Harness) -> None:
        """What an ended run counts is every candidate, whatever else there is."""
        harness.use_dated()
        for minute in range(20):
            harness.write(f"a/2019/01/01/00/{minute:02}-x.dat")
        harness.write("a/2019/01/01/00/foreign")
        harness.write("a/2019/01/01/01/foreign")
        (harness.base / "a/2019/01/01/02").mkdir()
        harness.write("a/2019/01/01/03/00-x.dat")
        harness.store.any_fault = DENIED
        report = harness.run()
        assert (report.backlog, report.left) == (21, {"postponed": 21, "unmatched": 2})

    def test_ledger_breaks_in_doubt(self, harness: Harness) -> None:
        """A ledger that breaks while it is in doubt whose error something was: the files stay."""
        for name in "abc":
            harness.write(name)
        harness.store.fault("b", DENIED)
        harness.store.fault("c", silent)

        def idle() -> None:
            harness.records.broken = True

        harness.idle = idle
        report = harness.run()
        assert (report.ended_by, report.left) == ("state", {"postponed": 3})
        assert harness.names() == set("abc")

    def test_fails_after_the_end(self, harness: Harness) -> None:
        """When the run has been given up, further failures change nothing about its reason."""
        for name in "ab":
            harness.write(name)
        harness.store.fault("a", silent)
        harness.store.fault("b", DENIED)

        def cancel() -> None:
            for put in harness.store.pending():
                THROTTLED(harness.store, put)

        harness.store.cancel = cancel  # type: ignore[method-assign]
        report = harness.run()
        assert (report.exit_code, report.message.split(".")[0]) == (3, "InvalidAccessKeyId")
        assert len(harness.told(UploadFailed)) == 1
        assert set(harness.records.failing_rows) == {"a", "b"}

    def test_directories_that_were_empty_before(self, harness: Harness) -> None:
        """A directory that was empty when it was found goes too, if its period is over."""
        harness.use_dated()
        (harness.base / "a/2019/01/01/02").mkdir(parents=True)
        harness.write("a/2019/01/01/03/00-x.dat", age=1)
        assert harness.run().pruned_directories == 1
        assert not (harness.base / "a/2019/01/01/02").exists()


def test_two_files_of_one_key(tmp_path: Path) -> None:
    """An older and a newer file of one name are never under way at once: the newer content is what stays."""
    harness = Harness(tmp_path, store=FakeStore(manual=True))
    harness.on_conflict = OnConflict.OVERWRITE
    harness.write(".x.s3u", "older", age=200)
    harness.write("x", "newer", age=100)

    def answer() -> None:
        (asked,) = harness.store.pending()
        harness.store.answer(asked)

    harness.idle = answer
    assert harness.run().left == {Left.POSTPONED.value: 1}
    assert (harness.names(), harness.store.objects) == ({"x"}, {"x": b"older"})
    assert harness.run().shipped == 1
    assert (harness.names(), harness.store.objects) == (set(), {"x": b"newer"})


class TestNews:
    """While uploads are under way a watch goes on looking."""

    @pytest.fixture
    def watched(self, tmp_path: Path) -> Harness:
        """A harness whose store answers when it is told to, with a large file under way."""
        made = Harness(tmp_path, store=FakeStore(manual=True))
        made.scan_trigger = ScanTrigger(poll_seconds=9)
        made.write("large")
        return made

    def test_small_one_after_a_large_one(self, watched: Harness) -> None:
        """A file that appears while a large one is under way is shipped long before that is done."""
        done_at: list[float] = []

        def idle() -> None:
            seconds = watched.clock.seconds - fakes.NOW
            large, *small = watched.store.puts
            if seconds >= 3 and "small" not in watched.names() and not small:
                watched.write("small")
                watched.scan_trigger.tell()  # type: ignore[union-attr]
            for asked in small:
                if not asked.future.done():
                    done_at.append(seconds)
                    watched.store.answer(asked)
            if seconds > 100 and not large.future.done():
                watched.store.answer(large)

        watched.idle = idle
        report = watched.run()
        assert (report.shipped, report.backlog, watched.names()) == (2, 0, set())
        assert len(watched.store.puts) == 2
        assert done_at[0] <= 4

    def test_without_word(self, watched: Harness) -> None:
        """Where no word comes it looks each interval; what it leaves is counted once, what fails is tried once."""
        watched.write("bad", age=60)
        watched.write(".hidden")
        watched.store.fault("bad", failing("KeyRefused"))

        def idle() -> None:
            large, *others = watched.store.puts
            for asked in others:
                if not asked.future.done():
                    watched.store.answer(asked)
            if watched.clock.seconds - fakes.NOW > 40 and not large.future.done():
                watched.store.answer(large)

        watched.idle = idle
        scans: list[None] = []
        real = watched.layout.scan
        watched.layout.scan = lambda *arguments: (scans.append(None), real(*arguments))[1]  # type: ignore[method-assign,func-returns-value]
        report = watched.run()
        assert len(scans) == 5
        assert [asked.key for asked in watched.store.puts] == ["large", "bad"]
        assert report.left == {Left.UNMATCHED.value: 1}
        assert (report.shipped, report.failed, report.backlog) == (1, 1, 1)

    def test_it_is_ended_meanwhile(self, watched: Harness) -> None:
        """If the destination fails while it looks once more, what it has not reached by then is counted as waiting."""
        made: list[int] = []

        def idle() -> None:
            if not made:
                made.extend(range(30))
                for number in made:
                    watched.write(f"small{number:02}", age=60 - number)
                    watched.store.fault(f"small{number:02}", DENIED)
                watched.scan_trigger.tell()  # type: ignore[union-attr]
            for asked in watched.store.puts[1:]:
                if not asked.future.done():
                    watched.store.answer(asked)

        watched.idle = idle
        report = watched.run()
        assert (report.exit_code, report.shipped, report.backlog) == (3, 0, 31)

    def test_ends_at_last(self, watched: Harness) -> None:
        """A run that is fed all the time ends after a minute, so that it is reported."""

        def idle() -> None:
            watched.clock.seconds += 0.5
            for asked in watched.store.pending():
                if watched.clock.seconds - asked.deadline + 60 > 5:
                    watched.store.answer(asked)
            watched.write(f"{watched.clock.seconds}")
            watched.scan_trigger.tell()  # type: ignore[union-attr]

        watched.idle = idle
        report = watched.run()
        assert report.ended_by == "done"
        assert 60 <= report.duration < 75

    def test_stop(self, watched: Harness) -> None:
        """A request to stop ends the looking too."""

        def idle() -> None:
            seconds = watched.clock.seconds - fakes.NOW
            if seconds > 3 and not watched.stop.requests:
                watched.stop.request(signal.SIGTERM)
            if seconds > 10:
                for asked in watched.store.pending():
                    watched.store.answer(asked)

        watched.idle = idle
        assert watched.run().ended_by == "signal"

    def test_reload(self, watched: Harness) -> None:
        """When the configuration is to be read anew no more files are taken in."""
        watched.scan_trigger = ScanTrigger(poll_seconds=1, is_wanted=lambda: False)

        def idle() -> None:
            watched.write("small")
            if watched.clock.seconds - fakes.NOW > 20:
                watched.store.answer(watched.store.puts[0])

        watched.idle = idle
        assert watched.run().shipped == 1
        assert watched.names() == {"small"}


class TestTakenRight:
    """A right that is taken away during a run costs a few files a request and an entry, and not each that waits."""

    @pytest.fixture
    def denying(self, harness: Harness) -> Harness:
        """A store that accepts one file, and then refuses those of some locations."""
        harness.max_in_flight = 4
        harness.write("attic/first", age=9000)
        return harness

    def refuse(self, harness: Harness, *locations: str) -> None:
        """Refuse everything below these from now on."""
        put = harness.store.put

        def refusing(key: str, *arguments: Any, **options: Any) -> Any:
            if key.partition("/")[0] in locations:
                harness.store.fault(key, failing("AccessDenied", origin=Origin.FILE_RIGHT))
            return put(key, *arguments, **options)

        harness.store.put = refusing  # type: ignore[method-assign]

    def test_of_one_location(self, denying: Harness) -> None:
        """The others are shipped all the same."""
        for number in range(300):
            denying.write(f"den/{number:03d}", age=8000 - number)
            denying.write(f"hall/{number:03d}", age=4000 - number)
        self.refuse(denying, "den")
        report = denying.run()
        assert (report.exit_code, report.shipped) == (1, 301)
        assert report.failed < 40
        assert report.left[Left.WAITING.value] + report.failed == 300
        assert len(denying.names()) == 300

    def test_of_all(self, denying: Harness) -> None:
        """The run ends, and says so once."""
        for number in range(300):
            denying.write(f"room-{number % 5}/{number:03d}", age=8000 - number)
        self.refuse(denying, *(f"room-{number}" for number in range(5)))
        report = denying.run()
        assert (report.exit_code, report.shipped, report.code, report.origin) == (3, 1, "AccessDenied", "file_right")
        assert report.failed < 60
        assert len(denying.names()) == 300


class TestOrigins:
    """What an error comes from goes from where it is made into the report and the ledger."""

    def test_of_the_error_that_ends_a_run(self, harness: Harness) -> None:
        """The report names it, and so does the record of the file that met it."""
        harness.write("x")
        harness.store.any_fault = failing("NoSuchBucket", scope=Scope.DESTINATION, origin=Origin.BUCKET)
        report = harness.run()
        assert (report.exit_code, report.code, report.origin) == (3, "NoSuchBucket", "bucket")
        assert [row.origin for row in harness.records.failing_rows.values()] == ["bucket"]

    def test_of_an_error_that_seemed_to_be_one_file_s(self, harness: Harness) -> None:
        """Where every file meets it, the destination is out of reach."""
        harness.write("x")
        harness.store.any_fault = THROTTLED
        assert harness.run().origin == "unreachable"

    def test_of_a_file_that_fails(self, harness: Harness) -> None:
        """While others go, the report has none."""
        for name in ("x", "y"):
            harness.write(name)
        harness.store.fault("x", failing("AccessDenied", origin=Origin.FILE_RIGHT))
        report = harness.run()
        assert (report.exit_code, report.origin) == (1, "")
        assert [row.origin for row in harness.records.failing_rows.values()] == ["file_right"]
