"""A data connection, which transfers one file or one listing."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

from s3_uploader.stores.file_servers.base import CHUNK
from s3_uploader.stores.ftp.control import shut_down

_STEP_SECONDS = 1.0

_Result = TypeVar("_Result")


class DataConnection:
    """One data connection. Only :meth:`interrupt` may be called from another thread.

    :raises OSError: if it cannot be opened.
    """

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._socket = socket.create_connection((host, port), timeout=max(0.05, seconds))
        self._interrupted = False

    def start_tls(self, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None, seconds: float) -> None:
        """Encrypt, resuming the session of the control connection.

        vsftpd, ProFTPD and FileZilla Server require that by default, as proof that both connections are from the same
        client. :mod:`ftplib` does not do it (bpo-19500).
        """
        # The handshake begins when interrupt() can find the socket.
        wrapped = context.wrap_socket(
            self._socket, server_hostname=host, session=session, do_handshake_on_connect=False
        )
        self._socket = wrapped
        wrapped.settimeout(max(0.05, seconds))
        wrapped.do_handshake()

    def send(self, data: bytes, *, silence: Callable[[], float], meanwhile: Callable[[], None]) -> None:
        """Send all bytes.

        :param silence: how many seconds the server may accept nothing.
        :param meanwhile: called at least once a second.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self._persist(functools.partial(self._socket.send, rest), silence(), meanwhile) :]

    def receive(self, *, silence: Callable[[], float], meanwhile: Callable[[], None]) -> bytes:
        """The next bytes; empty at the end."""
        return self._persist(lambda: self._socket.recv(CHUNK), silence(), meanwhile)

    def end_tls(self, limit: Callable[[], float]) -> None:
        """Announce the end of the data, because some servers treat a TLS connection without that as cut off."""
        if isinstance(self._socket, ssl.SSLSocket):
            # The server's answer does not matter: the size and the hash, if there is one, decide.
            with contextlib.suppress(OSError, ValueError):
                self._socket.settimeout(max(0.05, min(limit(), 5.0)))
                self._socket = self._socket.unwrap()

    def interrupt(self) -> None:
        """Make every blocking call fail now."""
        self._interrupted = True
        shut_down(self._socket)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _persist(self, call: Callable[[], _Result], seconds: float, meanwhile: Callable[[], None]) -> _Result:
        ends_at = time.monotonic() + seconds
        while True:
            meanwhile()
            remaining = ends_at - time.monotonic()
            try:
                self._socket.settimeout(max(0.05, min(remaining, _STEP_SECONDS)))
                return call()
            except TimeoutError:
                if time.monotonic() >= ends_at:
                    raise
            except ValueError as error:
                # Raised by ssl for a socket that was shut down by interrupt().
                raise OSError(str(error)) from error
