"""When a failed request is sent again: bounded in count and in time, with full jitter, as a pure function.

Full jitter: a pause is drawn evenly between nothing and a limit that doubles, so that many clients of a struggling
server spread out (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of retrying one request. Times are seconds.

    :param max_attempts: how often it is sent at the most.
    :param base_pause: limit of the first pause; each further limit is twice the one before.
    :param max_pause: no limit of a pause is higher than this.
    :param max_total: so long after its first failure a request is not sent again.
    :param max_total_connection: the same where no connection could be made at all; every other file would wait too.
    :param max_corrupted: how often a request is sent at the most whose bytes the server says arrived damaged.
    """

    max_attempts: int = 5
    base_pause: float = 0.2
    max_pause: float = 5.0
    max_total: float = 30.0
    max_total_connection: float = 4.0
    max_corrupted: int = 3

    @classmethod
    def bounded(cls, *, attempts: int, seconds: float) -> RetryPolicy:
        """The usual policy within other bounds."""
        usual = cls()
        return cls(
            max_attempts=attempts,
            max_total=seconds,
            max_total_connection=min(seconds, usual.max_total_connection),
            max_corrupted=min(attempts, usual.max_corrupted),
        )

    def pause(
        self,
        *,
        attempts: int,
        since_first_failure: float,
        remaining: float,
        random: Callable[[], float],
        retry_after: float | None = None,
        no_connection: bool = False,
        corrupted: bool = False,
    ) -> float | None:
        """Seconds to wait before the request is sent again, ``None`` if it is not.

        :param attempts: how often it was sent.
        :param remaining: seconds until the deadline.
        :param random: returns a number between 0 and 1.
        :param retry_after: seconds that the server asked us to wait.
        """
        if attempts >= (min(self.max_corrupted, self.max_attempts) if corrupted else self.max_attempts):
            return None
        pause = min(self.max_pause, self.base_pause * float(2 ** (attempts - 1))) * random()
        if retry_after is not None:
            pause += retry_after
        total = self.max_total_connection if no_connection else self.max_total
        if since_first_failure + pause > total or pause >= remaining:
            return None
        return pause
