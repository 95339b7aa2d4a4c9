"""Escapes paths for unit files and crontabs, which have different special characters."""

from __future__ import annotations

import re
import shlex

from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.text import shown_name

_PLAIN = re.compile(r"[A-Za-z0-9_./@:,+=%-]+")


def checked(path: str) -> str:
    """Return the path if a unit or a crontab can hold it: in both a line is one setting.

    :raises UsageProblem: if it contains control characters, or bytes that are not UTF-8.
    """
    if not path.isprintable():
        raise UsageProblem(
            f"{shown_name(path)} cannot be written into a unit or a crontab.",
            hint="Give it a name without control characters, in UTF-8.",
        )
    return path


def literal(text: str) -> str:
    """Escape ``text`` where systemd expands specifiers (``%h``) but knows no quotes: credentials, environment files."""
    return checked(text).replace("%", "%%")


def word(text: str) -> str:
    """Quote ``text`` as one word of a list of paths or of ``Environment=`` (systemd.syntax(7), Quoting)."""
    return _quoted(literal(text))


def argument(text: str) -> str:
    """Quote ``text`` as one argument of ``ExecStart=``, where ``$`` begins a variable too."""
    return _quoted(literal(text).replace("$", "$$"))


def bound(path: str) -> str:
    """Quote ``path`` for ``BindPaths=``, where a colon separates source and target and backslashes cannot be written.

    :raises UsageProblem: if it contains a quote or a backslash.
    """
    if re.search(r"[\"'\\]", path):
        raise UsageProblem(
            f"systemd cannot make {shown_name(path)} visible in a service that sees no others of its kind.",
            hint="Move it out of the directories for homes and temporary files, or rename it without quotes and \\.",
        )
    escaped = literal(path).replace(":", r"\:")
    return f'"{escaped}"' if " " in escaped else escaped


def shell_word(text: str) -> str:
    """Quote ``text`` as one word of a cron command: for the shell, and with ``%``, cron's end of line, escaped."""
    return shlex.quote(checked(text)).replace("%", r"\%")


def cron_value(text: str) -> str:
    """Quote ``text`` as the value of a variable in a crontab. cron removes one pair of quotes and expands nothing.

    :raises UsageProblem: if it contains both kinds of quotes.
    """
    if re.fullmatch(r"[A-Za-z0-9_./@:,+=%-]+", checked(text)):
        return text
    for quote in ('"', "'"):
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise UsageProblem(f"{shown_name(text)} cannot be written into a crontab.", hint="Give it a name without quotes.")


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
