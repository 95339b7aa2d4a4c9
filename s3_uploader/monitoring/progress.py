"""Progress bars: files, bytes, rate and time left. Log lines are printed above the bar."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar
from rich.segment import Segment

from s3_uploader.core.events import Event, FileLeft, RunFinished, RunStarted, Uploaded, UploadFailed, UploadStarted
from s3_uploader.core.text import counted
from s3_uploader.monitoring.log import Log

_UPDATE_SECONDS = 0.1
_WIDE = 72


class Progress:
    """Subscriber that draws the bar and passes every event on to the log. :meth:`close` removes the bar.

    Before :meth:`expect` is called, the bar shows what was done and no time left.

    :param log: its lines are printed above the bar.
    :param console: where the bar is drawn; default: standard error.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, log: Log, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._console = console or Console(file=cast(IO[str], _Forgiving(sys.stderr)))
        self._clock = clock
        self._bar: Bar | None = None
        self._write_before: Callable[[str], None]
        self._in_flight: dict[str, int] = {}
        self._files = 0
        self._bytes = 0
        self._expected_files: int | None = None
        self._expected_bytes: int | None = None
        self._drawn_at = 0.0

    def expect(self, *, files: int, size: int) -> None:
        """Set the expected number of files and bytes."""
        self._expected_files = files
        self._expected_bytes = size
        self._draw()

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, RunStarted):
            self._start()
        elif isinstance(event, UploadStarted):
            self._in_flight[event.path] = event.size
        elif isinstance(event, Uploaded | UploadFailed | FileLeft):
            self._settle(event.path)
        elif isinstance(event, RunFinished):
            self.close()
        self._log(event)

    def close(self) -> None:
        """Remove the bar; may be called twice."""
        if self._bar is None:
            return
        self._draw()
        bar, self._bar = self._bar, None
        self._log.flush()
        bar.stop()
        self._log.redirect(self._write_before)

    def _start(self) -> None:
        self.close()
        self._files = self._bytes = 0
        self._in_flight.clear()
        # On a narrow terminal the columns would be broken into several lines each.
        details = (DownloadColumn(), TransferSpeedColumn()) if self._console.width >= _WIDE else ()
        self._bar = Bar(
            TextColumn("{task.fields[files]}"),
            BarColumn(),
            *details,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            # rich would take sys.stdout and sys.stderr over to print above the bar; the log does that itself.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=self._expected_bytes, files=self._files_text())
        self._write_before = self._log.redirect(self._print)
        self._bar.start()

    def _settle(self, path: str) -> None:
        size = self._in_flight.pop(path, None)
        if size is None:
            return
        self._files += 1
        self._bytes += size
        if self._clock() - self._drawn_at >= _UPDATE_SECONDS:
            self._draw()

    def _draw(self) -> None:
        if self._bar is None:
            return
        self._drawn_at = self._clock()
        total = self._expected_bytes
        self._bar.update(
            self._task,
            completed=self._bytes,
            # More files may have arrived since they were counted.
            total=None if total is None else max(total, self._bytes),
            files=self._files_text(),
            refresh=True,
        )
        # Lines that wait in the log's buffer appear with the bar they belong to.
        self._log.flush()

    def _files_text(self) -> str:
        if self._expected_files is None:
            return counted(self._files, "file")
        return f"{self._files:,}/{counted(max(self._expected_files, self._files), 'file')}"

    def _print(self, text: str) -> None:
        self._console.print(_Raw(text), end="", crop=False)


class _Raw:
    """Text that is printed as it is, without markup, wrapping or highlighting."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text)


class _Forgiving:
    """A stream that ignores errors, because its terminal may be closed."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Counting:
    """A bar for work that is counted in rows, on standard error, or on standard output if that is the same terminal.

    :param noun: what is counted, in the plural.
    """

    def __init__(self, *, total: int, noun: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._noun = noun
        self._clock = clock
        self._drawn_at = 0.0
        self._total = total
        self._bar = Bar(
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
        """Set the number of rows that are done."""
        now = self._clock()
        if now - self._drawn_at >= _UPDATE_SECONDS:
            self._drawn_at = now
            self._bar.update(self._task, completed=done, counted=self._text(done))

    def aside(self, write: Callable[[], None]) -> None:
        """Write something while the bar is hidden."""
        self._bar.stop()
        write()
        sys.stdout.flush()
        self._bar.start()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _text(self, done: int) -> str:
        return f"{done:,}/{self._total:,} {self._noun}"


class SpoolsBar:
    """A bar for the runs of several spools, on standard error."""

    def __init__(self, *, total: int, console: Console | None = None) -> None:
        self._total = total
        self._bar = Bar(
            TextColumn("{task.fields[text]}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console or Console(file=cast(IO[str], _Forgiving(sys.stderr))),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=total, text=self._text(0, 0))
        self._bar.start()

    def show(self, *, spools: int, files: int) -> None:
        """Set the numbers of ended runs and shipped files."""
        self._bar.update(self._task, completed=spools, text=self._text(spools, files))

    def print(self, text: str) -> None:
        """Write lines above the bar."""
        self._bar.console.print(_Raw(text), end="", crop=False)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _text(self, spools: int, files: int) -> str:
        return f"{spools:,}/{counted(self._total, 'spool')}, {counted(files, 'file')}"
