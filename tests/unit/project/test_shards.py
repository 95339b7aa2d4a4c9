"""How the long suite divides a test among processes, and which points of system calls it leaves out."""

from __future__ import annotations

from tests.distribution import unit_of
from tests.e2e.syscalls import KILL, Point, distinct

FILE = "tests/e2e/test_every_system_call.py"


def test_the_tests_of_a_file_stay_together_unless_they_are_shards() -> None:
    """What a file sets up is set up in one process; shards need nothing of each other."""
    assert unit_of(f"{FILE}::test_a") == unit_of(f"{FILE}::test_b[plain-1]") == unit_of(f"{FILE}::Test::test_c") == FILE
    shards = [f"{FILE}::test_a[{name}]" for name in ("plain-shard0", "plain-shard1", "ftp-shard0", "shard0")]
    assert len({FILE, *map(unit_of, shards)}) == len(shards) + 1


def opened(*turns: int, after: str = "scandir", errors: tuple[str, ...] = ("EIO", "EMFILE", "EACCES")) -> list[Point]:
    """Calls of one place of a program, each with all that can happen to it."""
    return [Point("openat", turn, happens, "open", after=after) for turn in turns for happens in (KILL, *errors)]


def test_no_call_is_left_out() -> None:
    """A run dies at each call, and each call fails at least once."""
    kept = distinct(opened(*range(1, 9)))
    for happens_there in (lambda point: point.happens == KILL, lambda point: point.happens != KILL):
        assert {point.turn for point in kept if happens_there(point)} == set(range(1, 9))


def test_only_what_repeats_another_point_is_left_out() -> None:
    """The first and the last call of each place fail in every way; those between take turns."""
    first, last = opened(1), opened(9)
    kept = distinct([*first, *opened(3, 5, 7), *last])
    assert [point for point in kept if point.turn in (1, 9)] == first + last
    between = [point for point in kept if point.turn in (3, 5, 7) and point.happens != KILL]
    assert {point.happens for point in between} == {"EIO", "EMFILE", "EACCES"}
    assert len(between) == 3


def test_calls_after_other_calls_are_other_calls() -> None:
    """The same call stands in several places of a program: those before it tell which."""
    everything = [*opened(1, 2), *opened(3, after="fstat"), *opened(4, after="rename")]
    assert distinct(everything) == everything
