"""The log: events as lines on standard error, for people or as JSON.

The format is that of the standard library's ``logging``, which is not used because its import costs more than a tick
without work: ``2020-11-15 20:31:40,717 -   INFO - /base_dir/… has been uploaded to bucket.``
The lines of an upload and of a failed upload keep their form, because scripts read them.
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TextIO

from s3_uploader.core.events import (
    DirectoryPruned,
    Event,
    FileLeft,
    LocalTrouble,
    Notice,
    RunFinished,
    RunStarted,
    StrangersFound,
    Uploaded,
    UploadFailed,
    UploadStarted,
)
from s3_uploader.core.files import stream_writer
from s3_uploader.core.model import Left, RunEnd, RunReport
from s3_uploader.core.text import counted, ended, shown_duration, shown_name, shown_size, shown_text, with_hint
from s3_uploader.monitoring.words import FAILED_TOO, end_words, left_words, why_nothing_moved

ALIKE = 10
"""Most local problems of one kind that are logged one by one; a spool can have a hundred thousand of them."""

_LARGE_BUFFER = 32 * 1024
_BUFFER_SECONDS = 0.5
_TAIL = 10_000
# The summary counts these as failed already.
_FAILED_VALUES = {reason.value for reason in FAILED_TOO}
_ORDER = {reason.value: number for number, reason in enumerate(Left)}


class Level(enum.IntEnum):
    """The level of a line; the values are those of the standard library's ``logging``."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Verbosity(enum.Enum):
    """How much the log says."""

    QUIET = "quiet"
    """Warnings and errors."""
    SUMMARY = "summary"
    """Also one line that sums up a run: for a person who sees a progress bar."""
    NORMAL = "normal"
    """Also every upload, and one line that sums up a run, unless it had nothing to do."""
    VERBOSE = "verbose"
    """Also every file that was left, with the reason, and every removed directory."""

    @classmethod
    def of(cls, *, verbose: bool, quiet: bool) -> Verbosity:
        """What ``--verbose`` and ``--quiet`` ask for."""
        return cls.VERBOSE if verbose else cls.QUIET if quiet else cls.NORMAL


_NAMES = {level: f"{level.name:>6}" for level in Level}
_NOTICE_LEVELS = {"info": Level.INFO, "warning": Level.WARNING, "error": Level.ERROR}
_LOUDEST_HIDDEN = {
    Verbosity.QUIET: Level.INFO,
    Verbosity.SUMMARY: Level.DEBUG,
    Verbosity.NORMAL: Level.DEBUG,
    Verbosity.VERBOSE: 0,
}


class Log:
    """Subscriber that writes lines. As a context manager it flushes its buffer at the end.

    Lines are written in batches, warnings at once. If the stream cannot be written to, lines are lost and nothing else
    happens.

    :param stream: where lines are written; ``None`` (a process without standard error) discards them.
    :param json: one JSON object for each event, instead of sentences.
    :param explain_idle: say why a run moved nothing: for a person who runs the program by hand.
    :param explain_exit_code: also sum up a run that moved nothing if its exit code is not 0, as with files that wait
        for their next try: otherwise a failed unit would have no line in its journal.
    :param name: prefix of lines about the whole run, if several runs share a stream.
    :param clock: wall-clock time in seconds since the epoch.
    """

    def __init__(
        self,
        stream: TextIO | None,
        *,
        json: bool = False,
        verbosity: Verbosity = Verbosity.NORMAL,
        explain_idle: bool = False,
        explain_exit_code: bool = False,
        name: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._write = stream_writer(stream, encoding="utf-8" if json else None)
        self._json_line: Callable[..., str] | None = None
        if json:
            # Not with the first line: that may tell that no file can be opened any more, not even a module.
            from s3_uploader.monitoring.json_lines import json_line

            self._json_line = json_line
        self._hidden = _LOUDEST_HIDDEN[verbosity]
        self._hides_uploads = verbosity is Verbosity.SUMMARY
        self._explain_idle = explain_idle
        self._explain_exit_code = explain_exit_code
        self._name = name
        self._clock = clock
        self._buffer: list[str] = []
        self._buffered = 0
        self._written_at = 0.0
        self._tail = ""
        self._second = -1
        self._second_text = ""
        self._begin_counting()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()

    def __call__(self, event: Event) -> None:
        """Handle an event."""
        if isinstance(event, FileLeft) and self._hidden >= Level.DEBUG:
            # By far the most frequent of the events that are not shown.
            if self._explain_idle:
                self._examples.setdefault(event.reason, (event.path, event.detail))
            return
        if isinstance(event, UploadStarted) and self._hidden >= Level.DEBUG:
            return
        if isinstance(event, Uploaded):
            if not self._hides_uploads:
                self._show(event)
            return
        if (
            isinstance(event, Notice | UploadFailed | LocalTrouble)
            and event.is_repeated
            and self._hidden >= Level.DEBUG
        ):
            return
        if isinstance(event, RunFinished):
            self._finish(event)
            return
        if isinstance(event, StrangersFound):
            # That event counts them more exactly than the entries that the scan passed over.
            self._strangers_told = True
        if isinstance(event, LocalTrouble) and self._is_one_too_many(event):
            return
        if isinstance(event, UploadFailed) and event.disposition != "kept":
            self._all_kept = False
        self._show(event)

    def redirect(self, write: Callable[[str], None]) -> Callable[[str], None]:
        """Send text to ``write`` from now on, as a progress bar needs it; returns the previous function."""
        self.flush()
        before, self._write = self._write, write
        return before

    def flush(self) -> None:
        """Flush the buffer."""
        if not self._buffer:
            return
        text = "".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._tail = (self._tail + text)[-_TAIL:]
        self._write(text)
        self._written_at = self._clock()

    def flush_if_due(self) -> None:
        """Flush the buffer if it is due; to be called now and then while nothing happens."""
        if self._buffer and not 0 <= self._clock() - self._written_at < _BUFFER_SECONDS:
            self.flush()

    def tail(self) -> str:
        """The last lines, together at most 10 kB of text."""
        self.flush()
        if len(self._tail) < _TAIL:
            return self._tail
        return self._tail[self._tail.index("\n") + 1 :]

    # What is counted in a run

    def _begin_counting(self) -> None:
        self._troubles: Counter[str] = Counter()
        self._examples: dict[Left, tuple[str, str]] = {}
        self._all_kept = True
        self._strangers_told = False

    def _is_one_too_many(self, event: LocalTrouble) -> bool:
        self._troubles[event.action] += 1
        return self._hidden >= Level.DEBUG and self._troubles[event.action] > ALIKE

    def _finish(self, event: RunFinished) -> None:
        if self._hidden >= Level.DEBUG:
            for action, number in self._troubles.items():
                if number > ALIKE:
                    more = counted(number - ALIKE, "entry", "entries")
                    self._add(Level.WARNING, f"Could not {action} {more} more. Use -v to name them all.", None)
        if event.is_repeated and self._hidden >= Level.DEBUG:
            self._begin_counting()
            self.flush()
            return
        idle = is_idle(event.report) and not (self._explain_exit_code and event.report.exit_code)
        if self._json_line is not None:
            if self._hidden < Level.INFO:
                self._add(Level.INFO, "", event)
        elif idle and self._explain_idle and self._hidden < Level.INFO:
            for sentence in why_nothing_moved(event.report, self._examples, strangers_told=self._strangers_told):
                self._add(Level.INFO, sentence, None)
        elif self._hidden < (Level.DEBUG if idle else Level.INFO):
            self._add(Level.INFO, summary(event.report, all_kept=self._all_kept), event)
        self._begin_counting()
        self.flush()

    # Lines

    def _show(self, event: Event) -> None:
        level, sentence = level_and_sentence(event)
        if level > self._hidden:
            self._add(level, sentence, event)

    def _add(self, level: Level, sentence: str, event: Event | None) -> None:
        now = self._clock()
        if self._name and isinstance(event, Notice | StrangersFound | RunFinished | None):
            sentence = f"{shown_name(self._name)}: {sentence}"
        line = (
            f"{self._moment(now)} - {_NAMES[level]} - {sentence}\n"
            if self._json_line is None
            else self._json_line(now, level.name.lower(), sentence, event, name=self._name)
        )
        self._buffer.append(line)
        self._buffered += len(line)
        if (
            level >= Level.WARNING
            or self._buffered > _LARGE_BUFFER
            or not 0 <= now - self._written_at < _BUFFER_SECONDS
        ):
            self.flush()

    def _moment(self, now: float) -> str:
        """Format local time as ``logging`` does, with milliseconds after a comma."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._second_text},{int((now - second) * 1000):03d}"


def level_and_sentence(event: Event) -> tuple[Level, str]:
    """The level and the line of an event, with everything escaped that could break the line."""
    return _WORDING[type(event)](event)


def is_idle(report: RunReport) -> bool:
    """Whether a run finished, moved nothing and failed nothing."""
    is_done = report.ended_by == RunEnd.DONE.value
    return is_done and not report.shipped and not report.failed and not report.pruned_directories


def summary(report: RunReport, *, all_kept: bool = True) -> str:
    """Sum up a run in one sentence: ``12 files (3.4 MB) shipped to bucket in 0.4 s; left: 3 fresh; 2 failed, kept …``.

    :param all_kept: whether every file that failed is still in the spool.
    """
    duration = shown_duration(report.duration)
    destination = shown_text(report.destination)
    if report.shipped:
        files = f"{counted(report.shipped, 'file')} ({shown_size(report.shipped_bytes)})"
        parts = [f"{files} shipped to {destination} in {duration}"]
        if report.already_there:
            parts[0] += f", {report.already_there:,} of them {_was(report.already_there)} there already"
    else:
        parts = [f"No file shipped to {destination} in {duration}"]
    left = [
        f"{number:,} {left_words(reason)}" for reason, number in _left_in_order(report) if reason not in _FAILED_VALUES
    ]
    if left:
        parts.append("left: " + ", ".join(left))
    if report.failed:
        parts.append(f"{report.failed:,} failed" + (", kept for the next run" if all_kept else ""))
    if report.ended_by != RunEnd.DONE.value:
        parts.append(f"ended early: {shown_text(end_words(report.ended_by))}")
    return "; ".join(parts) + "."


def _left_in_order(report: RunReport) -> list[tuple[str, int]]:
    present = ((reason, number) for reason, number in report.left.items() if number)
    return sorted(present, key=lambda item: _ORDER.get(item[0], len(_ORDER)))


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _with_hint(message: str, hint: str) -> str:
    return shown_text(with_hint(message, hint))


def _run_started(event: RunStarted) -> tuple[Level, str]:
    return Level.DEBUG, f"Shipping {shown_name(event.base_dir)} to {shown_text(event.destination)}."


def _upload_started(event: UploadStarted) -> tuple[Level, str]:
    return Level.DEBUG, f"Uploading {shown_name(event.path)} ({shown_size(event.size)})."


def _uploaded(event: Uploaded) -> tuple[Level, str]:
    text = f"{shown_name(event.path)} has been uploaded to {shown_name(event.store_name)}"
    if event.receipt.already_there:
        text = f"{shown_name(event.path)} was in {shown_name(event.store_name)} already, as {shown_name(event.address)}"
    elif event.derived_key:
        text += f" as {shown_name(event.address)}"
    return Level.INFO, text + "."


def _upload_failed(event: UploadFailed) -> tuple[Level, str]:
    reason = _with_hint(event.message, event.hint)
    text = f"Failed to upload {shown_name(event.path)} to {shown_name(event.address)}: {reason}"
    if event.disposition != "kept":
        text = f"{ended(text)} The file was {shown_text(event.disposition)}."
    return Level.WARNING, text


def _file_left(event: FileLeft) -> tuple[Level, str]:
    detail = f" ({shown_text(event.detail)})" if event.detail else ""
    return Level.DEBUG, f"{shown_name(event.path)} was left: {left_words(event.reason.value)}{detail}."


def _local_trouble(event: LocalTrouble) -> tuple[Level, str]:
    return Level.WARNING, ended(
        f"Could not {event.action} {shown_name(event.path)}: {_with_hint(event.message, event.hint)}"
    )


def _directory_pruned(event: DirectoryPruned) -> tuple[Level, str]:
    return Level.DEBUG, f"Removed the empty directory {shown_name(event.path)}."


def _notice(event: Notice) -> tuple[Level, str]:
    return _NOTICE_LEVELS[event.level], shown_text(event.message)


def _strangers_found(event: StrangersFound) -> tuple[Level, str]:
    from s3_uploader.spool.layouts.strangers import in_words, remedy

    sentence = in_words(event.found, layout=event.layout, matching=event.matching, base_dir=event.base_dir)
    return _NOTICE_LEVELS[event.level], f"{ended(sentence)} {remedy(event.found, event.layout)}"


def _run_finished(event: RunFinished) -> tuple[Level, str]:
    return Level.DEBUG if is_idle(event.report) else Level.INFO, summary(event.report)


_WORDING: dict[type, Callable[[Any], tuple[Level, str]]] = {
    RunStarted: _run_started,
    UploadStarted: _upload_started,
    Uploaded: _uploaded,
    UploadFailed: _upload_failed,
    FileLeft: _file_left,
    LocalTrouble: _local_trouble,
    DirectoryPruned: _directory_pruned,
    Notice: _notice,
    StrangersFound: _strangers_found,
    RunFinished: _run_finished,
}
