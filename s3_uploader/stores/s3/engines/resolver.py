"""The addresses of a host that has a name: they are looked up, and those that did not answer are tried last."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import lacks_descriptors
from s3_uploader.core.text import host_to_look_up
from s3_uploader.stores.s3.engines.connection import Address

_LAST_SECONDS = 60.0
_MOST_ADDRESSES = 16

LookUp = Callable[[str, int], list[Address]]


class Addresses:
    """Looks up names on a thread of its own, because that may take long. Belongs to the thread that runs the loop.

    :param call: has a function called on that thread.
    :param failed: called there if there are no addresses: with the reason, and whether this machine lacks a thread or
        descriptor to look them up.
    """

    def __init__(
        self, *, call: Callable[[Callable[[], None]], None], failed: Callable[[str, bool], None], look_up: LookUp | None
    ) -> None:
        self._call = call
        self._failed = failed
        self._look_up = look_up or _look_up
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
        if self._looking_since is None:
            self._looking_since = now
            self._host = host
            try:
                arguments = (host, port, self._forgotten)
                start_thread(threading.Thread(target=self._find, args=arguments, name="s3-resolve", daemon=True))
            except RuntimeError as error:
                self._none(f"{host}: {error}", is_of_this_machine=True)
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
            is_of_this_machine = lacks_descriptors(error)
            self._call(lambda: self._none(detail, is_of_this_machine=is_of_this_machine))
        else:
            self._call(lambda: self._found(addresses[:_MOST_ADDRESSES], forgotten))

    def _found(self, addresses: list[Address], forgotten: int) -> None:
        self._looking_since = None
        if not addresses:
            self._failed("it has no address", False)
        elif forgotten == self._forgotten:
            self._known = (time.monotonic(), addresses)

    def _none(self, detail: str, *, is_of_this_machine: bool) -> None:
        self._looking_since = None
        self._failed(detail, is_of_this_machine)


def _look_up(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host_to_look_up(host), port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]
