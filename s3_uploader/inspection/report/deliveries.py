"""Sums up shipped files by location and by bin of each level, and collects the extreme ones."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from s3_uploader.inspection.report import delays
from s3_uploader.inspection.report.delays import step_of
from s3_uploader.inspection.report.levels import Delays, Level
from s3_uploader.ledger.columns import restored
from s3_uploader.ledger.survey import Delivery

_OUTSTANDING = 10


class Location(msgspec.Struct, kw_only=True):
    """The sums of one location; delays are seconds from data time to arrival."""

    location: str
    files: int
    bytes: int
    delay_median: float | None
    delay_p95: float | None
    last_shipped_at: float


class _Sum:
    """Sums up files, bytes and delays of one location."""

    __slots__ = ("bytes", "delays", "files", "last")

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self.delays: Counter[int] = Counter()
        self.last = 0.0


class Outstanding:
    """Keeps the rows with the greatest values."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self.floor = float("-inf")

    def add(self, value: float, number: int) -> None:
        """Add a row; to be called only with values above ``floor``."""
        if len(self._heap) < _OUTSTANDING:
            heapq.heappush(self._heap, (value, -number))
        else:
            heapq.heapreplace(self._heap, (value, -number))
        if len(self._heap) == _OUTSTANDING:
            self.floor = self._heap[0][0]

    def numbers(self) -> list[int]:
        """The rows by descending value; equal ones by age."""
        return [-number for _, number in sorted(self._heap, reverse=True)]


class Deliveries:
    """Sums up rows that come in the order of time.

    Rows go into bins of the finest level that covers their time; a finished bin is added to all levels.

    :param grids: the levels, finest first; they are filled.
    :param series: the locations that have a series of their own, and ``None`` for all others.
    """

    def __init__(self, grids: Sequence[Level], series: Sequence[str | None]) -> None:
        self._grids = grids
        self._series = {location: number for number, location in enumerate(series)}
        self._delays = [Delays(level) for level in grids]
        self._locations: dict[str | bytes, _Sum] = {}
        self.slowest, self.largest, self.latest = Outstanding(), Outstanding(), Outstanding()
        self.undated = 0

    def take(self, rows: Iterable[Delivery]) -> None:
        """Sum up all rows."""
        cells: dict[str | bytes, _Sum] = {}
        bin_begin = bin_end = float("-inf")
        slowest, largest, latest = self.slowest, self.largest, self.latest
        for shipped_at, number, seconds, location, data_time, mtime_ns, size in rows:
            if shipped_at >= bin_end:
                self._close(cells, bin_begin)
                cells = {}
                bin_begin, bin_end = self._bin(shipped_at)
            cell = cells.get(location)
            if cell is None:
                cell = cells[location] = _Sum()
            cell.files += 1
            cell.bytes += size
            cell.last = shipped_at
            if data_time is None:
                self.undated += 1
                data_time = mtime_ns / 1e9
            delay = shipped_at - data_time
            cell.delays[step_of(delay)] += 1
            if seconds > slowest.floor:
                slowest.add(seconds, number)
            if size > largest.floor:
                largest.add(size, number)
            if delay > latest.floor:
                latest.add(delay, number)
        self._close(cells, bin_begin)
        for each in self._delays:
            each.close()

    def locations(self) -> list[Location]:
        """The locations by descending number of files."""
        found = [
            Location(
                location=restored(location),
                files=total.files,
                bytes=total.bytes,
                delay_median=delays.quantile(total.delays, 0.5),
                delay_p95=delays.quantile(total.delays, 0.95),
                last_shipped_at=total.last,
            )
            for location, total in self._locations.items()
        ]
        return sorted(found, key=lambda each: (-each.files, each.location))

    def all_delays(self) -> Counter[int]:
        """The histogram of all delays."""
        together: Counter[int] = Counter()
        for total in self._locations.values():
            together.update(total.delays)
        return together

    def _bin(self, moment: float) -> tuple[float, float]:
        level = next((level for level in self._grids if moment >= level.begin), self._grids[-1])
        begin = level.begin + level.index(moment) * level.step
        return begin, begin + level.step

    def _close(self, cells: dict[str | bytes, _Sum], begin: float) -> None:
        if not cells:
            return
        together: Counter[int] = Counter()
        for location, cell in cells.items():
            total = self._locations.setdefault(location, _Sum())
            total.files += cell.files
            total.bytes += cell.bytes
            total.delays.update(cell.delays)
            total.last = cell.last
            together.update(cell.delays)
        others = self._series.get(None, 0)
        for level, open_bin in zip(self._grids, self._delays, strict=True):
            index = level.index(begin)
            if not 0 <= index < level.bins:
                continue
            for location, cell in cells.items():
                number = self._series.get(restored(location), others)
                level.files[number][index] += cell.files
                level.bytes[number][index] += cell.bytes
            open_bin.add(index, together)
