"""Telling systemd what a long-running program does: ready, status, reloading, stopping, watchdog (``sd_notify(3)``)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping


class ServiceManager:
    """Speaks ``sd_notify(3)`` with systemd, if that started us.

    :param address: of the socket, from ``NOTIFY_SOCKET``; ``None`` where there is no service manager.
    :param watchdog_seconds: how often it wants a sign of life, from ``WATCHDOG_USEC``.
    :param clock: seconds of ``CLOCK_MONOTONIC``, which systemd compares with its own.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # sd_notify(3): a path, or a name in the abstract namespace. Everything else is of no protocol that we know.
        self._address = address if address and address[0] in "/@" else None
        self._every = None if watchdog_seconds is None else watchdog_seconds / 3
        self._clock = clock
        self._beaten_at = float("-inf")
        if self._address:
            # Imported now: a signal handler must not have to.
            import socket

            self._socket = socket

    @classmethod
    def of(cls, environ: Mapping[str, str], *, pid: int) -> ServiceManager:
        """The one that the environment names; the watchdog may be meant for another process (``WATCHDOG_PID``)."""
        wants = environ.get("WATCHDOG_USEC", "")
        is_meant = environ.get("WATCHDOG_PID") in (None, str(pid)) and wants.isdecimal() and int(wants) > 0
        return cls(environ.get("NOTIFY_SOCKET"), watchdog_seconds=int(wants) / 1e6 if is_meant else None)

    def tell(self, text: str) -> None:
        """Send assignments such as ``READY=1``; a service manager that does not listen is no reason to fail."""
        if not self._address:
            return
        path = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        socket = self._socket
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.settimeout(1.0)
            channel.sendto(text.encode("utf-8", "backslashreplace"), path)

    def ready(self) -> None:
        """The program is at work, with the configuration as it is now."""
        self.tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read anew until :meth:`ready`; ``Type=notify-reload`` asks since when."""
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock() * 1e6)}")

    def stopping(self) -> None:
        """The program was told to stop. May be called from a signal handler."""
        self.tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line about what is going on."""
        self.tell("STATUS=" + " ".join(text.split()))

    def beat(self) -> None:
        """A sign of life, as often as it is wanted."""
        if self._every is not None and self._clock() - self._beaten_at >= self._every:
            self._beaten_at = self._clock()
            self.tell("WATCHDOG=1")
