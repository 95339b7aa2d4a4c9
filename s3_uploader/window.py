"""How many uploads are in flight: few at first, more while more brings more, fewer when the destination struggles.

The right number differs by a factor of a hundred between a modem and a data centre, so it is found and not configured.
Uploads are counted in rounds, each as long as the window is wide. While a round moves clearly more per second than the
best before it, the window doubles. When it no longer does, the wider window was of no use and is given up again. After
a while a wider one is tried anew, since lines change. A destination that asks for a slower pace, or stops answering,
halves the window.
"""

from __future__ import annotations

_START = 4
_CLEARLY_MORE = 1.1
_ROUNDS_UNTIL_NEXT_TRY = 8
_COST_OF_A_REQUEST = 16 * 1024
"""What a request counts for beside its bytes, so that small files weigh in too."""


class Window:
    """The number of uploads that may be in flight. Decides by the numbers it is told; has no clock of its own.

    :param maximum: never more than this.
    """

    def __init__(self, *, maximum: int) -> None:
        self._maximum = maximum
        self._width = min(_START, maximum)
        self._growing = True
        self._best_rate = 0.0
        self._best_width = self._width
        self._steady_rounds = 0
        self._done = 0
        self._moved = 0
        self._round_began: float | None = None

    @property
    def width(self) -> int:
        """How many uploads may be in flight now."""
        return self._width

    def succeeded(self, *, size: int, now: float) -> None:
        """An upload of ``size`` bytes is done at the monotonic time ``now``."""
        if self._round_began is None:
            self._round_began = now
            return
        self._done += 1
        self._moved += size + _COST_OF_A_REQUEST
        if self._done < self._width or now <= self._round_began:
            return
        rate = self._moved / (now - self._round_began)
        self._done, self._moved, self._round_began = 0, 0, now
        self._judge(rate)

    def _judge(self, rate: float) -> None:
        if self._growing:
            if rate > self._best_rate * _CLEARLY_MORE:
                self._best_rate, self._best_width = rate, self._width
                self._widen()
            else:
                self._width, self._growing, self._steady_rounds = self._best_width, False, 0
            return
        self._steady_rounds += 1
        if self._steady_rounds >= _ROUNDS_UNTIL_NEXT_TRY:
            self._growing, self._best_rate, self._best_width = True, rate, self._width
            self._widen()

    def _widen(self) -> None:
        self._width = min(self._maximum, 2 * self._width)
        if self._width == self._best_width:
            self._growing, self._steady_rounds = False, 0

    def struggled(self) -> None:
        """The destination asked for a slower pace, or an upload ran out of time."""
        self._width = max(1, self._width // 2)
        self._growing, self._steady_rounds = False, 0
        self._best_rate, self._best_width = 0.0, self._width
        self._done, self._moved, self._round_began = 0, 0, None
