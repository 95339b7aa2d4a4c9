"""Fills the templates of units and crontabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BLOCK = re.compile(r"\{(\w+)\}")


def filled(template: str, **values: str | int | Sequence[str]) -> str:
    """Fill in a template.

    A line that is only ``{name}`` stands for any number of lines: those of the value, which is a list. Everywhere else
    ``{name}`` stands for a piece of text.
    """
    lines: list[str] = []
    for line in template.splitlines():
        block = _BLOCK.fullmatch(line)
        value = values[block[1]] if block else ""
        if block and not isinstance(value, str | int):
            lines += value
        else:
            lines.append(_BLOCK.sub(lambda found: str(values[found[1]]), line))
    return "\n".join(lines) + "\n"
