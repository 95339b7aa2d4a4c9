"""Marks events that earlier runs have reported already, such as an unreachable destination, or leaves them out.

All events of a run pass through here. One that was reported recently is marked, and the log leaves it out. Metrics and
pings get it as before. What the passes of a ``watch`` report is in memory, and a problem is reported once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import msgspec

from s3_uploader.core.events import Emit, Event, LocalTrouble, Notice, RunFinished, UploadFailed
from s3_uploader.core.model import RunEnd
from s3_uploader.core.text import shown_name
from s3_uploader.health.notices import Seen
from s3_uploader.health.said import Sayings
from s3_uploader.stores.base import Memory

_MOST = 200
_FORGET_SECONDS = 600.0
_MOST_SAID = 10_000


class Telling:
    """Hands events on. Any thread may call it.

    :param marks: mark repeated events. If not, it only notes which problems persist.
    :ivar sayings: what earlier runs and this one have reported.
    """

    def __init__(self, emit: Emit, sayings: Sayings, *, marks: bool = True) -> None:
        self._emit = emit
        self._marks = marks
        self.sayings = sayings

    @classmethod
    def recalled(cls, emit: Emit, memory: Memory, *, now: float, says_again: bool, marks: bool) -> Telling:
        """A :class:`Telling` that knows what earlier runs have reported.

        :param memory: the ledger's record of what was noticed.
        :param says_again: somebody is watching, so everything is reported.
        """
        return cls(emit, Sayings(Seen.recalled(memory).said, now=now, says_again=says_again), marks=marks)

    def __call__(self, event: Event) -> None:
        """Pass an event on, marked if it is a repetition."""
        if isinstance(event, Notice):
            if event.about and not self._is_due(f"notice {event.about}", event.message):
                event = msgspec.structs.replace(event, is_repeated=True)
            if event.about:
                # Another error of the same kind is news, but does not end the problem that was reported before.
                self.sayings.keep_like(f"notice {event.kind}")
        elif isinstance(event, UploadFailed):
            # A file with a next try of its own is reported at each try; the pauses between the tries grow anyway.
            is_everybodys = event.next_try_at is None and event.disposition == "kept"
            if is_everybodys and not self._is_due(f"upload {event.code}", ""):
                event = msgspec.structs.replace(event, is_repeated=True)
        elif isinstance(event, LocalTrouble):
            words = f"could not {event.action} {shown_name(event.path)}: {event.message}"
            if not self._is_due(f"local {event.action} {shown_name(event.path)}", words):
                event = msgspec.structs.replace(event, is_repeated=True)
        elif isinstance(event, RunFinished):
            report = event.report
            is_in_vain = report.exit_code in (1, 3) and not report.shipped and not report.pruned_directories
            if is_in_vain and not self._is_due(f"end {report.exit_code} {report.ended_by}", ""):
                event = msgspec.structs.replace(event, is_repeated=True)
        self._emit(event)

    def _is_due(self, name: str, words: str) -> bool:
        if not self._marks:
            self.sayings.keep(name)
            return True
        # What is not remembered is reported each time.
        if name not in self.sayings.said and len(self.sayings.said) >= _MOST:
            return True
        return self.sayings.is_due(name, words)


class SaysOnce:
    """Passes events on, but does not repeat a problem that persists: a person has read it.

    A problem that was absent for a while is reported again. Events of single files are paced by the ledger already.

    :param clock: monotonic seconds.
    """

    def __init__(self, emit: Emit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._met_at: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        trouble = _trouble(event)
        if trouble is None or self._is_new(trouble):
            self._emit(event)

    def _is_new(self, trouble: str) -> bool:
        now = self._clock()
        before = self._met_at.get(trouble)
        if before is None and len(self._met_at) >= _MOST_SAID:
            self._met_at = {text: at for text, at in self._met_at.items() if now - at < _FORGET_SECONDS}
            if len(self._met_at) >= _MOST_SAID:
                return False
        self._met_at[trouble] = now
        return before is None or now - before >= _FORGET_SECONDS

    def forget(self) -> None:
        """The problem has ended; it is reported again if it comes back."""
        self._met_at.clear()


def _trouble(event: Event) -> str | None:
    """A key for the problem in an event, the same each time it occurs; ``None`` for other events."""
    if isinstance(event, Notice):
        # Durations, addresses and counts differ from pass to pass.
        return re.sub(r"\d[\d.,:]*", "#", event.message)
    if isinstance(event, UploadFailed) and event.next_try_at is None and event.disposition == "kept":
        return f"upload: {event.code}"
    if isinstance(event, LocalTrouble):
        return f"{event.action} {event.path}: {event.message}"
    if isinstance(event, RunFinished):
        report = event.report
        went_wrong = report.failed or report.ended_by != RunEnd.DONE.value
        if went_wrong and not report.shipped and not report.pruned_directories:
            return f"run: {report.ended_by}, {report.failed}"
    return None
