"""``--help`` in a narrow terminal: click makes nothing narrower than 50 columns, which the terminal would break."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import click

_NARROWEST_OF_CLICK = 50
_NARROWEST = 20


class HelpFormatter(click.HelpFormatter):
    """click's formatter, for terminals of any width."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        columns = shutil.get_terminal_size().columns - 2
        if width is None and columns < _NARROWEST_OF_CLICK:
            width = max(columns, _NARROWEST)
        super().__init__(indent_increment, width, max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write what is explained beside its explanation; in a narrow terminal above it, unless it is short."""
        narrow = self.width < _NARROWEST_OF_CLICK
        super().write_dl(list(rows), self.width // 3 if narrow else col_max, col_spacing)


class Context(click.Context):
    """What a command is called with."""

    formatter_class = HelpFormatter
