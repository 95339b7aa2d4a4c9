"""Between a process that watches one spool and the one above it: orders go down, word of how it is goes up."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from s3_uploader.core.control import StopRequest

STOP = b"s"
"""Stop in good order; once more: cancel what is under way. The end of the orders is one too."""
RELOAD = b"r"
"""Read the configuration anew."""
_BEAT_SECONDS = 5.0


class Link:
    """What a process that watches one spool has of the one above it: it tells how it is, and hears what to do."""

    def __init__(self, *, report: int, orders: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.stop = StopRequest()
        self.on_reload: Callable[[], None] = lambda: None
        self._report = report
        self._orders = orders
        self._clock = clock
        self._beaten_at = float("-inf")
        os.set_blocking(report, False)

    def listen(self) -> None:
        """Carry out orders until the process above is gone; to be run on a thread."""
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
                # systemd sends its signal to all processes of a service: that and the order are one request.
                if self.stop.requests < asked:
                    self.stop.request(signal.SIGTERM)
            if not orders:
                return

    def signalled(self, number: int, frame: object) -> None:
        """Handle SIGTERM. Who wants uploads to be cancelled tells the process above."""
        if not self.stop.requests:
            self.stop.request(number)

    def ready(self, *, drain_seconds: float) -> None:
        """It watches, by the configuration as it is now."""
        self._tell(f"ready {drain_seconds!r}")

    def status(self, text: str) -> None:
        """What it does, in one line."""
        self._tell("status " + " ".join(text.split())[:500])

    def beat(self) -> None:
        """A sign of life; cheap enough to be given often."""
        now = self._clock()
        if now - self._beaten_at >= _BEAT_SECONDS:
            self._beaten_at = now
            self._tell("beat")

    def _tell(self, line: str) -> None:
        # A full pipe is one whose reader is stopped.
        with contextlib.suppress(OSError):
            os.write(self._report, f"{line}\n".encode("utf-8", "backslashreplace"))
