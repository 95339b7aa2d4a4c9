"""Decides when a run is divided among processes, and how."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import Config
from s3_uploader.core.events import Notice
from s3_uploader.core.installation import was_replaced
from s3_uploader.core.interpreter import is_known
from s3_uploader.core.processors import Effort, allowed
from s3_uploader.core.shares import MOST_SHARES, Share
from s3_uploader.run.context import RunContext
from s3_uploader.run.place import Place, build_layout
from s3_uploader.run.scan import Ending, SpoolScan
from s3_uploader.run.worker_pipe import Task
from s3_uploader.run.workers import Workers
from s3_uploader.spool.layouts.base import Layout
from s3_uploader.spool.lock import Lock
from s3_uploader.spool.root import Names, SpoolRoot
from s3_uploader.stores.base import Store
from s3_uploader.stores.s3.engines.choose import Mock, active_mock

MOST_BY_ITSELF = 4
"""More processes than this are started only if the configuration says so."""
WORTH_FILES = 6000
"""Waiting files needed for each further process: starting one takes as long as shipping one or two thousand."""
_ONE_WRITER = (
    "No worker process is started. The server does not support conditional writes, and of two files whose names it "
    "takes for one, sent by two processes, one would be lost. The run continues with one process; set processes to 1."
)
_BOUND = 0.8
_COUNT_SECONDS = 0.1


def may_be_divided(config: Config, context: RunContext) -> bool:
    """Whether the run may use more than one process.

    Not with claims, a bandwidth limit, or a server with few connections, and not in a rehearsal.
    """
    return (
        config.processes != 1
        and context.may_be_divided
        and isinstance(config.destination, S3Destination)
        and config.destination.max_bandwidth is None
        and config.claim_dir is None
        and not context.is_rehearsal
    )


def workers_of(
    place: Place, context: RunContext, scan: SpoolScan, run: int, lock: Lock, store: Store
) -> Workers | None:
    """Make the workers of a run, not started yet; ``None`` if it must not be divided.

    :param run: the number of the run in the ledger.
    :param store: the open store of the run.
    """
    if not may_be_divided(place.config, context):
        return None
    if not store.keeps_writers_apart:
        if place.config.processes != "auto":
            context.emit(Notice("warning", _ONE_WRITER))
        return None
    trigger = context.scan_trigger
    division = Division(
        place,
        run=run,
        lock_file=lock.lock_file,
        ending=scan.ending,
        retries=context.retries,
        look_seconds=None if trigger is None else trigger.poll_seconds,
    )
    return Workers(division, locks=lock.descriptors(), emit=context.emit, counters=scan.counters, scan_trigger=trigger)


class Division:
    """Decides when a run is divided, and makes the parts; see :class:`s3_uploader.run.workers.Plan`.

    :param run: the number of the run in the ledger.
    :param lock_file: descriptor of the spool's lock file, -1 without one.
    :param ending: of the run: when it began, and what is left of its time.
    :param look_seconds: see :class:`~s3_uploader.run.worker_pipe.Task`.
    """

    def __init__(
        self,
        place: Place,
        *,
        run: int,
        lock_file: int,
        ending: Ending,
        retries: bool,
        look_seconds: float | None = None,
    ) -> None:
        self._place = place
        self._run = run
        self._lock_file = lock_file
        self._ending = ending
        self._retries = retries
        self._look_seconds = look_seconds
        self._own = place.share or Share(0, 1)
        self._effort = Effort()

    def want(self) -> int:
        """The number of processes that the run should have now, including itself."""
        processes = self._place.config.processes
        if processes == "auto" and not is_known():
            return 1
        if active_mock() is not Mock.NONE:
            return 1  # it stands in for S3 in this process alone; another one would write to the real bucket
        if was_replaced():
            return 1  # a worker would be of another version, which may not understand this one
        if processes == "auto":
            most = min(MOST_BY_ITSELF, allowed())
            if most < 2 or self._effort.share() < _BOUND:
                return 1
        else:
            most = processes
        # Each process has an upload in flight, and all of them together no more than are allowed.
        most = min(most, MOST_SHARES // self._own.count, self._place.config.destination.max_concurrency)
        wanted = WORTH_FILES * self._own.count
        waiting = count_names(self._place.root, most=wanted * (most - 1), seconds=_COUNT_SECONDS)
        return min(most, 1 + waiting // wanted)

    def share(self, number: int, of: int) -> Share:
        """The share of a process; within the run's own share, if it has one."""
        return Share(self._own.index * of + number, self._own.count * of)

    def owns(self, number: int, of: int, key: str) -> bool:
        """Whether the file of a key belongs to a process."""
        config = self.config(number, of)
        return self.share(number, of).owns(key.split("/", 1)[0] if config.share_by == "location" else key)

    def config(self, number: int, of: int) -> Config:
        """The configuration of a process."""
        config = self._place.config
        destination = config.destination
        connections = max(1, destination.max_concurrency // of)
        return msgspec.structs.replace(
            config,
            share=str(self.share(number, of)),
            # Locations may be few; they are only kept together where other runs ship the rest.
            share_by="path" if config.share is None else config.share_by,
            destination=msgspec.structs.replace(destination, max_concurrency=connections),
        )

    def layout(self, of: int, *, own: int = 0, done: Sequence[int] = ()) -> Layout:
        """A process's view of the spool, by default the leader's."""
        return build_layout(self.config(own, of), also=[self.share(number, of) for number in done])

    def task(self, number: int, of: int) -> Task:
        """The task of a worker."""
        return Task(
            config=self.config(number, of),
            run=self._run,
            started_at=self._ending.started_at,
            state_dir=self._place.state_dir,
            lock_file=self._lock_file,
            of=of,
            max_runtime_seconds=self._ending.seconds_left(),
            retries=self._retries,
            look_seconds=self._look_seconds,
        )


def count_names(root: SpoolRoot, *, most: int, seconds: float) -> int:
    """Estimate the number of files in a spool by their names, for some seconds; counts up to ``most``."""
    until = time.monotonic() + seconds
    waiting: list[Names] = [()]
    found = 0
    while waiting and found < most and time.monotonic() < until:
        names = waiting.pop()
        try:
            for entry in root.entries(names):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((*names, entry.name))
                elif not entry.name.startswith("."):
                    found += 1
                    if found >= most or (found % 1000 == 0 and time.monotonic() >= until):
                        return found
        except OSError:
            continue
    return found
