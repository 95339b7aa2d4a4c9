"""By which time the history grows old: a clock that is wrong, or jumps, must not empty it.

What a run records carries the time of its clock, and nothing else tells what time it is. So the clock is believed as
long as it goes on from where it was: from one day that was noted to the next. One that jumps further is believed when
it has gone on from there for a while. Until then nothing is forgotten by it. That is too long, and never too short: a
machine that was off for months keeps its history for some weeks more.
"""

from __future__ import annotations

import msgspec

_DAY = 86400.0
_LONGEST_STEP = 45 * _DAY
_LONGEST_TRIAL = 30 * _DAY


class BelievedClock(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the clock. Times are seconds since the epoch.

    :param until: up to here the clock is believed.
    :param other_from: where a clock that jumped was first seen, ``None`` if there is none.
    :param other_until: where it was last seen.
    """

    until: float
    other_from: float | None = None
    other_until: float = 0.0

    @classmethod
    def recalled(cls, text: str | None, *, otherwise: float) -> BelievedClock:
        """What was noted; if that is nothing, or damaged, a clock that is believed up to ``otherwise``."""
        if text:
            try:
                return msgspec.json.decode(text, type=cls)
            except msgspec.DecodeError:
                pass
        return cls(until=otherwise)

    def noted(self) -> str:
        """What :meth:`recalled` understands."""
        return msgspec.json.encode(self).decode()

    def time(self, now: float, *, history_seconds: float) -> float:
        """The time to count from when the clock says ``now``."""
        return now if abs(now - self.until) <= _longest_step(history_seconds) else min(now, self.until)

    def at(self, now: float, *, history_seconds: float) -> BelievedClock:
        """What is known when the clock says ``now``; the same object as long as there is nothing new to note.

        :param history_seconds: for how long things are remembered: the shorter, the smaller is a jump that matters.
        """
        step = _longest_step(history_seconds)
        if abs(now - self.until) <= step:
            # Noted once a day, so that a tick has nothing to write.
            if now - self.until < _DAY and self.other_from is None:
                return self
            return BelievedClock(until=max(now, self.until))
        if self.other_from is None or abs(now - self.other_until) > step:
            return BelievedClock(until=self.until, other_from=now, other_until=now)
        trial = max(_DAY, min(_LONGEST_TRIAL, history_seconds))
        if now - self.other_from >= trial:
            return BelievedClock(until=now)
        if now - self.other_until < _DAY:
            return self
        return msgspec.structs.replace(self, other_until=now)


def _longest_step(history_seconds: float) -> float:
    return max(_DAY, min(_LONGEST_STEP, history_seconds / 4))
