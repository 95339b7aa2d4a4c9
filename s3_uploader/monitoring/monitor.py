"""The metrics file and the health check as one subscriber."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.events import Emit, Event, Measurement, RunFinished, RunInProgress, RunMeasured, RunNotBegun

if TYPE_CHECKING:
    from s3_uploader.monitoring.metrics.live import Live

_SHORTEST_SILENCE = 60.0
_INTERVAL = 15.0
"""Seconds between two writes of the metrics file of a watch: the usual interval of scrapes."""
_SHORTEST_INTERVAL = 1.0
_LONG_RUN_INTERVAL = 60.0
"""Seconds between two writes of the metrics file of a run, and before the first one. Most runs are shorter."""


class _Pinger(Protocol):
    def __call__(self, event: Event) -> None:
        """Take note of an event."""

    def could_not_begin(self, message: str) -> None:
        """Take note that a run could not begin."""

    def close(self) -> None:
        """Wait for the last ping."""


class _File(Protocol):
    def measure(self, measurement: Measurement) -> None:
        """Write a measurement."""

    def progress(self, progress: RunInProgress) -> None:
        """Write that a run is at work."""

    def write(self, text: str) -> None:
        """Write the text."""


class Tail(Protocol):
    """Something that has the last lines of the log."""

    def tail(self) -> str:
        """The lines."""


class NoTail:
    """The log of an embedding program, whose lines are unknown."""

    def tail(self) -> str:
        """Return nothing."""
        return ""


class Monitoring:
    """Passes events to the metrics file and the health check that the configuration names; imports nothing otherwise.

    :param notice: called if the file cannot be written or the health check cannot be reached.
    :param log: its last lines are sent with a ping.
    :param stop: shortens the wait for the last ping.
    :param watch_interval: of a watch, in seconds; ``None`` for a single run. A watch pings each minute and when things
        change, and writes the metrics file now and then.
    """

    def __init__(
        self,
        *,
        notice: Emit,
        log: Tail,
        stop: StopRequest | None = None,
        watch_interval: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._notice = notice
        self._log = log
        self._stop = stop
        self._watch_interval = watch_interval
        self._clock = clock or Clock()
        self._live: Live | None = None
        self._file: _File | None = None
        self._ping: _Pinger | None = None
        self._pinged: tuple[int | None, float] | None = None
        self._written_at = self._due_at = 0.0
        self._exit_code: int | None = None
        self._base_dir = ""
        self._before: Callable[[], RunMeasured | None] = lambda: None
        self._began_at: float | None = None
        self._is_progress_told = False

    def live(self) -> Live:
        """The live measurements of the watch, which are kept from the first call on."""
        if self._live is None:
            from s3_uploader.monitoring.metrics.live import Live

            self._live = Live(interval=self._watch_interval or 0.0, clock=self._clock)
        return self._live

    def configure(
        self,
        *,
        metrics_file: str | None,
        ping_url: str | None,
        base_dir: str = "",
        share: str = "",
        before: Callable[[], RunMeasured | None] = lambda: None,
    ) -> None:
        """Follow this configuration from now on.

        :param share: the share of the files that runs ship; empty for all.
        :param before: reads what the ledger knows about the spool; called if live measurements are kept, and once a
            minute in a long run.
        """
        self.close()
        self._pinged = self._began_at = None
        self._base_dir, self._before = base_dir, before
        if self._live is not None or (metrics_file is not None and self._watch_interval is not None):
            self.live().begin(base_dir, before(), share=share)
        if metrics_file is not None:
            from s3_uploader.monitoring.metrics.textfile import MetricsFile

            self._file = MetricsFile(metrics_file, notice=self._notice, share=share)
            self._write()
        if ping_url is not None:
            from s3_uploader.monitoring.ping import Ping

            self._ping = Ping(ping_url, log=self._log, notice=self._notice, stop=self._stop)

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if self._live is not None:
            self._live(event)
        if self._ping is not None and (self._watch_interval is None or self._is_worth_a_ping(event)):
            self._ping(event)

    def measure(self, measurement: Measurement) -> None:
        """Handle a measurement of a run."""
        if self._ping is not None and isinstance(measurement, RunNotBegun) and not measurement.is_held:
            self._ping_trouble(self._ping, measurement)
        if self._live is None:
            self._is_progress_told = False
            if self._file is not None:
                self._file.measure(measurement)
            return
        self._live.measure(measurement)
        if self._is_news(measurement):
            self._due_at = min(self._due_at, self._written_at + _SHORTEST_INTERVAL)

    def beat(self) -> None:
        """Take note of a heartbeat; to be called often while a watch or a run is alive."""
        if self._live is not None:
            self._live.beat()
            if self._file is not None and self._clock.monotonic() >= self._due_at:
                self._write()
        elif self._file is not None:
            self._tell_progress(self._file)

    def _tell_progress(self, file: _File) -> None:
        now = self._clock.monotonic()
        if self._began_at is None:
            self._began_at, self._due_at = self._clock.now(), now + _LONG_RUN_INTERVAL
        elif now >= self._due_at:
            is_news, self._is_progress_told = not self._is_progress_told, True
            file.progress(
                RunInProgress(base_dir=self._base_dir, since=self._began_at, is_news=is_news, ledger=self._before())
            )
            self._due_at = now + _LONG_RUN_INTERVAL

    def _write(self) -> None:
        if self._live is not None and self._file is not None:
            self._file.write(self._live.text())
            self._written_at = self._clock.monotonic()
            self._due_at = self._written_at + _INTERVAL

    def _is_news(self, measurement: Measurement) -> bool:
        before = self._exit_code
        self._exit_code = measurement.report.exit_code if isinstance(measurement, RunMeasured) else None
        has_done = isinstance(measurement, RunMeasured) and (measurement.report.shipped or measurement.report.failed)
        return bool(has_done) or self._exit_code != before

    def _is_worth_a_ping(self, event: Event) -> bool:
        if not isinstance(event, RunFinished):
            return False
        return self._is_due(event.report.exit_code)

    def _ping_trouble(self, ping: _Pinger, measurement: RunNotBegun) -> None:
        if self._watch_interval is None or self._is_due(None):
            ping.could_not_begin(measurement.message)

    def _is_due(self, code: int | None) -> bool:
        now = self._clock.monotonic()
        if self._pinged is not None and self._pinged[0] == code and now - self._pinged[1] < _SHORTEST_SILENCE:
            return False
        self._pinged = code, now
        return True

    def close(self) -> None:
        """Wait for the last ping, a few seconds at most, and stop reporting."""
        self._write()
        if self._is_progress_told and self._file is not None:  # the run ended in a way that is not measured
            self._file.progress(RunInProgress(base_dir=self._base_dir, since=0))
        self._is_progress_told = False
        ping, self._ping, self._file = self._ping, None, None
        if ping is not None:
            ping.close()
