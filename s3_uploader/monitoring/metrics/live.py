"""The measurements of a watch up to now, for its metrics file and over HTTP.

The thread of the watch writes, and another thread may read at any time. There are no locks: values that belong together
are replaced in one step, and counters are read one by one.
"""

from __future__ import annotations

import msgspec

from s3_uploader.core.control import Clock
from s3_uploader.core.events import (
    Event,
    LocationTotals,
    Measurement,
    RunMeasured,
    RunNotBegun,
    RunStarted,
    Totals,
    Uploaded,
    UploadFailed,
    UploadStarted,
)
from s3_uploader.core.model import RunReport
from s3_uploader.core.text import shown_name
from s3_uploader.monitoring.metrics.exposition import Samples, blocks, joined
from s3_uploader.monitoring.metrics.samples import attempt_samples, nothing_yet, oldest_samples, run_samples

_MOST_LOCATIONS = 500
_MOST_OLDEST = 1000


class _Pass(msgspec.Struct):
    """The counts of the pass under way."""

    began_at: float
    shipped: int = 0
    shipped_bytes: int = 0
    already_there: int = 0
    failed: int = 0
    data_time: float | None = None
    last_shipped_at: float | None = None
    locations: dict[str, tuple[int, int]] = {}
    oldest_begun: set[str] = set()
    """Paths of files in flight that are as old as the oldest one that waited before."""
    has_shipped_oldest: bool = False
    has_failed_oldest: bool = False


class _Known(msgspec.Struct, frozen=True):
    """The last pass, the last attempt, and the pass under way."""

    measured: RunMeasured
    attempt: Measurement
    current: _Pass | None = None
    passes: int = 0


class Live:
    """The measurements of a watch.

    :param interval: seconds between its passes.
    """

    def __init__(self, *, interval: float, clock: Clock) -> None:
        self._interval = interval
        self._clock = clock
        self._started_at = clock.now()
        self._beaten_at = clock.monotonic()
        self._known = _before_the_first("")
        self._share = ""

    def begin(self, base_dir: str, before: RunMeasured | None, *, share: str = "") -> None:
        """Measure this spool from now on.

        :param before: what the ledger knows about the spool.
        :param share: the share of the files that is measured; empty for all.
        """
        self._share = share
        if before is not None:
            self._known = _Known(before, before)
        elif base_dir != self._known.measured.report.base_dir:
            self._known = _before_the_first(base_dir)

    def beat(self) -> None:
        """Take note of a heartbeat."""
        self._beaten_at = self._clock.monotonic()

    @property
    def seconds_since_beat(self) -> float:
        """Seconds since the last heartbeat."""
        return self._clock.monotonic() - self._beaten_at

    def __call__(self, event: Event) -> None:
        """Count an event."""
        kind = type(event)
        if kind is RunStarted:
            known = self._known
            measured = _with_current(known)
            attempt = measured if isinstance(known.attempt, RunNotBegun) else known.attempt
            self._known = _Known(measured, attempt, _Pass(self._clock.now()), known.passes)
            return
        current = self._known.current
        if current is None:
            return
        if isinstance(event, Uploaded):
            current.shipped += 1
            current.shipped_bytes += event.receipt.size
            current.already_there += event.receipt.already_there
            current.last_shipped_at = self._clock.now()
            current.has_shipped_oldest |= event.path in current.oldest_begun
            files, size = current.locations.get(event.location, (0, 0))
            if files or len(current.locations) < _MOST_LOCATIONS:
                current.locations[event.location] = files + 1, size + event.receipt.size
        elif isinstance(event, UploadStarted):
            current.data_time = event.data_time
            oldest = self._known.measured.report.oldest_waiting
            is_oldest = oldest is not None and event.data_time is not None and event.data_time <= oldest
            if is_oldest and len(current.oldest_begun) < _MOST_OLDEST:
                current.oldest_begun.add(event.path)
        elif isinstance(event, UploadFailed):
            current.failed += 1
            current.has_failed_oldest |= event.path in current.oldest_begun

    def measure(self, measurement: Measurement) -> None:
        """Take note of a pass that finished or could not begin."""
        known = self._known
        if isinstance(measurement, RunNotBegun):
            if measurement.problems is None:
                measurement = msgspec.structs.replace(measurement, problems=known.attempt.problems)
            self._known = _Known(_with_current(known), measurement, None, known.passes)
            return
        if measurement.locations is None or measurement.totals is None:
            counted = _with_current(known)
            measurement = msgspec.structs.replace(
                measurement,
                totals=measurement.totals or counted.totals,
                failing_files=counted.failing_files if measurement.failing_files is None else measurement.failing_files,
                locations=counted.locations,
            )
        self._known = _Known(measurement, measurement, None, known.passes + 1)

    def text(self) -> str:
        """Format all metrics with their current values. There are none before the spool is known.

        The watch loads its program first, and series that are scraped without the name of the spool would be missed
        by an alert as soon as they have it.
        """
        known, now = self._known, self._clock.now()
        measured = _with_current(known)
        spool = shown_name(measured.report.base_dir)
        if not spool:
            return ""
        samples = run_samples(measured, now=now) | attempt_samples(known.attempt) | self._watch_samples(known, now)
        return joined(blocks(samples, spool=spool, share=self._share), nothing_yet(spool, share=self._share))

    def _watch_samples(self, known: _Known, now: float) -> dict[str, Samples]:
        current = known.current or _Pass(0)
        values: dict[str, float] = {
            "watch_start_timestamp_seconds": self._started_at,
            "watch_last_beat_timestamp_seconds": now - self.seconds_since_beat,
            "watch_interval_seconds": self._interval,
            "watch_passes_total": known.passes,
            "watch_pass_running": int(known.current is not None),
            "watch_pass_start_timestamp_seconds": current.began_at,
            "watch_pass_shipped_files": current.shipped,
            "watch_pass_shipped_bytes": current.shipped_bytes,
            "watch_pass_failed_files": current.failed,
        }
        samples: dict[str, Samples] = {name: [((), value)] for name, value in values.items()}
        samples["run_in_progress_since_timestamp_seconds"] = [((), current.began_at)]
        if known.current is not None:
            samples["last_attempt_timestamp_seconds"] = [((), current.began_at)]
            samples |= oldest_samples(_oldest(known.measured.report.oldest_waiting, current), now=now)
        return samples


def _oldest(before: float | None, current: _Pass) -> float | None:
    """The data time of the oldest file that still waits. Files come oldest first, so the one handed over last tells it.

    :param before: the oldest file after the last pass. Unless it was shipped since, it still waits.
    """
    if current.has_shipped_oldest and not current.has_failed_oldest:
        return current.data_time
    return min((time for time in (before, current.data_time) if time is not None), default=None)


def _before_the_first(base_dir: str) -> _Known:
    report = RunReport(base_dir=base_dir, destination="", started_at=0, duration=0, exit_code=0)
    nothing = RunMeasured(report=report, totals=Totals(), failing_files=0, locations=())
    return _Known(nothing, nothing)


def _with_current(known: _Known) -> RunMeasured:
    """The last measurement plus what the pass under way has shipped so far."""
    measured, current = known.measured, known.current
    if current is None or measured.totals is None:
        return measured
    totals = measured.totals
    return msgspec.structs.replace(
        measured,
        totals=msgspec.structs.replace(
            totals,
            shipped_files=totals.shipped_files + current.shipped,
            shipped_bytes=totals.shipped_bytes + current.shipped_bytes,
            already_there=totals.already_there + current.already_there,
            failed_uploads=totals.failed_uploads + current.failed,
            last_shipped_at=current.last_shipped_at or totals.last_shipped_at,
        ),
        locations=_with_shipped(measured.locations or (), current),
    )


def _with_shipped(locations: tuple[LocationTotals, ...], current: _Pass) -> tuple[LocationTotals, ...]:
    new = current.locations.copy()  # in one step, because the watch may add to it meanwhile
    known = tuple(_plus(each, *new.pop(each.location, (0, 0))) for each in locations)
    nobody = LocationTotals(location="", files=0, bytes=0, last_shipped_at=0, last_period_begin=None)
    return known + tuple(
        _plus(msgspec.structs.replace(nobody, location=name), files, size) for name, (files, size) in new.items()
    )


def _plus(before: LocationTotals, files: int, size: int) -> LocationTotals:
    return msgspec.structs.replace(before, files=before.files + files, bytes=before.bytes + size)
