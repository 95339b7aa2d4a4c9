"""When to try again."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3.checksums import digest_of

BODY = b"the bytes that were sent"
DIGEST = digest_of(BODY)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER_MD5 = hashlib.md5(b"other bytes").hexdigest()
KMS = {"x-amz-server-side-encryption": "aws:kms"}


def pause(policy: RetryPolicy, **arguments: float | bool | None) -> float | None:
    """The pause with a random number that is always 1."""
    given: dict[str, float | bool | None] = {"attempts": 1, "since_first_failure": 0.0, "remaining": 1000.0}
    return policy.pause(random=lambda: 1.0, **{**given, **arguments})  # type: ignore[arg-type]


def test_pauses_double_up_to_a_limit() -> None:
    """The limit of a pause doubles, and no pause is longer than the longest."""
    policy = RetryPolicy(max_attempts=10, base_pause=0.2, max_pause=5)
    assert [pause(policy, attempts=attempts) for attempts in (1, 2, 3, 6, 9)] == [0.2, 0.4, 0.8, 5.0, 5.0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": 5},
        {"attempts": 3, "corrupted": True},
        {"since_first_failure": 30.0},
        {"since_first_failure": 4.0, "no_connection": True},
        {"remaining": 0.1},
        {"retry_after": 60.0},
    ],
)
def test_retries_end(arguments: dict[str, float | bool]) -> None:
    """Retries are bounded by count, by time, by the deadline, and by what the server asks for."""
    assert pause(RetryPolicy(), **arguments) is None


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    """Retry-After comes on top of the jitter, so that not everybody returns at the same moment."""
    assert pause(RetryPolicy(), retry_after=3.0) == 3.2


@given(st.integers(1, 4), st.floats(0, 1))
def test_jitter_is_full(attempts: int, random: float) -> None:
    """Any pause between nothing and the limit may come out."""
    policy = RetryPolicy()
    drawn = policy.pause(attempts=attempts, since_first_failure=0, remaining=100, random=lambda: random)
    assert drawn is not None
    assert 0 <= drawn <= min(5.0, 0.2 * 2 ** (attempts - 1))


def test_other_bounds() -> None:
    """Count and time can be set; what is usually less stays less, and what would be more does not."""

    def retries(policy: RetryPolicy, attempts: int, after: float, *, no_connection: bool = False) -> bool:
        pause = policy.pause(
            attempts=attempts,
            since_first_failure=after,
            remaining=1000,
            random=lambda: 0.0,
            no_connection=no_connection,
        )
        return pause is not None

    patient = RetryPolicy(max_attempts=50, max_total=600)
    assert retries(patient, 49, 599)
    assert not retries(patient, 50, 0)
    assert retries(patient, 1, 3.9, no_connection=True)
    assert not retries(patient, 1, 4.1, no_connection=True)
    hurried = RetryPolicy(max_total=1)
    assert retries(hurried, 1, 0.9, no_connection=True)
    assert not retries(hurried, 1, 1.1, no_connection=True)
    assert (
        RetryPolicy(max_attempts=2).pause(
            attempts=2, since_first_failure=0, remaining=1000, random=lambda: 0.0, corrupted=True
        )
        is None
    )
