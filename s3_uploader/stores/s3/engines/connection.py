"""One connection of the native engine: it tries the addresses, and once it is ready carries one exchange after another.

A connection belongs to the engine's loop thread. Other threads only start an exchange on an idle connection, which
writes as much as the socket accepts at once. A lock keeps the two apart.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from typing import TYPE_CHECKING, Protocol

from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import Answer, Failure, Outcome, TransportFailure
from s3_uploader.stores.s3.engines.http1 import RECEIVE, AnswerParser, Exchange, InvalidAnswer
from s3_uploader.stores.s3.engines.states import (
    CLOSED,
    CONNECTING,
    DRAINING,
    IDLE,
    RECEIVING,
    SENDING,
    THROTTLED,
    TRANSITIONS,
    UNREADY,
    State,
)
from s3_uploader.stores.s3.engines.unsent import is_within_tls, unless_early, unsent
from s3_uploader.stores.s3.waiting import READ, WRITE, EventLoop
from s3_uploader.stores.transitions import illegal

if TYPE_CHECKING:
    import ssl

    from s3_uploader.stores.s3.engines.throttle import Pace

_JOIN_BELOW = 32 * 1024
"""A body up to this size is appended to its head, so that both are sent in one system call and one packet."""
_SLICE = 256 * 1024
_TURN = 2 * 1024 * 1024
"""How many bytes of one body are written before the other connections get their turn."""
_ADDRESS_SECONDS = 2.5
"""Timeout of one address while there are others to try."""

Address = tuple[socket.AddressFamily, tuple[object, ...]]
"""The family and address of a socket, as ``socket.getaddrinfo`` returns them."""


def literal_address(host: str, port: int) -> Address | None:
    """The address if the host is a literal one and needs no lookup."""
    if not (host[-1:].isdigit() or ":" in host):
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return None
    return (family, (host, port))


class ConnectionOwner(Protocol):
    """The part of the engine that a connection uses.

    Its methods belong to the thread that runs the loop.

    :ivar generation: how often the bucket has moved to another region.
    """

    events: EventLoop
    generation: int
    pace: Pace | None
    tls_context: ssl.SSLContext | None

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go."""

    def address_failed(self, address: Address) -> None:
        """Note that no connection to an address was possible."""

    def could_not_connect(self, connection: Connection, failure: Failure) -> None:
        """Handle a connection that will never be ready."""

    def connected(self, connection: Connection, now: float) -> None:
        """Handle a connection that is ready for its first request."""

    def repeat(self, exchange: Exchange, outcome: Outcome) -> None:
        """Send again a request that was written to a connection which the server was just closing."""

    def exchanged(
        self, connection: Connection, exchange: Exchange | None, outcome: Outcome, *, reusable: bool, now: float
    ) -> None:
        """Handle the end of an exchange, with or without success."""

    def broke(self, connection: Connection, error: Exception) -> None:
        """Handle a bug: an exception from a connection's event."""


class Connection:
    """One socket and the exchanges on it.

    :ivar moves_on_at: the deadline of the current address; after that the next one is tried.
    """

    __slots__ = (
        "_addresses", "_connected_by", "_left", "_out", "_owed", "address", "engine", "events", "exchange",
        "generation", "lock", "moves_on_at", "parser", "progress_at", "served", "sock", "state", "wrote_at",
    )  # fmt: skip

    def __init__(
        self, engine: ConnectionOwner, addresses: list[Address], now: float, *, connect_seconds: float
    ) -> None:
        self.engine = engine
        self._addresses = addresses
        self._connected_by = self.moves_on_at = now + connect_seconds
        self.address: Address | None = None
        self.sock: socket.socket = None  # type: ignore[assignment]  # Set by connect(), before anything else.
        self.events = 0
        self.state: State = CONNECTING
        self.parser = AnswerParser()
        self.lock = threading.Lock()
        self.exchange: Exchange | None = None
        self.progress_at = now
        self.served = 0
        self.generation = engine.generation
        self.wrote_at = now
        self._owed = 0
        self._left = -1
        self._out: list[memoryview] = []

    def enter(self, state: State) -> None:
        """Enter another state.

        :raises IllegalTransition: if it may not follow the current one.
        """
        if state not in TRANSITIONS[self.state]:
            raise illegal(self.state, state)
        self.state = state

    def watch(self, events: int) -> None:
        """Select the events of the socket to wait for."""
        if events != self.events:
            self.engine.events.watch(self, events)

    def unwatch(self) -> None:
        """Wait for no events of the socket."""
        self.engine.events.unwatch(self)

    def on_bug(self, error: Exception) -> None:
        """Fail the exchange because of a bug."""
        self.engine.broke(self, error)

    # Until it is ready, on the loop's thread.

    def connect(self, now: float) -> Failure | None:
        """Start to connect to the next address. Returns a failure if none is left."""
        detail = "no address"
        while self._addresses:
            self.address = self._addresses.pop(0)
            family, address = self.address
            self.moves_on_at = self._connected_by
            if self._addresses:
                # An unreachable address must not use up the time of the others.
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
            self.enter(CONNECTING)
            self.watch(WRITE)
            return None
        return self._unreachable(detail)

    def _unreachable(self, detail: str) -> Failure:
        """The failure if no address answers: it is the proxy's if there is one, since only the proxy was dialled."""
        proxy = self.engine.endpoint.proxy
        if proxy is None:
            return Failure(TransportFailure.REFUSED, detail)
        return Failure(TransportFailure.PROXY, f"{proxy.host}:{proxy.port}: {detail}")

    def try_next_address(self, now: float) -> bool:
        """Try the next address because the current one does not answer; ``False`` if there is none."""
        if self.state is not CONNECTING or not self._addresses or self.address is None:
            return False
        self.engine.address_failed(self.address)
        self._drop_socket()
        return self.connect(now) is None

    def proceed(self, now: float) -> Failure | None:
        """Continue to connect after an event. Returns a failure if that is impossible."""
        if self.state is CONNECTING:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                assert self.address is not None
                self.engine.address_failed(self.address)
                self._drop_socket()
                failure = self.connect(now)
                return None if failure is None else self._unreachable(os.strerror(code))
            self.moves_on_at = self._connected_by
            if not self.engine.endpoint.tls:
                self.become_ready(now)
                return None
        from s3_uploader.stores.s3.engines.tls import secure

        return secure(self, now)

    def become_ready(self, now: float) -> None:
        """Become ready for the first exchange."""
        self.enter(IDLE)
        self.watch(READ)
        self.engine.connected(self, now)

    # Exchanges: start() runs on any thread, the rest on the loop's.

    def start(self, exchange: Exchange, now: float) -> None:
        """Send a request on this idle connection, which belongs to the caller."""
        with self.lock:
            exchange.connection = self
            self.exchange = exchange
            self.progress_at = now
            if self.state is CLOSED:
                # The loop found it closed after it was taken from the idle ones, and waits for us to report that.
                self.engine.events.call(self._was_closed)
                return
            if SENDING not in TRANSITIONS[self.state]:
                raise illegal(self.state, SENDING)
            self.state = SENDING
            request = exchange.request
            self.parser = AnswerParser(to_head=request.method == "HEAD", limit=request.answer_limit)
            body = exchange.body
            self._owed = 0
            self._left = -1
            if len(body) <= _JOIN_BELOW:
                self._out = [memoryview(exchange.head + body)]
            else:
                self._out = [memoryview(exchange.head), memoryview(body)]
            # With a bandwidth limit only the loop writes, which distributes the bandwidth.
            if self.engine.pace is not None or not self._write(now):
                self.engine.events.call(self._start_writing)

    def _was_closed(self) -> None:
        exchange = self.exchange
        self.exchange = None
        if exchange is not None:
            self.engine.repeat(exchange, Failure(TransportFailure.CLOSED))

    def _start_writing(self) -> None:
        if self.state is SENDING:
            self.watch(READ | WRITE)

    def _write(self, now: float) -> bool:
        """Write as much as the socket accepts. Returns whether everything is written."""
        turn, pace = _TURN, self.engine.pace
        while self._out:
            # TLS requires that the rest is sent again, not less of it. The limiter has counted it already.
            piece = self._out[0][: self._owed or _SLICE]
            if pace is not None and not self._owed:
                allowed = pace.take(min(len(piece), 64 * 1024))
                if not allowed:
                    self.enter(THROTTLED)
                    self.progress_at = now
                    return False
                piece = piece[:allowed]
            try:
                count = self.sock.send(piece)
            except (BlockingIOError, InterruptedError):
                if pace is not None:
                    pace.give_back(len(piece))
                return False
            except OSError as error:
                if is_within_tls(error):
                    self._owed = len(piece)
                    return False
                # The server may have answered and closed before it had read everything: the answer is still to be read.
                self.enter(DRAINING)
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
        if RECEIVING not in TRANSITIONS[self.state]:
            raise illegal(self.state, RECEIVING)
        self.state = RECEIVING
        return True

    def on_event(self, mask: int, now: float) -> None:
        """Handle an event."""
        if self.state in UNREADY:
            failure = self.proceed(now)
            if failure is not None:
                self.engine.could_not_connect(self, failure)
            return
        outcome: Outcome | None = None
        with self.lock:
            if self.state is CLOSED:
                return
            exchange = self.exchange
            if mask & WRITE and self.state is SENDING:
                self._write(now)
                if self.state is not SENDING:
                    self.watch(READ)
            if mask & READ or self.state is DRAINING:
                outcome = self._read(now)
            if outcome is None:
                return
            # A small body that is written is at the server in a moment. A bandwidth limit may write it piece by piece.
            if exchange is not None and (self.state is not RECEIVING or len(exchange.body) > _JOIN_BELOW):
                outcome = unless_early(outcome, self.sock, all_is_written=self.state is RECEIVING)
            self.exchange = None
            reusable = self.state is RECEIVING and outcome.__class__ is Answer and self.parser.reusable
            if reusable:
                self.served += 1
                if IDLE not in TRANSITIONS[self.state]:
                    raise illegal(self.state, IDLE)
                self.state = IDLE
            else:
                self.close()
        self.engine.exchanged(self, exchange, outcome, reusable=reusable, now=now)

    def _read(self, now: float) -> Outcome | None:
        parser = self.parser
        try:
            # Only once: the other connections and the clock get their turn, and the selector reports the rest again.
            # TLS decrypts one record at a time, which is less than requested.
            data = self.sock.recv(RECEIVE)
            if not data:
                if self.exchange is not None and parser.end():
                    return parser.answer
                return Failure(TransportFailure.CLOSED, "by the server")
            if self.exchange is None:
                # Bytes without a request, such as 408 Request Timeout on an idle connection.
                return Failure(TransportFailure.CLOSED, "by the server")
            before = parser.heads
            if parser.feed(data):
                return parser.answer
            if parser.heads != before or parser.answer is not None:
                # A head that arrives byte by byte counts as silence.
                self.progress_at = now
            return None
        except InvalidAnswer as error:
            return Failure(TransportFailure.INVALID, str(error))
        except OSError as error:
            if isinstance(error, (BlockingIOError, InterruptedError)) or is_within_tls(error):
                return None
            # With TLS 1.3 a server refuses a missing client certificate only after the handshake.
            reason = str(getattr(error, "reason", None) or "")
            kind = TransportFailure.TLS if "CERTIFICATE" in reason else TransportFailure.CLOSED
            return Failure(kind, reason if kind is TransportFailure.TLS else error.strerror or str(error))

    def is_leaving(self) -> bool:
        """Whether the kernel has sent some of the written bytes since the last check: a slow line is not silence."""
        left = unsent(self.sock)
        before, self._left = self._left, left
        return 0 <= left < before

    def resume(self) -> None:
        """Continue to write after a pause of the bandwidth limit."""
        self.enter(SENDING)
        self.watch(READ | WRITE)

    def close(self) -> None:
        """Close the connection in any state. The caller handles its exchange."""
        self.enter(CLOSED)
        self._out = []
        self._drop_socket()

    def _drop_socket(self) -> None:
        if self.sock is not None:
            self.unwatch()
            with contextlib.suppress(OSError):
                self.sock.close()
