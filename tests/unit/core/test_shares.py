"""A share K/N: which files it owns, how it is written, and where it is given."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.shares import HASHES, MOST_SHARES, Share, chosen, of_directory, of_range, parse

PATHS = [f"den/2020/11/{day:02}/20/{minute:02}-topic.dat" for day in range(1, 29) for minute in range(60)]


@pytest.mark.parametrize("count", [2, 3, 7, 64, MOST_SHARES])
def test_each_file_has_one_owner(count: int) -> None:
    """Whatever the number of shares, every file belongs to exactly one of them."""
    shares = [Share(index, count) for index in range(count)]
    for path in PATHS[:: max(1, count // 8)]:
        assert sum(share.owns(path) for share in shares) == 1


def test_shares_are_of_one_size() -> None:
    """No share has much more to do than another."""
    sizes = [sum(Share(index, 4).owns(path) for path in PATHS) for index in range(4)]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.parametrize("count", [2, 3, 7, 1000, MOST_SHARES])
def test_the_hashes_are_divided_without_gaps(count: int) -> None:
    """The ranges of all shares follow one another, and each of its ends belongs to the share."""
    after = 0
    for index in range(count):
        share = Share(index, count)
        assert share.first == after
        assert share.owns_hash(share.first)
        assert share.owns_hash(share.first + share.length - 1)
        assert of_range(share.first, share.length) == share
        after = share.first + share.length
    assert after == HASHES


def test_a_range_that_is_no_share() -> None:
    """All hashes are no share, and neither is a range that no division has."""
    assert of_range(0, HASHES) is None
    assert of_range(0, 0) is None
    assert of_range(5, 1 << 31) is None


def test_names_of_a_directory() -> None:
    """The names of a directory are told apart like the paths that they make up, whatever bytes they have."""
    share = Share(1, 3)
    names = [f"{number}.dat" for number in range(50)] + ["\udcff"]
    assert share.select(("a", "b\udcfe"), names) == [share.owns(f"a/b\udcfe/{name}") for name in names]
    assert share.select((), names) == [share.owns(name) for name in names]


@pytest.mark.parametrize("text", ["", "1", "/", "/3", "3/3", "-1/3", "1/0", "0/10001", "a/b", "1/2/3", " 0/2", "٠/2"])
def test_what_is_no_share(text: str) -> None:
    """A share is written as K/N with K below N; anything else is refused."""
    with pytest.raises(UsageProblem):
        parse(text)


def test_how_a_share_is_written() -> None:
    """It is read as it is written, and its directory tells it."""
    share = parse("2/12")
    assert str(share) == "2/12"
    assert of_directory(share.name) == share
    assert [of_directory(name) for name in ("share-3-of-3", "share-1", "share-01-of-2", "ledger.sqlite3")] == [None] * 4


SLURM = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4"}


def array(index: int, first: int, last: int, count: int) -> dict[str, str]:
    """What Slurm tells a task of an array."""
    numbers = {"ID": index, "MIN": first, "MAX": last, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        (None, {}, None),
        (None, {"SLURM_ARRAY_TASK_ID": "2"}, None),
        (None, {"JOB_COMPLETION_INDEX": "2"}, None),
        (None, SLURM, Share(2, 4)),
        (None, {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}, None),
        ("0/1", SLURM, None),
        ("1/8", SLURM, Share(1, 8)),
        ("/8", SLURM, Share(2, 8)),
        ("/8", {"JOB_COMPLETION_INDEX": "7"}, Share(7, 8)),
        ("/8", {"JOB_COMPLETION_INDEX": "2", **SLURM}, Share(2, 8)),
        (None, array(2, 0, 3, 4), Share(2, 4)),
        (None, array(0, 0, 0, 1), None),
        ("/8", array(5, 5, 5, 1), Share(5, 8)),
        ("/8", array(7, 3, 7, 2), Share(7, 8)),
    ],
)
def test_where_a_share_comes_from(text: str | None, environment: dict[str, str], expected: Share | None) -> None:
    """What is given comes first; without its first number a scheduler says it; a Slurm array says both."""
    assert chosen(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment", "told"),
    [
        ("/8", {}, "The share /8 does not say"),
        ("/8", {"JOB_COMPLETION_INDEX": "8"}, "JOB_COMPLETION_INDEX is 8, and 8/8 is not a share"),
        ("/8", {"JOB_COMPLETION_INDEX": "x"}, r"JOB_COMPLETION_INDEX is \?, and"),
        ("/8", {"JOB_COMPLETION_INDEX": ""}, r"JOB_COMPLETION_INDEX is \?, and"),
        ("/0", {"JOB_COMPLETION_INDEX": "0"}, "0/0 is not a share"),
        ("/8", {"JOB_COMPLETION_INDEX": "1", **SLURM}, "SLURM_ARRAY_TASK_ID is 2 and JOB_COMPLETION_INDEX is 1"),
        ("/8", array(1, 1, 8, 8), "SLURM_ARRAY_TASK_MAX is 8, and 8/8 is not a share"),
        (None, {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4"}, "The task 4 of a Slurm array of 4 is no"),
        (None, {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "1"}, "The task 7 of a Slurm array of 1 is no"),
        (None, {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "x"}, "The task 0 of a Slurm array of"),
        (None, array(1, 1, 4, 4), "The task 1 of a Slurm array of 4, from 1 to 4, is not a share"),
        (None, array(2, 0, 6, 4), "The task 2 of a Slurm array of 4, from 0 to 6, is not a share"),
        (None, array(0, 0, 6, 1), "The task 0 of a Slurm array of 1"),
    ],
)
def test_a_scheduler_that_makes_no_share(text: str | None, environment: dict[str, str], told: str) -> None:
    """An array that does not count from 0 to N - 1, or a number that is missing, is refused: no share may be left out.

    Every task of it is refused, also one whose number is that of a share.
    """
    with pytest.raises(UsageProblem, match=told):
        chosen(text, environment)
