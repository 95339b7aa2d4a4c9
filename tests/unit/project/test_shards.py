"""How the long suite divides a test among processes, and which points of system calls it leaves out."""

from __future__ import annotations

from pathlib import Path

from tests.distribution import LONGEST, in_order, unit_of
from tests.e2e.syscalls import KILL, Point, distinct, points

ROOT = Path(__file__).parents[3]
FILE = "tests/e2e/test_every_system_call.py"


def test_the_tests_of_a_file_stay_together_unless_they_are_shards() -> None:
    """What a file sets up is set up in one process; shards need nothing of each other."""
    assert unit_of(f"{FILE}::test_a") == unit_of(f"{FILE}::test_b[plain-1]") == unit_of(f"{FILE}::Test::test_c") == FILE
    shards = [f"{FILE}::test_a[{name}]" for name in ("plain-shard0", "plain-shard1", "ftp-shard0", "shard0")]
    assert len({FILE, *map(unit_of, shards)}) == len(shards) + 1


def test_the_tests_of_a_server_stay_together() -> None:
    """A server that is started for a file is started once, and other processes have others meanwhile."""
    ceph = {unit_of(f"{FILE}::{test}[ceph@native]") for test in ("test_a", "test_b")}
    assert len(ceph) == 1
    assert len(ceph | {unit_of(f"{FILE}::test_a[ceph@boto3]"), unit_of(f"{FILE}::test_c"), FILE}) == 3


def test_the_longest_files_are_begun_first_and_the_small_ones_last() -> None:
    """No process is at a long file when the others have nothing left, and what waits runs beside what computes."""
    computing = [f"tests/e2e/test_{letter}.py" for letter in "abcd"]
    waiting = ["tests/contracts/test_a.py", "tests/integration/test_b.py"]
    long = [f"tests/e2e/{LONGEST[1]}.py", f"tests/integration/{LONGEST[0]}.py"]
    small = ["tests/fuzz/test_f.py", "tests/unit/core/test_u.py"]
    ordered = in_order([*waiting, *computing, *long, *small])
    assert ordered[:2] == long[::-1]
    assert ordered[-2:] == small
    assert ordered[2:-2] == [waiting[0], *computing[:3], waiting[1], computing[3]]


def test_the_longest_files_are_there() -> None:
    """A file that was renamed keeps its place at the beginning."""
    names = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert names >= set(LONGEST)


def opened(*turns: int, after: str = "scandir", errors: tuple[str, ...] = ("EIO", "EMFILE", "EACCES")) -> list[Point]:
    """Calls of one place of a program, each with all that can happen to it."""
    return [Point("openat", turn, happens, "open", after=after) for turn in turns for happens in (KILL, *errors)]


def test_no_call_is_left_out() -> None:
    """A run dies at each call, and each call fails at least once."""
    kept = distinct(opened(*range(1, 9)))
    for happens_there in (lambda point: point.happens == KILL, lambda point: point.happens != KILL):
        assert {point.turn for point in kept if happens_there(point)} == set(range(1, 9))


def test_only_what_repeats_another_point_is_left_out() -> None:
    """The first call of each place of the program fails in every way that there is, the others take turns."""
    first = opened(1)
    kept = distinct([*first, *opened(3, 5, 7)])
    assert [point for point in kept if point.turn == 1] == first
    others = [point for point in kept if point.turn != 1 and point.happens != KILL]
    assert {point.happens for point in others} == {"EIO", "EMFILE", "EACCES"}
    assert len(others) == 3


def test_calls_after_other_calls_are_other_calls() -> None:
    """The same call stands in several places of a program: those before it tell which."""
    everything = [*opened(1), *opened(3, after="fstat"), *opened(4, after="rename")]
    assert distinct(everything) == everything


def test_points_at_which_a_run_is_killed(tmp_path: Path) -> None:
    """Between two changes it makes no difference when a run dies; after the last one it has to die once more."""
    log = tmp_path / "log"
    log.write_text(
        f"""7 openat(AT_FDCWD</home>, "{tmp_path}/config.json", O_RDONLY) = 3<{tmp_path}/config.json>
7 close(3<{tmp_path}/config.json>) = 0
7 openat(AT_FDCWD</home>, "/proc/self/mountinfo", O_RDONLY) = 3</proc/7/mountinfo>
7 write(4<{tmp_path}/ledger>, "abc", 3) = 3
8 unlinkat(5<{tmp_path}/spool>, "46-topic.dat", 0 <unfinished ...>
7 fsync(4<{tmp_path}/ledger> <unfinished ...>
8 <... unlinkat resumed>) = 0
7 read(6</usr/lib/python3/abc.py>, "", 4096) = 0
7 close(4<{tmp_path}/ledger>) = 0
"""
    )
    found = points(log, tmp_path, "config.json")
    assert [(point.call, point.turn) for point in found if point.happens == KILL] == [
        ("write", 1),
        ("unlinkat", 1),
        ("close", 2),
    ]
    failing = [(point.call, point.turn) for point in found if point.happens == "EIO"]
    assert failing == [
        *(("openat", 1), ("close", 1), ("openat", 2), ("write", 1), ("unlinkat", 1), ("fsync", 1), ("close", 2)),
    ]
