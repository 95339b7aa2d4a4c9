"""Serves metrics over HTTP while a watch is at work: ``/metrics``, ``/healthz``, and ``/`` that points to them.

One thread, non-blocking, for any number of scrapes at once. Each connection gets one answer and has a few seconds for
it. The number of connections is limited, and a new one replaces the oldest. So no client can block the server, and none
can affect the watch.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable

import msgspec

from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import UploaderError, UsageProblem

DEFAULT_ADDRESS = "127.0.0.1"
TIMEOUT_SECONDS = 10.0
MOST_CONNECTIONS = 50
_LONGEST_REQUEST = 8192
_PAUSE_SECONDS = 0.05
_LONGEST_SILENCE = 60.0
"""Seconds without a heartbeat after which ``/healthz`` says that the watch hangs. There is one each second."""

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_ROOT = (
    "<!DOCTYPE html><html lang=en><title>s3-uploader</title><h1>s3-uploader</h1>"
    '<p><a href="/metrics">Metrics</a>, <a href="/healthz">health</a></p></html>\n'
)


class ListenAddress(msgspec.Struct, frozen=True):
    """Where to listen. ``port`` 0 takes a free one."""

    host: str
    port: int


class _Connection(msgspec.Struct):
    channel: socket.socket
    until: float
    request: bytes = b""
    answer: memoryview = memoryview(b"")


def parse_address(text: str) -> ListenAddress:
    """Parse ``9105``, ``0.0.0.0:9105``, ``localhost:9105`` or ``[::1]:9105``.

    :raises UsageProblem: if it is none of these.
    """
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if is_bracketed:
        host = host[1:-1]
    is_host = bool(host) and (is_bracketed or ":" not in host) if colon else True
    if not (is_host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise UsageProblem(
            f"--metrics-listen {text!r} is not of the form [ADDRESS:]PORT.",
            hint="Write 9105, 0.0.0.0:9105 for all interfaces, or an IPv6 address in brackets: [::1]:9105.",
        )
    return ListenAddress(host if colon else DEFAULT_ADDRESS, int(port))


class MetricsServer:
    """Listens when it is made; serves between :meth:`start` and :meth:`close`.

    :param metrics: returns the text of ``/metrics``.
    :param seconds_since_beat: seconds since the last heartbeat of the watch, for ``/healthz``.
    :raises UploaderError: if it cannot listen there.
    """

    def __init__(
        self,
        address: ListenAddress,
        *,
        metrics: Callable[[], str],
        seconds_since_beat: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._seconds_since_beat = seconds_since_beat
        self._clock = clock
        self._listener = _listening(address)
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)

    @property
    def url(self) -> str:
        """The URL of the metrics."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"

    def start(self) -> None:
        """Start serving, in a thread of its own."""
        start_thread(self._thread)

    def close(self) -> None:
        """Stop. Answers in progress are cut off."""
        with contextlib.suppress(OSError):
            self._wake.send(b".")
        if self._thread.ident is not None:
            self._thread.join(timeout=2.0)
        for channel in (self._wake, self._woken, self._listener):
            channel.close()

    # ---------------------------------------------------------------------------------------------- the thread

    def _serve(self) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        try:
            while self._serve_once():
                pass
        finally:
            for connection in list(self._connections.values()):
                self._drop(connection)
            self._selector.close()

    def _serve_once(self) -> bool:
        timeout = min((each.until for each in self._connections.values()), default=None)
        for key, _ in self._selector.select(None if timeout is None else max(timeout - self._clock(), 0.0)):
            if key.fileobj is self._woken:
                return False
            if key.fileobj is self._listener:
                self._accept()
            elif (connection := self._connections.get(key.fd)) is not None:
                self._go_on(connection)
        for connection in [each for each in self._connections.values() if each.until <= self._clock()]:
            self._drop(connection)
        return True

    def _accept(self) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            self._drop(next(iter(self._connections.values())))
        try:
            channel, _ = self._listener.accept()
        except OSError:  # the client has left; or no descriptor is free, which must not make this loop spin
            time.sleep(_PAUSE_SECONDS)
            return
        channel.setblocking(False)
        self._connections[channel.fileno()] = _Connection(channel, self._clock() + TIMEOUT_SECONDS)
        self._selector.register(channel, selectors.EVENT_READ)

    def _go_on(self, connection: _Connection) -> None:
        try:
            if connection.answer:
                self._write(connection)
            else:
                self._read(connection)
        except BlockingIOError:
            pass
        except OSError:  # reset
            self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        data = connection.channel.recv(4096)
        if not data:
            self._drop(connection)
            return
        connection.request += data
        is_whole = b"\r\n\r\n" in connection.request or b"\n\n" in connection.request
        if is_whole or len(connection.request) > _LONGEST_REQUEST:
            connection.answer = memoryview(self._answer(connection.request if is_whole else b""))
            self._selector.modify(connection.channel, selectors.EVENT_WRITE)

    def _write(self, connection: _Connection) -> None:
        connection.answer = connection.answer[connection.channel.send(connection.answer) :]
        if not connection.answer:
            # Otherwise unread bytes of the request would reset the connection, and the answer would be lost.
            with contextlib.suppress(OSError):
                connection.channel.shutdown(socket.SHUT_WR)
                connection.channel.recv(1 << 16)
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.channel.fileno()]
        self._selector.unregister(connection.channel)
        connection.channel.close()

    # ---------------------------------------------------------------------------------------------- answers

    def _answer(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].split(b"\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(400, _TEXT, "This is not an HTTP request.\n")
        if words[0] not in (b"GET", b"HEAD"):
            return _response(405, _TEXT, "Only GET and HEAD are allowed.\n")
        return _response(*self._page(words[1].partition(b"?")[0]), only_head=words[0] == b"HEAD")

    def _page(self, path: bytes) -> tuple[int, str, str]:
        if path == b"/metrics":
            try:
                return 200, _METRICS, self._metrics()
            except Exception as error:  # a bug; the next scrape may be luckier
                return 500, _TEXT, f"{type(error).__name__}: {error}\n"
        if path == b"/healthz":
            silent = self._seconds_since_beat()
            if silent < _LONGEST_SILENCE:
                return 200, _TEXT, "ok\n"
            return 503, _TEXT, f"The watch has given no sign of life for {silent:.0f} s.\n"
        return (200, _HTML, _ROOT) if path == b"/" else (404, _TEXT, "Look at /metrics.\n")


def _response(status: int, kind: str, text: str, *, only_head: bool = False) -> bytes:
    body = text.encode("utf-8", "backslashreplace")
    allow = "Allow: GET, HEAD\r\n" if status == 405 else ""
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{allow}"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if only_head else body)


def _listening(address: ListenAddress) -> socket.socket:
    """Open a listening socket.

    :raises UploaderError: if that is not possible now.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, name = found[0]
        return socket.create_server(name[:2], family=family, backlog=64)
    except OSError as error:
        # Python adds the address once more.
        reason = (error.strerror or str(error)).partition(" (while ")[0].lower()
        raise UploaderError(
            f"Metrics cannot be served at {address.host}, port {address.port}: {reason}.",
            hint="Name another --metrics-listen [ADDRESS:]PORT; 0 takes a free port.",
        ) from error
