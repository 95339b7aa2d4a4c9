"""Parses the lines of a directory listing (``MLSD``, ``LIST``) of an FTP server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from s3_uploader.stores.file_servers.base import Listed
from s3_uploader.stores.ftp.replies import parse_time

_LONGEST_LINE = 8192


_KINDS = {"-": "file", "d": "dir"}
_UNIX_LINE = re.compile(
    rb"([-bcdlps])[-rwxsStTl][^ ]* .*? ([0-9]{1,19}) +"
    rb"(?:[^ 0-9]{3,6} +[0-9]{1,2}|[0-9]{1,2} +[^ 0-9]{3,6}|[0-9]{4}-[0-9]{2}-[0-9]{2})"
    rb" +(?:[0-9]{4}|[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?) (.+)",
    re.DOTALL,
)
_DOS_LINE = re.compile(
    rb"[0-9]{2}-[0-9]{2}-[0-9]{2,4} +[0-9]{1,2}:[0-9]{2}(?:[AP]M)? +(<DIR>|[0-9]{1,19}) (.+)", re.DOTALL
)


def parse_listed(line: bytes) -> Listed | None:
    """Parse one line of ``MLSD`` (RFC 3659, 7.2) or ``LIST``; ``None`` if its form is unknown.

    ``LIST`` has no standard: nearly all servers format it like ``ls -l``, those on Windows like ``dir``.
    """
    facts, space, name = line.partition(b" ")
    if b"=" in facts:
        return _from_facts(facts.decode("latin-1"), os.fsdecode(name)) if space else None
    found = _UNIX_LINE.fullmatch(line)
    if found:
        kind = found[1].decode()
        name = found[3].partition(b" -> ")[0] if kind == "l" else found[3]
        return Listed(os.fsdecode(name), _KINDS.get(kind, "other"), int(found[2]), None)
    found = _DOS_LINE.fullmatch(line)
    if found:
        size = None if found[1] == b"<DIR>" else int(found[1])
        # The size is right-aligned in its column, with one blank before the name; <DIR> has more blanks.
        name = found[2].lstrip() if size is None else found[2]
        return Listed(os.fsdecode(name), "dir" if size is None else "file", size, None)
    return None


def _from_facts(facts: str, name: str) -> Listed:
    values = {}
    for item in facts.split(";"):
        key, _, value = item.partition("=")
        values[key.strip().lower()] = value.strip()
    size = values.get("size", "")
    return Listed(
        name=name,
        kind=values.get("type", "").lower(),
        size=int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None,
        modified=parse_time(values.get("modify", "")),
    )


class Lines:
    """Splits a listing into lines while it arrives."""

    def __init__(self, consume: Callable[[Listed], None]) -> None:
        self._consume = consume
        self._rest = bytearray()
        self._is_whole = True

    def take(self, chunk: bytes) -> None:
        """Process the next piece."""
        # Split as bytes, because str.splitlines also splits at characters that a name may contain.
        *lines, rest = (bytes(self._rest) + chunk).split(b"\n")
        self._rest = bytearray(rest[:_LONGEST_LINE])
        for line in lines:
            self._one(line)

    def end(self) -> bool:
        """Process the rest. Returns whether every line was valid."""
        if self._rest:
            self._one(bytes(self._rest))
        return self._is_whole

    def _one(self, line: bytes) -> None:
        if len(line) >= _LONGEST_LINE:
            self._is_whole = False
            return
        listed = parse_listed(line.removesuffix(b"\r"))
        if listed is not None:
            self._consume(listed)
