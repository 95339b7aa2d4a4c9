"""Counts and reports entries that stay in the spool without a failed upload."""

from __future__ import annotations

from s3_uploader.core.counters import RunCounters
from s3_uploader.core.events import Emit, FileLeft, LocalTrouble
from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.root import Names, SpoolRoot

_MOST_SAID = 1000


class Leftovers:
    """Counts and reports the entries that a run leaves."""

    def __init__(self, root: SpoolRoot, *, counters: RunCounters, emit: Emit) -> None:
        self._root = root
        self._counters = counters
        self._emit = emit
        self._said_stuck: set[Names] = set()

    def shown(self, candidate: Candidate) -> str:
        """The absolute path of a candidate, for messages."""
        return self._root.shown(candidate.directory, candidate.name)

    def skip(self, names: Names, name: str, reason: Left, detail: str) -> None:
        """Handle an entry that is no candidate (:data:`~s3_uploader.spool.layouts.base.Skip`)."""
        self._counters.count_left(reason)
        if reason is Left.UNMATCHED:
            self._counters.note_stranger(names, name)
        path = self._root.shown(names, name)
        if reason in (Left.UNREADABLE, Left.UNDECODABLE):
            self._counters.troubles += 1
            action = "read" if reason is Left.UNREADABLE else "ship"
            self._emit(LocalTrouble(path, action, detail))
        else:
            self._emit(FileLeft(path, reason, detail, 0))

    def leave(self, candidate: Candidate, reason: Left, detail: str) -> None:
        """Handle a candidate that is left without a failure."""
        self._counters.count_left(reason, candidate)
        self._emit(FileLeft(self.shown(candidate), reason, detail, candidate.size))

    def cannot_read(self, candidate: Candidate, message: str) -> None:
        """Handle a candidate that cannot be read on this machine."""
        self._counters.count_left(Left.UNREADABLE, candidate)
        self._counters.troubles += 1
        hint = "Let the user that runs this program read and remove it."
        self._emit(LocalTrouble(self.shown(candidate), "read", message, hint))

    def cannot_remove(self, candidate: Candidate, why: str, hint: str) -> None:
        """Handle a candidate that could not be removed after its upload; reported once for its directory."""
        self._counters.count_left(Left.UNREADABLE, candidate)
        self._counters.troubles += 1
        if candidate.directory not in self._said_stuck:
            if len(self._said_stuck) < _MOST_SAID:
                self._said_stuck.add(candidate.directory)
            message = f"{why}, so it is not uploaded, and neither are the files beside it"
            self._emit(LocalTrouble(self.shown(candidate), "remove", message, hint))
