"""The workers of a run: processes that ship shares of its files, to use more than one processor.

A run begins alone. If its processor is the bottleneck, more processes are allowed and many files wait, it starts
workers, and continues alone until all are ready and no large upload is in flight. Then it finishes its uploads in
flight, tells each worker to begin, and scans the spool again for its own share. The leader reports the workers' events
as its own.

A worker that dies does no harm: its uploads in flight are as after a killed run. When all others are done, the leader
scans the whole spool once more.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from s3_uploader.core.errors import Scope, StateError, StoreError
from s3_uploader.core.events import Emit, Event, Notice, Uploaded
from s3_uploader.core.model import (
    MOST_LOCATIONS,
    MOST_NOT_FINISHED,
    MOST_STRANGERS,
    OTHER_LOCATIONS,
    RunCounters,
    RunEnd,
    Waiting,
)
from s3_uploader.core.origins import Origin, recalled
from s3_uploader.core.text import shown_duration
from s3_uploader.run.scan import Ending, SpoolScan
from s3_uploader.run.settlement import Settlement
from s3_uploader.run.worker_pipe import GO, LAST, LOOK, OVER, READY, STOP, Outcome, Task
from s3_uploader.spool.layouts.base import Layout
from s3_uploader.spool.open_file import Sightings

if TYPE_CHECKING:
    from s3_uploader.core.control import ScanTrigger
    from s3_uploader.run.worker_process import Worker

FIRST_QUESTION = 1500
"""Number of files that a run ships before it checks whether more processes would help."""
MOST_IN_A_ROUND = 256
"""Most messages that are handled at once, so that the leader's own uploads do not wait for long."""
_OF_ONE_PROCESS = (
    "No worker process is started. The spool is on a file system in user space, where a lock ends with its process. If "
    "that process were killed, another run could start beside its workers. The run continues with one process; set "
    "processes to 1."
)
SILENT_SECONDS = 300.0
"""A worker that gives no sign of life for so long is killed: it is stopped, or waits for something that never comes."""
_START_SECONDS = 30.0
_WAIT_SECONDS = 0.2
_LONGEST_TURN = 1.0
"""Most seconds of silence that count between two turns: the leader may have been stopped itself."""
_DEATH_SECONDS = 15.0
_MOST_SAID = 1000
_LOOK_SECONDS = 1.0
"""How often a worker is told at most that something may have appeared; one that is stopped does not hear it."""


class Plan(Protocol):
    """The leader's decisions about its workers."""

    def want(self) -> int:
        """The number of processes that the run should have now, including itself."""

    def task(self, number: int, of: int) -> Task:
        """The task of a process by its number, from 1 on; 0 is the leader."""

    def owns(self, number: int, of: int, key: str) -> bool:
        """Whether the file of a key belongs to a process."""

    def layout(self, of: int, *, own: int = 0, done: Sequence[int] = ()) -> Layout:
        """A process's view of the spool while others have the rest.

        :param own: the number of the process, by default the leader's.
        :param done: the numbers of workers that have ended, whose shares it has as well.
        """


class Workers:
    """The workers of a run. Belongs to the thread that leads it; only :meth:`stop` may be called from other threads.

    :param plan: decides when to start how many.
    :param locks: descriptors of the run's locks; ``None`` if workers cannot share them.
    :param emit: called with the workers' events.
    :param scan_trigger: of the run; what it tells is passed on to workers.
    :ivar wake: wakes the leader; set by the leader.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        locks: Sequence[int] | None,
        emit: Emit,
        counters: RunCounters,
        scan_trigger: ScanTrigger | None = None,
    ) -> None:
        self._plan = plan
        self._scan_trigger = scan_trigger
        self._told = 0
        self._told_at = 0.0
        self._looks = True
        self.of = 1
        self._locks = locks
        self._emit = emit
        self._counters = counters
        self.wake: Callable[[], None] = lambda: None
        self._workers: list[Worker] = []
        self._said: set[str] = set()
        self._asked_at = FIRST_QUESTION
        self._is_over = False
        self._begun = False
        self._start_until = 0.0
        self._turned_at = 0.0
        self.lost: list[Worker] = []
        self._read: set[int] = set()
        self._lost_at_work: set[int] = set()

    # ---------------------------------------------------------------------------------------------- the begin

    def are_due(self) -> bool:
        """Whether they are ready to begin; called between any two files, and starts them when it is time."""
        if self._is_over or self._begun:
            return False
        if not self._workers:
            shipped = self._counters.shipped
            if shipped >= self._asked_at:
                # So rarely that the check costs less than the work between two checks.
                self._asked_at = shipped + max(500, shipped // 4)
                self._start()
            return False
        if all(worker.is_ready or worker.is_over for worker in self._workers):
            return True
        if time.monotonic() > self._start_until:
            self._give_up("Worker processes were not ready in time. The run continues with one process.")
        return False

    def _start(self) -> None:
        of = self.of = self._plan.want()
        if of <= 1:
            return
        if self._locks is None:
            self._give_up(_OF_ONE_PROCESS)
            return
        # Most runs have few files, and start none.
        from s3_uploader.run.worker_process import Worker

        self._start_until = time.monotonic() + _START_SECONDS
        try:
            for number in range(1, of):
                worker = Worker(self._plan.task(number, of), locks=self._locks, wake=lambda: self.wake())
                self._workers.append(worker)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            reason = str(error) or "no memory"
            self._give_up(f"No worker process could be started ({reason}). The run continues with one process.")

    def _give_up(self, sentence: str) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._is_over = True
        self._emit(Notice("warning", sentence))

    def begin(self) -> Layout:
        """Let all workers begin; no file of their shares may be in flight here. Returns the leader's share."""
        self._begun = True
        self._turned_at = time.monotonic()
        self.lost += [worker for worker in self._workers if worker.is_over]
        self._order(GO)
        return self._plan.layout(self.of)

    def dismiss_idle(self) -> None:
        """Dismiss workers that have not begun: everything is shipped, or the run ends.

        They are not told to stop, because a command before their task is lost.
        """
        if not self._begun:
            self._is_over = True
            for worker in self._workers:
                worker.end()
            self._workers.clear()

    # ---------------------------------------------------------------------------------------------- what they say

    @property
    def are_at_work(self) -> bool:
        """Whether any worker may still send messages."""
        return any(not worker.is_over for worker in self._workers)

    def and_turn(self, beat: Callable[[], None], ending: Callable[[], Ending]) -> Callable[[], None]:
        """Wrap ``beat``, so that it also handles the workers' messages.

        :param ending: returns the ending of the run, in case a worker meets an error that ends it.
        """

        def beat_and_turn() -> None:
            beat()
            self.turn(ending())

        return beat_and_turn

    def finish(
        self, wait: Callable[..., None], *, go_on: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until all are done, while ``go_on`` returns ``True``.

        :param wait: waits for something to happen, ``at_most`` this many seconds.
        :param meanwhile: called again and again.
        """
        while self.are_at_work and go_on():
            wait(at_most=_WAIT_SECONDS)
            meanwhile()

    def layout(self, whole: Layout) -> Layout:
        """What the leader sees of the spool in another scan: also the shares of workers that are done.

        What these have left is counted again by the leader.

        :param whole: its view without workers.
        """
        if not self._begun:
            return whole
        done = [number for number, worker in enumerate(self._workers, start=1) if worker.is_over]
        self._read = set(done)
        self._forget_left()
        return self._plan.layout(self.of, done=done)

    def turn(self, ending: Ending) -> None:
        """Handle the workers' messages, and kill a worker that has long been silent."""
        now = time.monotonic()
        waited, self._turned_at = min(now - self._turned_at, _LONGEST_TURN), now
        for worker in self._workers:
            worker.silent_seconds += waited
            for _ in range(MOST_IN_A_ROUND):
                if worker.is_over:
                    break
                try:
                    message = worker.messages.get_nowait()
                except queue.Empty:
                    break
                worker.silent_seconds = 0.0
                self._take(worker, message, ending)
            if self._begun and not worker.is_over and worker.silent_seconds >= SILENT_SECONDS:
                self._end_silence(worker)
        if self._begun and self._looks and self._scan_trigger is not None:
            self._pass_on(self._scan_trigger, now)

    def _pass_on(self, scan_trigger: ScanTrigger, now: float) -> None:
        if not scan_trigger.is_wanted():
            self._looks = False
            self._order(LAST)
        elif scan_trigger.told != self._told and now - self._told_at >= _LOOK_SECONDS:
            self._told, self._told_at = scan_trigger.told, now
            self._order(LOOK)

    def _end_silence(self, worker: Worker) -> None:
        if not worker.was_silent:
            worker.was_silent = True
            worker.process.kill()
        elif worker.silent_seconds >= SILENT_SECONDS + _DEATH_SECONDS:
            # It is in a system call that does not return. It does nothing more once it has.
            worker.is_over = True
            self._lose(worker)

    def _take(self, worker: Worker, message: list[Event] | Outcome | str | None, ending: Ending) -> None:
        if isinstance(message, list):
            for event in message:
                self._tell(worker, event)
        elif isinstance(message, Outcome):
            worker.outcome, worker.is_over = message, True
            end = RunEnd[message.ended_by]
            if end is RunEnd.DESTINATION:
                origin = recalled(message.origin, Origin.UNREACHABLE)
                error = StoreError(
                    message.error, code=message.code, scope=Scope.DESTINATION, hint=message.hint, origin=origin
                )
                ending.abandon(end, error)
            elif end is RunEnd.STATE:
                ending.abandon(end, StateError(message.error, code=message.code, hint=message.hint))
        elif message == READY:
            worker.is_ready = True
        else:
            worker.is_over = True
            self._lose(worker)

    def _tell(self, worker: Worker, event: Event) -> None:
        if isinstance(event, Notice):
            if event.message in self._said:
                return
            if len(self._said) < _MOST_SAID:
                self._said.add(event.message)
        elif isinstance(event, Uploaded):
            worker.counters.count_shipped(event.receipt)
        self._emit(event)

    def _lose(self, worker: Worker) -> None:
        how = worker.how_it_ended()
        if worker.was_silent:
            how = f"gave no sign of life for {shown_duration(SILENT_SECONDS)} and {how}"
        self._emit(
            Notice(
                "warning",
                f"The worker process {worker.process.pid} {how} before it had shipped its share {worker.share} of the "
                "files; this run ships the rest of them itself.",
            )
        )
        if self._begun:
            self.lost.append(worker)
            self._lost_at_work.add(self._workers.index(worker) + 1)

    def had_by_a_lost_one(self, key: str) -> bool:
        """Whether the file of a key belonged to a worker that has died after it had begun."""
        return any(self._plan.owns(number, self.of, key) for number in self._lost_at_work)

    # ---------------------------------------------------------------------------------------------- the end

    def stop(self) -> None:
        """Tell all workers to finish their uploads in flight; a second time, to cancel them.

        May be called from signal handlers.
        """
        self._order(STOP)

    def end_run(self) -> None:
        """Tell all workers that the run takes in no more files, so that they count those that they leave."""
        self._order(OVER)

    def _order(self, what: bytes) -> None:
        for worker in self._workers:
            worker.order(what)

    def have_lost_one(self) -> bool:
        """Whether one died, so that the spool is scanned once more, where files that workers left are counted."""
        if not self.lost:
            return False
        self._forget_left()
        self.lost.clear()
        self._read = set(range(1, self.of))
        return True

    def _forget_left(self) -> None:
        for worker in self._workers:
            if worker.outcome is not None:
                worker.outcome.counters.begin_scan()

    def conclude(self, settlement: Settlement, scan: SpoolScan) -> None:
        """Kill the remaining workers, and add up all results; files in flight stay in the spool.

        What those have left that did not live to count it is counted here, unless the leader has looked there.
        """
        unread = []
        for number, worker in enumerate(self._workers, start=1):
            worker.end()
            outcome = worker.outcome
            if outcome is None and number not in self._read:
                unread.append(number)
            _absorb(self._counters, worker.counters if outcome is None else outcome.counters)
            for bucket, uploads in ({} if outcome is None else outcome.failures).items():
                settlement.failed_uploads[bucket] += uploads
        if self._begun and unread:
            scan.layout = self._plan.layout(self.of, own=unread[0], done=unread[1:])
            scan.count_rest(scan.begin())

    def tell_sightings(self, sightings: Sightings) -> None:
        """Add what workers have seen of files whose writers may be on other hosts."""
        for worker in self._workers:
            if worker.outcome is not None:
                sightings.absorb(worker.outcome.sightings, worker.outcome.unseen)


def _absorb(counters: RunCounters, other: RunCounters) -> None:
    """Add the counts of another process of the same run."""
    counters.shipped += other.shipped
    counters.shipped_bytes += other.shipped_bytes
    counters.already_there += other.already_there
    counters.failures += other.failures
    counters.troubles += other.troubles
    counters.pruned += other.pruned
    counters.left.update(other.left)
    for name, there in other.waiting.items():
        location = name if name in counters.waiting or len(counters.waiting) < MOST_LOCATIONS else OTHER_LOCATIONS
        here = counters.waiting.setdefault(location, Waiting(0, 0, there.oldest))
        here.files += there.files
        here.bytes += there.bytes
        here.oldest = min(here.oldest, there.oldest)
    counters.not_finished = [*counters.not_finished, *other.not_finished][:MOST_NOT_FINISHED]
    strangers = [*counters.strangers, *other.strangers]
    counters.more_strangers |= other.more_strangers or len(strangers) > MOST_STRANGERS
    counters.strangers = strangers[:MOST_STRANGERS]
    counters.untouchable = counters.untouchable or other.untouchable
    counters.from_future += other.from_future
    counters.future_example = counters.future_example or other.future_example
