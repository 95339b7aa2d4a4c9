"""The addresses of the host that the native engine connects to, and the trusted certificates."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.thread_start import start_thread

Address = tuple[socket.AddressFamily, tuple[object, ...]]
"""The family and address of a socket, as ``socket.getaddrinfo`` returns them."""


_LAST_SECONDS = 60.0
_MOST_ADDRESSES = 16

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
