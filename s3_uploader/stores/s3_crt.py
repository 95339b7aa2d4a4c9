"""The engine on awscrt: AWS's own C client for HTTP and TLS, with connections kept here.

It drives ``awscrt.http`` and not ``awscrt.s3.S3Client``, which keeps status, ``Retry-After`` and text of a 5xx answer
to itself, repeats a request once even if told not to, knows no proxies and copies every body; measured with 4 KiB files
it is not faster either.
"""

from __future__ import annotations

import collections
import contextlib
import io
import threading
import time
from collections.abc import Callable
from typing import Any

from s3_uploader.errors import EngineUnavailable, Scope, StoreError
from s3_uploader.stores.base import Loop
from s3_uploader.stores.s3_endpoint import Access, Endpoint
from s3_uploader.stores.s3_engines import EngineSettings
from s3_uploader.stores.s3_protocol import Answer, Done, Failure, FailureKind, Outcome, Request
from s3_uploader.stores.s3_signing import SignedRequests
from s3_uploader.stores.timer import TimerThread

_TICK = 0.5


class _Exchange:
    """One request under way; a :class:`~s3_uploader.stores.s3_protocol.Sending`."""

    __slots__ = (
        "_engine", "answer", "began_at", "body", "connection", "done", "message", "reason", "source", "stream",
    )  # fmt: skip

    def __init__(self, engine: CrtEngine, message: Any, done: Done) -> None:
        self._engine = engine
        self.message = message
        self.done: Done | None = done
        self.connection: Any = None
        self.stream: Any = None
        self.answer: Answer | None = None
        self.body: list[bytes] = []
        self.reason: Failure | None = None
        self.source: _Body | None = None
        self.began_at = 0.0

    def cancel(self) -> None:
        """Give it up."""
        self._engine.give_up(self, Failure(FailureKind.CANCELLED))

    # Called by awscrt, on its thread.

    def on_response(self, http_stream: Any, status_code: int, headers: list[tuple[str, str]], **_: object) -> None:
        """The head of the answer is there."""
        self.answer = Answer(status=status_code, headers={name.lower(): value for name, value in headers})

    def on_body(self, http_stream: Any, chunk: bytes, **_: object) -> None:
        """A piece of the answer's body is there."""
        self.began_at = time.monotonic()
        self.body.append(bytes(chunk))


class _Body(io.BytesIO):
    """A body that tells when it is read, so that a slow upload is not taken for a silent server."""

    exchange: _Exchange | None = None

    def readinto(self, buffer: Any, /) -> int:
        """Some bytes."""
        if self.exchange is not None:
            self.exchange.began_at = time.monotonic()
        return super().readinto(buffer)

    readinto1 = readinto


class CrtEngine:
    """An :class:`~s3_uploader.stores.s3_protocol.Engine` on awscrt."""

    name = "crt"
    loop: Loop | None = None

    def __init__(
        self, *, access: Access, settings: EngineSettings, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._requests = SignedRequests(access, wall_clock=wall_clock)
        self._settings = settings
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._pending: collections.deque[_Exchange] = collections.deque()
        self._active: set[_Exchange] = set()
        self._connections = 0
        self._connecting = 0
        self._closed = False
        self._timer = TimerThread(name="s3-crt-timer")
        self._tls_options: Any = None

    @property
    def _endpoint(self) -> Endpoint:
        return self._requests.endpoint

    @property
    def _host(self) -> str:
        """What connections are made to: the server, or a proxy that is talked to like one."""
        endpoint = self._endpoint
        if endpoint.proxy is not None and not endpoint.tls:
            return endpoint.proxy.host
        return endpoint.host.strip("[]")

    def open(self) -> None:
        """Import awscrt and make what connections share."""
        try:
            from awscrt import http
            from awscrt import io as crt_io
        except ImportError as error:
            raise EngineUnavailable(
                f"The engine crt cannot be used: {error}.",
                hint="Install awscrt (pip install 's3_uploader[crt]'), or leave engine out.",
            ) from None
        self._http = http
        # One thread of awscrt's is enough: each callback takes the interpreter's lock.
        group = crt_io.EventLoopGroup(1)
        self._bootstrap = crt_io.ClientBootstrap(group, crt_io.DefaultHostResolver(group))
        self._socket_options = crt_io.SocketOptions()
        self._socket_options.connect_timeout_ms = int(self._settings.connect_timeout_seconds * 1000)
        self._socket_options.keep_alive = True
        if self._endpoint.tls:
            options = crt_io.TlsContextOptions()
            try:
                if self._endpoint.ca_file is not None:
                    options.override_default_trust_store_from_path(None, self._endpoint.ca_file)
                self._tls_options = crt_io.ClientTlsContext(options)
            except Exception as error:
                raise StoreError(
                    f"The certificates in {self._endpoint.ca_file} cannot be used: {error}.",
                    code="InvalidCaBundle",
                    scope=Scope.DESTINATION,
                    hint="Look at AWS_CA_BUNDLE.",
                ) from None
        self._timer.call_at(time.monotonic() + _TICK, self._look_for_silence)

    def send(self, request: Request, done: Done) -> _Exchange:
        """Sign a request and send it over an idle connection, a new one, or the next that comes back."""
        try:
            target, headers = self._requests.prepare(request)
        except StoreError as error:
            exchange = _Exchange(self, None, done)
            self._finish(exchange, Failure(FailureKind.CREDENTIALS, error.message))
            return exchange
        stream = None
        if request.body:
            stream = _Body(request.body)
        message = self._http.HttpRequest(request.method, target, self._http.HttpHeaders(list(headers.items())), stream)
        exchange = _Exchange(self, message, done)
        if stream is not None:
            stream.exchange = exchange
            exchange.source = stream
        self._dispatch(exchange)
        return exchange

    def follow(self, region: str) -> bool:
        """Send further requests to the same bucket in another region."""
        if not self._requests.move_to(region):
            return False
        with self._lock:
            idle, self._idle = self._idle, []
            self._connections -= len(idle)
        for connection in idle:
            connection.close()
        return True

    def close(self, *, timeout: float) -> None:
        """Fail what is under way and close the connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            exchanges = [*self._active, *self._pending]
            idle, self._idle = self._idle, []
        self._timer.close()
        for exchange in exchanges:
            self.give_up(exchange, Failure(FailureKind.CANCELLED))
        for connection in idle:
            connection.close()

    def give_up(self, exchange: _Exchange, reason: Failure) -> None:
        """End an exchange; its connection cannot be used any more."""
        with self._lock:
            if exchange.done is None:
                return
            exchange.reason = reason
            with contextlib.suppress(ValueError):
                self._pending.remove(exchange)
            connection = exchange.connection
        if connection is not None:
            connection.close()
        else:
            self._finish(exchange, reason)

    def _dispatch(self, exchange: _Exchange) -> None:
        connection = None
        with self._lock:
            refused = self._closed
            connect = False
            if not refused:
                while self._idle:
                    connection = self._idle.pop()
                    if connection.is_open():
                        break
                    self._connections -= 1
                    connection = None
                if connection is None:
                    self._pending.append(exchange)
                    connect = (
                        self._connecting < len(self._pending) and self._connections < self._settings.max_connections
                    )
                    if connect:
                        self._connections += 1
                        self._connecting += 1
        if refused:
            self._finish(exchange, Failure(FailureKind.CANCELLED))
        elif connection is not None:
            self._start(exchange, connection)
        elif connect:
            self._connect()

    def _connect(self) -> None:
        endpoint = self._endpoint
        host = self._host
        tls = None
        if self._tls_options is not None:
            tls = self._tls_options.new_connection_options()
            tls.set_server_name(host)
        proxy = None
        if endpoint.proxy is not None:
            proxy = self._http.HttpProxyOptions(
                endpoint.proxy.host,
                endpoint.proxy.port,
                connection_type=self._http.HttpProxyConnectionType.Tunneling,
                **_basic(endpoint.proxy.authorization, self._http),
            )
            if not endpoint.tls:
                # The request names the whole URL; the proxy is talked to like a server.
                proxy = None
        port = endpoint.proxy.port if endpoint.proxy is not None and not endpoint.tls else endpoint.port
        try:
            future = self._http.HttpClientConnection.new(host, port, self._bootstrap, self._socket_options, tls, proxy)
        except Exception as error:
            self._could_not_connect(error)
            return
        future.add_done_callback(self._connected)

    def _connected(self, future: Any) -> None:
        error = future.exception()
        if error is not None:
            self._could_not_connect(error)
            return
        with self._lock:
            self._connecting -= 1
        self._release(future.result())

    def _could_not_connect(self, error: BaseException) -> None:
        with self._lock:
            self._connecting -= 1
            self._connections -= 1
            others = self._connections - self._connecting
            exchange = self._pending.popleft() if self._pending and others <= 0 else None
            # Nobody else will serve those who still wait.
            connect = not self._closed and others <= 0 and len(self._pending) > self._connecting
            if connect:
                self._connections += 1
                self._connecting += 1
        if exchange is not None:
            self._finish(exchange, _failure_of(error, connecting=True))
        if connect:
            self._connect()

    def _release(self, connection: Any) -> None:
        """A connection is free: the next request takes it."""
        with self._lock:
            # A connection to where the bucket was before it moved leads nowhere.
            astray = connection.host_name != self._host
            usable = not self._closed and not astray and connection.is_open()
            exchange = None
            connect = False
            if usable:
                if self._pending:
                    exchange = self._pending.popleft()
                else:
                    self._idle.append(connection)
            else:
                self._connections -= 1
                connect = not self._closed and len(self._pending) > self._connecting
                if connect:
                    self._connections += 1
                    self._connecting += 1
        if astray:
            connection.close()
        if exchange is not None:
            self._start(exchange, connection)
        elif connect:
            self._connect()

    def _start(self, exchange: _Exchange, connection: Any) -> None:
        exchange.began_at = time.monotonic()
        with self._lock:
            self._active.add(exchange)
            exchange.connection = connection
        try:
            stream = connection.request(exchange.message, exchange.on_response, exchange.on_body)
            exchange.stream = stream
            stream.completion_future.add_done_callback(lambda future: self._completed(exchange, future))
            stream.activate()
        except Exception as error:
            # The server closed it between two requests.
            self._ended(exchange, _failure_of(error, connecting=False))

    def _completed(self, exchange: _Exchange, future: Any) -> None:
        error = future.exception()
        answer = exchange.answer
        if error is None and answer is not None:
            answer.body = b"".join(exchange.body)
            self._ended(exchange, answer)
        else:
            self._ended(exchange, _failure_of(error, connecting=False))

    def _ended(self, exchange: _Exchange, outcome: Outcome) -> None:
        connection = exchange.connection
        with self._lock:
            self._active.discard(exchange)
            exchange.connection = exchange.stream = None
        if isinstance(outcome, Answer) and outcome.headers.get("connection", "").lower() == "close":
            connection.close()
        if isinstance(outcome, Failure):
            connection.close()
        self._release(connection)
        if exchange.reason is not None and isinstance(outcome, Failure):
            outcome = exchange.reason
        self._finish(exchange, outcome)

    def _finish(self, exchange: _Exchange, outcome: Outcome) -> None:
        with self._lock:
            done, exchange.done = exchange.done, None
            # A body that hangs in a cycle of references would wait for the garbage collector.
            stream, exchange.source = exchange.source, None
            exchange.message = None
        if stream is not None:
            stream.exchange = None
        if done is not None:
            done(outcome)

    def _look_for_silence(self) -> None:
        now = time.monotonic()
        silence = self._settings.silence_seconds
        with self._lock:
            silent = [exchange for exchange in self._active if now - exchange.began_at > silence]
        for exchange in silent:
            self.give_up(exchange, Failure(FailureKind.TIMEOUT, f"for {silence:.0f} s"))
        if not self._closed:
            self._timer.call_at(now + _TICK, self._look_for_silence)


def _basic(authorization: str, http: Any) -> dict[str, Any]:
    if not authorization:
        return {}
    import base64

    name, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    return {
        "auth_type": http.HttpProxyAuthenticationType.Basic,
        "auth_username": name,
        "auth_password": password,
    }


def _failure_of(error: BaseException | None, *, connecting: bool) -> Failure:
    """What awscrt's errors are, in our words; their names are stable, their numbers are not."""
    name = str(getattr(error, "name", ""))
    detail = str(getattr(error, "message", "") or error or "")
    if "DNS" in name:
        kind = FailureKind.NAME
    elif "PROXY" in name:
        kind = FailureKind.PROXY
    elif "TLS" in name:
        kind = FailureKind.TLS
    elif "TIMEOUT" in name:
        kind = FailureKind.CONNECT_TIMEOUT if connecting else FailureKind.TIMEOUT
    elif connecting:
        kind = FailureKind.REFUSED
    elif "PROTOCOL" in name or "PARSE" in name:
        kind = FailureKind.INVALID
    else:
        kind = FailureKind.CLOSED
    return Failure(kind, detail.rstrip("."))
