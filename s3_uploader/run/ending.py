"""Decides when a run ends, and makes its report."""

from __future__ import annotations

from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.counters import RunCounters
from s3_uploader.core.ends import RunEnd
from s3_uploader.core.errors import StateError, StoreError
from s3_uploader.core.events import Emit, Notice
from s3_uploader.core.model import RunReport
from s3_uploader.core.origins import of_every_file


class RunEnded(Exception):
    """The run takes in no more files."""


class Ending:
    """Knows whether a run takes in more files.

    The first reason to end it counts, except that a requested stop replaces it.

    :param max_runtime_seconds: the run's time budget, starting now.
    :ivar began: monotonic time at which the run began, as ``started_at`` in seconds since the epoch.
    :ivar reason: why the run ends; ``None`` while it goes on.
    :ivar error: the error that ended the run.
    """

    def __init__(self, stop: StopRequest, *, clock: Clock, max_runtime_seconds: float | None) -> None:
        self._stop = stop
        self._clock = clock
        self._max_runtime_seconds = max_runtime_seconds
        self.began = clock.monotonic()
        self.started_at = clock.now()
        self.reason: RunEnd | None = None
        self.error: Exception | None = None

    def is_due(self) -> bool:
        """Whether the run takes in no more files."""
        if self.reason is None:
            if self._stop.requests:
                self.reason = RunEnd.SIGNAL
            elif (
                self._max_runtime_seconds is not None
                and self._clock.monotonic() - self.began >= self._max_runtime_seconds
            ):
                self.reason = RunEnd.BUDGET
        return self.reason is not None

    def seconds_left(self) -> float | None:
        """What is left of the time budget, at least a moment; ``None`` without one."""
        if self._max_runtime_seconds is None:
            return None
        return max(0.01, self._max_runtime_seconds - (self._clock.monotonic() - self.began))

    def abandon(self, reason: RunEnd, error: Exception) -> None:
        """End the run for an error; the first one counts."""
        self.is_due()
        if self.error is None:
            self.error = error
            # Whoever asked for a stop is told that there was one.
            if self.reason is not RunEnd.SIGNAL:
                self.reason = reason

    def report(self, counters: RunCounters, *, base_dir: str, destination: str, emit: Emit) -> RunReport:
        """Make the report of the finished run; an error that ended it is reported."""
        reason, error = self.reason or RunEnd.DONE, self.error
        if error is not None:
            level = "info" if reason is RunEnd.DESTINATION_BUSY else "error"
            emit(Notice(level, _sentence(reason, error), about=reason.value))
        return counters.report(
            reason,
            base_dir=base_dir,
            destination=destination,
            started_at=self.started_at,
            duration=self._clock.monotonic() - self.began,
            message="" if error is None else str(error),
            code=error.code if isinstance(error, (StoreError, StateError)) else "",
            origin=of_every_file(error.origin).value if isinstance(error, StoreError) else "",
            signal_number=self._stop.signal_number,
        )


def _sentence(reason: RunEnd, error: Exception) -> str:
    if reason is RunEnd.DESTINATION:
        return f"The run was abandoned, all files are kept: {error}"
    if reason is RunEnd.STATE:
        return f"The run was ended, because shipped files cannot be recorded. Files are kept: {error}"
    return str(error)
