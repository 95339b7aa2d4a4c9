"""An SFTP server in this process that does what a test tells it: refuses, hangs, lies, hangs up, changes names.

What a test has asked for once must have happened when the server stops.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncssh

from tests.servers.base import Server

Action = Callable[["Request"], Awaitable[Any]]
"""What a request comes to, instead of what it asked for; :meth:`Request.carry_out` does that too."""


class Request:
    """One request under way.

    :ivar arguments: as asyncssh's server has them, paths as bytes below the root.
    """

    def __init__(self, server: _SftpServer, name: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.arguments = arguments
        self._server = server

    async def carry_out(self, *arguments: Any) -> Any:
        """Do it, with other arguments if some are given."""
        result = getattr(asyncssh.SFTPServer, self.name)(self._server, *(arguments or self.arguments))
        return await result if asyncio.iscoroutine(result) else result

    def hang_up(self) -> None:
        """Cut the connection."""
        self._server.cut()


def refuse(error: asyncssh.SFTPError) -> Action:
    """Say no."""

    async def act(request: Request) -> Any:
        raise error

    return act


async def hang(request: Request) -> Any:
    """Never answer."""
    await asyncio.Event().wait()


async def hang_up(request: Request) -> Any:
    """Cut the connection without having done anything."""
    request.hang_up()
    await asyncio.Event().wait()


async def hang_up_afterwards(request: Request) -> Any:
    """Do it, and cut the connection instead of an answer."""
    await request.carry_out()
    request.hang_up()
    await asyncio.Event().wait()


class ScriptedSftpServer(Server):
    """SFTP on 127.0.0.1, for the user `tester`, with a password and with a key.

    :param server_version: how it calls itself.
    """

    name = "scripted_sftp"

    def __init__(self, *, server_version: str = "scripted") -> None:
        super().__init__()
        self.server_version = server_version
        self.host = "127.0.0.1"
        self.port = 0
        self.username, self.password = "tester", "let me in"
        self.root = Path()
        self.requests: list[str] = []
        """The names of all requests so far."""
        self.connections = 0
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.user_key = asyncssh.generate_private_key("ssh-ed25519")
        self._once: dict[str, deque[Action]] = {}
        self._always: dict[str, Action] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: asyncssh.SSHAcceptor | None = None

    def once(self, name: str, *actions: Action) -> None:
        """Let the next requests of that name come to something else."""
        self._once.setdefault(name, deque()).extend(actions)

    def always(self, name: str, action: Action) -> None:
        """Let every request of that name come to something else."""
        self._always[name] = action

    @property
    def fingerprint(self) -> str:
        """Of the host key."""
        return self._host_key.get_fingerprint()

    @property
    def known_hosts(self) -> Path:
        """A file that trusts the server."""
        return self.directory / "known_hosts"

    @property
    def private_key(self) -> Path:
        """The user's key."""
        return self.directory / "user_key"

    def settings(self) -> dict[str, Any]:
        """The keys of the destination, but for its type."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.username,
            "path": "/",
            "private_key_file": str(self.private_key),
            "known_hosts_file": str(self.known_hosts),
        }

    def files(self) -> dict[str, bytes]:
        """Every file below the root by its path."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def hang_up_on_all(self) -> None:
        """Cut every connection."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def action(self, name: str) -> Action | None:
        """What the next request of that name comes to."""
        self.requests.append(name)
        queued = self._once.get(name)
        return queued.popleft() if queued else self._always.get(name)

    def _launch(self) -> None:
        self.root = self.directory / "root"
        self.root.mkdir()
        self._once, self._always, self.requests, self.connections = {}, {}, [], 0
        self._opened: set[asyncssh.SSHServerConnection] = set()
        loop = self._loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, context: None)
        self._thread = threading.Thread(target=loop.run_forever, name="scripted-sftp", daemon=True)
        self._thread.start()
        self._listener = asyncio.run_coroutine_threadsafe(self._listen(), loop).result(10)
        self.port = self._listener.get_port()
        public = self._host_key.export_public_key("openssh").decode().split()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {public[0]} {public[1]}\n")
        self.private_key.write_bytes(self.user_key.export_private_key("openssh"))
        self.private_key.chmod(0o600)

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            self.host,
            0,
            server_factory=lambda: _SshServer(self),
            server_host_keys=[self._host_key],
            sftp_factory=lambda channel: _SftpServer(channel, self),
            sftp_version=3,
            server_version=self.server_version,
            compression_algs=["none"],
            config=None,
        )

    async def _cut(self) -> None:
        for connection in list(self._opened):
            connection.abort()

    def _clean_up(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            if self._listener is not None:
                loop.call_soon_threadsafe(self._listener.close)
            asyncio.run_coroutine_threadsafe(self._cut(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(10)
        super()._clean_up()
        left = {name: len(actions) for name, actions in self._once.items() if actions}
        assert not left, f"faults that did not happen: {left}"


class _SshServer(asyncssh.SSHServer):
    def __init__(self, script: ScriptedSftpServer) -> None:
        self._script = script

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._script.connections += 1
        self._script._opened.add(conn)
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        self._script._opened.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._script.username and key == self._script.user_key.convert_to_public()

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (self._script.username, self._script.password)


def _scripted(name: str) -> Callable[..., Awaitable[Any]]:
    async def method(self: _SftpServer, *arguments: Any) -> Any:
        request = Request(self, name, arguments)
        action = self.script.action(name)
        return await (request.carry_out() if action is None else action(request))

    return method


class _SftpServer(asyncssh.SFTPServer):
    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], script: ScriptedSftpServer) -> None:
        super().__init__(channel, chroot=os.fsencode(script.root))
        self.script = script
        self.cut = channel.get_connection().abort

    def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        action = self.script.action("scandir")
        if action is None:
            return super().scandir(path)
        found: AsyncIterator[asyncssh.SFTPName] = action(Request(self, "scandir", (path,)))  # type: ignore[assignment]
        return found


for _name in (
    *("open", "close", "read", "write", "fsync", "stat", "lstat", "fstat", "statvfs"),
    *("mkdir", "rmdir", "remove", "rename", "posix_rename", "link", "realpath"),
):
    setattr(_SftpServer, _name, _scripted(_name))
