"""Telling systemd what a long-running program does: ready, status, watchdog (``sd_notify(3)``)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable


class ServiceManager:
    """Speaks ``sd_notify(3)`` with systemd, if that started us.

    :param address: of the socket, from ``NOTIFY_SOCKET``; ``None`` where there is no service manager.
    :param watchdog_seconds: how often it wants a sign of life, from ``WATCHDOG_USEC``.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._every = None if watchdog_seconds is None else watchdog_seconds / 3
        self._clock = clock
        self._beaten_at = float("-inf")

    def tell(self, text: str) -> None:
        """Send assignments such as ``READY=1``; a service manager that does not listen is no reason to fail."""
        if not self._address:
            return
        import socket

        path = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.settimeout(1.0)
            channel.sendto(text.encode(), path)

    def status(self, text: str) -> None:
        """One line about what is going on."""
        self.tell("STATUS=" + " ".join(text.split()))

    def beat(self) -> None:
        """A sign of life, as often as it is wanted."""
        if self._every is not None and self._clock() - self._beaten_at >= self._every:
            self._beaten_at = self._clock()
            self.tell("WATCHDOG=1")
