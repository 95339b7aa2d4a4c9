"""One connection of the native engine: connecting, proxy, TLS, one exchange after the other.

Terms
-----
exchange
    One request and its answer on a connection.

A connection belongs to the engine's loop thread. The one thing that other threads do is to start an exchange on an idle
connection, which writes what the socket takes at once; a lock keeps the two apart.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Protocol

from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import Done, Failure, Outcome, Request, TransportFailure
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer, request_head
from s3_uploader.stores.s3.engines.resolver import Address
from s3_uploader.stores.s3.engines.throttle import Pace

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_RECEIVE = 64 * 1024
_ADDRESS_SECONDS = 2.5
"""So long an address has to answer while there is another one to try."""
_JOIN_BELOW = 32 * 1024
"""A body up to this size is copied behind its head, so that both leave in one system call and one packet."""
_SLICE = 256 * 1024
_TURN = 2 * 1024 * 1024
"""So many bytes of one body are written before the other connections get their turn."""


class ConnectionOwner(Protocol):
    """What a connection needs of the engine that it belongs to.

    All methods but ``call`` and ``cancel`` belong to the thread that runs the loop.

    :ivar generation: how often the bucket has moved.
    """

    pace: Pace | None
    tls_context: ssl.SSLContext | None
    generation: int

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go."""

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called on the loop's thread."""

    def cancel(self, exchange: Exchange) -> None:
        """Cancel one exchange."""

    def watch(self, connection: Connection, events: int) -> None:
        """Wait for events of a connection."""

    def unwatch(self, connection: Connection) -> None:
        """Wait for no event of a connection any more."""

    def connected(self, connection: Connection, now: float) -> None:
        """A connection is ready for its first request."""

    def address_failed(self, address: Address) -> None:
        """No connection could be made to an address."""

    def repeat(self, exchange: Exchange, outcome: Outcome) -> None:
        """Send once more what was written to a connection that the server was just closing."""

    def exchanged(
        self,
        connection: Connection,
        exchange: Exchange | None,
        outcome: Outcome,
        *,
        reusable: bool,
        answer_began: bool,
        now: float,
    ) -> None:
        """An exchange has come to its end, well or badly."""


class Exchange:
    """One request under way in the native engine; a :class:`~s3_uploader.stores.s3.engines.base.Sending`."""

    __slots__ = (
        "_engine", "allowance", "body", "connection", "done", "finished", "head", "limit", "repeated", "to_head"
    )  # fmt: skip

    def __init__(self, engine: ConnectionOwner, request: Request, head: bytes, done: Done) -> None:
        self._engine = engine
        self.head = head
        self.body = request.body
        self.to_head = request.method == "HEAD"
        self.limit = request.answer_limit
        self.allowance = request.allowance_seconds
        self.done = done
        self.connection: Connection | None = None
        self.finished = False
        self.repeated = False

    def cancel(self) -> None:
        """Give it up."""
        self._engine.cancel(self)

    def let_go(self) -> None:
        """It is over: drop what it holds, so that a body does not wait for the garbage collector."""
        self.head = self.body = b""
        self.connection = None
        self.done = _nothing


def _nothing(outcome: Outcome) -> None:
    """The callback of an exchange that is over."""


class Connection:
    """One socket. ``state``: connecting, proxy, handshake, idle, busy, closed.

    :ivar moves_on_at: until then it has to be connected, or to begin with the next address.
    """

    __slots__ = (
        "_addresses", "_connected_by", "_left", "_out", "_owed", "_parser", "address", "engine", "events", "exchange",
        "generation", "lock", "moves_on_at", "progress_at", "served", "sock", "state", "throttled", "write_failed",
        "wrote_at",
    )  # fmt: skip

    def __init__(
        self, engine: ConnectionOwner, addresses: list[Address], now: float, *, connect_seconds: float
    ) -> None:
        self.engine = engine
        self._addresses = addresses
        self._connected_by = self.moves_on_at = now + connect_seconds
        self.address: Address | None = None
        self.lock = threading.Lock()
        self.state = "connecting"
        self.exchange: Exchange | None = None
        self.events = 0
        self.progress_at = now
        self.served = 0
        self.generation = engine.generation
        self.throttled = False
        self.write_failed = False
        self.wrote_at = now
        self._owed = 0
        self._left = -1
        self._out: list[memoryview] = []
        self._parser = AnswerParser()
        self.sock: socket.socket = None  # type: ignore[assignment]  # Set by connect(), before anything else.

    # Connecting; on the loop's thread.

    def connect(self, now: float) -> Failure | None:
        """Begin to connect to the next address; returns why not if none is left."""
        detail = "no address"
        while self._addresses:
            self.address = self._addresses.pop(0)
            family, address = self.address
            self.moves_on_at = self._connected_by
            if self._addresses:
                # One that is dead must not take the time of those that are not.
                self.moves_on_at = min(now + _ADDRESS_SECONDS, (now + self._connected_by) / 2)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    return Failure(TransportFailure.RESOURCES, error.strerror or str(error))
                # This machine has no addresses of that family.
                detail = error.strerror or str(error)
                self.engine.address_failed(self.address)
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            try:
                sock.connect(address)
            except BlockingIOError:
                pass
            except OSError as error:
                sock.close()
                detail = error.strerror or str(error)
                self.engine.address_failed(self.address)
                continue
            self.sock = sock
            self.state = "connecting"
            self.watch(WRITE)
            return None
        return Failure(TransportFailure.REFUSED, detail)

    def try_next_address(self, now: float) -> bool:
        """The address at hand does not answer: begin with the next; ``False`` if there is none."""
        if self.state != "connecting" or not self._addresses or self.address is None:
            return False
        self.engine.address_failed(self.address)
        self.drop_socket()
        return self.connect(now) is None

    def watch(self, events: int) -> None:
        """Say which events of the socket are of interest."""
        if events != self.events:
            self.engine.watch(self, events)

    def proceed(self, now: float) -> Failure | None:
        """Go on with connecting after an event; returns why not if that is over."""
        if self.state == "connecting":
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                import os

                assert self.address is not None
                self.engine.address_failed(self.address)
                self.drop_socket()
                failure = self.connect(now)
                return None if failure is None else Failure(TransportFailure.REFUSED, os.strerror(code))
            self.moves_on_at = self._connected_by
            endpoint = self.engine.endpoint
            if endpoint.proxy is not None and endpoint.tls:
                return self._ask_proxy()
            return self._begin_tls(now) if endpoint.tls else self._ready(now)
        if self.state == "proxy":
            return self._hear_proxy(now)
        return self._shake_hands(now)

    def _ask_proxy(self) -> Failure | None:
        endpoint = self.engine.endpoint
        assert endpoint.proxy is not None
        target = f"{endpoint.host}:{endpoint.port}"
        headers = {"Host": target}
        if endpoint.proxy.authorization:
            headers["Proxy-Authorization"] = endpoint.proxy.authorization
        self.state = "proxy"
        # A successful answer to CONNECT has no body, like one to HEAD (RFC 9110, 9.3.6).
        self._parser = AnswerParser(to_head=True)
        try:
            self.sock.send(request_head("CONNECT", target, headers))
        except OSError as error:
            return Failure(TransportFailure.PROXY, error.strerror or str(error))
        self.watch(READ)
        return None

    def _hear_proxy(self, now: float) -> Failure | None:
        try:
            data = self.sock.recv(_RECEIVE)
            if not data:
                return Failure(TransportFailure.PROXY, "it closed the connection")
            complete = self._parser.feed(data)
        except (BlockingIOError, InterruptedError):
            return None
        except (OSError, InvalidAnswer) as error:
            return Failure(TransportFailure.PROXY, str(error))
        if not complete:
            return None
        answer = self._parser.answer
        if answer is None or not 200 <= answer.status < 300:
            return Failure(TransportFailure.PROXY, f"it answered {answer.status if answer else 'nothing'}")
        return self._begin_tls(now)

    def _begin_tls(self, now: float) -> Failure | None:
        context = self.engine.tls_context
        assert context is not None
        self.engine.unwatch(self)
        try:
            self.sock = context.wrap_socket(
                self.sock, server_hostname=self.engine.endpoint.host.strip("[]"), do_handshake_on_connect=False
            )
        except (OSError, ValueError) as error:
            return Failure(TransportFailure.TLS, str(error))
        self.state = "handshake"
        return self._shake_hands(now)

    def _shake_hands(self, now: float) -> Failure | None:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self.watch(READ)
            return None
        except ssl.SSLWantWriteError:
            self.watch(WRITE)
            return None
        except ssl.SSLCertVerificationError as error:
            return Failure(TransportFailure.TLS, error.verify_message)
        except OSError as error:
            return Failure(TransportFailure.TLS, getattr(error, "reason", None) or error.strerror or str(error))
        return self._ready(now)

    def _ready(self, now: float) -> Failure | None:
        self.state = "idle"
        self.watch(READ)
        self.engine.connected(self, now)
        return None

    # Exchanges; start() on any thread, the rest on the loop's.

    def start(self, exchange: Exchange, now: float) -> None:
        """Send a request on this idle connection, which nobody else has hold of."""
        with self.lock:
            exchange.connection = self
            self.exchange = exchange
            self.progress_at = now
            if self.state == "closed":
                # The loop found it closed after it was taken from the idle ones; it waits for us to say so.
                self.engine.call(self._was_closed)
                return
            self.state = "busy"
            self._parser = AnswerParser(to_head=exchange.to_head, limit=exchange.limit)
            body = exchange.body
            self._owed = 0
            self._left = -1
            if len(body) <= _JOIN_BELOW:
                self._out = [memoryview(exchange.head + body)]
            else:
                self._out = [memoryview(exchange.head), memoryview(body)]
            # With a pace all writing is the loop's, which shares it out.
            if self.engine.pace is not None or not self._write(now):
                self.engine.call(self._start_writing)

    def _was_closed(self) -> None:
        exchange = self.exchange
        self.exchange = None
        if exchange is not None:
            self.engine.repeat(exchange, Failure(TransportFailure.CLOSED))

    def _start_writing(self) -> None:
        if self.state == "busy" and self._out:
            self.watch(READ | WRITE)

    def _write(self, now: float) -> bool:
        """Write what the socket takes; returns whether everything is written."""
        turn = _TURN
        pace = self.engine.pace
        while self._out:
            # TLS wants what it could not send to be sent again, not less of it; the pace has let it through already.
            piece = self._out[0][: self._owed or _SLICE]
            if pace is not None and not self._owed:
                allowed = pace.take(min(len(piece), 64 * 1024))
                if not allowed:
                    self.throttled = True
                    self.progress_at = now
                    return False
                piece = piece[:allowed]
            try:
                count = self.sock.send(piece)
            except (BlockingIOError, InterruptedError):
                if pace is not None:
                    pace.give_back(len(piece))
                return False
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._owed = len(piece)
                return False
            except OSError:
                # The server may have answered and closed before it had read everything: the answer is still to read.
                self.write_failed = True
                self._out = []
                return True
            if pace is not None and count < len(piece):
                pace.give_back(len(piece) - count)
            self._owed = 0
            self.progress_at = self.wrote_at = now
            turn -= count
            if count == len(self._out[0]):
                del self._out[0]
            else:
                self._out[0] = self._out[0][count:]
                if turn <= 0:
                    return False
        return True

    def on_event(self, mask: int, now: float) -> None:
        """Deal with an event of an open connection."""
        outcome: Outcome | None = None
        with self.lock:
            if self.state == "closed":
                return
            exchange = self.exchange
            if (mask & WRITE and self._out and self._write(now)) or self.throttled:
                self.watch(READ)
            if mask & READ or self.write_failed:
                outcome = self._read(now)
            if outcome is None:
                return
            reusable = (
                isinstance(outcome, Failure) is False
                and self._parser.reusable
                and not self._out
                and not self.write_failed
            )
            self.exchange = None
            if not reusable:
                self.close()
            else:
                self.served += 1
                self.state = "idle"
        self.engine.exchanged(self, exchange, outcome, reusable=reusable, answer_began=self._parser.started, now=now)

    def _read(self, now: float) -> Outcome | None:
        parser = self._parser
        try:
            # Once: the other connections and the clock are to get their turn, and what is left in the socket is told of
            # again. TLS decrypts a record at a time, which is less than is asked for.
            data = self.sock.recv(_RECEIVE)
            if not data:
                if self.exchange is not None and parser.end():
                    return parser.answer
                return Failure(TransportFailure.CLOSED, "by the server")
            if self.exchange is None:
                # Bytes that nobody asked for: 408 Request Timeout on an idle connection, for one.
                return Failure(TransportFailure.CLOSED, "by the server")
            before = parser.heads
            if parser.feed(data):
                return parser.answer
            if parser.heads != before or parser.answer is not None:
                # A head that comes in drips is as good as none.
                self.progress_at = now
            return None
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except InvalidAnswer as error:
            return Failure(TransportFailure.INVALID, str(error))
        except OSError as error:
            return Failure(TransportFailure.CLOSED, error.strerror or str(error))

    def is_leaving(self) -> bool:
        """Whether the kernel has got rid of some of what was written since the last look: a slow line is no silence."""
        import fcntl
        import struct
        import termios

        try:
            left: int = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        except OSError:
            return False
        before, self._left = self._left, left
        return left < before

    def resume(self) -> None:
        """Go on writing after a pause of the pace."""
        self.throttled = False
        if self.state == "busy" and self._out:
            self.watch(READ | WRITE)

    def drop_socket(self) -> None:
        """Close the socket, whatever state it is in."""
        if self.sock is not None:
            self.engine.unwatch(self)
            with contextlib.suppress(OSError):
                self.sock.close()

    def close(self) -> None:
        """Close the connection for good; the exchange on it is the caller's concern."""
        self.state = "closed"
        self._out = []
        self.drop_socket()
