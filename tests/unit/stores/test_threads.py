"""Threads that cannot be started are an error at once, never a wait without an end."""

from __future__ import annotations

import functools
import operator
import threading
import time

import pytest

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.meanings import meaning_of
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.threads import ThreadPool
from s3_uploader.stores.workers import UploadTask, Workers


class Limit:
    """How many threads may still be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        start = threading.Thread.start

        def limited(thread: threading.Thread) -> None:
            if self.left <= 0:
                raise RuntimeError("can't start new thread")
            self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """No thread may be started, until the test says otherwise."""
    return Limit(monkeypatch)


def receipt_for(task: UploadTask) -> Receipt:
    """What a worker returns."""
    return Receipt(key="key", size=0, proof=Proof.SIZE)


@pytest.mark.parametrize("allowed", [0, 1])
def test_workers_without_threads(limit: Limit, allowed: int) -> None:
    """A worker thread and a watching thread are needed; without either, no file can be shipped."""
    limit.left = allowed
    workers = Workers(name="test", count=2)
    for _ in range(2):
        with pytest.raises(StoreError, match="No thread can be started") as raised:
            workers.submit(receipt_for, deadline=time.monotonic() + 60)
        assert raised.value.scope is Scope.DESTINATION
    assert workers.close(timeout=5)


def test_workers_when_threads_come_back(limit: Limit) -> None:
    """A task that was refused for lack of threads is never run; later tasks are."""
    workers = Workers(name="test", count=2)
    with pytest.raises(StoreError):
        workers.submit(receipt_for, deadline=time.monotonic() + 60)
    limit.left = 2
    assert workers.submit(receipt_for, deadline=time.monotonic() + 60).result(10).key == "key"
    assert workers.close(timeout=5)


def test_fewer_workers_than_wanted(limit: Limit) -> None:
    """One worker does everything if there can be no more."""
    limit.left = 2
    workers = Workers(name="test", count=8)
    futures = [workers.submit(receipt_for, deadline=time.monotonic() + 60) for _ in range(20)]
    assert all(future.result(10).key == "key" for future in futures)
    assert workers.close(timeout=5)


def test_an_error_that_no_store_knows_is_not_the_fault_of_the_file() -> None:
    """So ``on_failure`` does not delete or move a file because of a bug."""

    def fail(task: UploadTask) -> Receipt:
        raise ZeroDivisionError

    workers = Workers(name="test", count=1)
    with pytest.raises(StoreError, match="failed unexpectedly: ZeroDivisionError: ") as raised:
        workers.submit(fail, deadline=time.monotonic() + 60).result(10)
    assert not meaning_of(raised.value.origin).blames_file
    assert workers.close(timeout=5)


@pytest.mark.usefixtures("limit")
def test_a_pool_without_threads() -> None:
    """A job that nobody can do is refused."""
    pool = ThreadPool(name="test", count=2)
    with pytest.raises(StoreError, match="No thread can be started"):
        pool.do(lambda: None)


def test_a_pool_answers_with_what_its_work_returns_or_raises() -> None:
    """More work than threads is done in the end, and an error reaches whoever waits for it."""
    pool = ThreadPool(name="test", count=2)
    answers = [pool.submit(functools.partial(operator.floordiv, 6, number)) for number in range(4)]
    assert [answer.result(10) for answer in answers[1:]] == [6, 3, 2]
    with pytest.raises(ZeroDivisionError):
        answers[0].result(10)
    pool.close(timeout=None)


def test_a_pool_starts_a_thread_for_each_job_that_would_wait() -> None:
    """Jobs that wait for each other are all begun while there are threads for them."""
    pool, together = ThreadPool(name="test", count=3), threading.Barrier(3)
    answers = [pool.submit(lambda: together.wait(10)) for _ in range(3)]
    assert sorted(answer.result(10) for answer in answers) == [0, 1, 2]
    assert pool.close(timeout=10)


def test_a_pool_tells_that_a_thread_still_hangs() -> None:
    """The end of a pool is waited for, but no longer than was asked for."""
    pool, go = ThreadPool(name="test", count=1), threading.Event()
    pool.submit(lambda: go.wait(30))
    assert not pool.close(timeout=0.01)
    go.set()
    assert pool.close(timeout=10)


def test_a_job_that_comes_when_the_pool_is_closed() -> None:
    """It is done, as many as there are of them, and no thread is left that waits for another one."""
    pool = ThreadPool(name="late", count=1)
    pool.do(lambda: None)
    assert pool.close(timeout=10)
    late = [pool.submit(lambda number=number: number) for number in range(3)]  # type: ignore[misc]
    assert [future.result(10) for future in late] == [0, 1, 2]
    assert pool.close(timeout=10)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("late-")]


def test_work_that_nobody_waits_for_any_more_is_not_done() -> None:
    """What is cancelled while it waits in the queue never runs; what runs already is not disturbed."""
    pool, go, begun = ThreadPool(name="test", count=1), threading.Event(), threading.Event()
    done: list[int] = []

    def first() -> bool:
        begun.set()
        return go.wait(10)

    running = pool.submit(first)
    waiting = pool.submit(lambda: done.append(1))
    assert begun.wait(10)
    assert waiting.cancel()
    assert not running.cancel()
    go.set()
    assert running.result(10)
    pool.close(timeout=None)
    assert done == []
