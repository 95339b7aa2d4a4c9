"""Whose error a failed upload is, and which files are left because others like them are refused."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import Scope, StoreError, UploadCancelled
from s3_uploader.core.origins import Origin
from s3_uploader.run.blame import CircuitBreaker, Refusals
from s3_uploader.run.in_flight import Evidence

OWN = StoreError("no", code="KeyRefused")
PASSING = StoreError("slow down", code="SlowDown", retryable=True)
EVERYBODYS = StoreError("denied", code="InvalidAccessKeyId", scope=Scope.DESTINATION)
OUT_OF_REACH = StoreError(
    "connection refused", code="ConnectionFailed", retryable=True, scope=Scope.DESTINATION, never_connected=True
)
LATE = UploadCancelled("late", code="DeadlineExceeded")


class Breaker(CircuitBreaker[str]):
    """A breaker whose successes are counted."""

    def __init__(self) -> None:
        self.evidence = Evidence()
        super().__init__(self.evidence)

    def succeeded(self) -> list[tuple[str, StoreError]]:
        """A success."""
        self.evidence.successes += 1
        return super().succeeded()


def failed(
    breaker: Breaker,
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
    breaker = Breaker()
    assert not any(failed(breaker, OWN) for _ in range(100))
    assert not breaker.must_trip(in_flight=0, now=0)


@pytest.mark.parametrize("error", [PASSING, EVERYBODYS, LATE])
def test_nobody_comes_through(error: StoreError) -> None:
    """When nothing comes through, the destination is given up after a few files, or after a few seconds."""
    breaker = Breaker()
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
    breaker = Breaker()
    failed(breaker, PASSING)
    assert breaker.evidence.is_in_doubt
    assert not breaker.must_wait(in_flight=0, now=0)
    assert breaker.must_wait(in_flight=1, now=0)


def test_waits_for_the_others() -> None:
    """While others are under way nothing more is sent and nobody is blamed, for some seconds."""
    breaker = Breaker()
    failed(breaker, EVERYBODYS, now=100)
    assert breaker.must_wait(in_flight=3, now=104.9)
    assert not breaker.must_trip(in_flight=3, now=104.9)
    assert not breaker.must_wait(in_flight=3, now=105)
    assert breaker.must_trip(in_flight=3, now=105)


def test_another_comes_through() -> None:
    """A success makes what is in doubt the files' own."""
    breaker = Breaker()
    failed(breaker, PASSING, name="a")
    failed(breaker, EVERYBODYS, name="b")
    assert [name for name, _ in breaker.succeeded()] == ["a", "b"]
    assert not breaker.must_wait(in_flight=1, now=0)


def test_others_came_through_meanwhile() -> None:
    """An error that may pass is the file's if others came through while it was tried."""
    breaker = Breaker()
    breaker.succeeded()
    assert not failed(breaker, PASSING, successes_before=0)
    assert failed(breaker, PASSING, successes_before=1)


def test_no_connection_is_never_the_files_own() -> None:
    """Others that came through meanwhile prove nothing against a file that met no connection."""
    breaker = Breaker()
    breaker.succeeded()
    assert failed(breaker, OUT_OF_REACH, successes_before=0)
    assert breaker.is_out_of_order(has_plain_name=bool)
    assert failed(breaker, EVERYBODYS, successes_before=0)
    assert not breaker.is_out_of_order(has_plain_name=bool)


@pytest.mark.parametrize(
    ("origin", "name", "is_of_no_file"),
    [
        (Origin.CREDENTIALS, "plain", True),
        (Origin.CLOCK, "plain", True),
        (Origin.BUCKET, "plain", True),
        (Origin.CREDENTIALS, "odd näme", False),
        (Origin.FULL, "plain", False),
        (Origin.SETTING, "plain", False),
    ],
)
def test_which_refusals_no_file_can_cause(origin: Origin, name: str, *, is_of_no_file: bool) -> None:
    """A quota may leave room for smaller files, and a signature may fit other names. An expired token fits none."""
    breaker = Breaker()
    breaker.succeeded()
    refusal = StoreError("refused", code="X", scope=Scope.DESTINATION, origin=origin)
    assert breaker.failed(name, refusal, successes_before=1, failed_before=False, now=0)
    assert breaker.is_out_of_order(has_plain_name=str.isascii) is is_of_no_file


def test_credentials_that_end() -> None:
    """A refusal is in doubt although others came through before: credentials end in the middle of a run."""
    breaker = Breaker()
    breaker.succeeded()
    for number in range(4):
        assert not breaker.must_trip(in_flight=0, now=5), number
        assert failed(breaker, EVERYBODYS, successes_before=0)
    assert not breaker.must_trip(in_flight=0, now=0)
    assert breaker.must_trip(in_flight=0, now=5)


def test_files_that_failed_before() -> None:
    """Old failures do not end a run in which others came through, but after some it is enough of them."""
    breaker = Breaker()
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
    breaker = Breaker()
    for _ in range(100):
        assert breaker.failed("café", EVERYBODYS, successes_before=0, failed_before=False, now=0, may_be_its_name=True)
    assert not breaker.must_trip(in_flight=0, now=0)
    assert not breaker.must_trip(in_flight=0, now=60)
    failed(breaker, EVERYBODYS)
    assert breaker.must_trip(in_flight=0, now=60)
    assert len(breaker.succeeded()) == 101


REFUSED = StoreError("no", code="AccessDenied", origin=Origin.FILE_RIGHT)


def test_a_location_that_is_refused_is_only_sampled() -> None:
    """A right that is taken away costs a few hundred of 20,000 files a request, and not each."""
    refusals = Refusals()
    tried = 0
    for _ in range(20_000):
        if not refusals.leaves("den"):
            tried += 1
            assert not refusals.refused("den", REFUSED, failed_before=False)
    assert 300 < tried < 350
    assert not refusals.leaves("attic")


def test_the_answer_to_a_sample_is_waited_for() -> None:
    """Whether others are left after it depends on the sample."""
    refusals = Refusals()
    for _ in range(8):
        assert not refusals.needs_answer("den")
        assert not refusals.leaves("den")
        refusals.refused("den", REFUSED, failed_before=False)
    assert refusals.needs_answer("den")
    assert refusals.leaves("den")
    assert not refusals.needs_answer("den")
    assert not refusals.leaves("den")
    assert refusals.needs_answer("den")
    refusals.accepted("den")
    assert not refusals.needs_answer("den")
    assert not refusals.leaves("den")


def test_refusals_between_others_leave_nothing() -> None:
    """Where files of one location are refused and accepted by turns, each is tried."""
    refusals = Refusals()
    for _ in range(100):
        for _ in range(7):
            assert not refusals.leaves("den")
            assert not refusals.refused("den", REFUSED, failed_before=False)
        refusals.accepted("den")


def test_other_errors_are_no_refusals() -> None:
    """What is wrong with a file itself says nothing about those beside it."""
    refusals = Refusals()
    for _ in range(100):
        assert not refusals.refused("den", StoreError("no", code="KeyTooLongError"), failed_before=False)
    assert not refusals.are_known


def test_refused_everywhere() -> None:
    """Refusals in a row in several locations are the destination's; one that is accepted anywhere says it is not."""
    refusals = Refusals()
    found = [refusals.refused(f"room-{number % 5}", REFUSED, failed_before=False) for number in range(32)]
    assert found == [False] * 31 + [True]
    refusals.accepted("attic")
    assert not any(refusals.refused(f"room-{number % 5}", REFUSED, failed_before=False) for number in range(31))


def test_three_locations_may_be_forbidden() -> None:
    """Missing permissions for a few prefixes never end a run, and neither do files that failed before."""
    refusals = Refusals()
    assert not any(refusals.refused(f"room-{number % 3}", REFUSED, failed_before=False) for number in range(1000))
    assert not any(refusals.refused(f"shed-{number % 9}", REFUSED, failed_before=True) for number in range(1000))
