"""The bound of what is sent in a second."""

from __future__ import annotations

from s3_uploader.stores.s3.engines.throttle import Pace


def test_the_pace_is_kept() -> None:
    """What is handed out over ten seconds is the limit, give or take the burst."""
    now = 0.0
    pace = Pace(1000, clock=lambda: now)
    sent = 0
    while now < 10:
        sent += pace.take(600)
        now += max(0.001, pace.delay(600))
    assert 10_000 <= sent <= 10_200
