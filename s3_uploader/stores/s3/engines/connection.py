"""One connection of the native engine: when it is connected, it carries one exchange after another.

A connection belongs to the engine's loop thread. Other threads only start an exchange on an idle connection, which
writes as much as the socket accepts at once. A lock keeps the two apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import ssl
import struct
import termios
import threading
from typing import TYPE_CHECKING, Protocol

from s3_uploader.stores.s3.engines.base import Answer, Done, Failure, Outcome, Request, TransportFailure
from s3_uploader.stores.s3.engines.connecting import RECEIVE, Address, ConnectingSocket, Dialler
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer
from s3_uploader.stores.s3.engines.loop import READ, WRITE
from s3_uploader.stores.s3.engines.states import (
    CLOSED,
    DRAINING,
    IDLE,
    RECEIVING,
    SENDING,
    THROTTLED,
    TRANSITIONS,
    UNREADY,
)
from s3_uploader.stores.transitions import illegal

if TYPE_CHECKING:
    from s3_uploader.stores.s3.engines.throttle import Pace

_JOIN_BELOW = 32 * 1024
"""A body up to this size is appended to its head, so that both are sent in one system call and one packet."""
_SLICE = 256 * 1024
_TURN = 2 * 1024 * 1024
"""How many bytes of one body are written before the other connections get their turn."""


class ConnectionOwner(Dialler, Protocol):
    """The part of the engine that a connection uses.

    Its methods belong to the thread that runs the loop.

    :ivar generation: how often the bucket has moved to another region.
    """

    pace: Pace | None
    generation: int

    def connect_on(self, connection: Connection, now: float) -> None:
        """Handle an event on a connection that is not ready yet."""

    def connected(self, connection: Connection, now: float) -> None:
        """Handle a connection that is ready for its first request."""

    def repeat(self, exchange: Exchange, outcome: Outcome) -> None:
        """Send again a request that was written to a connection which the server was just closing."""

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
        """Handle the end of an exchange, with or without success."""

    def broke(self, connection: Connection, error: Exception) -> None:
        """Handle a bug: an exception from a connection's event."""


class Cancels(Protocol):
    """The part of the engine that an exchange uses."""

    def cancel(self, exchange: Exchange) -> None:
        """Cancel one exchange. May be called on any thread."""


class Exchange:
    """One request in flight; a :class:`~s3_uploader.stores.s3.engines.base.Sending`."""

    __slots__ = (
        "_engine", "body", "connection", "done", "finished", "head", "repeated", "request"
    )  # fmt: skip

    def __init__(self, engine: Cancels, request: Request, head: bytes, done: Done) -> None:
        self._engine = engine
        self.head = head
        self.body = request.body
        self.request = request
        self.done = done
        self.connection: Connection | None = None
        self.finished = False
        self.repeated = False

    def cancel(self) -> None:
        """Cancel it."""
        self._engine.cancel(self)

    def finish(self, outcome: Outcome) -> None:
        """Report the outcome, once, and drop the body, so that it does not wait for the garbage collector."""
        if not self.finished:
            self.finished = True
            done, self.done = self.done, _nothing
            self.head = self.body = b""
            self.connection = None
            with contextlib.suppress(Exception):
                done(outcome)


def _nothing(outcome: Outcome) -> None:
    """The callback of an exchange that is over."""


class Connection(ConnectingSocket):
    """One socket and the exchanges on it."""

    __slots__ = (
        "_left",
        "_out",
        "_owed",
        "engine",
        "exchange",
        "generation",
        "lock",
        "progress_at",
        "served",
        "wrote_at",
    )

    def __init__(
        self, engine: ConnectionOwner, addresses: list[Address], now: float, *, connect_seconds: float
    ) -> None:
        super().__init__(engine, addresses, now, connect_seconds=connect_seconds)
        self.engine = engine
        self.lock = threading.Lock()
        self.exchange: Exchange | None = None
        self.progress_at = now
        self.served = 0
        self.generation = engine.generation
        self.wrote_at = now
        self._owed = 0
        self._left = -1
        self._out: list[memoryview] = []

    def on_ready(self, now: float) -> None:
        """Become ready for the first exchange."""
        self.engine.connected(self, now)

    def on_bug(self, error: Exception) -> None:
        """Fail the exchange because of a bug."""
        self.engine.broke(self, error)

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
            self._parser = AnswerParser(to_head=request.method == "HEAD", limit=request.answer_limit)
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
        turn = _TURN
        pace = self.engine.pace
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
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._owed = len(piece)
                return False
            except OSError:
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
            self.engine.connect_on(self, now)
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
                outcome = self._unless_early(outcome)
            self.exchange = None
            reusable = self.state is RECEIVING and outcome.__class__ is Answer and self._parser.reusable
            if reusable:
                self.served += 1
                if IDLE not in TRANSITIONS[self.state]:
                    raise illegal(self.state, IDLE)
                self.state = IDLE
            else:
                self.close()
        self.engine.exchanged(self, exchange, outcome, reusable=reusable, answer_began=self._parser.started, now=now)

    def _read(self, now: float) -> Outcome | None:
        parser = self._parser
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
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except InvalidAnswer as error:
            return Failure(TransportFailure.INVALID, str(error))
        except OSError as error:
            # With TLS 1.3 a server refuses a missing client certificate only after the handshake.
            reason = str(getattr(error, "reason", None) or "")
            kind = TransportFailure.TLS if "CERTIFICATE" in reason else TransportFailure.CLOSED
            return Failure(kind, reason if kind is TransportFailure.TLS else error.strerror or str(error))

    def _unless_early(self, outcome: Outcome) -> Outcome:
        """Do not believe a success that comes before the server can have received the whole body."""
        if not isinstance(outcome, Answer) or outcome.status >= 300:
            return outcome
        # The segments of an answer also acknowledge all that has arrived at the server.
        if self.state is RECEIVING and self._unsent() <= 0:
            return outcome
        return Failure(TransportFailure.INVALID, "a success before the whole body was sent")

    def _unsent(self) -> int:
        """The number of written bytes that the other end has not acknowledged, -1 if it is unknown."""
        try:
            left: int = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        except OSError:
            return -1
        return left

    def is_leaving(self) -> bool:
        """Whether the kernel has sent some of the written bytes since the last check: a slow line is not silence."""
        left = self._unsent()
        before, self._left = self._left, left
        return 0 <= left < before

    def resume(self) -> None:
        """Continue to write after a pause of the bandwidth limit."""
        self.enter(SENDING)
        self.watch(READ | WRITE)

    def close(self) -> None:
        """Close the connection. The caller handles its exchange."""
        self.enter(CLOSED)
        self._out = []
        self.drop_socket()
