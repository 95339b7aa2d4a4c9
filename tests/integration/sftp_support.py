"""Stores on an SFTP server, and uploads to them, for the tests of the SFTP store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from s3_uploader.core.model import Proof, Receipt
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.sftp.store import SftpStore

PATIENCE = 60.0


class SftpServerLike(Protocol):
    """A server that says how it is reached."""

    def settings(self) -> dict[str, Any]:
        """The keys of the destination, but for its type."""


class Bench:
    """Stores and open files that are closed in the end."""

    def __init__(self, server: SftpServerLike, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._stack = contextlib.ExitStack()

    def new_store(self, **options: Any) -> SftpStore:
        """A store, not open, that does not dawdle between attempts."""
        given = {"timeout_seconds": 2, "jitter": lambda: 0.02, **self._server.settings(), **options}
        return SftpStore(**given)

    def opened(self, **options: Any) -> SftpStore:
        """A store, open."""
        store = self.new_store(**options)
        store.open()
        self._stack.callback(store.close, timeout=3)
        return store

    def begin(
        self,
        store: SftpStore,
        key: str,
        content: bytes,
        *,
        seconds: float = PATIENCE,
        replaces: str = "",
        **options: Any,
    ) -> PendingReceipt:
        """Begin an upload."""
        path = self._directory / hashlib.sha256(os.fsencode(key) + content[:64]).hexdigest()
        path.write_bytes(content)
        descriptor = os.open(path, os.O_RDONLY)
        self._stack.callback(os.close, descriptor)
        given = PutOptions(**{"minimum_proof": Proof.SIZE, **options})
        return store.put(
            key,
            Source(descriptor, len(content)),
            options=given,
            deadline=time.monotonic() + seconds,
            replaces=replaces,
        )

    def put(self, store: SftpStore, key: str, content: bytes, **options: Any) -> Receipt:
        """Upload and wait for the receipt."""
        return self.begin(store, key, content, **options).result(PATIENCE)

    def close(self) -> None:
        """Close everything."""
        self._stack.close()


@contextlib.contextmanager
def bench_on(server: SftpServerLike, directory: Path) -> Iterator[Bench]:
    """A bench that is closed in the end."""
    bench = Bench(server, directory)
    try:
        yield bench
    finally:
        bench.close()
