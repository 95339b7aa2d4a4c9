"""Servers that all processes of one run share: each is started when the first test asks for it, and once.

To start one costs two or three seconds of processor, more than most tests that want it. The process that outlives the
others has them: that of the run itself, which xdist's workers ask. So a server survives the worker that asked for it.

Names must not meet there: a test takes a new bucket, and disturbs nothing but that.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from tests.servers.base import S3Server
from tests.servers.ceph_rgw import CephServer
from tests.servers.moto_server import MotoServer
from tests.servers.swift_s3 import SwiftServer

SHARED: dict[str, Callable[[], S3Server]] = {
    "ceph": lambda: CephServer(tls=True),
    "moto": MotoServer,
    "swift": SwiftServer,
}
"""Each by its name."""


class SharedServers:
    """The servers of a run, in the process that has them."""

    def __init__(self) -> None:
        self._running: dict[str, S3Server] = {}
        self._locks = {name: threading.Lock() for name in SHARED}
        self._address: tuple[str, str] | None = None

    def get(self, name: str) -> S3Server:
        """Return a server that runs; raises what `Server.start` does."""
        with self._locks[name]:
            if name not in self._running:
                self._running[name] = SHARED[name]().start()
            return self._running[name]

    def stop(self) -> None:
        """Stop all of them."""
        for name, lock in self._locks.items():
            with lock:
                if name in self._running:
                    self._running.pop(name).stop()

    def address(self) -> tuple[str, str]:
        """Return where other processes ask for a server, and the key that they need; see `ask`."""
        if self._address is None:
            # An abstract socket has no file that would have to be removed.
            name, key = f"\0{secrets.token_hex(16)}", secrets.token_hex(16)
            listener = Listener(name, family="AF_UNIX", backlog=64, authkey=key.encode())
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            self._address = (name, key)
        return self._address

    def _accept(self, listener: Listener) -> None:
        while True:
            # Whoever is killed while it asks ends nothing but its own question, nor does a stranger.
            with contextlib.suppress(OSError, EOFError, AuthenticationError):
                threading.Thread(target=self._answer, args=(listener.accept(),), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            name = connection.recv()
            answer: S3Server | Exception
            try:
                answer = self.get(name)
            except Exception as error:
                answer = error
            connection.send(answer)


def ask(address: tuple[str, str], name: str) -> S3Server:
    """Return a running server of another process, good for everything but to stop it; raises as `SharedServers.get`."""
    with Client(address[0], family="AF_UNIX", authkey=address[1].encode()) as connection:
        connection.send(name)
        answer: Any = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, S3Server)
    return answer
