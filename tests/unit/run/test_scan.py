"""A look through the spool: what comes out of it, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_uploader.core.control import StopRequest
from s3_uploader.core.events import Event
from s3_uploader.core.model import Candidate, Left
from s3_uploader.run.ending import Ending
from s3_uploader.run.scan import SpoolScan
from s3_uploader.spool.layouts.base import Layout
from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, FakeClock, write

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


def test_where_nothing_is_old_enough_nothing_comes_out(look: Look) -> None:
    """Files that are too young are counted, with what waits, and there is nothing to go on with."""
    for name in ("a", "b"):
        look.write(name, age=5)
    scan = look.scan()
    assert scan.find() is None
    assert scan.counters.left == {Left.FRESH.value: 2}
    assert sum(waiting.files for waiting in scan.counters.waiting.values()) == 2


def test_the_first_file_that_is_old_enough_comes_out_and_all_that_follow(look: Look) -> None:
    """What was found is not lost, and what came before it is not looked at twice."""
    for name, age in (("01-young.dat", 5), ("02-old.dat", 60), ("03-young.dat", 5)):
        look.write(f"attic/2020/01/01/00/{name}", age=age)
    scan = look.scan(DATED)
    begun = scan.find()
    assert begun is not None
    assert [found.name for found in begun if isinstance(found, Candidate)] == ["02-old.dat", "03-young.dat"]
    assert scan.counters.left == {Left.FRESH.value: 1}


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
