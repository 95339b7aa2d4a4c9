"""The addresses of the host that the native engine connects to, and the certificates that it trusts there."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable

from s3_uploader.core.errors import Scope, StoreError

Address = tuple[socket.AddressFamily, tuple[object, ...]]
"""The family and address of a socket, as ``socket.getaddrinfo`` returns them."""


_LAST_SECONDS = 60.0

LookUp = Callable[[str, int], list[Address]]


class Addresses:
    """Looks names up on a thread of its own, since that may take long. Belongs to the thread that runs the loop.

    :param call: has a function called on that thread.
    :param failed: called there with the reason when there are no addresses.
    """

    def __init__(
        self, *, call: Callable[[Callable[[], None]], None], failed: Callable[[str], None], look_up: LookUp | None
    ) -> None:
        self._call = call
        self._failed = failed
        self._look_up = look_up or _look_up
        self._known: tuple[float, list[Address]] | None = None
        self._is_looking = False
        self._forgotten = 0

    def known(self, host: str, port: int, *, now: float) -> list[Address] | None:
        """The addresses; ``None`` if they are being looked up, which makes the loop turn when they are there."""
        if self._known is not None and now - self._known[0] < _LAST_SECONDS:
            return self._known[1]
        if not self._is_looking:
            self._is_looking = True
            threading.Thread(
                target=self._find, args=(host, port, self._forgotten), name="s3-resolve", daemon=True
            ).start()
        return None

    def forget(self) -> None:
        """Nothing answers there, or it is another host from now on."""
        self._known = None
        self._forgotten += 1

    def _find(self, host: str, port: int, forgotten: int) -> None:
        try:
            addresses = self._look_up(host, port)
        except (OSError, UnicodeError) as error:
            detail = f"{host}: {getattr(error, 'strerror', None) or error}"
            self._call(lambda: self._none(detail))
        else:
            self._call(lambda: self._found(addresses, forgotten))

    def _found(self, addresses: list[Address], forgotten: int) -> None:
        self._is_looking = False
        if forgotten == self._forgotten:
            self._known = (time.monotonic(), addresses)

    def _none(self, detail: str) -> None:
        self._is_looking = False
        self._failed(detail)


def _look_up(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def make_tls_context(ca_file: str | None) -> ssl.SSLContext:
    """What to trust: the given file or directory, else the system's certificates.

    :raises StoreError: if the file cannot be used.
    """
    try:
        if ca_file is not None and os.path.isdir(ca_file):
            return ssl.create_default_context(capath=ca_file)
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise StoreError(
            f"The certificates in {ca_file} cannot be used: {error.strerror or error}.",
            code="InvalidCaBundle",
            scope=Scope.DESTINATION,
            hint="Look at AWS_CA_BUNDLE.",
        ) from None
