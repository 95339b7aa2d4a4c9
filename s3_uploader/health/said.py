"""Remembers which problems were reported.

A problem is reported when it begins, at growing intervals while it lasts, and when it ends.

The ledger remembers it from one run to the next. Cron mails each line, and nobody reads a problem that is mailed every
minute.
"""

from __future__ import annotations

import msgspec

DISTANCES = (3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0)
"""Seconds after which a problem is reported a second time, a third time and so on; the last one repeats."""
_LONGEST = 200


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One problem: since when it lasts, when and how often it was reported, and in which words."""

    since: float
    last: float
    times: int = 1
    words: str = ""

    @property
    def distance(self) -> float:
        """Seconds from the last report to the next."""
        return DISTANCES[min(self.times, len(DISTANCES)) - 1]

    def is_due(self, now: float) -> bool:
        """Whether to report it again, also after a clock was set back."""
        return not 0 <= now - self.last < self.distance


class Sayings:
    """What is reported in one run.

    :param before: what earlier runs have reported.
    :param says_again: report everything, because a person is watching.
    """

    def __init__(self, before: dict[str, Said], *, now: float, says_again: bool = False) -> None:
        self._before = before
        self.now = now
        self._says_again = says_again
        self.said: dict[str, Said] = {}

    def is_due(self, name: str, words: str) -> bool:
        """Take note of a problem; returns whether to report it now.

        :param name: identifies the problem, and is the same in each run.
        :param words: reported when it has ended.
        """
        before = self.said.get(name) or self._before.get(name)
        if before is None:
            self.said[name] = Said(self.now, self.now, words=words[:_LONGEST])
            return True
        if before.is_due(self.now):
            self.said[name] = Said(before.since, self.now, before.times + 1, words[:_LONGEST])
            return True
        self.said[name] = before
        return self._says_again

    def keep(self, name: str) -> None:
        """Keep a problem that persists although this run has not observed it."""
        before = self._before.get(name)
        if before is not None:
            self.said.setdefault(name, before)

    def keep_like(self, name: str) -> None:
        """Keep the problem of this name, and those whose names continue it after a blank."""
        for each in self._before:
            if f"{each} ".startswith(f"{name} "):
                self.keep(each)

    def over(self) -> list[Said]:
        """The problems that have ended and whose end is reported."""
        return [said for name, said in self._before.items() if name not in self.said and said.words]
