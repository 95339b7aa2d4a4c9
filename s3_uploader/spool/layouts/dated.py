"""The layout ``dated``: ``location/YYYY/MM/DD/HH/mm-topic.dat``.

The path names the minute in which the data begins. Numbers may lack their leading zero. A path with an impossible date
(month 13) is a candidate too, without a data time.

Files come out oldest first across all locations, by the numbers in their paths: each location is walked in the order of
its directories, and the walks are merged. Only the directory lists on the way, and one block of one hour a location,
are in memory.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from s3_uploader.core.control import FUTURE_TOLERANCE
from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.layouts.base import EmptyDirectory, Found, Globs, NoCandidate
from s3_uploader.spool.root import (
    BLOCK,
    DIRECTORY,
    FILE,
    Names,
    Skip,
    SpoolRoot,
    in_blocks,
    listed,
    looked_at,
    original_name,
    skip_entry,
)

if TYPE_CHECKING:
    from datetime import tzinfo

    from s3_uploader.spool.layouts.sharing import OwnFiles

_LEVELS = (("year", (4,)), ("month", (1, 2)), ("day", (1, 2)), ("hour", (1, 2)))
"""Each level of directories, and how many digits its names have."""
_FILE = re.compile(r"([0-9]{1,2})-.+\.dat", re.DOTALL)
_SMALLEST_BLOCK = 500
_QUIET_DAY = 86400.0
"""A location is pruned only when nothing happened below it for a day, because its producer may use it again."""

EpochOf = Callable[[int, int, int, int], float | None]
"""Converts year, month, day and hour to the epoch; ``None`` if there is no such date."""
PeriodOf = Callable[[int, int, int, int, int], "tuple[float, float] | None"]
"""Converts year, month, day, hour and minute to the earliest begin and latest end; ``None`` if there is no such
time."""


class _Minute(msgspec.Struct, frozen=True):
    """The names of the files of one minute in one directory. They are merged as one."""

    directory: Names
    period_begin: float | None
    period_end: float | None
    files: list[str]


_Ordered: TypeAlias = "tuple[tuple[int, ...], NoCandidate | _Minute]"
"""What a scan finds, with the numbers that order it."""


def _merged(walks: list[Iterator[_Ordered]]) -> Iterator[_Ordered]:
    if len(walks) < 2:
        return itertools.chain(*walks)
    import heapq

    return heapq.merge(*walks, key=itemgetter(0))


class DatedLayout:
    """Reads a spool of the form ``location/YYYY/MM/DD/HH/mm-topic.dat``.

    :param settle_seconds: how long a directory's period must be over before the directory may be pruned.
    :param globs: which of the files are candidates; ``None`` for all.
    :param epoch_of: the time zone of the paths (:func:`epoch_function`).
    :param period_of: handles changes of the clocks: :func:`period_function`.
    :param own: the files of a share, which alone are candidates; ``None`` for all.
    """

    def __init__(
        self,
        *,
        settle_seconds: float,
        globs: Globs | None,
        epoch_of: EpochOf,
        period_of: PeriodOf | None = None,
        own: OwnFiles | None = None,
    ) -> None:
        self._settle_seconds = settle_seconds
        self._globs = globs
        self._epoch_of = epoch_of
        self._period_of = period_of
        self._own = own

    def scan(self, root: SpoolRoot, skip: Skip) -> Iterator[Found]:
        """See :class:`s3_uploader.spool.layouts.base.Layout`."""
        if self._own is not None:
            skip = self._own.skips(skip)
        locations = []
        for name, kind in listed(root, (), skip):
            if kind is DIRECTORY:
                locations.append(name)
            else:
                skip_entry(skip, (), name, kind, "a file beside the locations")
        if self._own is not None:
            locations = self._own.locations(locations)
        # One block of each location is in memory.
        block = max(_SMALLEST_BLOCK, BLOCK // max(len(locations), 1))
        walks = [self._walk(root, location, block, skip) for location in sorted(locations)]
        for _, found in _merged(walks):
            if not isinstance(found, _Minute):
                yield found
                continue
            directory, begin, end = found.directory, found.period_begin, found.period_end
            above, location = f"{'/'.join(directory)}/", directory[0]
            for name in found.files:
                status = looked_at(root, directory, name, skip)
                if status is not None:
                    key = above + (original_name(name) if name[0] == "." else name)
                    mtime_ns, size = status.st_mtime_ns, status.st_size
                    yield Candidate(directory, name, key, begin, end, location, mtime_ns, size)

    def _walk(self, root: SpoolRoot, location: str, block: int, skip: Skip) -> Iterator[_Ordered]:
        """Everything below one location, each with the numbers that order it."""
        # Directories that are still to be walked, the next one last: of generators in one another, one for each level,
        # every file would pass through all.
        ahead: list[tuple[Names, tuple[int, ...]]] = [((location,), ())]
        while ahead:
            names, numbers = ahead.pop()
            if len(numbers) == len(_LEVELS):
                yield from self._hour(root, names, numbers, block, skip)
                continue
            level, digits = _LEVELS[len(numbers)]
            below: list[tuple[int, str]] = []
            empty = True
            for name, kind in listed(root, names, skip):
                empty = False
                if kind is DIRECTORY and len(name) in digits and name.isascii() and name.isdigit():
                    below.append((int(name), name))
                else:
                    skip_entry(skip, names, name, kind, f"not a {level}")
            if empty:
                yield numbers, EmptyDirectory(names)
            below.sort(reverse=True)
            ahead += [((*names, name), (*numbers, number)) for number, name in below]

    def _hour(
        self, root: SpoolRoot, names: Names, numbers: tuple[int, ...], block: int, skip: Skip
    ) -> Iterator[_Ordered]:
        begin = self._epoch_of(*numbers)
        empty = True
        for entries in in_blocks(listed(root, names, skip), block):
            empty = False
            if self._own is not None:
                entries = self._own.entries(names, entries)
                if not entries:
                    yield numbers, NoCandidate()
            minutes: dict[str, list[str]] = {}
            for name, kind in entries:
                original = original_name(name) if name[0] == "." else name
                found = _FILE.fullmatch(original)
                if kind is not FILE or found is None:
                    skip_entry(skip, names, name, kind, "not of the form mm-topic.dat")
                elif self._globs is not None and not self._globs.admits(names, original):
                    skip(names, name, Left.EXCLUDED, "")
                else:
                    digits = found[1]
                    if digits in minutes:
                        minutes[digits].append(name)
                    else:
                        minutes[digits] = [name]
            # A minute may be written with one digit and with two.
            for minute, group in itertools.groupby(sorted(minutes, key=int), int):
                files = sorted(itertools.chain.from_iterable(minutes[digits] for digits in group))
                begins, ends = self._period(numbers, begin, minute)
                yield (*numbers, minute), _Minute(names, begins, ends, files)
        if empty:
            yield numbers, EmptyDirectory(names)

    def _period(self, numbers: tuple[int, ...], begin: float | None, minute: int) -> tuple[float | None, float | None]:
        if begin is None or minute > 59:
            return None, None
        if self._period_of is not None:
            year, month, day, hour = numbers
            return self._period_of(year, month, day, hour, minute) or (None, None)
        return begin + 60 * minute, begin + 60 * minute + 60

    def may_prune(self, names: Names, *, now: float, child: Names | None, mtime: float) -> bool:
        """A directory may be pruned when its period has been over for the settle time.

        One that was found empty must have been unchanged for as long, too: its producer may be about to create a file.

        A location has no period. It may be pruned together with the last year below it once that year has been over for
        a day, or, if it was found empty, when it has been unchanged for a day.
        """
        if len(names) > 1:
            end = self._period_end(names)
            is_new = child is None and -FUTURE_TOLERANCE <= now - mtime < self._settle_seconds
            return not is_new and (end is None or end + self._settle_seconds <= now)
        if child is None:
            return mtime + _QUIET_DAY <= now
        end = self._period_end(child)
        return end is None or end + _QUIET_DAY <= now

    def _period_end(self, names: Names) -> float | None:
        """The end of a directory's period; ``None`` if its path names no possible date."""
        try:
            numbers = [int(name) for name in names[1:]]
        except ValueError:
            return None
        year = numbers[0]
        month, day, hour = (numbers[level] if level < len(numbers) else None for level in (1, 2, 3))
        if month is None:
            return self._epoch_of(year + 1, 1, 1, 0)
        if day is None:
            return self._epoch_of(year + month // 12, month % 12 + 1, 1, 0) if month <= 12 else None
        begin = self._epoch_of(year, month, day, hour or 0)
        if begin is None:
            return None
        # When clocks are set back, an hour lasts two hours and a day 25 (26 in Antarctica/Troll): outside UTC the
        # longer period is awaited. Of an hour that occurs twice, this is the second occurrence.
        hours = 24 if hour is None else 1
        if self._epoch_of is not utc_epoch:
            hours += 2 if hour is None else 1
        return begin + hours * 3600


def period_function(timezone: str) -> PeriodOf | None:
    """Make the function for the begin and end of minutes in a time zone; ``None`` for UTC, where they are as written.

    When clocks are set back a minute occurs twice, and when they are set forward a producer may write one that does not
    exist. The period then spans both readings, because the meant one is unknown and a file of the current minute must
    not count as settled.
    """
    if timezone == "UTC":
        return None
    import datetime

    zone = _zone(timezone)

    def period(year: int, month: int, day: int, hour: int, minute: int) -> tuple[float, float] | None:
        try:
            times = [
                datetime.datetime(year, month, day, hour, minute, tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)
            ]
        except (ValueError, OverflowError):
            return None
        return min(times), max(times) + 60

    return period


def _zone(timezone: str) -> tzinfo | None:
    if timezone == "local":
        return None
    import zoneinfo

    return zoneinfo.ZoneInfo(timezone)


def epoch_function(timezone: str) -> EpochOf:
    """Make the function that converts the numbers of a path to the epoch in a time zone.

    The zone is ``UTC``, ``local``, or an IANA name.
    """
    if timezone == "UTC":
        return utc_epoch
    import datetime

    zone = _zone(timezone)

    def epoch(year: int, month: int, day: int, hour: int) -> float | None:
        try:
            # Of the two hours that share a number when a clock is set back, the later one: it holds a file back longer,
            # and its mtime decides anyway. Of the two readings of one that is skipped, for example at the beginning of
            # a month, too: with the earlier one a month would be over before its last hour is.
            return max(datetime.datetime(year, month, day, hour, tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
        except (ValueError, OverflowError):
            return None

    return epoch


def utc_epoch(year: int, month: int, day: int, hour: int) -> float | None:
    """Convert an hour in UTC to seconds since the epoch; ``None`` if there is no such hour."""
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 0 <= hour <= 23 and 1 <= day <= _days_in(year, month)):
        return None
    # Days from civil, after Howard Hinnant's "chrono-compatible low-level date algorithms": years begin in March, so
    # that the leap day is the last one.
    shifted = year - (month <= 2)
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    return float(days * 86400 + hour * 3600)


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31
