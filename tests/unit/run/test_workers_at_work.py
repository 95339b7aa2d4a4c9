"""What the leader of a run makes of its workers while they are at work, and when it lets them begin."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3_uploader.core.control import ScanTrigger, StopRequest
from s3_uploader.core.errors import Scope
from s3_uploader.core.events import Event, Notice
from s3_uploader.core.model import RunCounters
from s3_uploader.run import pipeline, worker_process, workers
from s3_uploader.run.scan import Ending
from s3_uploader.run.worker_pipe import GO, LAST, LOOK, READY, Task
from s3_uploader.run.workers import Workers
from s3_uploader.spool.layouts.base import Layout
from tests.fakes import FakeClock, FakeStore, Harness, failing

SILENT = workers.SILENT_SECONDS


class Plan:
    """Wants two processes."""

    def want(self) -> int:
        """See :class:`workers.Plan`."""
        return 2

    def task(self, number: int, of: int) -> Task:
        """See :class:`workers.Plan`."""
        return SimpleNamespace(config=SimpleNamespace(share=f"{number}/{of}"))  # type: ignore[return-value]

    def owns(self, number: int, of: int, key: str) -> bool:
        """See :class:`workers.Plan`."""
        return key.endswith(str(number))

    def layout(self, of: int, *, own: int = 0, done: Sequence[int] = ()) -> Layout:
        """See :class:`workers.Plan`."""
        return None  # type: ignore[return-value]


class FakeWorker:
    """A worker that says what a test puts into its queue, and dies of a kill if it may."""

    def __init__(self, task: Any, *, locks: object, wake: object) -> None:
        self.share = task.config.share
        self.is_ready = self.is_over = self.was_silent = False
        self.silent_seconds = 0.0
        self.outcome = None
        self.counters = RunCounters()
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.messages.put(READY)
        self.orders: list[bytes] = []
        self.kills = 0
        self.dies = True
        self.process = SimpleNamespace(pid=4711, kill=self.kill)

    def kill(self) -> None:
        """See :class:`subprocess.Popen`."""
        self.kills += 1
        if self.dies:
            self.messages.put(None)

    def order(self, what: bytes) -> None:
        """See :class:`worker_process.Worker`."""
        self.orders.append(what)

    def how_it_ended(self) -> str:
        """See :class:`worker_process.Worker`."""
        return "was killed by SIGKILL" if self.dies else "was killed, and the kernel has not ended it yet,"

    def end(self) -> None:
        """See :class:`worker_process.Worker`."""


class Crew:
    """A leader with one worker, which has begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scan_trigger: ScanTrigger | None = None) -> None:
        self.now = 1000.0
        monkeypatch.setattr(worker_process, "Worker", FakeWorker)
        monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(workers, "FIRST_QUESTION", 0)
        self.told: list[Event] = []
        self.workers = Workers(
            Plan(), locks=(), emit=self.told.append, counters=RunCounters(), scan_trigger=scan_trigger
        )
        self.ending = Ending(StopRequest(), clock=FakeClock().clock(), max_runtime_seconds=None)
        assert not self.workers.are_due()
        self.worker: FakeWorker = self.workers._workers[0]  # type: ignore[assignment]
        self.workers.turn(self.ending)
        assert self.workers.are_due()
        self.workers.begin()

    def pass_time(self, seconds: float, *, step: float = 0.5, meanwhile: Callable[[], None] = lambda: None) -> None:
        """The leader takes its turns for so many seconds."""
        until = self.now + seconds
        while self.now < until:
            self.now += step
            meanwhile()
            self.workers.turn(self.ending)

    def sentences(self) -> list[str]:
        """The notices of the run."""
        return [event.message for event in self.told if isinstance(event, Notice)]


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    """A leader with one worker, which has begun."""
    return Crew(monkeypatch)


def test_a_silent_worker_is_killed(crew: Crew) -> None:
    """A worker that was stopped, or hangs, does not keep the run from its end: its share is shipped by the leader."""
    crew.pass_time(SILENT - 1)
    assert (crew.worker.kills, crew.sentences()) == (0, [])
    crew.pass_time(3)
    assert crew.worker.kills == 1
    (sentence,) = crew.sentences()
    assert sentence.startswith(
        "The worker process 4711 gave no sign of life for 5 min and was killed by SIGKILL before it had shipped "
        "its share 1/2 of the files"
    )
    assert not crew.workers.are_at_work
    assert crew.workers.have_lost_one()
    assert [key for key in ("key0", "key1") if crew.workers.had_by_a_lost_one(key)] == ["key1"]


def test_any_message_is_a_sign_of_life(crew: Crew) -> None:
    """A worker that only waits for a slow destination is left alone, however long it takes."""
    crew.pass_time(10 * SILENT, step=1.0, meanwhile=lambda: crew.worker.messages.put([]))
    assert crew.worker.kills == 0
    assert crew.workers.are_at_work


def test_a_leader_that_was_stopped_itself_kills_nobody(crew: Crew) -> None:
    """Time that the leader has missed is not held against its workers, which could not reach it."""
    crew.pass_time(9 * SILENT, step=3 * SILENT)
    assert crew.worker.kills == 0


def test_a_worker_that_the_kernel_does_not_end(crew: Crew) -> None:
    """One that hangs in a system call, of a disk that does not answer, is not waited for after its kill."""
    crew.worker.dies = False
    crew.pass_time(SILENT + 5)
    assert (crew.worker.kills, crew.workers.are_at_work) == (1, True)
    crew.pass_time(15)
    assert (crew.worker.kills, crew.workers.are_at_work) == (1, False)
    (sentence,) = crew.sentences()
    assert "the kernel has not ended it yet, before it had shipped" in sentence
    assert crew.workers.have_lost_one()


def test_before_the_begin_silence_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits for the command to begin has nothing to say."""
    crew = Crew(monkeypatch)
    crew.workers._begun = False
    crew.pass_time(3 * SILENT)
    assert crew.worker.kills == 0


class ReadyWorkers:
    """Workers that are ready as soon as two files were sent; they do nothing, and the leader has the whole spool."""

    of = 2
    are_at_work = False

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.wake: Callable[[], None] = lambda: None
        self.found_at_begin: list[set[str]] = []

    def are_due(self) -> bool:
        """See :class:`Workers`."""
        return not self.found_at_begin and len(self._harness.store.puts) >= 2

    def begin(self) -> Layout:
        """See :class:`Workers`."""
        self.found_at_begin.append(self._harness.names())
        return self._harness.layout

    def have_lost_one(self) -> bool:
        """See :class:`Workers`."""
        return False

    def had_by_a_lost_one(self, key: str) -> bool:
        """See :class:`Workers`."""
        return False

    def and_turn(self, beat: Callable[[], None], ending: object) -> Callable[[], None]:
        """See :class:`Workers`."""
        return beat

    def stop(self) -> None:
        """See :class:`Workers`."""

    def end_run(self) -> None:
        """See :class:`Workers`."""

    def dismiss_idle(self) -> None:
        """See :class:`Workers`."""

    def finish(self, wait: Callable[..., None], *, go_on: object, meanwhile: Callable[[], None]) -> None:
        """See :class:`Workers`."""

    def layout(self, whole: Layout) -> Layout:
        """See :class:`Workers`."""
        return whole

    def conclude(self, settlement: object, scan: object) -> None:
        """See :class:`Workers`."""


def test_no_file_has_two_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose failure is in doubt is sent once more by this process, so none begins with it before."""
    monkeypatch.setattr(pipeline, "WORKERS_FROM", 0)
    store = FakeStore(manual=True)
    harness = Harness(tmp_path, store=store)
    for number, name in enumerate("abcd"):
        harness.write(name, age=3600 - number)
    ready = ReadyWorkers(harness)
    harness.make_workers = lambda: ready  # type: ignore[assignment]
    store.fault("b", failing("ConnectionFailed", scope=Scope.DESTINATION, retryable=True, never_connected=True))

    def answer() -> None:
        for asked in store.pending():
            store.answer(asked)

    harness.idle = answer
    report = harness.run()
    store.assert_all_faults_met()
    assert (report.shipped, report.exit_code) == (4, 0)
    assert [put.key for put in store.puts].count("b") == 2
    (found,) = ready.found_at_begin
    assert "b" not in found
    assert harness.names() == set()


def test_the_small_files_do_not_wait_for_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a large file is in flight the leader goes on alone; the workers begin after it."""
    monkeypatch.setattr(pipeline, "WORKERS_FROM", 0)
    monkeypatch.setattr(pipeline, "MOST_AWAITED", 100)
    store = FakeStore(manual=True)
    harness = Harness(tmp_path, store=store)
    harness.write("large", b"x" * 101, age=7200)
    for number, name in enumerate("abcd"):
        harness.write(name, age=3600 - number)
    ready = ReadyWorkers(harness)
    harness.make_workers = lambda: ready  # type: ignore[assignment]
    turns = 0

    def answer() -> None:
        nonlocal turns
        turns += 1
        for asked in store.pending():
            if asked.key != "large" or turns > 20:
                store.answer(asked)

    harness.idle = answer
    assert harness.run().shipped == 5
    assert turns > 20
    assert not any(found & set("abcd") for found in ready.found_at_begin)


class LosingWorkers(ReadyWorkers):
    """Workers of which one dies when the leader waits for them."""

    def __init__(self, harness: Harness) -> None:
        super().__init__(harness)
        self.losses = 1

    def have_lost_one(self) -> bool:
        """See :class:`Workers`."""
        self.losses -= 1
        return self.losses >= 0


@pytest.mark.parametrize("answered", ["late", "at once"])
def test_what_the_leader_has_in_flight_when_a_worker_has_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: str
) -> None:
    """It is not sent again, and not counted as left, while the rest of the worker's share is looked for."""
    monkeypatch.setattr(pipeline, "WORKERS_FROM", 0)
    store = FakeStore(manual=answered == "late")
    harness = Harness(tmp_path, store=store)
    for number, name in enumerate("abcd"):
        harness.write(name, age=3600 - number)
    losing = LosingWorkers(harness)
    harness.make_workers = lambda: losing  # type: ignore[assignment]

    def answer() -> None:
        for asked in store.pending():
            store.answer(asked)

    harness.idle = answer
    report = harness.run()
    assert losing.losses < 0
    assert (report.shipped, report.left, report.backlog) == (4, {}, 0)
    assert sorted(put.key for put in store.puts) == ["a", "b", "c", "d"]
    assert harness.names() == set()


def test_what_failed_before_the_workers_begin_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process finds it again, waiting for its next try; for the report it has failed, and nothing else."""
    monkeypatch.setattr(pipeline, "WORKERS_FROM", 0)
    harness = Harness(tmp_path)
    for number, name in enumerate("abcd"):
        harness.write(name, age=3600 - number)
    harness.store.fault("a", failing("KeyRefused"))
    ready = ReadyWorkers(harness)
    harness.make_workers = lambda: ready  # type: ignore[assignment]
    report = harness.run()
    assert ready.found_at_begin
    assert (report.shipped, report.failed, report.left, report.backlog) == (3, 1, {}, 1)


class BusyWorkers(ReadyWorkers):
    """Workers of which one is at work for a while yet."""

    def finish(self, wait: Callable[..., None], *, go_on: object, meanwhile: Callable[[], None]) -> None:
        """See :class:`Workers`."""
        self._harness.write("new", age=60)
        for _ in range(10):
            wait(at_most=0.2)
            meanwhile()


def test_new_files_do_not_wait_for_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a worker has a large upload in flight, the leader of a watch ships what it finds meanwhile."""
    monkeypatch.setattr(pipeline, "WORKERS_FROM", 0)
    harness = Harness(tmp_path)
    harness.scan_trigger = ScanTrigger(poll_seconds=1.0)
    for number, name in enumerate("abcd"):
        harness.write(name, age=3600 - number)
    harness.make_workers = lambda: BusyWorkers(harness)  # type: ignore[assignment]
    assert harness.run().shipped == 5
    assert harness.names() == set()


def test_the_share_of_a_worker_that_is_done_is_the_leaders(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader looks there again, and counts what the worker had left."""
    whole: Any = object()
    seen: list[Sequence[int]] = []
    monkeypatch.setattr(crew.workers, "_plan", SimpleNamespace(layout=lambda of, *, done: seen.append(done)))
    crew.workers.layout(whole)
    counters = RunCounters()
    counters.left["fresh"] = 3
    monkeypatch.setattr(crew.worker, "outcome", SimpleNamespace(counters=counters))
    crew.worker.is_over = True
    crew.workers.layout(whole)
    assert seen == [[], [1]]
    assert not counters.left
    monkeypatch.setattr(crew.workers, "_begun", False)
    assert crew.workers.layout(whole) is whole


def test_what_appears_is_told_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a watch hears of new files, once a second at most, and that it is to look no more."""
    trigger, wanted = ScanTrigger(poll_seconds=600.0, is_wanted=lambda: wanted[0]), [True]
    crew = Crew(monkeypatch, scan_trigger=trigger)
    crew.pass_time(5)
    assert crew.worker.orders == [GO]
    for _ in range(3):
        crew.pass_time(1.5, meanwhile=trigger.tell)
    assert crew.worker.orders[1:] == [LOOK] * 5
    wanted[0] = False
    crew.pass_time(5, meanwhile=trigger.tell)
    assert crew.worker.orders[6:] == [LAST]
