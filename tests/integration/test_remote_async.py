"""The object API for asyncio: the same results as without it, many calls at once, and calls that are cancelled."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import s3_uploader as s3
from tests.integration.remote_support import connect
from tests.integration.s3_support import own_threads
from tests.servers.base import S3Endpoint
from tests.servers.fault_script import hang
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.process import wait_until

LARGE = hashlib.shake_128(b"large").digest(7 * 2**20 + 3)

Work = Callable[[s3.AsyncRemoteStore], Awaitable[Any]]


def run(endpoint: S3Endpoint, work: Work) -> Any:
    """Do some work with a store on an event loop of its own."""

    async def main() -> Any:
        store = s3.RemoteStore(connect(endpoint), multipart_threshold=6 * 2**20, part_size=5 * 2**20, raise_errors=True)
        async with s3.AsyncRemoteStore(store) as asynchronous:
            return await work(asynchronous)

    return asyncio.run(main())


def test_every_method(moto_s3: S3Endpoint, tmp_path: Path) -> None:
    """Each method does what its twin does."""
    (tmp_path / "file").write_bytes(LARGE)

    async def work(store: s3.AsyncRemoteStore) -> None:
        assert await store.write(tmp_path / "file", "key", {"x-amz-meta-a": "1"})
        assert await store.exists("key") == (True, {"x-amz-meta-a": "1"})
        assert await store.read("key", tmp_path / "back") == (True, {"x-amz-meta-a": "1"})
        assert await store.copy("key", "copy")
        assert await store.update_metadata("copy", {"x-amz-meta-b": "2"})
        assert (await store.stat("copy")).metadata == {"x-amz-meta-b": "2"}
        assert await store.delete("key")
        assert (await store.write_bytes(b"some", "bytes")).size == 4
        assert await store.read_bytes("bytes", start=1, length=2) == b"om"
        assert (await store.write_file(io.BytesIO(b"file"), "file")).size == 4
        back = io.BytesIO()
        await store.read_file("file", back)
        assert back.getvalue() == b"file"
        assert (await store.presign("file")).startswith("http")
        assert [found.key async for found in store] == ["bytes", "copy", "file"]
        assert [found.key async for found in store.list("b", limit=5)] == ["bytes"]
        assert [found.key async for found in store.list(limit=2)] == ["bytes", "copy"]
        assert [found.key async for found in store.list(limit=0)] == []
        with pytest.raises(s3.ObjectNotFound):
            await store.read("missing", tmp_path / "missing")
        assert store.connection.default_bucket == moto_s3.bucket

    run(moto_s3, work)
    assert (tmp_path / "back").read_bytes() == LARGE


def test_many_at_once(fault_server: FaultServer) -> None:
    """Calls are under way at the same time, and each has its own answer."""
    fault_server.faults.add(hang(seconds=0.3).only(operations="PutObject", times=20))

    async def work(store: s3.AsyncRemoteStore) -> None:
        began = time.monotonic()
        await asyncio.gather(*(store.write_bytes(str(number).encode(), f"{number}") for number in range(20)))
        assert time.monotonic() - began < 20 * 0.3
        contents = await asyncio.gather(*(store.read_bytes(f"{number}") for number in range(20)))
        assert contents == [str(number).encode() for number in range(20)]

    run(fault_server.endpoint, work)


def test_a_call_that_is_cancelled(fault_server: FaultServer, tmp_path: Path) -> None:
    """A cancelled call ends at once for its task and soon for the server, and leaves no parts behind."""
    (tmp_path / "file").write_bytes(LARGE)
    fault_server.faults.add(hang(seconds=30).only(operations="UploadPart"))

    async def work(store: s3.AsyncRemoteStore) -> None:
        began = time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.write(tmp_path / "file", "key"), timeout=1.0)
        assert time.monotonic() - began < 10
        assert not (await store.exists("key"))[0]

    began = time.monotonic()
    run(fault_server.endpoint, work)
    assert time.monotonic() - began < 25
    wait_until(lambda: not fault_server.pending_uploads, what="the upload was aborted")
    fault_server.faults.clear()


def test_progress_on_the_loop(moto_s3: S3Endpoint, tmp_path: Path) -> None:
    """Progress is told on the thread of the event loop."""
    (tmp_path / "file").write_bytes(LARGE)
    told: list[tuple[int, int]] = []
    threads: set[int] = set()

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        threads.add(threading.get_ident())

    async def work(store: s3.AsyncRemoteStore) -> None:
        await store.write(tmp_path / "file", "key", progress=progress)
        await store.read("key", tmp_path / "back", progress=progress)

    run(moto_s3, work)
    assert told[-1] == (len(LARGE), len(LARGE))
    assert threads == {threading.get_ident()}


def test_what_it_is_made_of(fault_server: FaultServer) -> None:
    """A connection will do; a store that returns failures is refused. No thread outlives the block."""
    threads = own_threads()
    connection = connect(fault_server.endpoint)
    with pytest.raises(ValueError, match="raise_errors"):
        s3.AsyncRemoteStore(s3.RemoteStore(connection))

    async def main() -> None:
        async with s3.AsyncRemoteStore(connection, max_calls=2) as store:
            await asyncio.gather(*(store.write_bytes(b"x", f"{number}") for number in range(6)))

    asyncio.run(main())
    assert own_threads() <= threads
