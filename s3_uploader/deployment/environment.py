"""The environment of a service: the file of variables that systemd reads, and variables that only the shell has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from s3_uploader.core.files import open_at_once

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_MOST_BYTES = 2**20
_CONTINUED = "\\\n"


def variables_in(path: str) -> dict[str, str]:
    """Read the variables of an ``EnvironmentFile=``, see systemd.exec(5); empty if there is no such file to read."""
    try:
        with open_at_once(path) as file:
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    lines = text.replace(_CONTINUED, "").splitlines()
    found = (_ASSIGNMENT.fullmatch(line) for line in lines if not line.lstrip().startswith(("#", ";")))
    return {match[1]: _unquoted(match[2].strip()) for match in found if match is not None}


def only_here(here: Mapping[str, str], there: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Those of the names, sorted, that have a value here, and another one or none there."""
    return sorted(name for name in names if name in here and here[name] != there.get(name))


def _unquoted(value: str) -> str:
    """Remove the quotes around a value. Within double quotes a backslash escapes a quote or itself."""
    quote = value[:1]
    if quote not in ("'", '"') or len(value) < 2 or value[-1] != quote:
        return value
    inner = value[1:-1]
    return inner if quote == "'" else re.sub(r'\\(["\\`$])', r"\1", inner)
