"""When a failed request is sent again: bounded in count and in time, with full jitter, as a pure function.

Full jitter: a pause is drawn evenly between nothing and a limit that doubles, so that many clients of a struggling
server spread out (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from s3_uploader.core.control import backoff


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of retrying one request. Times are seconds.

    :param max_attempts: the maximum number of attempts.
    :param base_pause: upper limit of the first pause; it doubles with each further one.
    :param max_pause: the highest limit of a pause.
    :param max_total: after this time since its first failure a request is not retried.
    :param max_total_connection: the same if no connection could be made; all other files would wait as well.
    :param max_corrupted: the maximum number of attempts if the server says that the bytes arrived damaged.
    """

    max_attempts: int = 5
    base_pause: float = 0.2
    max_pause: float = 5.0
    max_total: float = 30.0
    max_total_connection: float = 4.0
    max_corrupted: int = 3

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
        """Seconds to wait before the next attempt, ``None`` if there is none.

        :param attempts: how many attempts there were.
        :param remaining: seconds until the deadline.
        :param random: returns a number between 0 and 1.
        :param retry_after: seconds that the server asked us to wait.
        """
        if attempts >= (min(self.max_corrupted, self.max_attempts) if corrupted else self.max_attempts):
            return None
        pause = backoff(attempts, first=self.base_pause, longest=self.max_pause) * random()
        if retry_after is not None:
            pause += retry_after
        total = min(self.max_total_connection, self.max_total) if no_connection else self.max_total
        if since_first_failure + pause > total or pause >= remaining:
            return None
        return pause
