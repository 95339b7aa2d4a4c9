"""Whether a run starts worker processes at all."""

from __future__ import annotations

import pytest

from s3_uploader.core.counters import RunCounters
from s3_uploader.core.events import Event, Notice
from s3_uploader.run import workers
from s3_uploader.run.worker_pipe import Task
from s3_uploader.run.workers import Workers
from s3_uploader.spool.layouts.base import Layout


class Plan:
    """Wants three processes, and has nothing for them to do."""

    def want(self) -> int:
        """See :class:`workers.Plan`."""
        return 3

    def task(self, number: int, of: int) -> Task:
        """See :class:`workers.Plan`."""
        raise AssertionError("a worker was about to be started")

    def layout(self, of: int) -> Layout:
        """See :class:`workers.Plan`."""
        raise AssertionError("the run was about to be divided")


def test_none_where_the_lock_would_end_with_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """On FUSE a lock belongs to one process: no worker is ever at work on a spool that another run may take."""
    monkeypatch.setattr(workers, "FIRST_QUESTION", 1)
    told: list[Event] = []
    counters = RunCounters()
    counters.shipped = 1
    of_one_process = Workers(Plan(), locks=None, emit=told.append, counters=counters)
    for _ in range(3):
        assert not of_one_process.are_due()
        counters.shipped += 10_000
    assert not of_one_process.are_at_work
    (notice,) = told
    assert isinstance(notice, Notice)
    assert (notice.level, "goes on with one process" in notice.message) == ("warning", True)
