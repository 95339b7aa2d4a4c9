"""What a run notices beside its work: since when, across runs, and how often a person is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from s3_uploader.config import from_mapping
from s3_uploader.core.errors import LockHeld
from s3_uploader.core.events import Event, Notice, StrangersFound
from s3_uploader.core.findings import Cause, Stranger, Strangers
from s3_uploader.core.model import Candidate, Left, RunCounters
from s3_uploader.health import MEMORY_NAME, NOTHING_SEEN
from s3_uploader.health.notices import Seen, note, step_aside
from s3_uploader.ledger import EndpointMemory
from s3_uploader.spool.lock_file import NOTE_NAME
from tests.fakes import NOW, candidate

HOUR = 3600.0


class Runs:
    """One run after the other, with what the ledger remembers between them."""

    def __init__(self) -> None:
        self.memory = EndpointMemory({})
        self.told: list[Event] = []

    def run(self, at: float, *left: tuple[Candidate, Left], future: float | None = None) -> Any:
        """A run that leaves these; returns what it knows at the end."""
        counters = RunCounters()
        for each, reason in left:
            counters.count_left(reason, each)
        if future is not None:
            counters.count_future(candidate("attic/x"), future)
        return note(counters, self.memory, base_dir="/spool", now=at, emit=self.told.append)

    def warnings(self) -> list[str]:
        """What was said since the last time somebody asked."""
        said, self.told = [event.message for event in self.told if isinstance(event, Notice)], []
        return said


def dated(path: str, *, mtime: float) -> Candidate:
    """A file whose minute was over at ``NOW``."""
    return candidate(path, period_begin=NOW - 60, period_end=NOW, mtime_ns=int(mtime * 1e9))


def test_a_growing_file_is_known_since_the_first_run_that_saw_it() -> None:
    """A file that always is too fresh: since it was first seen so, in an unbroken row of runs."""
    runs = Runs()
    for number in range(5):
        at = NOW + 120 + number * HOUR
        facts = runs.run(at, (dated("a/b", mtime=at), Left.FRESH))
    assert [file.since for file in facts.not_finished] == [NOW + 120]
    assert not facts.not_finished[0].is_open


def test_a_file_that_was_finished_in_between_begins_anew() -> None:
    """One run that does not see it so ends the row, and nothing is remembered then."""
    runs = Runs()
    file = (dated("a/b", mtime=NOW), Left.FRESH)
    runs.run(NOW + 120, file)
    runs.run(NOW + 240)
    assert runs.memory.get(MEMORY_NAME) == NOTHING_SEEN
    assert runs.run(NOW + 360, file).not_finished[0].since == NOW + 360


def test_a_fresh_file_whose_time_has_not_come_is_nothing_to_notice() -> None:
    """Within a minute after its period, or without one, a file may be fresh; nothing is remembered of it."""
    runs = Runs()
    assert runs.run(NOW + 30, (dated("a/b", mtime=NOW), Left.FRESH)).not_finished == []
    assert runs.run(NOW + 30, (candidate("a/c"), Left.FRESH)).not_finished == []
    assert runs.memory.unwritten() == {}


def test_an_open_file_is_so_since_its_last_change() -> None:
    """A file that is open and was not written to for hours was open all the time."""
    facts = Runs().run(NOW, (candidate("a/b", mtime_ns=int((NOW - 5 * HOUR) * 1e9)), Left.BUSY))
    assert facts.not_finished[0].since == NOW - 5 * HOUR


def test_it_is_said_at_growing_distances() -> None:
    """A run every few minutes says it in the first one, then after one hour, six, a day; with the remedy."""
    runs = Runs()
    said: list[tuple[int, str]] = []
    for minute in range(0, 2000, 20):
        runs.run(NOW + minute * 60, (candidate("a/b", mtime_ns=int((NOW - 5 * HOUR) * 1e9)), Left.BUSY))
        if warnings := runs.warnings():
            said.append((minute, warnings[0]))
    assert [minute for minute, _ in said] == [0, 60, 420, 1860]
    assert said[0][1].startswith("/spool/a/b has been held open for writing for 5 h. Let the program")


def test_its_end_is_said() -> None:
    """Once it is over a person is told so, once, and how long it lasted."""
    runs = Runs()
    runs.run(NOW, (candidate("a/b", mtime_ns=int((NOW - 5 * HOUR) * 1e9)), Left.BUSY))
    runs.warnings()
    runs.run(NOW + 3 * HOUR)
    (over,) = runs.warnings()
    assert over.startswith("Resolved after 3 h: /spool/a/b has been held open")
    runs.run(NOW + 4 * HOUR)
    assert runs.warnings() == []


class TestStrangers:
    """Files that match nothing that the layout expects."""

    def run(
        self, runs: Runs, at: float, found: Strangers | None, *, is_first: bool = False, ever_shipped: bool = False
    ) -> list[StrangersFound]:
        """What a run says that passes over one entry, or over none, in a spool that holds nothing else."""
        counters = RunCounters()
        if found is not None:
            counters.note_stranger((), "x.csv")
        told: list[Event] = []
        note(
            counters,
            runs.memory,
            base_dir="/spool",
            now=at,
            emit=told.append,
            layout="dated",
            look=lambda: found or Strangers(),
            is_first=is_first,
            ever_shipped=ever_shipped,
        )
        return [event for event in told if isinstance(event, StrangersFound)]

    def found(self, *, old: int = 0) -> Strangers:
        """Three of them."""
        return Strangers(files=3, old=old, oldest=Stranger("x.csv", "ends in .csv", NOW))

    def test_nothing_but_strangers_is_a_warning(self) -> None:
        """A spool that never shipped anything and holds nothing else is told of at once, and not each minute."""
        runs = Runs()
        levels = [[event.level for event in self.run(runs, NOW + 60 * n, self.found())] for n in range(50)]
        assert levels == [["warning"]] + [[]] * 49

    def test_between_files_of_a_spool_that_works_they_are_no_warning(self) -> None:
        """Where files were shipped before, young ones are worth a line, and old ones a warning."""
        (young,) = self.run(Runs(), NOW, self.found(), ever_shipped=True)
        (old,) = self.run(Runs(), NOW, self.found(old=1), ever_shipped=True)
        assert (young.level, old.level) == ("info", "warning")

    def test_strangers_that_are_still_there_are_not_over(self) -> None:
        """A run beside whose own files they are not worth a line does not say that they are gone; one without does."""
        runs = Runs()
        assert self.run(runs, NOW, self.found(), is_first=True)
        for number, found in enumerate((self.found(), None), start=1):
            counters = RunCounters()
            counters.count_left(Left.FRESH, candidate("a/b"))
            if found is not None:
                counters.note_stranger((), "x.csv")
            note(
                counters,
                runs.memory,
                base_dir="/spool",
                now=NOW + 60 * number,
                emit=runs.told.append,
                layout="dated",
                look=lambda found=found: found or Strangers(),  # type: ignore[misc]
            )
            assert bool(runs.warnings()) is (found is None)

    def test_the_tree_is_not_walked_each_time(self) -> None:
        """What was found out is good for a quarter of an hour; it is forgotten when there are none any more."""
        runs = Runs()
        self.run(runs, NOW, self.found())
        self.run(runs, NOW + 60, Strangers(files=9))
        assert Seen.recalled(runs.memory).strangers == self.found()
        self.run(runs, NOW + 960, Strangers(files=9))
        assert Seen.recalled(runs.memory).strangers == Strangers(files=9)
        self.run(runs, NOW + 1000, None)
        assert runs.memory.get(MEMORY_NAME) == NOTHING_SEEN


def test_the_future_is_remembered_for_hours() -> None:
    """A file from the future is shipped at once; the clock stays a problem for some hours, since the first one."""
    runs = Runs()
    runs.run(NOW, future=7200.0)
    assert "2 h in the future" in runs.warnings()[0] or "120 min in the future" in runs.warnings()[0]
    assert runs.run(NOW + HOUR).future.since == NOW
    assert runs.run(NOW + 2 * HOUR, future=60.0).future.since == NOW
    assert runs.run(NOW + 9 * HOUR).future is None
    assert runs.memory.get(MEMORY_NAME) == NOTHING_SEEN


@pytest.mark.parametrize("text", ["", "{", '{"not_finished": 3}'])
def test_a_memory_that_makes_no_sense_is_none(text: str) -> None:
    """What another version or a damaged disk has left there does not end a run."""
    runs = Runs()
    runs.memory.set(MEMORY_NAME, text)
    assert runs.run(NOW).not_finished == []


class TestSteppingAside:
    def step_aside(self, state: Path, *, held_for: float) -> tuple[list[Notice], list[Cause]]:
        """What a run says and finds that another one keeps out."""
        told: list[Event] = []
        config = from_mapping({"base_dir": "/spool", "bucket": "b", "max_runtime_seconds": 100}, source="x")
        held = LockHeld("Another run has the spool.", holder="process 0", pid=0, held_since=NOW - held_for)
        found = step_aside(config, held, state_dir=str(state), now=NOW, emit=told.append)
        return [event for event in told if isinstance(event, Notice)], [problem.cause for problem in found]

    def test_a_run_that_may_still_be_at_work(self, tmp_path: Path) -> None:
        """Within its time, and some minutes beyond, nobody is alarmed."""
        (notice,), causes = self.step_aside(tmp_path, held_for=300)
        assert (notice.level, notice.message, causes) == ("info", "Another run has the spool.", [])

    def test_a_run_that_hangs(self, tmp_path: Path) -> None:
        """Beyond that it is a warning, and not again within the hour; the cause is named each time."""
        note = tmp_path / NOTE_NAME
        note.touch()
        os.utime(note, (NOW - 5000, NOW - 5000))
        (notice,), causes = self.step_aside(tmp_path, held_for=5000)
        assert (notice.level, causes) == ("warning", [Cause.HUNG_RUN])
        assert "process 0" in notice.message
        (notice,), causes = self.step_aside(tmp_path, held_for=5060)
        assert (notice.level, causes) == ("info", [Cause.HUNG_RUN])
