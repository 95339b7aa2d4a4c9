"""The object API for asyncio: the same methods, awaited, on the same client and connections.

Access to local files always blocks, so each call occupies a thread while it runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from s3_uploader.core.control import begins_anew_after_fork
from s3_uploader.core.model import Receipt
from s3_uploader.remote_store.connection import S3Connection
from s3_uploader.remote_store.local_files import LocalName, Readable, Writable
from s3_uploader.remote_store.methods import Headers, Method
from s3_uploader.remote_store.names import RemoteName
from s3_uploader.remote_store.store import RemoteStore
from s3_uploader.remote_store.waiting import until_given_up
from s3_uploader.stores.threads import ThreadPool

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from s3_uploader.remote_store.objects import ObjectInfo
    from s3_uploader.remote_store.reading import Progress

_Result = TypeVar("_Result")
_Parameters = ParamSpec("_Parameters")


class AsyncRemoteStore:
    """Objects in S3, for coroutines. Its methods are those of :class:`RemoteStore`; every failure is raised.

    A call is cancelled together with its task: its parts are removed, and no file is left. Progress callbacks run on
    the event loop.

    :param store: a store with ``raise_errors``, or a connection or a bucket to make one from.
    :param max_calls: the maximum number of concurrent calls; further calls wait.
    """

    def __init__(self, store: RemoteStore | S3Connection | str, *, max_calls: int = 32) -> None:
        if isinstance(store, S3Connection | str):
            store = RemoteStore(store, raise_errors=True)
        elif not store.raises_errors:
            raise ValueError("an AsyncRemoteStore needs a store with raise_errors=True")
        self._store = store
        self._max_calls = max_calls
        self._pool = ThreadPool(name="s3-async", count=max_calls)
        self._closed = False
        begins_anew_after_fork(self, AsyncRemoteStore._forked)

    async def __aenter__(self) -> AsyncRemoteStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connection(self) -> S3Connection:
        """Where the objects are."""
        return self._store.connection

    def _forked(self) -> None:
        self._pool = ThreadPool(name="s3-async", count=self._max_calls)

    async def close(self) -> None:
        """Wait for the calls in flight, close the connections and end the threads. No call is possible afterwards."""
        self._closed = True
        await asyncio.to_thread(self._pool.close, timeout=None)
        await asyncio.to_thread(self._store.close)

    async def write(
        self,
        local_name: LocalName,
        remote_name: RemoteName,
        headers: Headers = None,
        *,
        progress: Progress | None = None,
    ) -> bool:
        """See :meth:`RemoteStore.write`."""
        return await self._run(self._store.write, local_name, remote_name, headers, progress=_on_loop(progress))

    async def read(
        self, remote_name: RemoteName, local_name: LocalName, *, progress: Progress | None = None
    ) -> tuple[bool, dict[str, str]]:
        """See :meth:`RemoteStore.read`."""
        return await self._run(self._store.read, remote_name, local_name, progress=_on_loop(progress))

    async def copy(
        self,
        remote_source: RemoteName,
        remote_destination: RemoteName,
        headers: Headers = None,
        *,
        progress: Progress | None = None,
    ) -> bool:
        """See :meth:`RemoteStore.copy`."""
        return await self._run(
            self._store.copy, remote_source, remote_destination, headers, progress=_on_loop(progress)
        )

    async def update_metadata(self, remote_name: RemoteName, headers: Mapping[str, object]) -> bool:
        """See :meth:`RemoteStore.update_metadata`."""
        return await self._run(self._store.update_metadata, remote_name, headers)

    async def delete(self, remote_name: RemoteName) -> bool:
        """See :meth:`RemoteStore.delete`."""
        return await self._run(self._store.delete, remote_name)

    async def exists(self, remote_name: RemoteName) -> tuple[bool, dict[str, str]]:
        """See :meth:`RemoteStore.exists`."""
        return await self._run(self._store.exists, remote_name)

    async def stat(self, remote_name: RemoteName) -> ObjectInfo:
        """See :meth:`RemoteStore.stat`."""
        return await self._run(self._store.stat, remote_name)

    async def write_bytes(self, data: ReadableBuffer, remote_name: RemoteName, headers: Headers = None) -> Receipt:
        """See :meth:`RemoteStore.write_bytes`."""
        return await self._run(self._store.write_bytes, data, remote_name, headers)

    async def write_file(
        self, file: Readable, remote_name: RemoteName, headers: Headers = None, *, progress: Progress | None = None
    ) -> Receipt:
        """See :meth:`RemoteStore.write_file`; the file is read on another thread."""
        return await self._run(self._store.write_file, file, remote_name, headers, progress=_on_loop(progress))

    async def read_bytes(self, remote_name: RemoteName, *, start: int = 0, length: int | None = None) -> bytes:
        """See :meth:`RemoteStore.read_bytes`."""
        return await self._run(self._store.read_bytes, remote_name, start=start, length=length)

    async def read_file(
        self, remote_name: RemoteName, file: Writable, *, progress: Progress | None = None
    ) -> dict[str, str]:
        """See :meth:`RemoteStore.read_file`; the file is written on another thread."""
        return await self._run(self._store.read_file, remote_name, file, progress=_on_loop(progress))

    async def presign(
        self,
        remote_name: RemoteName,
        *,
        method: Method = "GET",
        expires_seconds: int = 3600,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """See :meth:`RemoteStore.presign`."""
        return await self._run(
            self._store.presign, remote_name, method=method, expires_seconds=expires_seconds, headers=headers
        )

    async def list(
        self, prefix: str = "", *, bucket: str | None = None, start_after: str = "", limit: int | None = None
    ) -> AsyncIterator[ObjectInfo]:
        """See :meth:`RemoteStore.list`; to be used with ``async for``."""
        pages = self._store.pages(prefix, bucket=bucket, start_after=start_after)
        left = limit
        while left is None or left > 0:
            page = await self._run(next, pages, None)
            if page is None:
                return
            for entry in page[:left]:
                yield entry
            left = None if left is None else left - len(page)

    def __aiter__(self) -> AsyncIterator[ObjectInfo]:
        """Every object of the default bucket."""
        return self.list()

    async def _run(
        self,
        work: Callable[_Parameters, _Result],
        /,
        *arguments: _Parameters.args,
        **settings: _Parameters.kwargs,
    ) -> _Result:
        if self._closed:
            raise RuntimeError("the store is closed")
        given_up = threading.Event()

        def call() -> _Result:
            with until_given_up(given_up):
                return work(*arguments, **settings)

        try:
            return await asyncio.wrap_future(self._pool.submit(call))
        except asyncio.CancelledError:
            given_up.set()
            raise


def _on_loop(progress: Progress | None) -> Progress | None:
    """Wrap a callback so that it runs on the event loop's thread, where the program's own state lives."""
    if progress is None:
        return None
    loop = asyncio.get_running_loop()

    def tell(done: int, total: int) -> None:
        loop.call_soon_threadsafe(progress, done, total)

    return tell
