"""Tells systemd the state of the program (``sd_notify(3)``): ready, status, reloading, stopping, watchdog."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping


class ServiceManager:
    """Speaks ``sd_notify(3)`` with systemd, if systemd started this program.

    :param address: of the socket, from ``NOTIFY_SOCKET``; ``None`` without a service manager.
    :param watchdog_seconds: interval of the watchdog, from ``WATCHDOG_USEC``.
    :param clock: seconds of ``CLOCK_MONOTONIC``, which systemd compares with its own.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # sd_notify(3): a path, or a name in the abstract namespace. We support no other protocol.
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
        """The service manager that the environment names.

        The watchdog may be meant for another process (``WATCHDOG_PID``).
        """
        wants = environ.get("WATCHDOG_USEC", "")
        is_meant = environ.get("WATCHDOG_PID") in (None, str(pid)) and wants.isdecimal() and int(wants) > 0
        return cls(environ.get("NOTIFY_SOCKET"), watchdog_seconds=int(wants) / 1e6 if is_meant else None)

    def tell(self, text: str) -> None:
        """Send assignments such as ``READY=1``; errors are ignored."""
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
        """Report that the program works with the current configuration."""
        self.tell("READY=1")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded until :meth:`ready`.

        ``Type=notify-reload`` needs the time.
        """
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock() * 1e6)}")

    def stopping(self) -> None:
        """Report that the program is stopping. May be called from a signal handler."""
        self.tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Report the state in one line."""
        self.tell("STATUS=" + " ".join(text.split()))

    def beat(self) -> None:
        """Send a heartbeat, as often as the watchdog needs it."""
        if self._every is not None and self._clock() - self._beaten_at >= self._every:
            self._beaten_at = self._clock()
            self.tell("WATCHDOG=1")
