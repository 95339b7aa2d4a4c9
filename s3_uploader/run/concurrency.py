"""Adapts the number of uploads in flight: more while throughput grows, fewer when fewer move as much.

The right number differs by a factor of a hundred between a modem and a data centre, so it is found and not configured.
At first the window doubles while each round of uploads, as long as the window is wide, moves clearly more per second
than the best before it. From then on it tries a wider and a narrower window by turns: the wider one stays if it moves
clearly more, the narrower one if it moves hardly less. Trials that lead to nothing become rarer. A destination that
asks for a slower pace, or stops answering, halves the window.

Where uploads are quick, a window that moves as much as any other may still be too narrow: while a batch is committed to
disk, all of it is answered, and the line is idle until the next file. So without a struggle the window is never
narrower than what is done in a moment.
"""

from __future__ import annotations

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


class AdaptiveLimit:
    """The number of uploads that may be in flight. Decides by the numbers it is given; has no clock of its own.

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
