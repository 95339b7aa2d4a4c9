"""A layout of one directory for each day: the worked example of CONTRIBUTING.md for how a layout is added."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterator

from s3_uploader.core.model import Candidate
from s3_uploader.spool import root as spool
from s3_uploader.spool.layouts.base import EmptyDirectory, Found
from s3_uploader.spool.root import Names, Skip, SpoolRoot, original_name

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_SECONDS = 86400.0


class DayLayout:
    """Reads ``YYYY-MM-DD/NAME``; the day is over at midnight UTC."""

    def scan(self, root: SpoolRoot, skip: Skip) -> Iterator[Found]:
        """See :class:`s3_uploader.spool.layouts.base.Layout`."""
        days = []
        for name, kind in spool.listed(root, (), skip):
            if kind is spool.DIRECTORY and _DAY.fullmatch(name):
                days.append(name)
            else:
                spool.skip_entry(skip, (), name, kind, "no directory of a day")
        for day in sorted(days):
            entries = sorted(spool.listed(root, (day,), skip))
            if not entries:
                yield EmptyDirectory((day,))
            for name, kind in entries:
                if kind is not spool.FILE or spool.is_temporary(original_name(name)):
                    spool.skip_entry(skip, (day,), name, kind, "a temporary name")
                elif (status := spool.looked_at(root, (day,), name, skip)) is not None:
                    yield _candidate(day, name, status.st_mtime_ns, status.st_size)

    def may_prune(self, names: Names, *, now: float, child: Names | None, mtime: float) -> bool:
        """Only days that are over."""
        begin = _begin_of(names[0])
        return begin is None or begin + _SECONDS <= now


def _candidate(day: str, name: str, mtime_ns: int, size: int) -> Candidate:
    begin = _begin_of(day)
    end = None if begin is None else begin + _SECONDS
    key = f"{day}/{original_name(name)}"
    return Candidate(
        directory=(day,),
        name=name,
        key=key,
        period_begin=begin,
        period_end=end,
        location="",
        mtime_ns=mtime_ns,
        size=size,
    )


def _begin_of(day: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(day, "%Y-%m-%d")))
    except ValueError:
        return None
