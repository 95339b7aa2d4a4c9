"""What watches the program from outside, the metrics file and the health check, as one subscriber."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from s3_uploader.events import Emit, Event, RunFinished

_SHORTEST_SILENCE = 60.0


class _Pinger(Protocol):
    def __call__(self, event: Event) -> None:
        """Take note of an event."""

    def close(self) -> None:
        """Wait for the last ping."""


class Tail(Protocol):
    """What has the last lines of the log."""

    def tail(self) -> str:
        """The lines."""


class NoTail:
    """Stands for a log that belongs to another program."""

    def tail(self) -> str:
        """Nothing."""
        return ""


class Monitoring:
    """Hands events to what the configuration names; nothing of it is imported before there is one that does.

    :param notice: told if the file cannot be written or the health check not be reached.
    :param log: whose last lines go with a ping.
    :param is_watch: there is one run after the other: a ping each minute is enough, and one when things change.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        notice: Emit,
        log: Tail,
        is_watch: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notice = notice
        self._log = log
        self._is_watch = is_watch
        self._clock = clock
        self._metrics: Emit | None = None
        self._ping: _Pinger | None = None
        self._pinged: tuple[int, float] | None = None

    def configure(self, *, metrics_file: str | None, ping_url: str | None) -> None:
        """Follow a configuration, from now on."""
        self.close()
        self._pinged = None
        if metrics_file is not None:
            from s3_uploader.reporting.metrics import MetricsFile

            self._metrics = MetricsFile(metrics_file, notice=self._notice)
        if ping_url is not None:
            from s3_uploader.reporting.ping import Ping

            self._ping = Ping(ping_url, log=self._log, notice=self._notice)

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if self._metrics is not None:
            self._metrics(event)
        if self._ping is not None and (not self._is_watch or self._is_worth_a_ping(event)):
            self._ping(event)

    def _is_worth_a_ping(self, event: Event) -> bool:
        if not isinstance(event, RunFinished):
            return False
        code, now = event.report.exit_code, self._clock()
        if self._pinged is not None and self._pinged[0] == code and now - self._pinged[1] < _SHORTEST_SILENCE:
            return False
        self._pinged = code, now
        return True

    def close(self) -> None:
        """Wait for the last ping, a few seconds at the most; nothing is told any more."""
        ping, self._ping, self._metrics = self._ping, None, None
        if ping is not None:
            ping.close()
