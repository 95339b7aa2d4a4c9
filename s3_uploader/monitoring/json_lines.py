"""The lines of the log as JSON: an event is one object."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec

from s3_uploader.core.events import Event
from s3_uploader.core.model import Proof
from s3_uploader.core.text import printable_json, shown_name


def json_line(now: float, level: str, sentence: str, event: Event | None, *, name: str = "") -> str:
    """Format the event as one line: ``time`` (RFC 3339, UTC), ``level``, ``event``, and its own fields.

    :param name: of the configuration if there are several; the field ``config``.
    :param sentence: the ``message`` if there is no event.
    """
    fields: dict[str, Any] = {"time": utc(now), "level": level}
    if name:
        fields["config"] = name
    if event is None:
        fields |= {"event": "notice", "message": sentence}
    else:
        fields["event"] = _snake_case(type(event).__name__)
        for name, value in msgspec.to_builtins(event).items():
            # A notice has a level of its own, which is the line's; the others are between the parts of the program.
            if name not in ("level", "about", "is_repeated", "is_of_endpoint"):
                fields[name] = value
        if "receipt" in fields:
            fields["receipt"]["proof"] = Proof(fields["receipt"]["proof"]).label
            del fields["receipt"]["after_lost_answer"]  # between the parts of the program, too
    try:
        encoded = msgspec.json.encode(fields)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_escaped(fields) | {"escaped": True})
    return printable_json(encoded.decode()) + "\n"


def utc(now: float) -> str:
    """Format seconds since the epoch as in RFC 3339, with milliseconds."""
    second = int(now // 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int((now - second) * 1000):03d}Z"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return shown_name(value)
        return value
    if isinstance(value, dict):
        return {_escaped(key): _escaped(inner) for key, inner in value.items()}
    return value
