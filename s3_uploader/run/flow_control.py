"""Flow control: takes the store's answers, and lets them decide how many files are sent at once, and which wait.

What an upload that failed means for its file, for the destination and for the run is decided in
:mod:`s3_uploader.run.blame`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import Candidate, RunEnd
from s3_uploader.core.text import is_plain
from s3_uploader.run import second_copy
from s3_uploader.run.blame import Blame
from s3_uploader.run.in_flight import Evidence, FileTask, UploadsInFlight
from s3_uploader.run.scan import Ending
from s3_uploader.run.settlement import Settlement
from s3_uploader.stores.base import PendingReceipt

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
_MOST_DEFERRED = 1000
_MOST_HELD = 10_000
_LOOK_SECONDS_AFTER_STOP = 1.0


class Answers:
    """Takes answered uploads, and deals with their files.

    :param submit: passes a file to the store again.
    :param deferral: tells whether the failure of a file proves nothing yet.
    :ivar beat: heartbeat, called whenever it waits.
    :ivar any_failed: whether an upload of this run has failed. If not, :attr:`blame` need not be asked.
    """

    def __init__(
        self,
        flight: UploadsInFlight,
        settlement: Settlement,
        *,
        window: AdaptiveLimit,
        evidence: Evidence,
        ending: Ending,
        clock: Clock,
        stop: StopRequest,
        beat: Callable[[], None],
        submit: Callable[[FileTask], None],
        deferral: Deferral,
    ) -> None:
        self._flight = flight
        self._settlement = settlement
        self._window = window
        self._evidence = evidence
        self._ending = ending
        self._clock = clock
        self._stop = stop
        self.beat = beat
        self._submit = submit
        self._deferral = deferral
        self.any_failed = False
        settlement.second_copies.wait = self._wait_for_looks
        settlement.second_copies.is_stopping = lambda: bool(stop.requests)

    @functools.cached_property
    def blame(self) -> Blame:
        """Decides about uploads that failed; most runs have none."""
        self.any_failed = True
        return Blame(
            self._flight,
            self._settlement,
            self._evidence,
            ending=self._ending,
            clock=self._clock,
            wait=self.wait,
            submit=self._submit,
            struggled=self._window.struggled,
            saw_failure=self._deferral.saw_failure,
            may_be_its_name=self._deferral.may_be_its_name,
        )

    def take(self) -> None:
        """Take the answers without waiting, and settle a batch that is due."""
        while self._flight.has_landed():
            self._take_one(timeout=0.0)
        if self._evidence.is_in_doubt:
            self.blame.heed_doubts()
        if self._settlement.seconds_until_due() == 0.0:
            self._settlement.commit_batch()
            self.heed_refusal()

    def wait(self, *, at_most: float = 1.0) -> None:
        """Wait for an answer, but no longer than until the next thing is due."""
        self.beat()
        due = self._settlement.seconds_until_due()
        self._take_one(timeout=at_most if due is None else min(at_most, due))
        self.take()

    def heed_refusal(self) -> None:
        """End the run if the destination turned out to be the spool."""
        refusal = self._settlement.second_copies.refusal
        if refusal is not None:
            self._ending.abandon(RunEnd.DESTINATION, refusal)

    def _wait_for_looks(self, looks: Sequence[PendingReceipt]) -> None:
        until = self._clock.monotonic() + second_copy.SECONDS
        stopped_until = self._clock.monotonic() + _LOOK_SECONDS_AFTER_STOP

        def go_on() -> bool:
            self.beat()
            return self._clock.monotonic() < (stopped_until if self._stop.requests else until)

        self._flight.wait_for(looks, go_on=go_on)

    def _take_one(self, *, timeout: float) -> None:
        landed = self._flight.landed(timeout)
        if landed is None:
            return
        upload, answer = landed
        if isinstance(answer, StoreError):
            self.blame.take(upload, answer)
            return
        self._window.succeeded(size=upload.file.fingerprint.size, now=self._clock.monotonic())
        self._settlement.add(upload, answer)
        self._evidence.successes += 1
        if self.any_failed:
            self.blame.saw_success(upload.file.candidate.location)


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
        self._held: dict[str, tuple[int, str]] = {}

    def begin_again(self) -> None:
        """Prepare for another scan."""
        self._held.clear()

    def hold(self, key: str, candidate: Candidate) -> None:
        """Note a file that is sent later: no newer one of its key may overtake it, or be replaced by it then."""
        if len(self._held) < _MOST_HELD:
            age = candidate.mtime_ns, candidate.path
            self._held[key] = min(age, self._held.get(key, age))

    def overtakes(self, key: str, candidate: Candidate) -> bool:
        """Whether a file would be sent before an older one of its key, such as ``%61`` and ``a`` in a queue."""
        held = self._held.get(key)
        return held is not None and held[1] != candidate.path and held < (candidate.mtime_ns, candidate.path)

    def has_room_for_failed(self) -> bool:
        """Whether one more file that failed before can be deferred."""
        return len(self.failed) < _MOST_DEFERRED

    def may_be_its_name(self, path: str) -> bool:
        """Whether a failure of this file proves nothing yet, because plain names may still come."""
        return self.is_scanning and len(self.unplain) < _MOST_DEFERRED and not is_plain(path)

    def saw_failure(self, key: str, candidate: Candidate) -> None:
        """Note that a file failed. Each refusal of a name may take long, so others with plain names need not wait."""
        self.hold(key, candidate)
        self._has_seen_unplain_fail = self._has_seen_unplain_fail or not is_plain(key)

    def waits(self, path: str, *, in_doubt: bool) -> bool:
        """Whether this file waits for those with plain names.

        :param in_doubt: it is still unknown whether an error is the destination's.
        """
        return (in_doubt or self._has_seen_unplain_fail) and self.may_be_its_name(path)
