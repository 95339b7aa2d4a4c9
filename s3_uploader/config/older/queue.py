"""Reads the INI file of zc.s3uploadqueue, as the parser of Python 2 read it."""

from __future__ import annotations

import configparser
import re
from typing import Any

from s3_uploader.config.older.found import REPLACED, SECRET_NAMES, SECRETS, Older, absolute, ignored, relative, unknown

_KNOWN = {"directory", "bucket", "threads", "poll-interval", "log-level"}
_REFERENCE = re.compile(r"%\(([^()\n]+)\)s")
_DEEPEST = 10
"""References within references that Python's parser follows."""
_COMPUTED = re.compile(r"\$\{|%\(")


def of_queue(text: str) -> Older | None:
    """Translate the file; ``None`` if it is not an INI file."""
    values, has_credentials = _values(text)
    if values is None:
        return None
    values, referred = _resolved(values)
    notes = [SECRETS] if has_credentials or values.keys() & SECRET_NAMES else []
    settings: dict[str, Any] = {"layout": "queue", "settle_seconds": 0}
    unread = []
    for name, key in (("directory", "base_dir"), ("bucket", "bucket")):
        value = values.get(name)
        if value and _COMPUTED.search(value):
            unread.append(unknown(name, "it refers to something outside this file", value))
        elif value:
            settings[key] = absolute(value) if key == "base_dir" else value
            notes += relative([value]) if key == "base_dir" else []
    others = values.keys() - _KNOWN - SECRET_NAMES - referred
    threads = values.get("threads")
    if threads is not None and re.fullmatch("[0-9]{1,6}", threads):
        settings["max_concurrency"] = max(1, int(threads))
    elif threads is not None:
        others.add("threads")
    interval = values.get("poll-interval")
    if interval is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", interval):
        notes.append(f"It polled every {interval} s: start `watch --interval {interval}`.")
    elif interval:
        others.add("poll-interval")
    if "log-level" in values:
        notes.append("Instead of log-level, use -v and -q on the command line.")
    return Older("zc.s3uploadqueue", settings, [*notes, *ignored(others), REPLACED], is_service=True, unread=unread)


def _values(text: str) -> tuple[dict[str, str] | None, bool]:
    """The options of the queue, and whether there are credentials; ``None`` if it is not an INI file."""
    # To that parser a semicolon after a space begins a comment, a number sign does not.
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, allow_no_value=True, inline_comment_prefixes=(";",)
    )
    # Lines before the first section belong to none.
    begin = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    try:
        parser.read_string(text[begin.end() - 1 :] if begin is not None else "")
    except (configparser.Error, AttributeError):  # before Python 3.13, for a value that goes on but never began
        return None, False
    values: dict[str, str] = {}
    for section in parser.sections():
        if section.lower() == "queue":
            values |= {name: (value or "").strip() for name, value in parser[section].items()}
    return values, any(section.lower() == "credentials" for section in parser.sections())


def _resolved(values: dict[str, str]) -> tuple[dict[str, str], set[str]]:
    """Replace ``%(name)s`` by the option of that name, if there is one; returns the names that were referred to."""
    referred: set[str] = set()

    def put(found: re.Match[str]) -> str:
        name = found[1].strip().lower()
        if name not in values:
            return found[0]
        referred.add(name)
        return values[name]

    resolved = {}
    for name, value in values.items():
        result = value
        for _ in range(_DEEPEST):
            if not _REFERENCE.search(result) or len(result) > len(value) + 4096:
                break
            result = _REFERENCE.sub(put, result)
        # If references are resolved, a percent sign is written twice.
        resolved[name] = result.replace("%%", "%") if result != value else value
    return resolved, referred - _KNOWN
