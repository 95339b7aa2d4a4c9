"""The fast engine: non-blocking sockets, one loop, requests signed and written on the thread that sends them.

The loop has a thread of its own, unless a caller runs it (:class:`~s3_uploader.stores.base.Loop`).

Measured with 4 KiB files on loopback this takes a quarter of the CPU time of a client on awscrt, whose every request
crosses between C threads and Python several times, and keeps no second copy of a body.
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.base import Loop
from s3_uploader.stores.s3.access import Access
from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import Done, Failure, Outcome, Request, TransportFailure
from s3_uploader.stores.s3.engines.connection import READ, WRITE, Connection, Exchange
from s3_uploader.stores.s3.engines.http1 import request_head
from s3_uploader.stores.s3.engines.resolver import Address, Addresses, LookUp, make_tls_context
from s3_uploader.stores.s3.engines.sigv4 import SignedRequests
from s3_uploader.stores.s3.engines.throttle import Pace

_TICK = 0.25
_MANY_EVENTS = 100
"""From here on it is a backlog, and answers are taken in several at a time:"""
_GATHERING_SECONDS = 0.002
"""so long they gather. Taken in one by one, each would take the interpreter away from the thread that reads files; a
fifth of all CPU time went into that. While anything is to be written nothing waits."""
_STAND_IN_SECONDS = 0.5
"""A caller who has taken the loop over and does not turn it for so long is stood in for."""
_RESUMED_AT_ONCE = 8
_UNSUSPICIOUS_SECONDS = 1.0
"""A shorter silence is not looked into."""


class NativeEngine:
    """An :class:`~s3_uploader.stores.s3.engines.base.Engine` on sockets.

    :param max_connections: most connections at once; requests beyond wait for one.
    :param silence_seconds: after so long without a byte in either direction a request fails.
    :param max_bandwidth: bytes per second of all requests together, ``None`` for no limit.
    """

    name = "native"

    def __init__(
        self,
        *,
        access: Access,
        max_connections: int,
        connect_timeout_seconds: float,
        silence_seconds: float = 60.0,
        max_bandwidth: int | None = None,
        wall_clock: Callable[[], float] = time.time,
        resolve: LookUp | None = None,
    ) -> None:
        self._requests = SignedRequests(access, wall_clock=wall_clock)
        self._max_connections = max_connections
        self._connect_timeout = connect_timeout_seconds
        self._silence = silence_seconds
        self._addresses = Addresses(call=self.call, failed=self._no_addresses, look_up=resolve)
        self.pace = None if max_bandwidth is None else Pace(max_bandwidth)
        self.tls_context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._pending: collections.deque[Exchange] = collections.deque()
        self._idle: collections.deque[Connection] = collections.deque()
        self._connections: set[Connection] = set()
        self._connecting = 0
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._awake = False
        self._thread: threading.Thread | None = None
        self._turning = threading.RLock()
        """Held by the thread that runs the loop at the moment."""
        self._returned = threading.Event()
        """Set while the loop is not lent."""
        self._returned.set()
        self._turned_at = 0.0
        self._look_at = 0.0
        self._pause = _TICK
        self._closed = False
        self._ending = Failure(TransportFailure.CANCELLED)
        """What becomes of exchanges that are under way or come when the loop has ended."""
        self._stopped = False
        self._connect_after = 0.0
        self.generation = 0
        """How often the bucket has moved; a connection of an earlier generation leads to where it is not."""
        self._selector: selectors.BaseSelector | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go; another one after :meth:`follow`."""
        return self._requests.endpoint

    def open(self) -> None:
        """Make the TLS context; the loop's thread starts with the first request."""
        if self.endpoint.tls:
            self.tls_context = make_tls_context(self.endpoint.ca_file)
        self._selector = selectors.DefaultSelector()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector.register(self._wake_receiver, READ, None)

    @property
    def loop(self) -> Loop:
        """The engine lends its loop."""
        return self

    def follow(self, region: str) -> bool:
        """Send further requests to the same bucket in another region."""
        if not self._requests.move_to(region):
            return False
        self.generation += 1
        self.call(self._forget_connections)
        return True

    # On any thread.

    def send(self, request: Request, done: Done) -> Exchange:
        """Sign a request and write it to an idle connection, or let it wait for one."""
        try:
            target, headers = self._requests.prepare(request)
        except StoreError as error:
            exchange = Exchange(self, request, b"", done)
            kind = TransportFailure.RENEWING if error.retryable else TransportFailure.CREDENTIALS
            self._finish(exchange, Failure(kind, error.message))
            return exchange
        exchange = Exchange(self, request, request_head(request.method, target, headers), done)
        try:
            # The one that came back last: its buffers are warm, and the others may time out in peace.
            connection = self._idle.pop()
        except IndexError:
            self._enqueue(exchange)
        else:
            if connection.generation == self.generation:
                connection.start(exchange, time.monotonic())
            else:
                self.call(lambda: self._forget(connection))
                self._enqueue(exchange)
        return exchange

    def _enqueue(self, exchange: Exchange) -> None:
        ending = self._ending
        with self._lock:
            if not self._closed:
                failure = self._start_thread() if self._thread is None else None
                if failure is None:
                    self._pending.append(exchange)
                    self.wake()
                    return
                ending = failure
        self._finish(exchange, ending)

    def _start_thread(self) -> Failure | None:
        """Start the loop's thread; returns why there is nobody to run the loop."""
        thread = threading.Thread(target=self._run, name="s3-native", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # A caller who runs the loop can do without.
            return Failure(TransportFailure.RESOURCES, str(error)) if self._returned.is_set() else None
        self._thread = thread
        return None

    def cancel(self, exchange: Exchange) -> None:
        """Give up one exchange."""
        self.call(lambda: self._cancel(exchange))

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called on the loop's thread."""
        self._calls.append(function)
        if self._stopped:
            self._make_calls()
        else:
            self.wake()

    def _make_calls(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._calls.popleft()()

    def wake(self) -> None:
        """Have the loop look at what was left for it."""
        if not self._awake:
            self._awake = True
            with contextlib.suppress(OSError):
                self._wake_sender.send(b"\0")

    def close(self, *, timeout: float) -> None:
        """Fail what is under way and end the loop."""
        with self._lock:
            if self._closed or self._selector is None:
                self._closed = True
                return
            self._closed = True
            thread = self._thread
        self.wake()
        self._returned.set()
        if thread is not None:
            thread.join(timeout)
        else:
            self._shut_down()

    # Lending the loop.

    def take_over(self) -> None:
        """See :class:`~s3_uploader.stores.base.Loop`."""
        self._turned_at = time.monotonic()
        if not self._closed:
            self._returned.clear()

    def turn(self, timeout: float) -> bool:
        """See :class:`~s3_uploader.stores.base.Loop`."""
        if not self._turning.acquire(blocking=False):
            # Our own thread is in the middle of a turn; it lasts as long as there is nothing to do.
            self.wake()
            self._turning.acquire()
        try:
            if self._closed:
                return False
            self._turned_at = time.monotonic()
            self._turn(min(timeout, self._pause))
        except Exception as error:
            self._break_down(error)
        finally:
            self._turning.release()
        return not self._closed

    def hand_back(self) -> None:
        """See :class:`~s3_uploader.stores.base.Loop`."""
        self._returned.set()

    # On the loop's thread.

    def watch(self, connection: Connection, events: int) -> None:
        """Wait for events of a connection."""
        assert self._selector is not None
        if connection.events:
            self._selector.modify(connection.sock, events, connection)
        else:
            self._selector.register(connection.sock, events, connection)
        connection.events = events

    def unwatch(self, connection: Connection) -> None:
        """Wait for no event of a connection any more."""
        assert self._selector is not None
        if connection.events:
            connection.events = 0
            # A change of events that the kernel refuses has taken the socket out already (selectors.modify).
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection.sock)

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self._break_down(error)
        with self._turning:
            if not self._stopped:
                self._shut_down()

    def _break_down(self, error: Exception) -> None:
        """A bug. Who waits for an answer is told that there will be none, and so is who asks later."""
        self._ending = Failure(TransportFailure.BROKEN, f"{type(error).__name__}: {error}")
        with self._lock:
            self._closed = True
        self._returned.set()
        with self._turning:
            self._shut_down()

    def _loop(self) -> None:
        events = 0
        while not self._closed:
            if not self._returned.is_set() and not self._must_stand_in():
                self._returned.wait(_STAND_IN_SECONDS)
                continue
            with self._turning:
                if self._closed:
                    return
                ready = self._turn(self._pause)
            events += len(ready)
            if ready and events > _MANY_EVENTS and not any(mask & WRITE for _, mask in ready):
                time.sleep(_GATHERING_SECONDS)

    def _must_stand_in(self) -> bool:
        """Who has the loop is busy with something else for long, a copy of a large file or a disk that hangs."""
        return time.monotonic() - self._turned_at > _STAND_IN_SECONDS

    def _turn(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events and deal with them; returns them."""
        assert self._selector is not None
        ready = self._selector.select(timeout)
        now = time.monotonic()
        for key, mask in ready:
            connection: Connection | None = key.data
            if connection is None:
                with contextlib.suppress(OSError):
                    self._wake_receiver.recv(4096)
                # Only now: whoever finds it still set has left something that is looked at below.
                self._awake = False
            else:
                self._serve(connection, mask, now)
        self._make_calls()
        if self._pending:
            self._serve_pending(now)
        if now >= self._look_at:
            self._look_at = now + _TICK
            self._look_for_silence(now)
        self._pause = self._resume_throttled(now)
        return ready

    def _serve(self, connection: Connection, mask: int, now: float) -> None:
        try:
            if connection.state in ("idle", "busy"):
                connection.on_event(mask, now)
            elif connection.state != "closed":
                self._connect_on(connection, now)
        except Exception as error:
            # A bug here must cost one exchange and not the thread that all of them live on.
            exchange = self._drop(connection)
            if exchange is not None:
                self._finish(exchange, Failure(TransportFailure.OTHER, f"{type(error).__name__}: {error}"))

    def _serve_pending(self, now: float) -> None:
        while self._pending and self._idle:
            with contextlib.suppress(IndexError):
                connection = self._idle.pop()
                if connection.generation != self.generation:
                    self._drop(connection)
                    continue
                try:
                    exchange = self._pending.popleft()
                except IndexError:
                    self._idle.append(connection)
                else:
                    connection.start(exchange, now)
        wanted = min(len(self._pending) - self._connecting, self._max_connections - len(self._connections))
        if wanted <= 0 or now < self._connect_after:
            return
        where = self.endpoint.proxy or self.endpoint
        for _ in range(wanted):
            if not self._addresses.known(where.host.strip("[]"), where.port, now=now):
                return
            addresses = self._addresses.next(now=now)
            connection = Connection(self, addresses, now, connect_seconds=self._connect_timeout)
            self._connections.add(connection)
            self._connecting += 1
            failure = connection.connect(now)
            if failure is not None:
                self._could_not_connect(connection, failure)

    def _connect_on(self, connection: Connection, now: float) -> None:
        failure = connection.proceed(now)
        if failure is not None:
            self._could_not_connect(connection, failure)

    def connected(self, connection: Connection, now: float) -> None:
        """A connection is ready for its first request."""
        self._connecting -= 1
        self._pass_on(connection, now)

    def _could_not_connect(self, connection: Connection, failure: Failure) -> None:
        self._connecting -= 1
        connection.close()
        self._connections.discard(connection)
        if connection.generation != self.generation:
            return
        others = len(self._connections) - self._connecting
        if others and failure.kind is not TransportFailure.TLS:
            # The server takes no more of them for now; those there are will serve who waits.
            self._connect_after = time.monotonic() + 1.0
            return
        self._addresses.forget()
        try:
            exchange = self._pending.popleft()
        except IndexError:
            return
        self._finish(exchange, failure)

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
        self,
        connection: Connection,
        exchange: Exchange | None,
        outcome: Outcome,
        *,
        reusable: bool,
        answer_began: bool,
        now: float,
    ) -> None:
        """An exchange is over, or an idle connection ended."""
        if reusable:
            self._pass_on(connection, now)
        else:
            self._connections.discard(connection)
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
        if exchange is None:
            return
        stale = isinstance(outcome, Failure) and outcome.kind is TransportFailure.CLOSED
        if stale and connection.served and not answer_began:
            self.repeat(exchange, outcome)
        else:
            self._finish(exchange, outcome)

    def address_failed(self, address: Address) -> None:
        """No connection could be made to an address."""
        self._addresses.did_not_answer(address, now=time.monotonic())

    def repeat(self, exchange: Exchange, outcome: Outcome) -> None:
        """Send once more what was written to a connection that the server was just closing for want of use."""
        if self._closed:
            self._finish(exchange, Failure(TransportFailure.CANCELLED))
            return
        if exchange.repeated or exchange.finished:
            self._finish(exchange, outcome)
            return
        exchange.repeated = True
        exchange.connection = None
        for connection in list(self._idle):
            # What was idle as long as that one is most likely as dead.
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
                connection.close()
                self._connections.discard(connection)
        self._pending.appendleft(exchange)

    def _finish(self, exchange: Exchange, outcome: Outcome) -> None:
        if not exchange.finished:
            exchange.finished = True
            done = exchange.done
            exchange.let_go()
            with contextlib.suppress(Exception):
                done(outcome)

    def _cancel(self, exchange: Exchange) -> None:
        if exchange.finished:
            return
        with contextlib.suppress(ValueError):
            self._pending.remove(exchange)
        connection = exchange.connection
        if connection is not None and connection.exchange is exchange:
            self._drop(connection)
        self._finish(exchange, Failure(TransportFailure.CANCELLED))

    def _drop(self, connection: Connection) -> Exchange | None:
        with connection.lock:
            exchange, connection.exchange = connection.exchange, None
            if connection.state in ("connecting", "proxy", "handshake"):
                self._connecting -= 1
            connection.close()
        self._connections.discard(connection)
        return exchange

    def _forget(self, connection: Connection) -> None:
        self._drop(connection)

    def _look_for_silence(self, now: float) -> None:
        overdue = self._addresses.overdue(seconds=self._connect_timeout, now=now)
        if overdue:
            self._no_addresses(overdue)
        for connection in list(self._connections):
            if connection.throttled:
                connection.progress_at = now  # Waiting for its turn is no silence of the server's.
            if connection.state == "busy":
                self._look_at_busy(connection, now)
            elif connection.state != "idle" and now >= connection.moves_on_at:
                if connection.try_next_address(now):
                    continue
                kind = TransportFailure.CONNECT_TIMEOUT if connection.state == "connecting" else TransportFailure.TLS
                kind = TransportFailure.PROXY if connection.state == "proxy" else kind
                self._could_not_connect(connection, Failure(kind, f"no answer in {self._connect_timeout:g} s"))

    def _look_at_busy(self, connection: Connection, now: float) -> None:
        silent = now - connection.progress_at
        if silent < min(_UNSUSPICIOUS_SECONDS, self._silence / 4):
            return
        if connection.is_leaving():
            connection.progress_at = now
            return
        exchange = connection.exchange
        if exchange is not None and silent > self._silence + exchange.allowance:
            dropped = self._drop(connection)
            if dropped is not None:
                self._finish(dropped, Failure(TransportFailure.TIMEOUT, f"for {silent:.0f} s"))

    def _resume_throttled(self, now: float) -> float:
        if self.pace is None:
            return _TICK
        throttled = [connection for connection in self._connections if connection.throttled]
        if not throttled:
            return _TICK
        delay = self.pace.delay(16 * 1024)
        if delay > 0.0:
            return min(delay, _TICK)
        # Those that have waited longest go first, and few at a time, or the same ones would take everything each time.
        for connection in sorted(throttled, key=lambda connection: connection.wrote_at)[:_RESUMED_AT_ONCE]:
            connection.resume()
        return 0.0

    def _forget_connections(self) -> None:
        self._addresses.forget()
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
            self._finish(exchange, self._ending)
        if self._selector is not None:
            self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()
        self._stopped = True
        self._make_calls()

    def _no_addresses(self, detail: str) -> None:
        while self._pending:
            self._finish(self._pending.popleft(), Failure(TransportFailure.NAME, detail))
