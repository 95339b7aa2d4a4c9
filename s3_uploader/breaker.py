"""Tells an error of one file from one of the destination, which every other file would meet too.

An error hardly ever says so by itself. A refusal may be about one key, a time-out about one large file, and a
connection that breaks may do so because something on the way dislikes these very bytes. What decides is whether other
files come through. So an error that could be the destination's is held in doubt, and nothing more is sent until what is
under way has answered, for some seconds at the most:

* another file comes through: then it was the file's;
* none does: then it is the destination's, and the run ends.

A file that an earlier run could not ship proves nothing against a destination that has taken others in this run. That
is what keeps a handful of bad files, which are the oldest and so come first, from ending every run.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from s3_uploader.errors import Scope, StoreError

_PROBES = 4
"""Files in a row that must fail before a destination that worked in this run is given up."""
_SO_MANY = 8
"""The same where all of them had failed in earlier runs too."""
_PATIENCE = 5.0
"""Seconds for which uploads that are under way may still speak for the destination."""

_T = TypeVar("_T")


class Breaker(Generic[_T]):
    """Holds the failed uploads that are in doubt. Does nothing by itself; times are those of the monotonic clock."""

    def __init__(self) -> None:
        self.successes = 0
        self._in_a_row = 0
        self._doubts: list[tuple[_T, StoreError]] = []
        self._doubts_since = 0.0

    def succeeded(self) -> list[tuple[_T, StoreError]]:
        """An upload came through. Returns the failures that this makes their files' own."""
        self.successes += 1
        self._in_a_row = 0
        return self.take_doubts()

    def failed(self, upload: _T, error: StoreError, *, successes_before: int, failed_before: bool, now: float) -> bool:
        """An upload failed. Returns whether that is in doubt now; else it is the file's own.

        :param successes_before: how many uploads had succeeded when it began.
        :param failed_before: an earlier run could not ship the file.
        """
        passing = error.retryable or error.code == "DeadlineExceeded"
        if not passing and error.scope is Scope.FILE:
            return False
        self._in_a_row += 1
        if failed_before and self.successes and self._in_a_row < _SO_MANY:
            return False
        # An error that may pass has been retried for a while. If others came through in that time, it is not theirs.
        if passing and self.successes > successes_before:
            return False
        if not self._doubts:
            self._doubts_since = now
        self._doubts.append((upload, error))
        return True

    def must_wait(self, *, in_flight: int, now: float) -> bool:
        """Whether nothing more is to be sent before one of those under way has answered."""
        return bool(self._doubts) and in_flight > 0 and now - self._doubts_since < _PATIENCE

    def must_trip(self, *, in_flight: int, now: float) -> bool:
        """Whether the destination is to be given up."""
        if not self._doubts or (self.successes and self._in_a_row < _PROBES):
            return False
        return not self.must_wait(in_flight=in_flight, now=now)

    def take_doubts(self) -> list[tuple[_T, StoreError]]:
        """Take out what is in doubt."""
        doubts, self._doubts = self._doubts, []
        return doubts
