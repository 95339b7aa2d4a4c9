"""One connection of the native engine: one exchange after the other, once it is connected.

A connection belongs to the engine's loop thread. The one thing that other threads do is to start an exchange on an idle
connection, which writes what the socket takes at once; a lock keeps the two apart.
"""

from __future__ import annotations

import fcntl
import ssl
import struct
import termios
import threading
from typing import TYPE_CHECKING, Protocol

from s3_uploader.stores.s3.engines.base import Answer, Failure, Outcome, TransportFailure
from s3_uploader.stores.s3.engines.connecting import RECEIVE, ConnectingSocket, Dialler
from s3_uploader.stores.s3.engines.exchange import Exchange
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer
from s3_uploader.stores.s3.engines.loop import READ, WRITE
from s3_uploader.stores.s3.engines.resolver import Address
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
"""A body up to this size is copied behind its head, so that both leave in one system call and one packet."""
_SLICE = 256 * 1024
_TURN = 2 * 1024 * 1024
"""So many bytes of one body are written before the other connections get their turn."""


class ConnectionOwner(Dialler, Protocol):
    """The engine, as far as a connection knows it.

    Its methods belong to the thread that runs the loop.

    :ivar generation: how often the bucket has moved.
    """

    pace: Pace | None
    generation: int

    def connect_on(self, connection: Connection, now: float) -> None:
        """Something has happened on a connection that is not ready yet."""

    def connected(self, connection: Connection, now: float) -> None:
        """A connection is ready for its first request."""

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

    def broke(self, connection: Connection, error: Exception) -> None:
        """A bug: what came of a connection could not be dealt with."""


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
        """The connection is there: it is ready for its first exchange."""
        self.engine.connected(self, now)

    def on_bug(self, error: Exception) -> None:
        """A bug fails one exchange."""
        self.engine.broke(self, error)

    # Exchanges; start() on any thread, the rest on the loop's.

    def start(self, exchange: Exchange, now: float) -> None:
        """Send a request on this idle connection, which belongs to the caller."""
        with self.lock:
            exchange.connection = self
            self.exchange = exchange
            self.progress_at = now
            if self.state is CLOSED:
                # The loop found it closed after it was taken from the idle ones; it waits for us to say so.
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
            # With a pace all writing is the loop's, which shares it out.
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
        """Write what the socket takes; returns whether there is no more to write."""
        turn = _TURN
        pace = self.engine.pace
        while self._out:
            # TLS wants what it could not send to be sent again, not less of it; the pace has let it through already.
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
                # The server may have answered and closed before it had read everything: the answer is still to read.
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
        """Deal with an event."""
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
            # Once: the other connections and the clock are to get their turn, and what is left in the socket is told of
            # again. TLS decrypts a record at a time, which is less than is asked for.
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
        try:
            left: int = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        except OSError:
            return False
        before, self._left = self._left, left
        return left < before

    def resume(self) -> None:
        """Go on writing after a pause of the pace."""
        self.enter(SENDING)
        self.watch(READ | WRITE)

    def close(self) -> None:
        """Close the connection; the caller deals with the exchange on it."""
        self.enter(CLOSED)
        self._out = []
        self.drop_socket()
