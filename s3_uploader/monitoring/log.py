"""The log: events as lines on standard error, for people or as JSON.

Without the standard library's ``logging``, whose import costs more than a tick without work, and with its format:
``2020-11-15 20:31:40,717 -   INFO - /base_dir/… has been uploaded to bucket.``
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
"""How many local troubles of one kind are told one by one; a spool can hold a hundred thousand of them."""

_LARGE_BUFFER = 32 * 1024
_BUFFER_SECONDS = 0.5
_TAIL = 10_000
_FULL_PIPE_SECONDS = 1.0


class Verbosity(enum.Enum):
    """How much is told."""

    QUIET = "quiet"
    """Warnings and errors."""
    SUMMARY = "summary"
    """Also what a run did in one line: for somebody who sees a bar while it works."""
    NORMAL = "normal"
    """Also every upload, and what a run did in one line, unless it had nothing to do."""
    VERBOSE = "verbose"
    """Also every file that was left and why, every directory removed."""

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
    """Subscriber that writes lines. A context manager: what is buffered is written at its end.

    Lines are written in batches; a warning is written at once. A stream that cannot be written to costs its lines and
    nothing else.

    :param stream: where lines go; ``None`` (a process without standard error) is nowhere.
    :param json: one JSON object for each event, instead of sentences.
    :param explain_idle: say why, if a run moved nothing: for somebody who runs the program by hand.
    :param explain_exit_code: sum up a run that moved nothing all the same if it does not end with 0, as with files that
        wait for their next try: a failed unit without a line in its journal is a riddle.
    :param name: what lines begin with that are about the run as a whole, where several runs share a stream.
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
        """Take note of an event."""
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
            # They are counted better there than by the entries that the scan passed over.
            self._strangers_told = True
        if isinstance(event, LocalTrouble) and self._is_one_too_many(event):
            return
        if isinstance(event, UploadFailed) and event.disposition != "kept":
            self._all_kept = False
        level, sentence = level_and_sentence(event)
        if level > self._hidden:
            self._add(level, sentence, event)

    def redirect(self, write: Callable[[str], None]) -> Callable[[str], None]:
        """From now on hand text to ``write``, as a progress bar needs it; returns what it was handed to before."""
        self.flush()
        before, self._write = self._write, write
        return before

    def flush(self) -> None:
        """Write what is buffered."""
        if not self._buffer:
            return
        text = "".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._tail = (self._tail + text)[-_TAIL:]
        self._write(text)
        self._written_at = self._clock()

    def flush_if_due(self) -> None:
        """Write what has been buffered for a while; to be called now and then while nothing happens."""
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
                    self._add(Level.WARNING, f"Could not {action} {more} more; -v names them all.", None)
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
        """Local time as ``logging`` writes it, with milliseconds after a comma."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._second_text},{int((now - second) * 1000):03d}"


def _json_line(now: float, level: Level, sentence: str, event: Event | None, name: str) -> str:
    from s3_uploader.monitoring.log import json_line

    return json_line(now, level, sentence, event, name=name)


def stream_writer(stream: TextIO | None, *, encoding: str | None = None) -> Callable[[str], None]:
    """What writes text to a stream and never fails, in the encoding that is given or in the stream's own.

    It writes to the descriptor: Python's own buffer would keep what could not be written, try again when the program
    ends, and then change its exit code.
    """
    if stream is None:
        return lambda text: None
    try:
        descriptor = stream.fileno()
        stream.flush()
    except (OSError, ValueError):  # io.UnsupportedOperation is both: a stream that is no file
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
            # Somebody made the pipe non-blocking, and its reader is slow: wait a little, then do without.
            if not _becomes_writable(descriptor):
                return
        except OSError:  # closed, full disk, terminal gone
            return


def _becomes_writable(descriptor: int) -> bool:
    import select

    return bool(select.select([], [descriptor], [], _FULL_PIPE_SECONDS)[1])


def json_line(now: float, level: Level, sentence: str, event: Event | None, *, name: str = "") -> str:
    """The event as one line: ``time`` (RFC 3339, UTC), ``level``, ``event``, and its own fields.

    :param name: of the configuration that it is about, where there are several; the field ``config``.

    :param sentence: for what is no event of its own, as its ``message``.
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
            if name not in ("level", "about", "is_repeated"):
                fields[name] = value
        if "receipt" in fields:
            fields["receipt"]["proof"] = Proof(fields["receipt"]["proof"]).label
    try:
        encoded = msgspec.json.encode(fields)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_escaped(fields) | {"escaped": True})
    return printable_json(encoded.decode()) + "\n"


def utc(now: float) -> str:
    """A time in seconds since the epoch as RFC 3339 has it, with milliseconds."""
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
