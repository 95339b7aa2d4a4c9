"""Reports the runs of several spools together: a common bar and a closing line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from s3_uploader.core.events import Emit, Event, Notice, RunFinished, Uploaded
from s3_uploader.core.text import counted, shown_size

if TYPE_CHECKING:
    from s3_uploader.monitoring.progress import SpoolsBar


_MOST_SAID = 1000


class Together:
    """Counts the work of all runs. Any thread may use it.

    :param spools: number of spools.
    :param bar: shows the progress instead of the lines of successful runs; ``None`` without a terminal.
    """

    def __init__(self, *, spools: int, bar: SpoolsBar | None = None) -> None:
        self._spools = spools
        self._bar = bar
        self._lock = threading.Lock()
        self._ended = self._shipped = self._bytes = self._failed = 0
        self._on_the_way = 0
        self._said_of_endpoints: set[str] = set()

    def around(self, people: Emit) -> Emit:
        """Make the subscriber of one run, in front of its log."""

        def emit(event: Event) -> None:
            if isinstance(event, Notice) and event.is_of_endpoint and not self._is_news(event.message):
                return
            self._take(event)
            if self._bar is None or not isinstance(event, RunFinished) or event.report.exit_code:
                people(event)

        return emit

    def write(self, text: str, otherwise: Callable[[str], None]) -> None:
        """Write lines of a log, above the bar if there is one."""
        with self._lock:
            if self._bar is None:
                otherwise(text)
            else:
                self._bar.print(text)

    def _is_news(self, message: str) -> bool:
        """Whether no other spool has reported the same about the endpoint that they share."""
        with self._lock:
            is_news = message not in self._said_of_endpoints
            if len(self._said_of_endpoints) < _MOST_SAID:
                self._said_of_endpoints.add(message)
        return is_news

    def _take(self, event: Event) -> None:
        if not isinstance(event, RunFinished | Uploaded):
            return
        with self._lock:
            if isinstance(event, Uploaded):
                self._on_the_way += 1
            else:
                self._ended += 1
                self._shipped += event.report.shipped
                self._bytes += event.report.shipped_bytes
                self._failed += event.report.failed
            if self._bar is not None:
                self._bar.show(spools=self._ended, files=self._on_the_way)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def is_worth_a_line(self) -> bool:
        """Whether anything was done. Spools that could not be run have reported that themselves."""
        return bool(self._shipped or self._failed)

    def sentence(self) -> str:
        """Sum up in one line, as in ``30 spools: 12 files (3.4 MB) shipped; 1 spool could not be run``."""
        parts = [f"{counted(self._shipped, 'file')} ({shown_size(self._bytes)}) shipped"]
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        missing = self._spools - self._ended
        if missing:
            parts.append(f"{counted(missing, 'spool')} could not be run")
        return f"{counted(self._spools, 'spool')}: {'; '.join(parts)}."


class AboveBar:
    """Replaces standard error while a bar is shown: whole lines are written above the bar.

    :param write: writes the lines.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._pending = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Take a piece of text."""
        with self._lock:
            *whole, self._pending = (self._pending + text).split("\n")
        if whole:
            self._write("\n".join([*whole, ""]))
        return len(text)

    def flush(self) -> None:
        """Nothing to do: lines are written when they are complete."""

    def isatty(self) -> bool:
        """Yes: a bar is shown only on a terminal."""
        return True
