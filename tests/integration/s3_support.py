"""What the tests of the S3 store share: stores and uploads that clean up, and a TCP proxy that changes bytes."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import PendingReceipt, PutOptions, Source
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3.store import S3Store
from tests.servers.base import S3Endpoint

PATIENCE = 60.0
"""No upload of these tests may take longer; a future that is not done by then is a bug."""

MEBIBYTE = 1024 * 1024
PART = 5 * MEBIBYTE
"""The smallest part that S3 takes."""

ENGINES = ("native", "boto3")

QUICK = RetryPolicy(base_pause=0.02, max_pause=0.2)


def conditional(store: S3Store) -> str:
    """What an open store has found out about conditional writes: ``yes``, ``ignored``, ``refused``, or nothing yet."""
    assert store._context is not None
    return store._context.capabilities.conditional


class Known:
    """A memory in which every endpoint honours conditional writes, so that nothing is asked but what is tested."""

    def get(self, key: str) -> str | None:
        """What is known."""
        return "yes" if key.startswith(("conditional-put", "protected-at-completion")) else None

    def set(self, key: str, value: str) -> None:
        """Forget it."""


class Station:
    """Stores, and the files that are uploaded through them; a context manager that closes all of them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.notices: list[tuple[str, str]] = []

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def store(
        self, endpoint: S3Endpoint | Mapping[str, str], engine: str, *, bucket: str = "", **arguments: object
    ) -> S3Store:
        """An open store on the endpoint's bucket, or on ``bucket`` with these variables as the environment."""
        environment = endpoint.environment() if isinstance(endpoint, S3Endpoint) else endpoint
        if isinstance(endpoint, S3Endpoint):
            bucket = bucket or endpoint.bucket
        settings: dict[str, object] = {
            "multipart_threshold": PART,
            "part_size": PART,
            "retry": QUICK,
            "connect_timeout_seconds": 5,
            "notice": lambda level, message: self.notices.append((level, message)),
            **arguments,
        }
        store = S3Store.of(bucket=bucket, engine=engine, environment=environment, **settings)
        self._stack.callback(store.close, timeout=5)
        store.open()
        return store

    def begin(
        self,
        store: S3Store,
        key: str,
        content: bytes,
        *,
        seconds: float = PATIENCE,
        on_conflict: OnConflict = OnConflict.FAIL,
        minimum_proof: Proof = Proof.MD5,
        metadata: Mapping[str, str] | None = None,
        replaces: str = "",
    ) -> PendingReceipt:
        """Start an upload that has so many seconds."""
        file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        file.write(content)
        file.flush()
        options = PutOptions(on_conflict=on_conflict, minimum_proof=minimum_proof, metadata=metadata or {})
        source = Source(file.fileno(), len(content))
        return store.put(key, source, options=options, deadline=time.monotonic() + seconds, replaces=replaces)

    def put(self, store: S3Store, key: str, content: bytes, **arguments: object) -> Receipt:
        """Upload and wait for the receipt."""
        return self.begin(store, key, content, **arguments).result(PATIENCE)  # type: ignore[arg-type]

    def error(self, store: S3Store, key: str, content: bytes, **arguments: object) -> StoreError:
        """Upload something that must fail, and return how."""
        error = self.begin(store, key, content, **arguments).exception(PATIENCE)  # type: ignore[arg-type]
        assert isinstance(error, StoreError), f"no StoreError: {error!r}"
        return error


def pending_uploads(endpoint: S3Endpoint) -> list[str]:
    """The keys of the bucket's multipart uploads that were neither completed nor aborted."""
    client = endpoint.client()
    try:
        answer = client.list_multipart_uploads(Bucket=endpoint.bucket)
    except client.exceptions.NoSuchUpload:
        return []  # How rclone says that there are none.
    return sorted(upload["Key"] for upload in answer.get("Uploads", []))


class MeddlingProxy:
    """A TCP proxy that hands every piece of bytes from the client to a function, which may change it."""

    def __init__(self, endpoint: S3Endpoint, meddle: Callable[[bytes], bytes]) -> None:
        url = urlsplit(endpoint.endpoint_url)
        assert url.hostname is not None
        assert url.port is not None
        self._target = (url.hostname, url.port)
        self._meddle = meddle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.endpoint = endpoint.replace(endpoint_url=f"http://127.0.0.1:{self._listener.getsockname()[1]}")
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> MeddlingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                threading.Thread(target=self._pass, args=(client, server, self._meddle), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, bytes), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, meddle: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(meddle(data))
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def eventually(condition: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    """Whether the condition becomes true in that time."""
    ends_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True


def own_threads() -> set[threading.Thread]:
    """The threads of stores, but for those of stores that an earlier test has left to the garbage collector."""
    gc.collect()
    return {thread for thread in threading.enumerate() if thread.name.startswith("s3-")}


@contextlib.contextmanager
def nothing_leaks() -> Iterator[None]:
    """In the end there are no more descriptors and no more threads of a store than in the beginning."""
    threads = len(own_threads())
    descriptors = len(os.listdir("/proc/self/fd"))
    yield

    def clean() -> bool:
        return len(own_threads()) <= threads and len(os.listdir("/proc/self/fd")) <= descriptors

    assert eventually(clean, seconds=30), (
        descriptors,
        os.listdir("/proc/self/fd"),
        # What the threads that are left are at, those of the servers too.
        {number: traceback.extract_stack(frame)[-6:] for number, frame in sys._current_frames().items()},
    )
