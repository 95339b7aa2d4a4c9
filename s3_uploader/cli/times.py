"""Times as people write them on a command line."""

from __future__ import annotations

import re
import time

from s3_uploader.core.errors import UsageProblem

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)(?: ago)?")


_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def parse_time(text: str, *, now: float, is_end: bool = False) -> float:
    """Parse a time to seconds since the epoch.

    Forms: ``2026-11-20``, ``2026-11-20T15:04[:05][Z]``, ``3d`` (three days ago), ``now``, or an epoch itself.

    ``today``, ``yesterday`` and ``monday`` (the last one, today included) are the beginnings of these days. A time
    without a zone is local.

    :param is_end: it ends a period: when clocks are set back, a time occurs twice, and the later one is meant.
    :raises UsageProblem: if it is none of these.
    """
    text = text.strip().lower()
    if text == "now":
        return now
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - float(ago[1]) * _UNITS[ago[2]]
    if re.fullmatch(r"@?\d{9,11}(\.\d+)?", text):
        return float(text.lstrip("@"))
    days = _days_back(text, now)
    if days is not None:
        today = time.localtime(now)
        # mktime normalises a day that is not in the month.
        return time.mktime((today.tm_year, today.tm_mon, today.tm_mday - days, 0, 0, 0, 0, 0, -1))
    import datetime

    try:
        # Python 3.10 does not accept "Z".
        moment = datetime.datetime.fromisoformat(re.sub("z$", "+00:00", text).upper())
    except ValueError:
        raise UsageProblem(
            f"{text!r} is not a time.",
            hint="Write it like 2026-11-20, 2026-11-20T15:04, yesterday, monday, 2h or 3d (that long ago).",
        ) from None
    if not 1 < moment.year < 9999:
        return moment.timestamp() if moment.tzinfo else time.mktime(moment.timetuple())  # near the ends of the calendar
    # The beginning of a day is one moment for every period.
    is_later = is_end and moment.time() != datetime.time()
    return max(moment.replace(fold=fold).timestamp() for fold in range(1 + is_later))


def parse_period(since: str | None, until: str | None, *, now: float) -> tuple[float | None, float | None]:
    """Parse the times of ``--since`` and ``--until``.

    :raises UsageProblem: if one cannot be understood, or if there is nothing between them.
    """
    begin = None if since is None else parse_time(since, now=now)
    end = None if until is None else parse_time(until, now=now, is_end=True)
    if begin is not None and end is not None and begin >= end:
        raise UsageProblem(
            f"The period from --since {since} until --until {until} ends before it begins.",
            hint="Set --since to the earlier time: 2h is earlier than 1h.",
        )
    return begin, end


def _days_back(text: str, now: float) -> int | None:
    """The number of days between a named day and today."""
    if text in ("today", "yesterday"):
        return int(text == "yesterday")
    matching = [number for number, name in enumerate(_WEEKDAYS) if text in (name, name[:3])]
    return (time.localtime(now).tm_wday - matching[0]) % 7 if matching else None
