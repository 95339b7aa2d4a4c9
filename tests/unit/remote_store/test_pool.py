"""The open buckets of a connection: which are kept, which are closed and when, and what a forked child has."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import s3_uploader as s3
from s3_uploader.remote_store import pool as pool_module
from s3_uploader.remote_store.local_files import MadeFile
from s3_uploader.remote_store.pool import Pool


class FakeBucket:
    """A bucket that only says whether it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.users = 0
        self.used_at = 0.0
        self.is_broken = False
        self.is_retired = False
        self.ends: list[str] = []

    def close(self, *, timeout: float) -> None:
        """End it."""
        self.ends.append("closed")

    def leave_to_parent(self) -> None:
        """Let go of it."""
        self.ends.append("left")


@pytest.fixture
def made() -> list[FakeBucket]:
    """The buckets that were opened, in order."""
    return []


@pytest.fixture
def pool(made: list[FakeBucket]) -> Pool:
    """A pool of such buckets."""

    def make(name: str, shared: object) -> Any:
        made.append(FakeBucket(name))
        return made[-1]

    return Pool(make)


def test_a_bucket_is_opened_once(pool: Pool, made: list[FakeBucket]) -> None:
    """What is open is used again."""
    for _ in range(3):
        with pool.bucket("a") as bucket:
            assert bucket.users == 1
    assert [each.name for each in made] == ["a"]
    assert made[0].users == 0


def test_buckets_that_nobody_uses_are_closed(pool: Pool, made: list[FakeBucket]) -> None:
    """Beyond a number of buckets the one that was used longest ago is closed; one in use never is."""
    with pool.bucket("in use"):
        for number in range(pool_module.MOST_BUCKETS + 3):
            with pool.bucket(str(number)):
                pass
        closed = [each.name for each in made if each.ends]
        assert closed == ["0", "1", "2", "3"]


def test_a_broken_bucket_is_replaced(pool: Pool, made: list[FakeBucket]) -> None:
    """A bucket whose engine is broken is not used again, and is closed when the last call is through with it."""
    with pool.bucket("a") as first:
        first.is_broken = True
        with pool.bucket("a") as second:
            assert second is not first
        assert made[0].ends == []
    assert made[0].ends == ["closed"]
    assert made[1].ends == []


def test_a_closed_pool_begins_anew(pool: Pool, made: list[FakeBucket]) -> None:
    """Closing ends everything; what is asked afterwards opens it again."""
    with pool.bucket("a"):
        pass
    pool.close()
    pool.close()
    with pool.bucket("a"):
        pass
    assert [each.ends for each in made] == [["closed"], []]


def test_a_bucket_that_cannot_be_opened(made: list[FakeBucket]) -> None:
    """A failure to open a bucket is raised, and tried again the next time."""
    tries: list[str] = []

    def make(name: str, shared: object) -> Any:
        tries.append(name)
        if len(tries) == 1:
            raise s3.RemoteStoreError("no credentials")
        return FakeBucket(name)

    pool = Pool(make)
    with pytest.raises(s3.RemoteStoreError), pool.bucket("a"):
        pass
    with pool.bucket("a"):
        pass
    assert tries == ["a", "a"]


def test_many_threads_open_a_bucket_once(pool: Pool, made: list[FakeBucket]) -> None:
    """Threads that want a bucket at the same time share one."""

    def work() -> None:
        for _ in range(50):
            with pool.bucket("a"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert made[0].users == 0


def test_a_forked_child_begins_anew(pool: Pool, made: list[FakeBucket]) -> None:
    """A child takes none of its parent's connections, even where a lock was held at the moment of the fork."""
    with pool.bucket("a"):
        pass
    with pool._lock:
        child = os.fork()
        if not child:
            code = 1
            try:
                with pool.bucket("a") as bucket:
                    code = 0 if bucket.users == 1 and len(made) == 2 and made[0].ends == ["left"] else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made[0].ends == []


def in_a_child(work: Callable[[], bool]) -> bool:
    """Whether this is true in a forked child, which is ended if it hangs."""
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("which", ["settings", "downloads"])
def test_a_forked_child_waits_for_no_lock_of_its_parent(which: str, tmp_path: Path) -> None:
    """What another thread held at the moment of the fork is free in the child, and no download is forgotten."""
    connection = s3.S3Connection("key", "secret", "bucket", "http://127.0.0.1:9")
    client = object()
    connection._client = client  # type: ignore[assignment]
    path = tmp_path / "download"
    path.write_text("")
    status = path.stat()
    connection.downloads.note("bucket", "key", MadeFile(str(path), status.st_dev, status.st_ino))

    def work() -> bool:
        is_kept = bool(connection.downloads._noted)
        connection.downloads.secure("bucket", "key")
        is_own = connection._client is None
        connection._make_pool()
        connection.close()
        return is_kept and is_own and not connection.downloads._noted

    with connection._lock if which == "settings" else connection.downloads._lock:
        assert in_a_child(work)
    assert connection._client is client


def test_coroutines_of_a_forked_child() -> None:
    """The threads of the parent do not exist there, so a call of the child gets one of its own."""
    store = s3.AsyncRemoteStore(s3.S3Connection("key", "secret", "bucket", "http://127.0.0.1:9"))

    async def call() -> bool:
        return "/key" in await store.presign("key")

    assert asyncio.run(call())
    assert in_a_child(lambda: asyncio.run(call()))


def test_a_connection_that_is_gone_is_closed(made: list[FakeBucket]) -> None:
    """Connections do not outlive the object that they belong to."""
    connection = s3.S3Connection("key", "secret", "bucket", "http://127.0.0.1:9")
    pool = connection._make_pool()
    bucket = FakeBucket("bucket")
    pool._make = lambda name, shared: bucket  # type: ignore[assignment, return-value]
    with connection.bucket("bucket"):
        pass
    del connection
    gc.collect()
    assert bucket.ends == ["closed"]
