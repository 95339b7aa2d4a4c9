"""A logged-in connection to an SFTP server: its requests, their timeouts, and their failures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncssh

from s3_uploader.core.errors import StoreError, lacks_descriptors
from s3_uploader.core.text import quoted
from s3_uploader.stores.file_servers.base import Lost
from s3_uploader.stores.file_servers.learned import Learned
from s3_uploader.stores.file_servers.password import without_password
from s3_uploader.stores.sftp.errors import NO_SUCH_FILE, LoginRefused, Refused
from s3_uploader.stores.sftp.login import (
    Client,
    Settings,
    load_keys,
    log_in,
    open_socket,
    reason_of,
    refusal,
    trust_for,
    unanswered_login,
)
from s3_uploader.stores.sftp.loop import LoopThread
from s3_uploader.stores.sftp.transfers import TooMuch

_Result = TypeVar("_Result")


class SftpConnection:
    """One connection. One thread uses it at a time; only :meth:`interrupt` may be called from another one.

    :param loop: the loop that the connection runs on.
    :param remaining: seconds that the current user of the session has left; no single wait is longer than that, nor
        than ``settings.timeout_seconds``.
    :param learned: what is known about the server, shared by all its sessions.
    """

    protocol = "SFTP"
    was_cut_off = False

    def __init__(
        self, settings: Settings, *, loop: LoopThread, remaining: Callable[[], float], learned: Learned | None = None
    ) -> None:
        self.remaining = remaining
        self.learned = Learned(protocol="sftp") if learned is None else learned
        self.last_used = time.monotonic()
        self.step = "connect"
        """How far the login got: ``connect``, ``sftp``, ``path`` or ``ready``."""
        self.welcome = ""
        """The server's own name for its software."""
        self.host_key = ""
        """The trusted host key, and its fingerprint."""
        self.base = "/"
        self._settings = settings
        self._loop = loop
        self._connection: asyncssh.SSHClientConnection | None = None
        self.sftp: Any = None
        self._client: Client | None = None
        self._current: concurrent.futures.Future[Any] | None = None
        self._interrupted = False
        self._answers = 0

    # ------------------------------------------------------------------------------------------ the connection

    def connect(self) -> None:
        """Connect, log in and enter the directory.

        :raises Refused, LoginRefused: if the server refuses the login or the path, or its host key is not trusted.
        :raises Lost: if no connection is possible.
        """
        given = self.remaining
        ends_at = time.monotonic() + self._settings.connect_timeout_seconds
        self.remaining = lambda: min(given(), ends_at - time.monotonic())
        try:
            self._log_in()
            self.step = "sftp"
            connection = self._connection
            assert connection is not None
            self.sftp = self.run(_start(connection), "sftp")
            self.step = "path"
            self.base = self._entered(self._settings.path)
            self.step = "ready"
        except Refused as refused:
            refused.step = self.step
            self.close()
            if self.step == "sftp":
                lost = Lost(refused.text)
                lost.step = "sftp"
                raise lost from None
            raise
        except (LoginRefused, Lost) as error:
            error.step = self.step
            self.close()
            raise
        except BaseException:
            self.close()
            raise
        self.remaining = given

    @property
    def usable(self) -> bool:
        """Whether the connection still works."""
        client = self._client
        return self._connection is not None and client is not None and not (client.is_lost or self._interrupted)

    def alive(self) -> bool:
        """Whether the server still answers after a pause, in which it may have closed the connection."""
        try:
            self.run(self.sftp.realpath(b"."), "realpath")
        except Refused:
            return True
        except Lost:
            return False
        return True

    def interrupt(self) -> None:
        """Make every current and later blocking call of the session fail. May be called on any thread."""
        self._interrupted = True
        current, connection = self._current, self._connection
        if connection is not None:
            self._loop.call(connection.abort)
        if current is not None:
            current.cancel()

    def quit(self, *, seconds: float = 1.0) -> None:
        """Log out and close."""
        connection = self._connection
        if connection is not None and self.usable:
            self.remaining = lambda: seconds
            with contextlib.suppress(Refused, Lost):
                self.run(_farewell(connection), "close")
        self.close()

    def close(self) -> None:
        """Close without logging out."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.call(connection.abort)

    # For requests over the connection.

    def attributes(self, path: str) -> asyncssh.SFTPAttrs | None:
        """The server's attributes of ``path``, links followed; ``None`` if it does not exist."""
        try:
            found: asyncssh.SFTPAttrs = self.run(self.sftp.stat(os.fsencode(path)), "stat")
        except Refused as refused:
            if refused.is_absence:
                return None
            raise
        return found

    def tick(self) -> None:
        """Note that the server has answered something, so that a slow answer is not mistaken for silence."""
        self._answers += 1

    def insist_on_time(self) -> None:
        """Go on with a transfer only if time is left: a server that answers each request quickly is never silent.

        :raises Lost: if no time is left.
        """
        if self.remaining() <= 0:
            raise self._gone("it did not finish in time")

    def run(self, work: Coroutine[Any, Any, _Result], request: str, *, extra_seconds: float = 0.0) -> _Result:
        """Wait for a request, and convert its failure to one of two errors.

        :raises Refused: if the server refuses.
        :raises Lost: if it does not answer, or answers incorrectly, or the connection has ended.
        """
        if not self.usable:
            work.close()
            raise Lost("it was closed")
        try:
            return self._wait(work, extra_seconds=extra_seconds)
        except asyncssh.SFTPError as error:
            if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
                is_closed = "bytes read on a total of" in error.reason  # asyncio's text
                raise self._gone("the server closed it" if is_closed else str(error.reason)) from None
            raise Refused(error.code, error.reason, request) from None
        except Lost:
            # A late answer could be taken for the answer to another request.
            self.close()
            raise
        except TooMuch:
            raise self._gone("the server sent more than was requested") from None
        except StoreError:
            raise
        except Exception as error:
            # Any error of the library from invalid input: it costs this connection, and no more.
            raise self._gone(reason_of(error)) from None

    # ------------------------------------------------------------------------------------------ inside

    def _log_in(self) -> None:
        settings = self._settings
        keys = load_keys(settings)
        peer = open_socket(settings, seconds=self._limit())
        try:
            trusted = trust_for(settings, peer)
            client = self._client = Client(trusted)
        except BaseException:
            peer.close()
            raise
        try:
            self._connection = self._wait(log_in(settings, client, trusted, keys, peer))
        except Lost as lost:
            peer.close()
            raise lost if self._interrupted else unanswered_login(lost, settings, client) from None
        except StoreError:
            peer.close()
            raise
        except Exception as error:
            # Any error of the library from invalid input, of the server or of this machine.
            peer.close()
            refused = refusal(error, settings, client, trusted)
            if refused is not None:
                raise refused from None
            # Many servers (`MaxStartups` of OpenSSH) end one login too many like this.
            hung_up = isinstance(error, (asyncssh.ConnectionLost, ConnectionResetError))
            reason = without_password(reason_of(error), settings.password)
            raise Lost(reason, is_for_now=hung_up, lacks_descriptors=lacks_descriptors(error)) from None
        except BaseException:
            peer.close()
            raise
        self.welcome = quoted(str(self._connection.get_extra_info("server_version", "")))
        key = self._connection.get_server_host_key()
        if key is not None:
            self.host_key = f"{key.get_algorithm()} {key.get_fingerprint()}"

    def _entered(self, path: str) -> str:
        """Enter the directory that files are stored in, and return its absolute path."""
        if path.startswith("/"):
            base = "/" + path.strip("/")
        else:
            login = os.fsdecode(bytes(self.run(self.sftp.realpath(b"."), "realpath")))
            base = "/" + "/".join(step for step in (login.strip("/"), path.strip("/")) if step not in ("", "."))
        found = self.attributes(base)
        if found is None or found.type not in (asyncssh.FILEXFER_TYPE_DIRECTORY, asyncssh.FILEXFER_TYPE_UNKNOWN):
            reason = "there is no such directory" if found is None else "it is not a directory"
            raise Refused(NO_SUCH_FILE, reason, "stat")
        return base

    def _gone(self, reason: str) -> Lost:
        self.close()
        return Lost(reason)

    def _wait(self, work: Coroutine[Any, Any, _Result], *, extra_seconds: float = 0.0) -> _Result:
        try:
            future = self._loop.begin(self._watched(work, extra_seconds))
        except BaseException:
            work.close()
            raise
        self._current = future
        if self._interrupted:
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise self._gone("it was closed") from None
        finally:
            self._current = None
            self.last_used = time.monotonic()

    async def _watched(self, work: Coroutine[Any, Any, _Result], extra_seconds: float) -> _Result:
        """Let ``work`` continue while answers arrive."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                seen = self._answers
                limit = self._limit(extra_seconds)
                done, _ = await asyncio.wait({task}, timeout=limit)
                if done:
                    return task.result()
                if self._answers == seen or self.remaining() <= 0:
                    raise Lost(f"no answer for {limit:.0f} s")
        finally:
            task.cancel()

    def _limit(self, extra_seconds: float = 0.0) -> float:
        return max(0.05, min(self._settings.timeout_seconds + extra_seconds, self.remaining()))


async def _start(connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
    # Names are bytes, and so are paths.
    return await connection.start_sftp_client(path_encoding=None, sftp_version=3)


async def _farewell(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    await connection.wait_closed()
