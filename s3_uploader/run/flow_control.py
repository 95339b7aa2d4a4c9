"""Flow control: how many files are sent at once, and which of them wait while the destination is in doubt.

Each of the four parts decides from what it is told, and acts on nothing: :class:`AdaptiveLimit` decides the number of
uploads in flight, :class:`CircuitBreaker` whether a failure is the file's or the destination's, :class:`Deferral` which
files wait until that is known, and :class:`Refusals` which files are left because others like them are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.model import Candidate
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import is_plain

_START = 4
_CLEARLY_MORE = 1.1
_HARDLY_LESS = 0.9
_ROUNDS_TO_COMPARE = 2
"""The minimum number of rounds in a comparison, because uploads come in bursts and in all sizes."""
_UPLOADS_TO_COMPARE = 16
"""The minimum number of uploads in a comparison."""
_LONGEST_REST = 32
"""Most comparisons before another width is tried."""
_STOCK_SECONDS = 0.05
"""The time of a commit on a slow disk."""
_COST_OF_A_REQUEST = 16 * 1024
"""The weight of a request besides its bytes, so that small files count too."""
_PROBES = 8
"""The run ends when this many files in a row fail quickly."""
_SLOW_PROBES = 4
"""The run ends when this many files in a row fail slowly, if the destination worked in this run."""
_DOUBT_SECONDS = 5.0
"""Seconds of doubt after which failures count as slow, and uploads in flight are no longer waited for."""
_REFUSED_EVERYWHERE = 4
"""The run ends when files of this many locations, and :data:`_PROBES` of each on average, are refused in a row."""
_LONGEST_GAP = 64
"""Most files that are left between two samples, so that a few that would be accepted are not missed for long."""
_MOST_DEFERRED = 1000
_OF_NO_FILE = (Origin.CREDENTIALS, Origin.CREDENTIAL_SOURCE, Origin.CLOCK, Origin.BUCKET)

_T = TypeVar("_T")


class AdaptiveLimit:
    """Adapts the number of uploads in flight: more while throughput grows, fewer when fewer move as much.

    The right number differs by a factor of a hundred between a modem and a data centre, so it is found and not
    configured. At first the window doubles while each round of uploads, as long as the window is wide, moves clearly
    more per second than the best before it. From then on it tries a wider and a narrower window by turns: the wider one
    stays if it moves clearly more, the narrower one if it moves hardly less. Trials that lead to nothing become rarer.
    A destination that asks for a slower pace, or stops answering, halves the window.

    Where uploads are quick, a window that moves as much as any other may still be too narrow: while a batch is
    committed to disk, all of it is answered, and the line is idle until the next file. So without a struggle the window
    is never narrower than what is done in a moment.

    :param maximum: upper limit.
    :ivar width: the number of uploads that may be in flight now.
    """

    def __init__(self, *, maximum: int) -> None:
        self._maximum = maximum
        self.width = min(_START, maximum)
        self._home = self.width
        """The best width so far; any other is on trial."""
        self._home_rate = 0.0
        self._starting = True
        self._wider_next = True
        self._rest = 1
        self._rested = 0
        self._unsettled = 0
        """Uploads that still belong to the previous width."""
        self._done = 0
        self._moved = 0
        self._began: float | None = None
        self._stock = 0.0
        """The number of uploads that are done in a moment."""
        self._has_struggled = False

    def narrow(self, maximum: int) -> None:
        """Set the upper limit to ``maximum``."""
        self._maximum = max(1, min(self._maximum, maximum))
        self._home = min(self._home, self._maximum)
        self._stock = min(self._stock, self._maximum)
        if self.width > self._maximum:
            self._go(self._maximum)

    def succeeded(self, *, size: int, now: float) -> None:
        """Take note of an upload of ``size`` bytes, done at the monotonic time ``now``."""
        if self._unsettled > 0:
            self._unsettled -= 1
            return
        if self._began is None:
            self._began = now
            return
        self._done += 1
        self._moved += size + _COST_OF_A_REQUEST
        enough = self.width
        if not self._starting:
            enough = max(_ROUNDS_TO_COMPARE * max(self.width, self._home), _UPLOADS_TO_COMPARE)
        if self._done < enough or now <= self._began:
            return
        seconds = now - self._began
        rate = self._moved / seconds
        if not self._has_struggled:
            self._stock = min(self._maximum, _STOCK_SECONDS * self._done / seconds)
        self._done, self._moved, self._began = 0, 0, now
        if self._starting:
            self._start(rate)
        else:
            self._compare(rate)

    def _start(self, rate: float) -> None:
        if rate <= self._home_rate * _CLEARLY_MORE and self.width >= self._stock:
            self._starting = False
            self._go(self._home)
            return
        self._home, self._home_rate = self.width, rate
        self.width = min(self._maximum, 2 * self.width)
        self._starting = self.width != self._home

    def _compare(self, rate: float) -> None:
        if self.width == self._home:
            self._home_rate = rate
            if self._home < self._stock:
                self._home = min(self._maximum, 2 * self._home)
                self._go(self._home)
                return
            self._rested += 1
            if self._rested >= self._rest:
                self._rested = 0
                may_narrow = self._home > 1 and self._home // 2 >= self._stock
                if self._home < self._maximum and (self._wider_next or not may_narrow):
                    self._go(2 * self._home)
                elif may_narrow:
                    self._go(self._home // 2)
            return
        wider = self.width > self._home
        if rate > self._home_rate * (_CLEARLY_MORE if wider else _HARDLY_LESS):
            # Go on in the same direction.
            self._home, self._home_rate, self._rest = self.width, rate, 1
            self._wider_next = wider
            if wider or self.width // 2 >= self._stock:
                self._go(2 * self.width if wider else self.width // 2)
        else:
            self._rest = min(_LONGEST_REST, 2 * self._rest)
            self._wider_next = not wider
            self._go(self._home)

    def _go(self, width: int) -> None:
        before, self.width = self.width, max(1, min(self._maximum, width))
        if self.width != before:
            self._unsettled = max(self._unsettled, before, self.width)
            self._done, self._moved, self._began = 0, 0, None

    def struggled(self) -> None:
        """Slow down: the destination asked for it, or an upload exceeded its deadline."""
        self._starting = False
        self._has_struggled = True
        self._stock = 0.0
        self._home = max(1, self.width // 2)
        self._rest, self._rested, self._wider_next = 8, 0, True
        self._go(self._home)
        self._done, self._moved, self._began = 0, 0, None


class CircuitBreaker(Generic[_T]):
    """Distinguishes an error of one file from an error of the destination. Times are those of the monotonic clock.

    An error alone hardly ever shows that. A refusal may be about one key, a timeout about one large file, and a
    connection may break because something on the way rejects these bytes. What decides is whether other files succeed.
    So an error that could be the destination's is held in doubt. Nothing more is sent until the uploads in flight have
    answered, and then one file at a time:

    * another file succeeds: then it was the file's error, unless there was no connection at all (the outage is over,
      and the file is sent once more);
    * too many fail, or it takes too long: then it is the destination's error, and the run ends.

    A name that is not plain (accents, blanks, length) may be refused by a destination that takes all others, with
    whatever error. So as long as there are plain names, the others prove nothing (:class:`Deferral`).

    A file that an earlier run could not ship proves nothing against a destination that has accepted others in this run.
    So a handful of bad files, which are the oldest and come first, cannot end every run.

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
        """Whether enough files that failed before have failed again in a row, so that no more of them are tried."""
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

    def is_out_of_order(self, *, has_plain_name: Callable[[_T], bool]) -> bool:
        """Whether no file can be the cause of any failure in doubt: no connection, or credentials that are not valid.

        :param has_plain_name: whether an upload has such a name. A signature may fit all others.
        """
        return bool(self._doubts) and all(
            error.never_connected
            or (error.scope is Scope.DESTINATION and error.origin in _OF_NO_FILE and has_plain_name(upload))
            for upload, error in self._doubts
        )

    def doubtful(self) -> Iterator[_T]:
        """The uploads whose failures are in doubt."""
        return (upload for upload, _ in self._doubts)

    def take_doubts(self) -> list[tuple[_T, StoreError]]:
        """Take out the failures in doubt."""
        doubts, self._doubts = self._doubts, []
        self.is_in_doubt = False
        return doubts


class Deferral:
    """Defers the files that show nothing about the destination until others have shown whether it works.

    Two kinds of files wait: those that an earlier run could not ship, and, while it is unknown whose error it is, those
    whose names a destination may refuse. They are considered again later in the same run.

    :ivar failed: files that an earlier run could not ship: others go first, to show whose error it is.
    :ivar unplain: files whose names a destination may refuse: plain names go first while its errors are in doubt, and
        after such a file has failed.
    :ivar is_scanning: whether plain names may still come.
    """

    def __init__(self) -> None:
        self.failed: list[Candidate] = []
        self.unplain: list[Candidate] = []
        self.is_scanning = False
        self._has_seen_unplain_fail = False

    def has_room_for_failed(self) -> bool:
        """Whether one more file that failed before can be deferred."""
        return len(self.failed) < _MOST_DEFERRED

    def may_be_its_name(self, path: str) -> bool:
        """Whether a failure of this file proves nothing yet, because plain names may still come."""
        return self.is_scanning and len(self.unplain) < _MOST_DEFERRED and not is_plain(path)

    def saw_failure(self, key: str) -> None:
        """Note that a file failed. Each refusal of a name may take long, so others with plain names need not wait."""
        self._has_seen_unplain_fail = self._has_seen_unplain_fail or not is_plain(key)

    def waits(self, path: str, *, in_doubt: bool) -> bool:
        """Whether this file waits for those with plain names.

        :param in_doubt: it is still unknown whether an error is the destination's.
        """
        return (in_doubt or self._has_seen_unplain_fail) and self.may_be_its_name(path)


class _Refused:
    """What is known of a location in which files are refused."""

    __slots__ = ("gap", "in_a_row", "left")

    def __init__(self) -> None:
        self.in_a_row = 0
        self.gap = 1
        """How many files are left before the next one is tried."""
        self.left = 0


class Refusals:
    """Tries fewer and fewer files of a location whose files are refused, one after the other, for lack of a permission.

    Such a refusal is an error of one file, because a permission may be missing for some keys while others are accepted
    (:class:`CircuitBreaker`). But a permission that is withdrawn during a run is missing for all, and each waiting file
    would cost a request and an entry in the ledger. So after some refusals in a row one file is tried as a sample, and
    each time more are left before the next one. The first one that is accepted ends this.

    If this happens in several locations and no file is accepted in between, the destination refuses everything.

    :ivar are_known: whether there was any refusal; if not, nothing else needs to be asked.
    """

    def __init__(self) -> None:
        self._by_location: dict[str, _Refused] = {}
        self._since_success: Counter[str] = Counter()
        self.are_known = False

    def accepted(self, location: str) -> None:
        """Take note of a successful upload."""
        self._since_success.clear()
        self._by_location.pop(location, None)

    def refused(self, location: str, error: StoreError, *, failed_before: bool) -> bool:
        """Take note of a failed upload. Returns whether the destination refuses everything.

        :param failed_before: an earlier run could not ship the file, so it shows nothing about the others.
        """
        if error.origin is not Origin.FILE_RIGHT:
            return False
        if location in self._by_location or len(self._by_location) < _MOST_DEFERRED:
            self._by_location.setdefault(location, _Refused()).in_a_row += 1
            self.are_known = True
        if failed_before:
            return False
        self._since_success[location] += 1
        locations, files = len(self._since_success), sum(self._since_success.values())
        return locations >= _REFUSED_EVERYWHERE and files >= _REFUSED_EVERYWHERE * _PROBES

    def needs_answer(self, location: str) -> bool:
        """Whether to wait for the uploads of this location before its next file is considered."""
        refused = self._by_location.get(location)
        return refused is not None and refused.in_a_row >= _PROBES and refused.left == 0

    def leaves(self, location: str) -> bool:
        """Whether the next file of a location is left."""
        refused = self._by_location.get(location)
        if refused is None or refused.in_a_row < _PROBES:
            return False
        if refused.left < refused.gap:
            refused.left += 1
            return True
        refused.left = 0
        refused.gap = min(2 * refused.gap, _LONGEST_GAP)
        return False
