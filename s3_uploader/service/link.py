"""The link between a process that watches one spool and its supervisor: commands go down, the state goes up."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from s3_uploader.core.control import StopRequest

STOP = b"s"
"""Stop in good order; a second time: cancel uploads in flight. The end of the pipe is such a command too."""
RELOAD = b"r"
"""Reload the configuration."""
_BEAT_SECONDS = 5.0


class Link:
    """The end of the link in a process that watches one spool: it reports its state and receives commands."""

    def __init__(self, *, report: int, orders: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.stop = StopRequest()
        self.on_reload: Callable[[], None] = lambda: None
        self._report = report
        self._orders = orders
        self._clock = clock
        self._beaten_at = float("-inf")
        os.set_blocking(report, False)

    def listen(self) -> None:
        """Carry out commands until the supervisor has ended; runs on a thread."""
        asked = 0
        while True:
            try:
                orders = os.read(self._orders, 64)
            except OSError:
                orders = b""
            for order in orders or STOP:
                if order == RELOAD[0]:
                    self.on_reload()
                    continue
                asked += 1
                # systemd signals all processes of a service: the signal and the command from above are one request.
                if self.stop.requests < asked:
                    self.stop.request(signal.SIGTERM)
            if not orders:
                return

    def signalled(self, number: int, frame: object) -> None:
        """Handle SIGTERM. To cancel uploads, signal the supervisor."""
        if not self.stop.requests:
            self.stop.request(number)

    def ready(self, *, drain_seconds: float) -> None:
        """Report that it watches with the current configuration."""
        self._tell(f"ready {drain_seconds!r}")

    def status(self, text: str) -> None:
        """Report the state in one line."""
        self._tell("status " + " ".join(text.split())[:500])

    def beat(self) -> None:
        """Send a heartbeat; cheap enough to be sent often."""
        now = self._clock()
        if now - self._beaten_at >= _BEAT_SECONDS:
            self._beaten_at = now
            self._tell("beat")

    def _tell(self, line: str) -> None:
        # A full pipe is one whose reader is stopped.
        with contextlib.suppress(OSError):
            os.write(self._report, f"{line}\n".encode("utf-8", "backslashreplace"))
