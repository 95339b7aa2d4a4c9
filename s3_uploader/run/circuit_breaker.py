"""Distinguishes an error of one file from an error of the destination.

An error alone hardly ever shows that. A refusal may be about one key, a timeout about one large file, and a connection
may break because something on the way rejects these bytes. What decides is whether other files succeed. So an error
that could be the destination's is held in doubt. Nothing more is sent until the uploads in flight have answered, and
then one file at a time:

* another file succeeds: then it was the file's error, unless there was no connection at all (the outage is over, and
  the file is sent once more);
* too many fail, or it takes too long: then it is the destination's error, and the run ends.

A name that is not plain (accents, blanks, length) may be refused by a destination that takes all others, with whatever
error. So as long as there are plain names, the others prove nothing (:mod:`s3_uploader.run.deferral`).

A file that an earlier run could not ship proves nothing against a destination that has accepted others in this run. So
a handful of bad files, which are the oldest and come first, cannot end every run.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from s3_uploader.core.errors import Scope, StoreError

_PROBES = 8
"""The run ends when so many files in a row fail quickly."""
_SLOW_PROBES = 4
"""The run ends when so many files in a row fail slowly, if the destination worked in this run."""
_DOUBT_SECONDS = 5.0
"""Seconds of doubt after which failures count as slow, and uploads in flight are no longer waited for."""

_T = TypeVar("_T")


class CircuitBreaker(Generic[_T]):
    """Holds the failed uploads that are in doubt. Does nothing by itself; times are those of the monotonic clock.

    :ivar successes: how many uploads have succeeded.
    :ivar is_in_doubt: whether there are failures of which the cause, file or destination, is unknown.
    """

    def __init__(self) -> None:
        self.successes = 0
        self.is_in_doubt = False
        self._in_a_row = 0
        self._old_in_a_row = 0
        self._doubts: list[tuple[_T, StoreError]] = []
        self._doubts_since = 0.0

    @property
    def has_enough_of_old_failures(self) -> bool:
        """Whether so many files that failed before have failed again in a row that no more of them are tried."""
        return self._old_in_a_row >= _PROBES

    def succeeded(self) -> list[tuple[_T, StoreError]]:
        """Take note of a successful upload. Returns the failures that are now known to be errors of their files."""
        self.successes += 1
        self._in_a_row = self._old_in_a_row = 0
        return self.take_doubts() if self.is_in_doubt else []

    def failed(
        self,
        upload: _T,
        error: StoreError,
        *,
        successes_before: int,
        failed_before: bool,
        now: float,
        may_be_its_name: bool = False,
    ) -> bool:
        """Take note of a failed upload. Returns whether the failure is in doubt; otherwise it concerns this file only.

        :param successes_before: how many uploads had succeeded when it began.
        :param failed_before: an earlier run could not ship the file.
        :param may_be_its_name: its name is not plain, and files with plain names are still to come.
        """
        passing = error.may_pass
        if not passing and error.scope is Scope.FILE:
            return False
        if failed_before and self.successes:
            self._old_in_a_row += 1
            return False
        self._in_a_row += not may_be_its_name
        # An error that may pass was retried for a while. If other files succeeded in that time, it concerns this file;
        # that there was no connection concerns none.
        if passing and not error.never_connected and self.successes > successes_before:
            return False
        if not self._doubts:
            self._doubts_since = now
        self._doubts.append((upload, error))
        self.is_in_doubt = True
        return True

    def must_wait(self, *, in_flight: int, now: float) -> bool:
        """Whether to send nothing more before an upload in flight has answered."""
        return bool(self._doubts) and in_flight > 0 and now - self._doubts_since < _DOUBT_SECONDS

    def must_trip(self, *, in_flight: int, now: float) -> bool:
        """Whether to abandon the destination."""
        if not self._doubts or self.must_wait(in_flight=in_flight, now=now):
            return False
        if now - self._doubts_since < _DOUBT_SECONDS:
            return self._in_a_row >= _PROBES
        return self._in_a_row >= _SLOW_PROBES or (self._in_a_row > 0 and not self.successes)

    def is_out_of_reach(self) -> bool:
        """Whether there was no connection for any of the uploads in doubt, which no file can cause."""
        return bool(self._doubts) and all(error.never_connected for _, error in self._doubts)

    def take_doubts(self) -> list[tuple[_T, StoreError]]:
        """Take out the failures in doubt."""
        doubts, self._doubts = self._doubts, []
        self.is_in_doubt = False
        return doubts
