"""Bounds in bytes: what is sent in a second, and what is in memory at once."""

from __future__ import annotations

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.engines.throttle import Pace
from s3_uploader.stores.threads import ByteBudget

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1369353600.0  # Fri, 24 May 2013 00:00:00 GMT


def test_the_pace_is_kept() -> None:
    """What is handed out over ten seconds is the limit, give or take the burst."""
    now = 0.0
    pace = Pace(1000, clock=lambda: now)
    sent = 0
    while now < 10:
        sent += pace.take(600)
        now += max(0.001, pace.delay(600))
    assert 10_000 <= sent <= 10_200


def test_bytes_in_memory_are_bounded_and_served_in_order() -> None:
    """Requests without room wait in order; one that is larger than the limit is granted alone."""
    budget = ByteBudget(100)
    order: list[str] = []
    assert budget.try_acquire(60)
    budget.acquire(50, lambda: order.append("second"))
    budget.acquire(10, lambda: order.append("third"))
    assert not budget.try_acquire(1)
    assert order == []
    budget.release(60)
    assert order == ["second", "third"]
    budget.acquire(1000, lambda: order.append("giant"))
    budget.release(50)
    assert order == ["second", "third"]
    budget.release(10)
    assert order == ["second", "third", "giant"]
