"""The time axis at several resolutions in bounded size: coarse for the whole period, finer for recent times.

A chart shows the finest level that covers the visible period. Sums of coarse bins could be had from the fine ones, but
not their quantiles, so each level has its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import msgspec

from s3_uploader.inspection.report import delays

HOUR = 3600
STEPS = (60, 300, 900, HOUR, 6 * HOUR, 24 * HOUR, 7 * 24 * HOUR)
"""Widths of bins in seconds."""

_ORIGIN = 4 * 24 * HOUR  # a Monday, 00:00 UTC: weeks begin there, and every smaller bin fits
_MOST_CELLS = 100_000  # bins times series of a level that covers everything
_MOST_RECENT_CELLS = 20_000
_FEWEST_BINS = 12


class Level(msgspec.Struct, kw_only=True):
    """One resolution. Every list has one value for each bin; the first bin begins at ``begin``.

    :param step: width of a bin in seconds.
    :param files: files shipped, for each location of the report; ``bytes`` alike.
    :param delay_median: median of the seconds from data time to arrival.
    :param delay_p95: their 95th percentile.
    :param backlog: the most files that a run left waiting; ``None`` where no run ended.
    :param backlog_bytes: the same in bytes.
    :param oldest: the greatest age of a waiting file in seconds.
    :param abandoned: runs that ended with an exit code of 2 or more.
    :param failures: failed uploads, for each kind of the report; they are known by the hour, finer levels have none.
    """

    step: int
    begin: int
    files: list[list[int]]
    bytes: list[list[int]]
    delay_median: list[float | None]
    delay_p95: list[float | None]
    backlog: list[int | None]
    backlog_bytes: list[int | None]
    oldest: list[float | None]
    abandoned: list[int]
    failures: list[list[int]]

    @property
    def bins(self) -> int:
        """The number of bins."""
        return len(self.abandoned)

    def index(self, moment: float) -> int:
        """The bin of a time; negative before the first."""
        return int((moment - self.begin) // self.step)

    def indexes(self, begin: float, end: float) -> Iterator[int]:
        """The bins that a period touches."""
        return iter(range(max(self.index(begin), 0), min(self.index(end) + 1, self.bins)))


class Delays:
    """Collects the delays of a level's current bin. Bins come in the order of time, so that one at a time is enough."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._index = -1
        self._counts: Counter[int] = Counter()

    def add(self, index: int, counts: Counter[int]) -> None:
        """Add delays to the current bin or a later one."""
        if index != self._index:
            self.close()
            self._index = index
        self._counts.update(counts)

    def close(self) -> None:
        """Store the quantiles of the current bin."""
        if self._counts:
            self._level.delay_median[self._index] = delays.quantile(self._counts, 0.5)
            self._level.delay_p95[self._index] = delays.quantile(self._counts, 0.95)
            self._counts.clear()


def levels(begin: float, end: float, *, locations: int, kinds: int) -> list[Level]:
    """Make empty levels for a period, finest first.

    :param locations: number of locations; ``kinds``: number of kinds of failures.
    """
    span = max(end - begin, 1.0)
    whole = [step for step in STEPS if span / step * locations <= _MOST_CELLS] or [STEPS[-1]]
    kept = [step for step in whole if step in (whole[0], HOUR) or span / step >= _FEWEST_BINS]
    starts = dict.fromkeys(kept, begin)
    for step in STEPS[: STEPS.index(whole[0])]:
        starts[step] = max(begin, end - _MOST_RECENT_CELLS / locations * step)
    return [
        _level(step, starts[step], end, locations=locations, kinds=kinds if step >= HOUR else 0)
        for step in sorted(starts)
    ]


def _level(step: int, begin: float, end: float, *, locations: int, kinds: int) -> Level:
    first = math.floor((begin - _ORIGIN) / step) * step + _ORIGIN
    bins = max(math.ceil((end - first) / step), 1)
    return Level(
        step=step,
        begin=first,
        files=[[0] * bins for _ in range(locations)],
        bytes=[[0] * bins for _ in range(locations)],
        delay_median=[None] * bins,
        delay_p95=[None] * bins,
        backlog=[None] * bins,
        backlog_bytes=[None] * bins,
        oldest=[None] * bins,
        abandoned=[0] * bins,
        failures=[[0] * bins for _ in range(kinds)],
    )
