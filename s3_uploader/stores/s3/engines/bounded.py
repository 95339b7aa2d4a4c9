"""botocore's HTTP with bounds: bytes and time of one answer, whatever the server sends.

``http.client`` reads interim answers, headers, chunks and bodies endlessly, and a socket's timeout starts again with
each byte. So every read of an answer goes through this module. The bounds belong to the thread that sends the request.
"""

from __future__ import annotations

import functools
import http
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from s3_uploader.core.text import is_number
from s3_uploader.stores.s3.engines.base import DOCUMENT_BYTES
from s3_uploader.stores.s3.engines.http1 import MAXIMUM_HEAD

_SLICE = 256 * 1024
_PIECE = 64 * 1024
_ADDRESS_SECONDS = 2.5
"""Timeout of one address while there are others to try."""
_DEAD_SECONDS = 60.0
_MOST_DEAD = 256
_FRAMING = 512 * 1024
"""Bytes for the head, and for what the chunked coding adds to a body."""


class Bounds(threading.local):
    """The bounds of the answer that this thread waits for.

    :ivar body: most bytes of its body.
    :ivar silence: seconds without a byte, and the timeout of the head. ``None``: the socket's timeout.
    :ivar is_over: whether the request was cancelled.
    :ivar promise: called with the length of the body when the head is complete; if it tells none, with what arrives.
    :ivar is_cut: whether the answer was cut at its limit.
    :ivar status: the status of the answer as received: botocore makes a 500 of a 200 that it cannot read. 0: none yet.
    :ivar is_unsent: whether the server stopped accepting the request before its end. Its answer is still read.
    """

    body: int = DOCUMENT_BYTES
    silence: float | None = None
    is_over: Callable[[], bool] | None = None
    promise: Callable[[int], object] | None = None
    is_cut: bool = False
    status: int = 0
    is_unsent: bool = False


BOUNDS = Bounds()


class _BoundedStream(io.RawIOBase):
    """The bytes of one answer."""

    def __init__(self, stream: io.RawIOBase, *, seconds: float | None) -> None:
        super().__init__()
        self._stream = stream
        self._left = self._most = 2 * BOUNDS.body + MAXIMUM_HEAD + _FRAMING
        self.arrived: Callable[[int], object] | None = None
        """Called with the number of bytes so far."""
        self._is_over = BOUNDS.is_over
        self.head_until = None if seconds is None else time.monotonic() + seconds
        """The deadline of the head; ``None`` once it is complete."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Read the bytes that have arrived, within the bounds."""
        if self._left <= 0:
            BOUNDS.is_cut = True
            return 0
        if self._is_over is not None and self._is_over():
            raise TimeoutError("the request was cancelled")
        if self.head_until is not None and time.monotonic() > self.head_until:
            raise TimeoutError("the head of the answer takes too long")
        count = self._stream.readinto(memoryview(buffer)[: self._left])
        self._left -= count or 0
        if self.arrived is not None:
            self.arrived(self._most - self._left)
        return count

    def close(self) -> None:
        """Also close the underlying stream."""
        self._stream.close()
        super().close()


class BoundedResponse(http.client.HTTPResponse):
    """An answer that is read within the bounds of its thread."""

    def __init__(self, sock: Any, *arguments: Any, **settings: Any) -> None:
        super().__init__(sock, *arguments, **settings)
        BOUNDS.is_cut = False
        seconds = sock.gettimeout() if BOUNDS.silence is None else BOUNDS.silence
        if seconds:
            # The request has been sent. A server takes longer to process a large one.
            sock.settimeout(seconds)
        self._bounded = _BoundedStream(self.fp.detach(), seconds=seconds)
        self.fp = io.BufferedReader(self._bounded)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._bounded.head_until = None
        BOUNDS.status = self.status
        if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise http.client.HTTPException("101 Switching Protocols")
        self._check_lengths(self.headers.get_all("content-length") or [])
        if self.length is None:
            self._bounded.arrived = BOUNDS.promise
        elif BOUNDS.promise is not None:
            BOUNDS.promise(self.length)

    def _check_lengths(self, values: list[str]) -> None:
        """Refuse an invalid length: ``http.client`` would wait for the end of the connection instead."""
        each = {value.strip() for line in values for value in line.split(",")}
        if self.chunked or not each:
            return
        length = each.pop()
        if each or (self.length is None and not is_number(length)):
            raise http.client.HTTPException(f"Content-Length: {', '.join(values)[:40]}")
        if self.length is None:
            # One value that a proxy has joined with itself.
            self.length = int(length)

    def _read_status(self) -> tuple[str, int, str]:
        """Read the status line; all interim answers are like 100 Continue.

        ``http.client`` skips that one alone. Any other would count as the answer, and the real one as that of the next
        request of the connection.
        """
        version, status, reason = super()._read_status()  # type: ignore[misc]
        is_interim = 100 < status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS
        return version, http.HTTPStatus.CONTINUE if is_interim else status, reason


def read_body(stream: Any) -> bytes:
    """The body of an object. Read at once, ``http.client`` would keep a list with an entry for each chunk of it."""
    body = bytearray()
    while piece := stream.read(_PIECE):
        body += piece
    return bytes(body)


def send(connection: Any, data: Any, otherwise: Callable[[Any], object]) -> None:
    """Send bytes while the server accepts them: urllib3 limits a whole body to the timeout for connecting."""
    try:
        _send(connection, data, otherwise)
    except OSError:
        BOUNDS.is_unsent = True
        raise


def _send(connection: Any, data: Any, otherwise: Callable[[Any], object]) -> None:
    if BOUNDS.silence is None or getattr(connection, "_response_received", False):
        otherwise(data)
        return
    if connection.sock is None:
        connection.connect()
    connection.sock.settimeout(BOUNDS.silence)
    if not isinstance(data, (bytes, bytearray)):
        otherwise(data)
        return
    rest = memoryview(data)
    while rest:
        if BOUNDS.is_over is not None and BOUNDS.is_over():
            raise TimeoutError("the request was cancelled")
        rest = rest[connection.sock.send(rest[:_SLICE]) :]


_DEAD: dict[object, float] = {}
"""Addresses that did not answer, and when. Others are tried first for a while."""


def connect(host: str, port: int, *, seconds: float, options: Any = None) -> socket.socket:
    """Connect to one of the addresses of a host. Together they have the timeout that urllib3 gives to each of them.

    :raises OSError: if none of them answers.
    """
    until = time.monotonic() + seconds
    found = [(*each[:3], each[4]) for each in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)]
    found.sort(key=lambda each: _is_dead(each[3]))
    error: OSError = OSError("the host name has no address")
    for number, (family, kind, protocol, address) in enumerate(found, 1):
        remaining = until - time.monotonic()
        if remaining <= 0:
            error = TimeoutError("no answer in time")
            break
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            for option in options or ():
                sock.setsockopt(*option)
            sock.settimeout(remaining if number == len(found) else min(_ADDRESS_SECONDS, remaining / 2))
            sock.connect(address)
        except OSError as failure:
            error = failure
            _note_dead(address)
            if sock is not None:
                sock.close()
        else:
            _DEAD.pop(address, None)
            sock.settimeout(seconds)
            return sock
    raise error


def _is_dead(address: object) -> bool:
    return time.monotonic() - _DEAD.get(address, float("-inf")) < _DEAD_SECONDS


def _note_dead(address: object) -> None:
    if len(_DEAD) >= _MOST_DEAD:
        _DEAD.clear()
    _DEAD[address] = time.monotonic()


def _new_socket(connection: Any, otherwise: Callable[[], socket.socket]) -> socket.socket:
    """Make the socket of an urllib3 connection, with urllib3's errors."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    if not isinstance(connection.timeout, (int, float)):
        return otherwise()
    try:
        return connect(
            connection._dns_host, connection.port, seconds=connection.timeout, options=connection.socket_options
        )
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"no answer in {connection.timeout:g} s") from error
    except socket.gaierror as error:
        raise NewConnectionError(connection, f"Failed to resolve {connection.host!r} ({error})") from error
    except OSError as error:
        raise NewConnectionError(connection, str(error)) from error


def bound(session: Any) -> None:
    """Bound the answers of one of botocore's HTTP sessions."""
    # In place, because the managers, also those of proxies, share this dictionary.
    session._pool_classes_by_scheme.update(_pool_classes())


@functools.cache
def _pool_classes() -> dict[str, Any]:
    from botocore import awsrequest

    class Connection(awsrequest.AWSHTTPConnection):
        """A connection whose answers are bounded."""

        response_class = BoundedResponse  # type: ignore[assignment]

        def _new_conn(self) -> socket.socket:
            return _new_socket(self, super()._new_conn)

        def send(self, data: Any) -> None:
            """Send the head, or the body."""
            send(self, data, super().send)

    class SecureConnection(awsrequest.AWSHTTPSConnection):
        """The same with TLS."""

        response_class = BoundedResponse  # type: ignore[assignment]

        def _new_conn(self) -> socket.socket:
            return _new_socket(self, super()._new_conn)

        def send(self, data: Any) -> None:
            """Send the head, or the body."""
            send(self, data, super().send)

        def _tunnel(self) -> None:
            """Ask a proxy for a tunnel to the server, as part of connecting."""
            usual = BOUNDS.silence
            if isinstance(self.timeout, (int, float)):
                BOUNDS.silence = self.timeout
            try:
                super()._tunnel()
            except TimeoutError:
                # In the text of http.client, by which urllib3 recognises a failure of the proxy.
                raise OSError("Tunnel connection failed: no answer in time") from None
            finally:
                BOUNDS.silence = usual

    class Pool(awsrequest.AWSHTTPConnectionPool):
        """Makes such connections."""

        ConnectionCls = Connection

    class SecurePool(awsrequest.AWSHTTPSConnectionPool):
        """Makes such connections with TLS."""

        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}
