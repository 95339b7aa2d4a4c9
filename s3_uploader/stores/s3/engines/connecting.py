"""A connection of the native engine until it is ready: the addresses of the host, one after another, the proxy, TLS."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Protocol

from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import Failure, TransportFailure
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer, request_head
from s3_uploader.stores.s3.engines.loop import READ, WRITE, EventLoop
from s3_uploader.stores.s3.engines.states import CONNECTING, HANDSHAKE, IDLE, PROXY, TRANSITIONS, State
from s3_uploader.stores.transitions import illegal

RECEIVE = 64 * 1024
_ADDRESS_SECONDS = 2.5
"""Timeout of one address while there are others to try."""
_LAST_SECONDS = 60.0
_MOST_ADDRESSES = 16

Address = tuple[socket.AddressFamily, tuple[object, ...]]
"""The family and address of a socket, as ``socket.getaddrinfo`` returns them."""
LookUp = Callable[[str, int], list[Address]]


class Addresses:
    """Looks up names on a thread of its own, because that may take long. Belongs to the thread that runs the loop.

    :param call: has a function called on that thread.
    :param failed: called there with the reason if there are no addresses.
    """

    def __init__(
        self, *, call: Callable[[Callable[[], None]], None], failed: Callable[[str], None], look_up: LookUp | None
    ) -> None:
        self._call = call
        self._failed = failed
        self._look_up = look_up or _look_up
        self._knows_literals = look_up is None
        self._known: tuple[float, list[Address]] | None = None
        self._dead: dict[Address, float] = {}
        self._rotation = 0
        self._looking_since: float | None = None
        self._host = ""
        self._forgotten = 0

    def known(self, host: str, port: int, *, now: float) -> bool:
        """Whether addresses are known. If not, look them up; the loop turns when they are there."""
        if self._known is not None and now - self._known[0] < _LAST_SECONDS:
            return True
        if self._knows_literals and (literal := _literal(host, port)):
            self._known = (now, literal)
            return True
        if self._looking_since is None:
            self._looking_since = now
            self._host = host
            try:
                arguments = (host, port, self._forgotten)
                start_thread(threading.Thread(target=self._find, args=arguments, name="s3-resolve", daemon=True))
            except RuntimeError as error:
                self._none(f"{host}: {error}")
        return False

    def next(self, *, now: float) -> list[Address]:
        """The addresses in the order in which the next connection tries them.

        Each call begins with another address. Those that did not answer recently come last.
        """
        assert self._known is not None
        addresses = self._known[1]
        if self._dead:
            self._dead = {address: at for address, at in self._dead.items() if now - at < _LAST_SECONDS}
        alive = [address for address in addresses if address not in self._dead]
        self._rotation += 1
        shift = self._rotation % len(alive) if alive else 0
        return alive[shift:] + alive[:shift] + [address for address in addresses if address in self._dead]

    def did_not_answer(self, address: Address, *, now: float) -> None:
        """Have other addresses tried before this one for a while."""
        self._dead[address] = now

    def overdue(self, *, seconds: float, now: float) -> str:
        """The message for a lookup that takes longer than ``seconds``; empty if none does."""
        if self._looking_since is None or now - self._looking_since < seconds:
            return ""
        # The thread cannot be stopped. Later requests wait for it again.
        self._looking_since = now
        return f"{self._host}: no answer in {seconds:g} s"

    def forget(self) -> None:
        """Forget the addresses, because none of them answers or the host changes."""
        self._known = None
        self._forgotten += 1

    def _find(self, host: str, port: int, forgotten: int) -> None:
        try:
            addresses = self._look_up(host, port)
        except (OSError, UnicodeError) as error:
            detail = f"{host}: {getattr(error, 'strerror', None) or error}"
            self._call(lambda: self._none(detail))
        else:
            self._call(lambda: self._found(addresses[:_MOST_ADDRESSES], forgotten))

    def _found(self, addresses: list[Address], forgotten: int) -> None:
        self._looking_since = None
        if not addresses:
            self._failed("it has no address")
        elif forgotten == self._forgotten:
            self._known = (time.monotonic(), addresses)

    def _none(self, detail: str) -> None:
        self._looking_since = None
        self._failed(detail)


def _literal(host: str, port: int) -> list[Address]:
    """The address if the host is a literal one and needs no lookup; empty if it is a name."""
    if not (host[-1:].isdigit() or ":" in host):
        return []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return []
    return [(family, (host, port))]


def _look_up(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


class Dialler(Protocol):
    """The part of the engine that is needed for connecting."""

    events: EventLoop
    tls_context: ssl.SSLContext | None

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go."""

    def address_failed(self, address: Address) -> None:
        """Note that no connection to an address was possible."""


class ConnectingSocket:
    """A socket that is being connected. Belongs to the thread that runs the loop.

    :ivar moves_on_at: the deadline of the current address; after that the next one is tried.
    """

    __slots__ = (
        "_addresses", "_connected_by", "_dialler", "_parser", "address", "events", "moves_on_at", "sock", "state"
    )  # fmt: skip

    def __init__(self, engine: Dialler, addresses: list[Address], now: float, *, connect_seconds: float) -> None:
        self._dialler = engine
        self._addresses = addresses
        self._connected_by = self.moves_on_at = now + connect_seconds
        self._parser = AnswerParser()
        self.address: Address | None = None
        self.events = 0
        self.state: State = CONNECTING
        self.sock: socket.socket = None  # type: ignore[assignment]  # Set by connect(), before anything else.

    def enter(self, state: State) -> None:
        """Enter another state.

        :raises IllegalTransition: if it may not follow the current one.
        """
        if state not in TRANSITIONS[self.state]:
            raise illegal(self.state, state)
        self.state = state

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
                self._dialler.address_failed(self.address)
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
                self._dialler.address_failed(self.address)
                continue
            self.sock = sock
            self.enter(CONNECTING)
            self.watch(WRITE)
            return None
        return self._unreachable(detail)

    def _unreachable(self, detail: str) -> Failure:
        """The failure if no address answers: it is the proxy's if there is one, since only the proxy was dialled."""
        proxy = self._dialler.endpoint.proxy
        if proxy is None:
            return Failure(TransportFailure.REFUSED, detail)
        return Failure(TransportFailure.PROXY, f"{proxy.host}:{proxy.port}: {detail}")

    def try_next_address(self, now: float) -> bool:
        """Try the next address because the current one does not answer; ``False`` if there is none."""
        if self.state is not CONNECTING or not self._addresses or self.address is None:
            return False
        self._dialler.address_failed(self.address)
        self.drop_socket()
        return self.connect(now) is None

    def watch(self, events: int) -> None:
        """Select the events of the socket to wait for."""
        if events != self.events:
            self._dialler.events.watch(self, events)

    def proceed(self, now: float) -> Failure | None:
        """Continue to connect after an event. Returns a failure if that is impossible."""
        if self.state is CONNECTING:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                assert self.address is not None
                self._dialler.address_failed(self.address)
                self.drop_socket()
                failure = self.connect(now)
                return None if failure is None else self._unreachable(os.strerror(code))
            self.moves_on_at = self._connected_by
            endpoint = self._dialler.endpoint
            if endpoint.proxy is not None and endpoint.tls:
                return self._ask_proxy()
            return self._begin_tls(now) if endpoint.tls else self._ready(now)
        if self.state is PROXY:
            return self._hear_proxy(now)
        return self._shake_hands(now)

    def _ask_proxy(self) -> Failure | None:
        endpoint = self._dialler.endpoint
        assert endpoint.proxy is not None
        target = f"{endpoint.host}:{endpoint.port}"
        headers = {"Host": target}
        if endpoint.proxy.authorization:
            headers["Proxy-Authorization"] = endpoint.proxy.authorization
        self.enter(PROXY)
        # A success of CONNECT has no body, like an answer to HEAD (RFC 9110, 9.3.6).
        self._parser = AnswerParser(to_head=True)
        try:
            self.sock.send(request_head("CONNECT", target, headers))
        except OSError as error:
            return Failure(TransportFailure.PROXY, error.strerror or str(error))
        self.watch(READ)
        return None

    def _hear_proxy(self, now: float) -> Failure | None:
        try:
            data = self.sock.recv(RECEIVE)
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
        context = self._dialler.tls_context
        assert context is not None
        self._dialler.events.unwatch(self)
        try:
            self.sock = context.wrap_socket(
                self.sock, server_hostname=self._dialler.endpoint.host.strip("[]"), do_handshake_on_connect=False
            )
        except (OSError, ValueError) as error:
            return Failure(TransportFailure.TLS, str(error))
        self.enter(HANDSHAKE)
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
        self.enter(IDLE)
        self.watch(READ)
        self.on_ready(now)
        return None

    # Implemented by subclasses.

    def on_ready(self, now: float) -> None:
        """Called once the connection is up."""
        raise NotImplementedError

    def on_event(self, mask: int, now: float) -> None:
        """Handle events."""
        raise NotImplementedError

    def on_bug(self, error: Exception) -> None:
        """Handle an exception of :meth:`on_event`."""
        raise NotImplementedError

    def drop_socket(self) -> None:
        """Close the socket in any state."""
        if self.sock is not None:
            self._dialler.events.unwatch(self)
            with contextlib.suppress(OSError):
                self.sock.close()


def make_tls_context(ca_file: str | None, client_certificate_file: str | None = None) -> ssl.SSLContext:
    """The trusted certificates (those of the file or directory, else the system's), and what a client presents.

    :raises StoreError: if a file cannot be used.
    """
    try:
        if ca_file is not None and os.path.isdir(ca_file):
            context = ssl.create_default_context(capath=ca_file)
        else:
            context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise StoreError(
            f"The certificates in {ca_file} cannot be used: {error.strerror or error}.",
            code="InvalidCaBundle",
            origin=Origin.CERTIFICATE,
            scope=Scope.DESTINATION,
            hint="Check AWS_CA_BUNDLE.",
        ) from None
    if client_certificate_file is not None:
        _load_client_certificate(context, client_certificate_file)
    return context


def _load_client_certificate(context: ssl.SSLContext, path: str) -> None:
    """Present the certificate of a PEM file, which also holds its key. Nobody is asked for a passphrase."""
    try:
        context.load_cert_chain(path, password=b"")
    except OSError as error:
        raise StoreError(
            f"The client certificate in {path} cannot be used: {error.strerror or error}.",
            code="InvalidClientCertificate",
            origin=Origin.CERTIFICATE,
            scope=Scope.DESTINATION,
            hint="Check client_certificate_file. It must hold the certificate and its key, without a passphrase.",
        ) from None
