"""The placeholders of ``key_prefix``, and the prefix that they give a file.

The value of a placeholder is a property of the file, never the time of the upload, so that a file whose upload is
tried again gets the same key. Double braces stand for literal ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from s3_uploader.core.model import Candidate

NAMES = ("location", "host", "year", "month", "day", "hour", "minute", "date")

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
AGAIN = "b"
"""Appended to the hour that occurs a second time when clocks are set back: ``02`` and then ``02b``."""
_DIGITS = {"year": 4, "month": 2, "day": 2, "hour": 2, "minute": 2}

_EARLIEST = -62135510400.0  # 0001-01-02 UTC
_LATEST = 253402128000.0  # 9999-12-30 UTC

TimeIn: TypeAlias = Callable[[float], Sequence[int]]
"""Year, month, day, hour and minute of a time in seconds since the epoch, in some time zone; and 1 if that minute
occurs for the second time because the clocks were set back, else 0."""


class Template:
    """A parsed key prefix.

    :raises ValueError: if it cannot be understood; its text says why.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[bool, str]] = []
        last = 0
        for found in _TOKEN.finditer(text):
            self._literal(text[last : found.start()])
            last = found.end()
            if found[0] in ("{{", "}}"):
                self._literal(found[0][0])
            elif found[1] is None:
                raise ValueError(f"has a single {found[0]}; double it for a literal one")
            elif found[1] not in NAMES:
                known = ", ".join(f"{{{name}}}" for name in NAMES)
                raise ValueError(f"has the unknown placeholder {found[0]}; the known ones are {known}")
            else:
                self._parts.append((True, found[1]))
        self._literal(text[last:])

    def _literal(self, text: str) -> None:
        if self._parts and not self._parts[-1][0]:
            text = self._parts.pop()[1] + text
        if text:
            self._parts.append((False, text))

    @property
    def constant_part(self) -> str:
        """The part before the first placeholder, with which every key begins."""
        return self._parts[0][1] if self._parts and not self._parts[0][0] else ""

    @property
    def is_constant(self) -> bool:
        """Whether there is no placeholder."""
        return all(not is_placeholder for is_placeholder, _ in self._parts)

    def filled(self, *, location: str, host: str, moment: Sequence[int]) -> str:
        """Fill in the placeholders. An empty location also drops the slash after it."""
        values = {name: f"{moment[number]:0{digits}d}" for number, (name, digits) in enumerate(_DIGITS.items())}
        if len(moment) > len(_DIGITS) and moment[len(_DIGITS)]:
            # When the hour repeats, it has another name: two different minutes must not share a key.
            values["hour"] += AGAIN
        values |= {"location": location, "host": host, "date": "{year}-{month}-{day}".format(**values)}
        text = ""
        was_empty = False
        for is_placeholder, part in self._parts:
            value = values[part] if is_placeholder else part
            if was_empty and not is_placeholder and (not text or text.endswith("/")):
                value = value.removeprefix("/")
            was_empty = is_placeholder and not value
            text += value
        return text


def problem_of(text: str) -> str:
    """Why a key prefix cannot be understood; empty if it can."""
    try:
        Template(text)
    except ValueError as error:
        return str(error)
    return ""


def constant_part(text: str) -> str:
    """The constant part with which all keys of a prefix begin."""
    return Template(text).constant_part


def prefix_function(text: str, *, host: str, time_in: Callable[[], TimeIn]) -> Callable[[Candidate], str]:
    """Make the function that gives a file its prefix.

    :param host: the name of this machine.
    :param time_in: makes the time zone; called only if the prefix needs it.
    """
    template = Template(text)
    if template.is_constant:
        prefix = template.constant_part
        return lambda candidate: prefix
    moment_of = time_in()
    last: tuple[str, float | None, str] = ("", None, "")

    def prefix_of(candidate: Candidate) -> str:
        nonlocal last
        minute = candidate.data_time // 60
        if last[0] != candidate.location or last[1] != minute:
            filled = template.filled(location=candidate.location, host=host, moment=moment_of(candidate.data_time))
            last = candidate.location, minute, filled
        return last[2]

    return prefix_of


def time_in(timezone: str) -> TimeIn:
    """The time zone of that name, as in the configuration.

    A year here has four digits: a time before 0001-01-02 or after 9999-12-30 counts as the beginning of that day (UTC).
    """
    import time

    if timezone == "UTC":
        return lambda epoch: time.gmtime(_within_four_digits(epoch))[:5]
    if timezone == "local":
        zone = None
    else:
        import zoneinfo

        zone = zoneinfo.ZoneInfo(timezone)
    from datetime import datetime

    def moment_of(epoch: float) -> Sequence[int]:
        moment = datetime.fromtimestamp(_within_four_digits(epoch), zone)
        return (*moment.timetuple()[:5], moment.fold)

    return moment_of


def _within_four_digits(epoch: float) -> float:
    """The nearest time whose year has four digits in every time zone."""
    return min(max(epoch, _EARLIEST), _LATEST)
