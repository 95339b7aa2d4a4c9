"""Whose error it is: the file's or the destination's."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import Scope, StoreError, UploadCancelled
from s3_uploader.run.circuit_breaker import CircuitBreaker

OWN = StoreError("no", code="KeyRefused")
PASSING = StoreError("slow down", code="SlowDown", retryable=True)
EVERYBODYS = StoreError("denied", code="InvalidAccessKeyId", scope=Scope.DESTINATION)
OUT_OF_REACH = StoreError(
    "connection refused", code="ConnectionFailed", retryable=True, scope=Scope.DESTINATION, never_connected=True
)
LATE = UploadCancelled("late", code="DeadlineExceeded")


def failed(
    breaker: CircuitBreaker[str],
    error: StoreError,
    *,
    name: str = "x",
    successes_before: int = 0,
    before: bool = False,
    now: float = 0,
) -> bool:
    """A failure with what matters in the test at hand."""
    return breaker.failed(name, error, successes_before=successes_before, failed_before=before, now=now)


def test_own_errors() -> None:
    """An error that is the file's by its kind says nothing about the destination, however many there are."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    assert not any(failed(breaker, OWN) for _ in range(100))
    assert not breaker.must_trip(in_flight=0, now=0)


@pytest.mark.parametrize("error", [PASSING, EVERYBODYS, LATE])
def test_nobody_comes_through(error: StoreError) -> None:
    """When nothing comes through, the destination is given up after a few files, or after a few seconds."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    for _ in range(7):
        assert failed(breaker, error)
        assert not breaker.must_trip(in_flight=0, now=0)
    assert breaker.must_trip(in_flight=0, now=5)
    assert failed(breaker, error)
    assert breaker.must_trip(in_flight=0, now=0)
    assert breaker.take_doubts() == [("x", error)] * 8
    assert not breaker.must_trip(in_flight=0, now=0)


def test_one_after_the_other() -> None:
    """In doubt one file at a time is sent."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    failed(breaker, PASSING)
    assert breaker.is_in_doubt
    assert not breaker.must_wait(in_flight=0, now=0)
    assert breaker.must_wait(in_flight=1, now=0)


def test_waits_for_the_others() -> None:
    """While others are under way nothing more is sent and nobody is blamed, for some seconds."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    failed(breaker, EVERYBODYS, now=100)
    assert breaker.must_wait(in_flight=3, now=104.9)
    assert not breaker.must_trip(in_flight=3, now=104.9)
    assert not breaker.must_wait(in_flight=3, now=105)
    assert breaker.must_trip(in_flight=3, now=105)


def test_another_comes_through() -> None:
    """A success makes what is in doubt the files' own."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    failed(breaker, PASSING, name="a")
    failed(breaker, EVERYBODYS, name="b")
    assert [name for name, _ in breaker.succeeded()] == ["a", "b"]
    assert not breaker.must_wait(in_flight=1, now=0)


def test_others_came_through_meanwhile() -> None:
    """An error that may pass is the file's if others came through while it was tried."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    breaker.succeeded()
    assert not failed(breaker, PASSING, successes_before=0)
    assert failed(breaker, PASSING, successes_before=1)


def test_no_connection_is_never_the_files_own() -> None:
    """Others that came through meanwhile prove nothing against a file that met no connection."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    breaker.succeeded()
    assert failed(breaker, OUT_OF_REACH, successes_before=0)
    assert breaker.is_out_of_reach()
    assert failed(breaker, EVERYBODYS, successes_before=0)
    assert not breaker.is_out_of_reach()


def test_credentials_that_end() -> None:
    """A refusal is in doubt although others came through before: credentials end in the middle of a run."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    breaker.succeeded()
    for number in range(4):
        assert not breaker.must_trip(in_flight=0, now=5), number
        assert failed(breaker, EVERYBODYS, successes_before=0)
    assert not breaker.must_trip(in_flight=0, now=0)
    assert breaker.must_trip(in_flight=0, now=5)


def test_files_that_failed_before() -> None:
    """Old failures do not end a run in which others came through, but after some it is enough of them."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    assert failed(breaker, PASSING, before=True)
    breaker.succeeded()
    for _ in range(8):
        assert not breaker.has_enough_of_old_failures
        assert not failed(breaker, PASSING, successes_before=1, before=True)
    assert breaker.has_enough_of_old_failures
    assert not breaker.must_trip(in_flight=0, now=99)
    breaker.succeeded()
    assert not breaker.has_enough_of_old_failures


def test_names_that_are_not_plain_prove_nothing_while_plain_ones_come() -> None:
    """However many unusual names fail, the destination is given up only when plain ones fail too, or none are left."""
    breaker: CircuitBreaker[str] = CircuitBreaker()
    for _ in range(100):
        assert breaker.failed("café", EVERYBODYS, successes_before=0, failed_before=False, now=0, may_be_its_name=True)
    assert not breaker.must_trip(in_flight=0, now=0)
    assert not breaker.must_trip(in_flight=0, now=60)
    failed(breaker, EVERYBODYS)
    assert breaker.must_trip(in_flight=0, now=60)
    assert len(breaker.succeeded()) == 101
