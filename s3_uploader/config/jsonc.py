"""Reads JSON with comments and trailing commas, says what is wrong with it, and finds keys that occur twice.

Plain JSON is read here only to find duplicate keys, which JSON allows but nobody intends.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from s3_uploader.core.errors import ConfigError
from s3_uploader.core.model import NOT_JSON

_TOKEN = re.compile(
    rb'(?P<string>"(?:[^"\\]|\\.)*")|(?P<comment>//[^\r\n]*|/\*.*?\*/)|(?P<comma>,)|(?P<space>[ \t\r\n]+)|.', re.DOTALL
)
_KEY = re.compile(rb'("(?:[^"\\]|\\.)*")\s*(:?)', re.DOTALL)
_TYPOGRAPHIC = tuple(quote.encode() for quote in "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb")
_OPENING = (b"[", b"{", b",", b":", b"")


def plain(text: bytes) -> bytes:
    """The text with comments and trailing commas replaced by blanks, so that line numbers stay the same."""
    pieces: list[bytes] = []
    before = b""  # the token before, comments and blanks aside
    comma: int | None = None  # where in `pieces` a comma stands that may turn out to be a trailing one
    for found in _TOKEN.finditer(text):
        token = found[0]
        if found.lastgroup == "comment":
            token = re.sub(rb"[^\r\n]", b" ", token)
        elif found.lastgroup != "space":
            if token in (b"]", b"}") and comma is not None:
                pieces[comma] = b" "
            comma = len(pieces) if token == b"," and before not in _OPENING else None
            before = token
        pieces.append(token)
    return b"".join(pieces)


def decoded(text: bytes, *, source: str) -> Any:
    """The value of a text with comments and trailing commas that :func:`plain` has replaced.

    :raises ConfigError: if it is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except NOT_JSON as error:
        where, at = _where(text, str(error))
        raise ConfigError(source, [f"is not valid JSON: {where}"], hint=_meant_by(text, at, where)) from None


def _where(text: bytes, message: str) -> tuple[str, int]:
    """A decoder's message with line and column instead of a byte, and without the decoder's own path; and that byte."""
    message = message.partition(" - at `$")[0].removeprefix("JSON is malformed: ")
    found = re.search(r"\(byte (\d+)\)$", message)
    if found is None:
        return message, len(text)
    at = int(found[1])
    before = text[:at]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    return f"{message[: found.start()].rstrip()} (line {line}, column {column})", at


def _meant_by(text: bytes, at: int, said: str) -> str:
    """What to do with a file that is not JSON.

    :param at: the byte of the mistake.
    :param said: what the decoder says about it.
    """
    if not text.strip():
        return "The file is empty. `s3-uploader-cli init` writes a configuration."
    if b"\0" in text[:4]:
        return "The file is in another encoding, probably UTF-16. Save it as UTF-8."
    begin = text.lstrip()[:1]
    if begin == b"{":
        return _meant_at(text, at, said)
    from s3_uploader.config.older import understood

    older = understood(text.decode("utf-8", "replace"))
    if older is None:
        return "" if begin == b"[" else "A configuration is one JSON object, in which comments are allowed."
    return f"It looks like a configuration of {older.program}; `s3-uploader-cli init --from` that file converts it."


def _meant_at(text: bytes, at: int, said: str) -> str:
    """What to do about a mistake at a byte of the text; empty if its cause is unknown.

    :param said: what the decoder says about it.
    """
    if said.startswith("trailing characters"):
        return "The configuration ends before this place: there is an extra }, or something after the last one."
    if said.startswith("invalid escape character"):
        return r"A backslash in a string is written twice: \\."
    line = _undecodable_line(text)
    if line:
        return f"Line {line} is in another encoding. Save the file as UTF-8."
    rest = text[at:].lstrip()
    if not rest and said.endswith("truncated"):
        return "The file ends too soon: a quote, a ] or a } is missing."
    if rest.startswith((b"True", b"False", b"None")):
        return "Write true, false and null in lower case, without quotes. None is null."
    if rest.startswith(_TYPOGRAPHIC):
        return "Write plain double quotes, not typographic ones."
    if rest[:1] == b"'" or rest[:1].isalpha():
        return "Write keys and strings in double quotes."
    return {b"#": "A comment begins with //.", b",": "There is an extra comma."}.get(rest[:1], "")


def _undecodable_line(text: bytes) -> int:
    """The number of the first line that is not UTF-8; 0 if all are."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return text.count(b"\n", 0, error.start) + 1
    return 0


def doubled_keys(text: bytes) -> list[str]:
    """The keys, dotted, that occur twice in one object. The text must be valid JSON."""
    keys = [found[1] for found in _KEY.finditer(text) if found[2]]
    # Usually no key occurs twice in the whole file, so the parser that tells objects apart is not imported.
    if len(set(keys)) == len(keys) and not any(b"\\" in key for key in keys):
        return []
    import json

    doubled: list[str] = []

    def together(pairs: list[tuple[str, object]]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for name, value in pairs:
            if name in seen:
                doubled.append(name)
            seen[name] = value
        return seen

    json.loads(text, object_pairs_hook=together)
    return doubled
