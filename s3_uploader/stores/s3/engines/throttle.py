"""A limit on bytes per second, shared by all uploads: a token bucket that holds a tenth of a second's worth."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from s3_uploader.stores.s3.engines.states import THROTTLED, State

_RESUMED_AT_ONCE = 8


class Paced(Protocol):
    """The part of a connection that a limit uses."""

    wrote_at: float

    @property
    def state(self) -> State:
        """The state; it is ``THROTTLED`` while the connection waits for bandwidth."""

    def resume(self) -> None:
        """Continue to write after a pause of the bandwidth limit."""


class Pace:
    """Hands out the right to send bytes.

    :param rate: bytes per second.
    """

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = float(rate)
        self._burst = max(1.0, self._rate / 10)
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = self._burst
        self._at = clock()

    def take(self, wanted: int) -> int:
        """How many of the wanted bytes may be sent now; they count as sent."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
            allowed = min(wanted, int(self._tokens))
            self._tokens -= allowed
            return allowed

    def give_back(self, count: int) -> None:
        """Bytes that were taken and could not be sent."""
        with self._lock:
            self._tokens += count

    def delay(self, wanted: int) -> float:
        """Seconds until about ``wanted`` bytes, or the largest burst, may be sent."""
        with self._lock:
            # Includes the tokens since the last call; otherwise all waiting connections would wait forever.
            tokens = self._tokens + (self._clock() - self._at) * self._rate
            missing = min(float(wanted), self._burst) - tokens
        return max(0.0, missing / self._rate)

    def resume(self, connections: Iterable[Paced], *, longest: float) -> float:
        """Have waiting connections continue if there is bandwidth.

        Returns the seconds until the next call, at most ``longest``.
        """
        throttled = [connection for connection in connections if connection.state is THROTTLED]
        if not throttled:
            return longest
        delay = self.delay(16 * 1024)
        if delay > 0.0:
            return min(delay, longest)
        # The longest waiting ones go first, and few at a time, or the same ones would get everything each time.
        for connection in sorted(throttled, key=lambda connection: connection.wrote_at)[:_RESUMED_AT_ONCE]:
            connection.resume()
        return 0.0
