"""The log: events as lines on standard error, for people or as JSON.

The format is that of the standard library's ``logging``, which is not used because its import costs more than a tick
without work: ``2020-11-15 20:31:40,717 -   INFO - /base_dir/… has been uploaded to bucket.``
"""

from __future__ import annotations

import enum
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from s3_uploader.core.events import (
    Event,
    FileLeft,
    LocalTrouble,
    Notice,
    RunFinished,
    StrangersFound,
    Uploaded,
    UploadFailed,
    UploadStarted,
)
from s3_uploader.core.model import Left, Proof
from s3_uploader.core.text import counted, printable_json, shown_name
from s3_uploader.monitoring.messages import Level, is_idle, level_and_sentence, summary, why_nothing_moved

ALIKE = 10
"""Most local problems of one kind that are logged one by one; a spool can have a hundred thousand of them."""

_LARGE_BUFFER = 32 * 1024
_BUFFER_SECONDS = 0.5
_TAIL = 10_000
_FULL_PIPE_SECONDS = 1.0


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
        self._json = json
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
        if self._hides_uploads and isinstance(event, Uploaded):
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
        level, sentence = level_and_sentence(event)
        if level > self._hidden:
            self._add(level, sentence, event)

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
        if self._json:
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

    def _add(self, level: Level, sentence: str, event: Event | None) -> None:
        now = self._clock()
        if self._name and isinstance(event, Notice | StrangersFound | RunFinished | None):
            sentence = f"{shown_name(self._name)}: {sentence}"
        line = (
            _json_line(now, level, sentence, event, self._name)
            if self._json
            else f"{self._moment(now)} - {level.name:>6} - {sentence}\n"
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


def _json_line(now: float, level: Level, sentence: str, event: Event | None, name: str) -> str:
    from s3_uploader.monitoring.log import json_line

    return json_line(now, level, sentence, event, name=name)


def stream_writer(stream: TextIO | None, *, encoding: str | None = None) -> Callable[[str], None]:
    """Make a function that writes text to a stream and never fails, in the given encoding or the stream's own.

    It writes to the descriptor: Python's own buffer would keep what could not be written, retry when the program ends,
    and then change its exit code.
    """
    if stream is None:
        return lambda text: None
    try:
        descriptor = stream.fileno()
        stream.flush()
    except (OSError, ValueError):  # io.UnsupportedOperation is both: a stream that is not a file
        return lambda text: _write_to_object(stream, text)
    chosen = encoding or stream.encoding or "utf-8"
    return lambda text: _write_to_descriptor(descriptor, text.encode(chosen, "backslashreplace"))


def _write_to_object(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        pass


def _write_to_descriptor(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # Somebody made the pipe non-blocking, and its reader is slow: wait a little, then drop the lines.
            if not _becomes_writable(descriptor):
                return
        except OSError:  # closed, a full disk, a lost terminal
            return


def _becomes_writable(descriptor: int) -> bool:
    import select

    return bool(select.select([], [descriptor], [], _FULL_PIPE_SECONDS)[1])


def json_line(now: float, level: Level, sentence: str, event: Event | None, *, name: str = "") -> str:
    """Format the event as one line: ``time`` (RFC 3339, UTC), ``level``, ``event``, and its own fields.

    :param name: of the configuration if there are several; the field ``config``.

    :param sentence: the ``message`` if there is no event.
    """
    fields: dict[str, Any] = {"time": utc(now), "level": level.name.lower()}
    if name:
        fields["config"] = name
    if event is None:
        fields |= {"event": "notice", "message": sentence}
    else:
        fields["event"] = _snake_case(type(event).__name__)
        for name, value in msgspec.to_builtins(event).items():
            # A notice has a level of its own, which is the line's; the others are between the parts of the program.
            if name not in ("level", "about", "is_repeated", "is_of_endpoint"):
                fields[name] = value
        if "receipt" in fields:
            fields["receipt"]["proof"] = Proof(fields["receipt"]["proof"]).label
            del fields["receipt"]["after_lost_answer"]  # between the parts of the program, too
    try:
        encoded = msgspec.json.encode(fields)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_escaped(fields) | {"escaped": True})
    return printable_json(encoded.decode()) + "\n"


def utc(now: float) -> str:
    """Format seconds since the epoch as in RFC 3339, with milliseconds."""
    second = int(now // 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int((now - second) * 1000):03d}Z"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return shown_name(value)
        return value
    if isinstance(value, dict):
        return {_escaped(key): _escaped(inner) for key, inner in value.items()}
    return value
