r"""Events as JSON, one object on one line.

Names are text there too. One that holds bytes that are no UTF-8 is given in the escaped form of
:func:`s3_uploader.core.text.shown_name`, and the object then says ``"escaped": true``. Characters that could drive a
terminal are written as ``\uXXXX``, which means the same to every reader of JSON.
"""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec

from s3_uploader.core.events import Event
from s3_uploader.core.model import Proof
from s3_uploader.core.text import shown_name
from s3_uploader.monitoring.messages import Level


def json_line(now: float, level: Level, sentence: str, event: Event | None, *, name: str = "") -> str:
    """The event as one line: ``time`` (RFC 3339, UTC), ``level``, ``event``, and its own fields.

    :param name: of the configuration that it is about, where there are several; the field ``config``.

    :param sentence: for what is no event of its own, as its ``message``.
    """
    fields: dict[str, Any] = {"time": utc(now), "level": level.name.lower()}
    if name:
        fields["config"] = name
    if event is None:
        fields |= {"event": "notice", "message": sentence}
    else:
        fields["event"] = _snake_case(type(event).__name__)
        for name, value in msgspec.to_builtins(event).items():
            # A notice has a level of its own, which is the line's.
            if name != "level":
                fields[name] = value
        if "receipt" in fields:
            fields["receipt"]["proof"] = Proof(fields["receipt"]["proof"]).label
    try:
        encoded = msgspec.json.encode(fields)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_escaped(fields) | {"escaped": True})
    text = encoded.decode()
    return (text if text.isprintable() else "".join(map(_printable, text))) + "\n"


def utc(now: float) -> str:
    """A time in seconds since the epoch as RFC 3339 has it, with milliseconds."""
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


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
