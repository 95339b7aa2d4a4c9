"""pyftpdlib: a small FTP server in a thread of the test, with faults on order.

It computes no hashes and answers 226 when a data connection was reset in mid-file; ProFTPD is the real thing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import DTPHandler, FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)


@dataclasses.dataclass
class Fault:
    """What happens at the ``turn``-th time that a command comes, instead of what the server would do.

    :param command: the FTP command, ``DATA`` for the bytes of an upload.
    :param action: ``reply`` (refuse with the text), ``hang up``, ``do and hang up``, ``stall`` (go silent), ``lose``
        (``DATA`` only: drop the rest of the file and say 226), ``reset`` (``DATA`` only: cut the data connection).
    :param text: the reply.
    :param after: bytes of an upload after which it happens.
    :param times: how often it happens.
    """

    command: str
    action: str
    text: str = ""
    after: int = 0
    times: int = 1
    used: int = 0


class PyFtpServer:
    """An FTP server over a directory; user ``test``, password ``testpw``.

    :param permissions: of the user, in pyftpdlib's letters.
    :param most_connections: connections beyond that are turned away with a 421.
    :param replaces: whether a rename replaces a file that is there.
    """

    def __init__(
        self,
        root: Path,
        *,
        permissions: str = "elradfmwMT",
        most_connections: int = 0,
        replaces: bool = True,
        port: int = 0,
        utf8: bool = True,
        welcome: str = "ready.",
        without: tuple[str, ...] = (),
    ) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self.commands: list[str] = []
        self._permissions = permissions
        self._replaces = replaces
        self._utf8 = utf8
        self._welcome = welcome
        self._without = without
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._loop = IOLoop()
        self._server = FTPServer(("127.0.0.1", port), self._handler_class(), ioloop=self._loop)
        self._server.max_cons_per_ip = most_connections
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="pyftpd", daemon=True)
        self._thread.start()

    def fault(self, command: str, action: str, text: str = "", *, after: int = 0, times: int = 1) -> None:
        """Order a fault."""
        with self._lock:
            self.faults.append(Fault(command, action, text, after, times))

    def stop(self) -> None:
        """Stop the server and cut its connections."""
        self._stop.set()
        self._thread.join(10)

    def assert_faults_used(self) -> None:
        """Fail if an ordered fault did not happen: the test would prove nothing."""
        assert [fault for fault in self.faults if fault.used == 0] == []

    def files(self) -> dict[str, bytes]:
        """Every file on the server."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._loop.loop(0.02, False)
        self._server.close_all()

    def _take(self, command: str, position: int = 0) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.command == command and fault.used < fault.times and position >= fault.after:
                    fault.used += 1
                    return fault
        return None

    def _handler_class(self) -> type[FTPHandler]:
        server = self
        authorizer = DummyAuthorizer()
        authorizer.add_user("test", "testpw", str(self.root), perm=self._permissions)

        class Data(DTPHandler):  # type: ignore[misc]
            def handle_read(self) -> None:
                super().handle_read()
                fault = server._take("DATA", self.get_transmitted_bytes()) if self.receive else None
                if fault is None:
                    return
                if fault.action == "lose":
                    self.transfer_finished = True
                    self._resp = ("226 Transfer complete.", lambda *_: None)
                    self.close()
                elif fault.action == "stall":
                    self.del_channel()
                elif fault.action == "reset":
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    self.cmd_channel.respond("426 Connection closed; transfer aborted.")
                    self._resp = ()  # type: ignore[assignment]
                    self.close()
                elif fault.action == "reply":
                    self._resp = (fault.text, lambda *_: None)
                    self.close()

            # The base class makes the event its method directly.
            handle_read_event = handle_read

        class Handler(FTPHandler):  # type: ignore[misc]
            banner = server._welcome
            dtp_handler = Data
            use_sendfile = False

            def process_command(self, command: str, *arguments: Any, **options: Any) -> None:
                server.commands.append(" ".join([command, *(str(argument) for argument in arguments)]))
                fault = server._take(command)
                if fault is None:
                    super().process_command(command, *arguments, **options)
                elif fault.action == "reply":
                    self.respond(fault.text)
                elif fault.action == "hang up":
                    self.close()
                elif fault.action == "do and hang up":
                    super().process_command(command, *arguments, **options)
                    self.close()

            def ftp_RNTO(self, path: str) -> str | None:  # noqa: N802
                if not server._replaces and self.fs.lexists(path):
                    self.respond("553 File exists.")
                    return None
                return super().ftp_RNTO(path)

        Handler.authorizer = authorizer
        Handler.max_login_attempts = 100
        Handler.auth_failed_timeout = 0
        Handler.proto_cmds = {name: value for name, value in FTPHandler.proto_cmds.items() if name not in self._without}
        if not self._utf8:
            Handler.encoding = "latin-1"
            Handler.extra_feats = []
        return Handler


@contextlib.contextmanager
def py_ftp_server(root: Path, **options: Any) -> Iterator[PyFtpServer]:
    """A running server, stopped afterwards."""
    server = PyFtpServer(root, **options)
    try:
        yield server
    finally:
        server.stop()
    server.assert_faults_used()
