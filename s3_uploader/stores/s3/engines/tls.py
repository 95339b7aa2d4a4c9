"""TLS of the native engine: the certificates, and a new connection's handshake, which a proxy has to permit first."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Protocol

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.files import refuse_pipe
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3.endpoint import Endpoint
from s3_uploader.stores.s3.engines.base import Failure, TransportFailure
from s3_uploader.stores.s3.engines.http1 import RECEIVE, AnswerParser, InvalidAnswer, request_head
from s3_uploader.stores.s3.engines.states import CONNECTING, HANDSHAKE, PROXY, State
from s3_uploader.stores.s3.waiting import READ, WRITE


class Secures(Protocol):
    """The part of the engine that a handshake uses."""

    @property
    def endpoint(self) -> Endpoint:
        """Where requests go."""

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """What is trusted and presented."""


class Connected(Protocol):
    """The part of a connection that a handshake uses."""

    sock: socket.socket
    parser: AnswerParser

    @property
    def engine(self) -> Secures:
        """The engine."""

    @property
    def state(self) -> State:
        """The state, which :meth:`enter` changes."""

    def enter(self, state: State) -> None:
        """Enter another state."""

    def watch(self, events: int) -> None:
        """Select the events of the socket to wait for."""

    def unwatch(self) -> None:
        """Wait for no events of the socket."""

    def become_ready(self, now: float) -> None:
        """Become ready for the first request."""


def secure(connection: Connected, now: float) -> Failure | None:
    """Continue after an event on the way from a connected socket to TLS. Returns a failure if that is impossible."""
    if connection.state is CONNECTING:
        return _begin_tls(connection, now) if connection.engine.endpoint.proxy is None else _ask_proxy(connection)
    if connection.state is PROXY:
        return _hear_proxy(connection, now)
    return _shake_hands(connection, now)


def _ask_proxy(connection: Connected) -> Failure | None:
    endpoint = connection.engine.endpoint
    assert endpoint.proxy is not None
    target = f"{endpoint.host}:{endpoint.port}"
    headers = {"Host": target}
    if endpoint.proxy.authorization:
        headers["Proxy-Authorization"] = endpoint.proxy.authorization
    connection.enter(PROXY)
    # A success of CONNECT has no body, like an answer to HEAD (RFC 9110, 9.3.6).
    connection.parser = AnswerParser(to_head=True)
    try:
        connection.sock.send(request_head("CONNECT", target, headers))
    except OSError as error:
        return Failure(TransportFailure.PROXY, error.strerror or str(error))
    connection.watch(READ)
    return None


def _hear_proxy(connection: Connected, now: float) -> Failure | None:
    try:
        data = connection.sock.recv(RECEIVE)
        if not data:
            return Failure(TransportFailure.PROXY, "it closed the connection")
        complete = connection.parser.feed(data)
    except (BlockingIOError, InterruptedError):
        return None
    except (OSError, InvalidAnswer) as error:
        return Failure(TransportFailure.PROXY, str(error))
    if not complete:
        return None
    answer = connection.parser.answer
    if answer is None or not 200 <= answer.status < 300:
        return Failure(TransportFailure.PROXY, f"it answered {answer.status if answer else 'nothing'}")
    return _begin_tls(connection, now)


def _begin_tls(connection: Connected, now: float) -> Failure | None:
    context = connection.engine.tls_context
    assert context is not None
    connection.unwatch()
    try:
        connection.sock = context.wrap_socket(
            connection.sock,
            server_hostname=connection.engine.endpoint.host.strip("[]"),
            do_handshake_on_connect=False,
        )
    except (OSError, ValueError) as error:
        return Failure(TransportFailure.TLS, str(error))
    connection.enter(HANDSHAKE)
    return _shake_hands(connection, now)


def _shake_hands(connection: Connected, now: float) -> Failure | None:
    sock = connection.sock
    assert isinstance(sock, ssl.SSLSocket)
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        connection.watch(READ)
    except ssl.SSLWantWriteError:
        connection.watch(WRITE)
    except ssl.SSLCertVerificationError as error:
        return Failure(TransportFailure.TLS, error.verify_message)
    except OSError as error:
        return Failure(TransportFailure.TLS, getattr(error, "reason", None) or error.strerror or str(error))
    else:
        connection.become_ready(now)
    return None


def make_tls_context(ca_file: str | None, client_certificate_file: str | None = None) -> ssl.SSLContext:
    """The trusted certificates (those of the file or directory, else the system's), and what a client presents.

    :raises StoreError: if a file cannot be used.
    """
    try:
        if ca_file is not None and os.path.isdir(ca_file):
            context = ssl.create_default_context(capath=ca_file)
        else:
            if ca_file is not None:
                refuse_pipe(ca_file)
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
        refuse_pipe(path)
        context.load_cert_chain(path, password=b"")
    except OSError as error:
        raise StoreError(
            f"The client certificate in {path} cannot be used: {error.strerror or error}.",
            code="InvalidClientCertificate",
            origin=Origin.CERTIFICATE,
            scope=Scope.DESTINATION,
            hint="Check client_certificate_file. It must hold the certificate and its key, without a passphrase.",
        ) from None
