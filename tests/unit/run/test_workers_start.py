"""Whether a run starts worker processes at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from s3_uploader.core.events import Event, Notice
from s3_uploader.core.model import RunCounters
from s3_uploader.run import pipeline, workers
from s3_uploader.run.worker_pipe import Task
from s3_uploader.run.workers import Workers
from s3_uploader.spool.layouts.base import Layout
from tests.fakes import Harness


class Plan:
    """Wants three processes, and has nothing for them to do."""

    def want(self) -> int:
        """See :class:`workers.Plan`."""
        return 3

    def task(self, number: int, of: int) -> Task:
        """See :class:`workers.Plan`."""
        raise AssertionError("a worker was about to be started")

    def owns(self, number: int, of: int, key: str) -> bool:
        """See :class:`workers.Plan`."""
        raise AssertionError("a worker was lost")

    def layout(self, of: int, *, own: int = 0, done: Sequence[int] = ()) -> Layout:
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
    assert (notice.level, "continues with one process" in notice.message) == ("warning", True)


@pytest.mark.parametrize(("files", "asked"), [(10, 0), (900, 1)])
def test_only_a_run_of_many_files_considers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, asked: int
) -> None:
    """A run asks once for worker processes, after many files; if there may be none it never asks again."""
    monkeypatch.setattr(pipeline, "WORKERS_FROM", 100)
    calls: list[int] = []

    def none_may_be() -> None:
        calls.append(1)

    harness = Harness(tmp_path)
    harness.make_workers = none_may_be
    harness.max_in_flight = 8
    for number in range(files):
        harness.write(f"{number}")
    assert harness.run().shipped == files
    assert len(calls) == asked
