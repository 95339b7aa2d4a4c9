"""The fast engine: non-blocking sockets, one loop, requests signed and written on the thread that sends them.

Measured with 4 KiB files on loopback it needs a quarter of the CPU time of a client on awscrt, whose requests cross
between C threads and Python several times. It also keeps no second copy of a body.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.base import Loop
from s3_uploader.stores.s3.endpoint import Access, Endpoint
from s3_uploader.stores.s3.engines.base import (
    MOTO,
    Done,
    Engine,
    EngineName,
    EngineSettings,
    Failure,
    Outcome,
    Request,
    TransportFailure,
)
from s3_uploader.stores.s3.engines.connection import Address, Connection, literal_address
from s3_uploader.stores.s3.engines.http1 import Exchange, request_head
from s3_uploader.stores.s3.engines.sigv4 import SignedRequests
from s3_uploader.stores.s3.engines.silence import busy_for_too_long, unready_for_too_long
from s3_uploader.stores.s3.engines.states import BUSY, THROTTLED, UNREADY
from s3_uploader.stores.s3.waiting import LONGEST_WAIT, EventLoop

if TYPE_CHECKING:
    import ssl

    from s3_uploader.stores.s3.engines.resolver import Addresses, LookUp
    from s3_uploader.stores.s3.engines.throttle import Pace

_UNSUSPICIOUS_SECONDS = 1.0
"""A shorter silence is not examined."""


def make_engine(
    access: Access, name: EngineName, settings: EngineSettings, notice: Callable[[str, str], None]
) -> Engine:
    """Make the engine of that name, without opening it: the native one, unless another is needed.

    :raises EngineUnavailable: if it does not support the other settings.
    :raises StoreError: if the client certificate cannot be used.
    """
    if name == "boto3" or access.endpoint.only_boto3 or MOTO in sys.modules:
        from s3_uploader.stores.s3.engines.choose import other_engine

        if (other := other_engine(access, name, settings, notice)) is not None:
            return other
    return NativeEngine(access=access, settings=settings)


class NativeEngine:
    """An :class:`~s3_uploader.stores.s3.engines.base.Engine` on sockets.

    :param resolve: looks up the addresses of the host, also of one that is an address.
    """

    name = "native"

    def __init__(
        self,
        *,
        access: Access,
        settings: EngineSettings,
        wall_clock: Callable[[], float] = time.time,
        resolve: LookUp | None = None,
    ) -> None:
        self._requests = SignedRequests(access, wall_clock=wall_clock)
        self._settings = settings
        self.events = EventLoop(work=self._work, shut_down=self._shut_down)
        self._resolve = resolve
        self._literal: Address | None = None
        self._addresses: Addresses | None = None
        """Those of a host that has a name."""
        self._suspicious_seconds = min(_UNSUSPICIOUS_SECONDS, settings.silence_seconds / 4)
        self.pace: Pace | None = None
        if settings.max_bandwidth is not None:
            from s3_uploader.stores.s3.engines.throttle import Pace

            self.pace = Pace(settings.max_bandwidth)
        self.tls_context: ssl.SSLContext | None = None
        self._pending: collections.deque[Exchange] = collections.deque()
        self._idle: collections.deque[Connection] = collections.deque()
        self._connections: set[Connection] = set()
        self._connecting = 0
        self._look_at = 0.0
        self._connect_after = 0.0
        self._uses_once = False
        """Whether the server may close each connection after its answer: one got lost that must not be repeated."""
        self._has_more = False
        """Whether the last turn left work, so that the next one must not wait."""
        self.generation = 0
        """How often the bucket has moved. A connection of an earlier generation leads to its old region."""

    @property
    def endpoint(self) -> Endpoint:
        """The current endpoint, which :meth:`follow` changes."""
        return self._requests.endpoint

    def open(self) -> None:
        """Make what the endpoint needs; the loop's thread starts with the first request."""
        where = self.endpoint.proxy or self.endpoint
        if self._resolve is None:
            self._literal = literal_address(where.host.strip("[]"), where.port)
        if self._literal is None:
            from s3_uploader.stores.s3.engines.resolver import Addresses

            self._addresses = Addresses(call=self.events.call, failed=self._no_addresses, look_up=self._resolve)
        if self.endpoint.tls:
            from s3_uploader.stores.s3.engines.tls import make_tls_context

            self.tls_context = make_tls_context(self.endpoint.ca_file, self.endpoint.client_certificate_file)
        self.events.open()

    @property
    def loop(self) -> Loop:
        """The loop, which the engine lends."""
        return self.events

    def follow(self, region: str) -> bool:
        """Send further requests to the same bucket in another region."""
        if not self._requests.move_to(region):
            return False
        self.generation += 1
        self.events.call(self._forget_connections)
        return True

    # On any thread.

    def send(self, request: Request, done: Done) -> Exchange:
        """Sign a request and write it to an idle connection, or queue it."""
        try:
            target, headers = self._requests.prepare(request)
        except StoreError as error:
            exchange = Exchange(self, request, b"", done)
            kind = TransportFailure.RENEWING if error.retryable else TransportFailure.CREDENTIALS
            exchange.finish(Failure(kind, error.message))
            return exchange
        exchange = Exchange(self, request, request_head(request.method, target, headers), done)
        events = self.events
        if events.turner == threading.get_ident() and not events.closed:
            # Called in the middle of a turn, which serves it at its end. Written here, it would be written at the
            # bottom of a deep call stack.
            self._pending.append(exchange)
            self._has_more = True
            return exchange
        try:
            # The connection used last: its buffers are in the cache, and the others may time out.
            connection = self._idle.pop()
        except IndexError:
            self._enqueue(exchange)
        else:
            if connection.generation == self.generation:
                connection.start(exchange, time.monotonic())
            else:
                events.call(lambda: self._drop(connection))
                self._enqueue(exchange)
        return exchange

    def _enqueue(self, exchange: Exchange) -> None:
        events = self.events
        with events.lock:
            if events.closed:
                failure = self._ending
            elif problem := events.ensure_thread():
                failure = Failure(TransportFailure.RESOURCES, problem)
            else:
                self._pending.append(exchange)
                events.hurry()
                return
        exchange.finish(failure)

    @property
    def _ending(self) -> Failure:
        """The failure of exchanges that are in flight or come when the loop has ended."""
        bug = self.events.bug
        if bug is None:
            return Failure(TransportFailure.CANCELLED)
        return Failure(TransportFailure.BROKEN, f"{type(bug).__name__}: {bug}")

    def cancel(self, exchange: Exchange) -> None:
        """Cancel one exchange."""
        self.events.call(lambda: self._cancel(exchange))

    def leave_to_parent(self) -> None:
        """In a forked child: close the copies of the descriptors, and nothing that the parent waits for.

        Later requests fail at once.
        """
        for connection in list(self._connections):
            if connection.sock is not None:
                # Not through the selector, because the kernel's part of it is shared with the parent.
                connection.sock.close()
        self._idle.clear()
        self.events.leave_to_parent()

    def close(self, *, timeout: float) -> None:
        """Fail what is in flight and end the loop."""
        self.events.close(timeout=timeout)

    # On the loop's thread.

    def _work(self, now: float) -> float:
        """Do the work of a turn besides the events. Returns the seconds until the next turn at the latest."""
        if now >= self._look_at:
            self._look_at = now + LONGEST_WAIT
            self._look_for_silence(now)
        pause = LONGEST_WAIT if self.pace is None else self.pace.resume(self._connections, longest=LONGEST_WAIT)
        self._has_more = False
        if self._pending:
            self._serve_pending(now)
        return 0.0 if self._has_more else pause

    def broke(self, connection: Connection, error: Exception) -> None:
        """Handle a bug: the exchange on the connection fails."""
        exchange = self._drop(connection)
        if exchange is not None:
            exchange.finish(Failure(TransportFailure.OTHER, f"{type(error).__name__}: {error}"))

    def _serve_pending(self, now: float) -> None:
        while self._pending and self._idle:
            # Another thread may have taken the last one.
            with contextlib.suppress(IndexError):
                self._pass_on(self._idle.pop(), now)
        wanted = min(len(self._pending) - self._connecting, self._settings.max_connections - len(self._connections))
        if wanted <= 0 or now < self._connect_after:
            return
        for _ in range(wanted):
            if not (addresses := self._addresses_to_try(now)):
                return
            connection = Connection(self, addresses, now, connect_seconds=self._settings.connect_timeout_seconds)
            self._connections.add(connection)
            self._connecting += 1
            failure = connection.connect(now)
            if failure is not None:
                self.could_not_connect(connection, failure)

    def _addresses_to_try(self, now: float) -> list[Address]:
        """For the next connection, in order; none while they are looked up."""
        if self._literal is not None:
            return [self._literal]
        where, addresses = self.endpoint.proxy or self.endpoint, self._addresses
        if addresses is None or not addresses.known(where.host.strip("[]"), where.port, now=now):
            return []
        return addresses.next(now=now)

    def connected(self, connection: Connection, now: float) -> None:
        """Keep a new connection. It gets its first request at the end of the turn."""
        self._connecting -= 1
        self._idle.append(connection)

    def could_not_connect(self, connection: Connection, failure: Failure) -> None:
        """Give up a connection that will never be ready."""
        self._connecting -= 1
        connection.close()
        self._connections.discard(connection)
        if connection.generation != self.generation:
            return
        others = len(self._connections) - self._connecting
        if others and failure.kind is not TransportFailure.TLS:
            # The server accepts no more connections for now; the existing ones serve the waiting requests.
            self._connect_after = time.monotonic() + 1.0
            return
        if self._addresses is not None:
            self._addresses.forget()
        try:
            exchange = self._pending.popleft()
        except IndexError:
            return
        exchange.finish(failure)

    def _pass_on(self, connection: Connection, now: float) -> None:
        if connection.generation != self.generation:
            self._drop(connection)
            return
        try:
            exchange = self._pending.popleft()
        except IndexError:
            self._idle.append(connection)
        else:
            connection.start(exchange, now)

    def exchanged(
        self, connection: Connection, exchange: Exchange | None, outcome: Outcome, *, reusable: bool, now: float
    ) -> None:
        """Handle the end of an exchange, or of an idle connection."""
        if reusable and self._uses_once:
            connection.close()
            reusable = False
        if not reusable:
            self._connections.discard(connection)
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
        elif self._pending or connection.generation != self.generation:
            self._pass_on(connection, now)
        else:
            self._idle.append(connection)
        if exchange is None:
            return
        stale = isinstance(outcome, Failure) and outcome.kind is TransportFailure.CLOSED
        stale = stale and connection.served > 0 and not connection.parser.started
        if stale and exchange.request.may_be_repeated:
            self.repeat(exchange, outcome)
            return
        if not exchange.request.may_be_repeated:
            self._uses_once = stale
            if stale:
                self._drop_idle()
        exchange.finish(outcome)

    def address_failed(self, address: Address) -> None:
        """Note that no connection to an address was possible."""
        if self._addresses is not None:
            self._addresses.did_not_answer(address, now=time.monotonic())

    def repeat(self, exchange: Exchange, outcome: Outcome) -> None:
        """Send again a request that was written to a connection which the server was just closing as idle."""
        if exchange.repeated or exchange.finished or self.events.closed:
            exchange.finish(Failure(TransportFailure.CANCELLED) if self.events.closed else outcome)
            return
        exchange.repeated = True
        exchange.connection = None
        self._drop_idle()  # those that were idle at least as long are most likely closed, too
        self._pending.appendleft(exchange)

    def _cancel(self, exchange: Exchange) -> None:
        if exchange.finished:
            return
        with contextlib.suppress(ValueError):
            self._pending.remove(exchange)
        connection = exchange.connection
        if isinstance(connection, Connection) and connection.exchange is exchange:
            self._drop(connection)
        exchange.finish(Failure(TransportFailure.CANCELLED))

    def _drop(self, connection: Connection) -> Exchange | None:
        with connection.lock:
            exchange, connection.exchange = connection.exchange, None
            if connection.state in UNREADY:
                self._connecting -= 1
            connection.close()
        self._connections.discard(connection)
        return exchange

    def _look_for_silence(self, now: float) -> None:
        seconds = self._settings.connect_timeout_seconds
        if self._addresses is not None and (overdue := self._addresses.overdue(seconds=seconds, now=now)):
            self._no_addresses(overdue)
        for connection in list(self._connections):
            state = connection.state
            if state is THROTTLED:
                connection.progress_at = now  # a wait for bandwidth is not the server's silence
            elif state in BUSY:
                if now - connection.progress_at >= self._suspicious_seconds:
                    self._look_at_silent(connection, now)
            elif state in UNREADY and now >= connection.moves_on_at and not connection.try_next_address(now):
                self.could_not_connect(connection, unready_for_too_long(connection.state, seconds))

    def _look_at_silent(self, connection: Connection, now: float) -> None:
        failure = busy_for_too_long(connection, seconds=self._settings.silence_seconds, now=now)
        if failure is not None and (exchange := self._drop(connection)) is not None:
            exchange.finish(failure)

    def _forget_connections(self) -> None:
        if self._addresses is not None:
            self._addresses.forget()
        self._drop_idle()

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
                self._drop(connection)

    def _shut_down(self) -> None:
        exchanges = [exchange for connection in list(self._connections) if (exchange := self._drop(connection))]
        exchanges += self._pending
        self._pending.clear()
        self._idle.clear()
        for exchange in exchanges:
            exchange.finish(self._ending)

    def _no_addresses(self, detail: str, is_of_this_machine: bool = False) -> None:
        kind = TransportFailure.NAME if self.endpoint.proxy is None else TransportFailure.PROXY
        if is_of_this_machine:
            kind = TransportFailure.RESOURCES
        while self._pending:
            self._pending.popleft().finish(Failure(kind, detail))
