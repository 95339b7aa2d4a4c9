"""A look through the spool: what comes out of it, what is counted and reported, and which directories are pruned."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.control import StopRequest
from s3_uploader.core.events import Event
from s3_uploader.core.model import OTHER_LOCATIONS, Candidate, Left, Proof, Receipt, RunCounters, RunEnd, Waiting
from s3_uploader.run.scan import Ending, SpoolScan, exit_code, prune_upwards, report_of
from s3_uploader.spool.layouts.base import Layout
from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.root import Names, SpoolRoot
from tests.fakes import NO_GLOBS, NOW, FakeClock, candidate, write

TREE = TreeLayout(settle_seconds=10, globs=NO_GLOBS)
DATED = DatedLayout(settle_seconds=10, globs=NO_GLOBS, epoch_of=utc_epoch)


class Look:
    """A spool with what looks through it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.clock = FakeClock()
        self.root = SpoolRoot(str(base))
        self.stop = StopRequest()
        self.events: list[Event] = []

    def write(self, path: str, *, age: float) -> None:
        """A file that was written so many seconds ago."""
        write(self.base / path, b"data", mtime=self.clock.seconds - age)

    def scan(
        self, layout: Layout = TREE, *, beat: Callable[[], None] = lambda: None, budget: float | None = None
    ) -> SpoolScan:
        """What looks through it."""
        clock = self.clock.clock()
        return SpoolScan(
            self.root,
            layout,
            settle_seconds=10,
            prune=True,
            ending=Ending(self.stop, clock=clock, max_runtime_seconds=budget),
            emit=self.events.append,
            clock=clock,
            beat=beat,
        )


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    """An empty spool."""
    found = Look(tmp_path)
    yield found
    found.root.close()


def test_a_directory_that_was_removed_and_made_again(tmp_path: Path) -> None:
    """The next scan in a run finds what is in the new one: the old one is still open, and empty for ever."""
    look = Look(tmp_path)
    look.write("a/b/old", age=60)
    scan = look.scan()
    assert [found.path for found in scan.begin() if isinstance(found, Candidate)] == ["a/b/old"]
    shutil.rmtree(tmp_path / "a")
    look.write("a/b/new", age=60)
    assert [found.path for found in scan.begin() if isinstance(found, Candidate)] == ["a/b/new"]


def test_where_nothing_is_old_enough_nothing_comes_out(look: Look) -> None:
    """Files that are too young are counted as waiting, and the scan finds nothing to ship."""
    for name in ("a", "b"):
        look.write(name, age=5)
    scan = look.scan()
    assert scan.find() is None
    assert scan.counters.left == {Left.FRESH.value: 2}
    assert sum(waiting.files for waiting in scan.counters.waiting.values()) == 2


def test_scan_continues_from_the_first_file_that_is_old_enough(look: Look) -> None:
    """What was found is not lost, and what came before it is not looked at twice."""
    for name, age in (("01-young.dat", 5), ("02-old.dat", 60), ("03-young.dat", 5)):
        look.write(f"attic/2020/01/01/00/{name}", age=age)
    scan = look.scan(DATED)
    begun = scan.find()
    assert begun is not None
    assert [found.name for found in begun if isinstance(found, Candidate)] == ["02-old.dat", "03-young.dat"]
    assert scan.counters.left == {Left.FRESH.value: 1}


def test_hidden_files_are_not_examined(look: Look) -> None:
    """They are left like all that the layout does not recognise, but nobody asks why."""
    for name in (".hidden", "x.tmp"):
        look.write(name, age=60)
    scan = look.scan()
    assert scan.find() is None
    assert scan.counters.left == {Left.UNMATCHED.value: 2}
    assert scan.counters.strangers == [((), "x.tmp")]


def test_empty_directories_go_although_there_is_nothing_to_ship(look: Look) -> None:
    """A tick without work leaves no empty directories behind."""
    (look.base / "attic" / "2019" / "01").mkdir(parents=True)
    scan = look.scan(DATED)
    assert scan.find() is None
    assert scan.counters.pruned >= 2
    assert not (look.base / "attic" / "2019").exists()


@pytest.mark.parametrize("layout", [TREE, DATED], ids=["young files", "files of no layout"])
def test_a_stop_ends_the_look(look: Look, layout: Layout) -> None:
    """Somebody who asks for a stop does not wait for the rest of a spool in which nothing is ready."""
    for number in range(20):
        look.write(f"{number:02}", age=5)
    assert look.scan(layout, beat=look.stop.request).find() is None
    assert len(look.events) == 1


def test_what_a_time_budget_does_not_reach_is_counted(look: Look) -> None:
    """A run whose time is over says how much it has not come to."""
    for number in range(6):
        look.write(f"attic/2020/01/01/00/{number:02}-a.dat", age=60 if number == 5 else 5)

    def beat() -> None:
        look.clock.seconds += 10

    scan = look.scan(DATED, beat=beat, budget=5)
    assert scan.find() is None
    assert scan.counters.left == {Left.FRESH.value: 1, Left.POSTPONED.value: 5}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[SpoolRoot]:
    """The spool."""
    opened = SpoolRoot(str(tmp_path))
    yield opened
    opened.close()


def pruned(root: SpoolRoot, path: str, *, now: float = NOW) -> tuple[list[str], OSError | None]:
    """What was pruned, and what stopped it."""
    gone: list[str] = []

    def note(names: Names) -> None:
        gone.append("/".join(names))

    names = tuple(path.split("/"))
    error = prune_upwards(root, DATED, names, now=now, pruned=note, child=None)
    return gone, error


def test_upwards(root: SpoolRoot, tmp_path: Path) -> None:
    """The whole chain goes that is empty and over, and the spool stays."""
    (tmp_path / "a/2018/01/01/00").mkdir(parents=True)
    assert pruned(root, "a/2018/01/01/00") == (["a/2018/01/01/00", "a/2018/01/01", "a/2018/01", "a/2018", "a"], None)
    assert tmp_path.exists()


def test_stops_at_what_still_runs(root: SpoolRoot, tmp_path: Path) -> None:
    """The day that still runs stays although its hour is over."""
    (tmp_path / "a/2020/09/13/11").mkdir(parents=True)
    (tmp_path / "a/2020/09/13/12").mkdir(parents=True)
    assert pruned(root, "a/2020/09/13/12") == ([], None)
    assert pruned(root, "a/2020/09/13/11") == (["a/2020/09/13/11"], None)
    assert (tmp_path / "a/2020/09/13/12").exists()


def test_not_empty(root: SpoolRoot, tmp_path: Path) -> None:
    """A directory with anything in it stays, also if it came this very moment."""
    write(tmp_path / "a/2018/01/01/00/.hidden")
    assert pruned(root, "a/2018/01/01/00") == ([], None)


def test_gone_or_a_link(root: SpoolRoot, tmp_path: Path) -> None:
    """A directory that is gone, or became a link or a file, is left alone."""
    assert pruned(root, "a/2018/01") == ([], None)
    (tmp_path / "outside").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/2018").symlink_to("../outside")
    (tmp_path / "b").symlink_to("outside")
    assert pruned(root, "a/2018") == ([], None)
    assert pruned(root, "b/2018") == ([], None)
    assert (tmp_path / "outside").exists()


def test_error(root: SpoolRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be removed is reported."""
    (tmp_path / "a/2018").mkdir(parents=True)
    failure = PermissionError(errno.EACCES, "Permission denied")

    def rmdir(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(os, "rmdir", rmdir)
    assert pruned(root, "a/2018") == ([], failure)


@given(st.floats(1e9, 3e9), st.lists(st.integers(1, 31), min_size=0, max_size=3), st.sampled_from([2001, 2020, 2040]))
def test_never_a_period_that_runs(now: float, numbers: list[int], year: int) -> None:
    """No directory may go while its period runs, or within the settle time after it."""
    names = ("a", str(year), *(f"{number:02}" for number in numbers))
    end = DATED._period_end(names)
    if end is not None and end + 10 > now:
        assert not DATED.may_prune(names, now=now, child=None, mtime=0)


@pytest.mark.parametrize(
    ("end", "failing", "signal_number", "code"),
    [
        (RunEnd.DONE, 0, None, 0),
        (RunEnd.DONE, 1, None, 1),
        (RunEnd.BUDGET, 0, None, 0),
        (RunEnd.BUDGET, 2, None, 1),
        (RunEnd.LOCKED, 0, None, 0),
        (RunEnd.DESTINATION_BUSY, 0, None, 0),
        (RunEnd.STATE, 0, None, 1),
        (RunEnd.DESTINATION, 0, None, 3),
        (RunEnd.DESTINATION, 5, None, 3),
        (RunEnd.SIGNAL, 0, signal.SIGINT, 130),
        (RunEnd.SIGNAL, 5, signal.SIGTERM, 143),
        (RunEnd.SIGNAL, 0, None, 143),
    ],
)
def test_exit_codes(end: RunEnd, failing: int, signal_number: int | None, code: int) -> None:
    """Each way in which a run ends has its exit code."""
    assert exit_code(end, failing=failing, signal_number=signal_number) == code


def test_counts() -> None:
    """A file counts as what became of it, and only candidates that still have to go are the backlog."""
    counters = RunCounters()
    counters.count_shipped(Receipt(key="a", size=10, proof=Proof.MD5))
    counters.count_shipped(Receipt(key="b", size=5, proof=Proof.MD5, already_there=True))
    dated = candidate("a", size=3, period_begin=NOW - 60, mtime_ns=0)
    undated = candidate("b", size=4, mtime_ns=int(NOW) * 10**9)
    counters.count_left(Left.FRESH, dated)
    counters.count_left(Left.BUSY, undated)
    for reason in (Left.VANISHED, Left.SPECIAL, Left.UNMATCHED, Left.EXCLUDED, Left.REMEMBERED):
        counters.count_left(reason, undated)
    counters.count_left(Left.UNREADABLE)
    counters.pruned = 2
    report = report_of(counters, RunEnd.DONE, base_dir="/spool", destination="bucket", started_at=NOW, duration=1.5)
    assert (report.shipped, report.shipped_bytes, report.already_there) == (2, 15, 1)
    assert (report.backlog, report.backlog_bytes, report.oldest_waiting) == (2, 7, NOW - 60)
    assert report.left == {
        "fresh": 1,
        "busy": 1,
        "vanished": 1,
        "special": 1,
        "unmatched": 1,
        "excluded": 1,
        "remembered": 1,
        "unreadable": 1,
    }
    assert (report.exit_code, report.ended_by, report.pruned_directories) == (0, "done", 2)


def test_waiting_files_keep_the_code() -> None:
    """A file that failed before and waits for its next try is still not shipped: the exit code says so."""
    counters = RunCounters()
    counters.count_left(Left.WAITING, candidate("a"))
    report = report_of(counters, RunEnd.DONE, base_dir="/", destination="", started_at=0, duration=0)
    assert (report.exit_code, report.failed) == (1, 0)


def test_what_waits_is_counted_by_location() -> None:
    """Each location's backlog and oldest file are told; a new scan counts anew."""
    counters = RunCounters()
    for path, size, period in (("hall/a", 1, NOW - 5), ("hall/b", 2, NOW - 9), ("attic/c", 4, NOW - 7)):
        counters.count_left(Left.FRESH, candidate(path, size=size, period_begin=period))
    counters.count_left(Left.VANISHED, candidate("hall/d"))

    def waiting() -> dict[str, Waiting]:
        return report_of(counters, RunEnd.DONE, base_dir="/", destination="", started_at=0, duration=0).waiting

    assert waiting() == {"hall": Waiting(2, 3, NOW - 9), "attic": Waiting(1, 4, NOW - 7)}
    counters.begin_scan()
    assert waiting() == {}


def test_very_many_locations_take_no_more_memory() -> None:
    """From some number of locations on, the others are counted together, and none is lost."""
    counters = RunCounters()
    for number in range(2000):
        counters.count_left(Left.FRESH, candidate(f"room-{number}/a", size=2, period_begin=NOW - number))
    report = report_of(counters, RunEnd.DONE, base_dir="/", destination="", started_at=0, duration=0)
    assert len(report.waiting) == 501
    assert report.waiting[OTHER_LOCATIONS] == Waiting(1500, 3000, NOW - 1999)
    assert (report.backlog, report.backlog_bytes, report.oldest_waiting) == (2000, 4000, NOW - 1999)
