"""The time by which the history ages: a clock that is wrong or jumps must not empty it.

Records carry the time of the machine's clock, and there is no other source. So the clock is trusted as long as it
advances from one recorded day to the next. A clock that jumps further is trusted after it has advanced from there for a
while. Until then nothing is forgotten. This errs on the long side: a machine that was off for months keeps its history
for some weeks more.
"""

from __future__ import annotations

import msgspec

_DAY = 86400.0
_LONGEST_STEP = 45 * _DAY
_LONGEST_TRIAL = 30 * _DAY


class BelievedClock(msgspec.Struct, frozen=True, kw_only=True):
    """The state of trust in the clock. Times are seconds since the epoch.

    :param until: the clock is trusted up to this time.
    :param other_from: where a clock that jumped was first seen, ``None`` if there is none.
    :param other_until: where it was last seen.
    """

    until: float
    other_from: float | None = None
    other_until: float = 0.0

    @classmethod
    def recalled(cls, text: str | None, *, otherwise: float) -> BelievedClock:
        """Parse a noted state; if there is none or it is damaged, the clock is trusted up to ``otherwise``."""
        if text:
            try:
                return msgspec.json.decode(text, type=cls)
            except msgspec.DecodeError:
                pass
        return cls(until=otherwise)

    def noted(self) -> str:
        """Format the state for :meth:`recalled`."""
        return msgspec.json.encode(self).decode()

    def time(self, now: float, *, history_seconds: float) -> float:
        """The time from which ages count, when the clock says ``now``."""
        return now if abs(now - self.until) <= _longest_step(history_seconds) else min(now, self.until)

    def at(self, now: float, *, history_seconds: float) -> BelievedClock:
        """The state when the clock says ``now``; the same object as long as nothing new has to be noted.

        :param history_seconds: how long the history is kept: the shorter, the smaller are jumps that matter.
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
