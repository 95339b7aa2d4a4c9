"""Times as people write them on a command line."""

from __future__ import annotations

import re
import time

from s3_uploader.core.errors import UsageProblem

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)(?: ago)?")


def parse_time(text: str, *, now: float) -> float:
    """The epoch of ``2026-11-20``, ``2026-11-20T15:04[:05][Z]``, ``3d`` (three days ago), ``now``, or an epoch itself.

    A time without a zone is local.

    :raises UsageProblem: if it is none of these.
    """
    text = text.strip()
    if text == "now":
        return now
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - float(ago[1]) * _UNITS[ago[2]]
    if re.fullmatch(r"@?\d{9,11}(\.\d+)?", text):
        return float(text.lstrip("@"))
    import datetime

    try:
        # Python 3.10 knows no "Z".
        moment = datetime.datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    except ValueError:
        raise UsageProblem(
            f"{text!r} is no time.", hint="Write it like 2026-11-20, 2026-11-20T15:04, 2h or 3d (so long ago)."
        ) from None
    return moment.timestamp() if moment.tzinfo else time.mktime(moment.timetuple())
