"""A bar for work that is counted in rows; lines that are printed meanwhile go above it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_UPDATE_SECONDS = 0.1


class Counting:
    """The bar, on standard error, or on standard output where that is the same terminal.

    :param noun: what is counted, in the plural.
    """

    def __init__(self, *, total: int, noun: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._noun = noun
        self._clock = clock
        self._drawn_at = 0.0
        self._total = total
        self._bar = Progress(
            TextColumn("{task.fields[counted]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=total, counted=self._text(0))
        self._bar.start()

    def __call__(self, done: int) -> None:
        """So many are done."""
        now = self._clock()
        if now - self._drawn_at >= _UPDATE_SECONDS:
            self._drawn_at = now
            self._bar.update(self._task, completed=done, counted=self._text(done))

    def aside(self, write: Callable[[], None]) -> None:
        """Write something while the bar is out of the way."""
        self._bar.stop()
        write()
        sys.stdout.flush()
        self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def _text(self, done: int) -> str:
        return f"{done:,}/{self._total:,} {self._noun}"
