"""The cases: how much there is to do, over what kind of line, who takes part, and where we want to get to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contestants import OBSTORE_LOOP, SENDFILE_LOOP, AwsCli, Contestant, Loop, Ours, Rclone, S5cmd
from benchmarks.spools import Plan

Line = Literal["plain", "slow", "tls"]
Measure = Literal["seconds", "cpu", "peak"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What ours should reach: at most ``limit`` times the best of those whom it is held against, else ``limit`` itself.

    :param measure: ``peak`` is in bytes.
    :param against: beginnings of labels: ``rclone move`` is any variant of it.
    :param per_file_of: name of a case; held against what a file costs ours there.
    """

    measure: Measure
    limit: float
    against: tuple[str, ...] = ()
    per_file_of: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to do.

    :param rounds: how often everybody does it.
    :param line: the sink's answers come at once, 20 ms later, or over TLS.
    :param per_file: what it costs is told per file, else for the whole run.
    """

    name: str
    title: str
    plan: Plan
    rounds: int
    contestants: Sequence[Contestant]
    line: Line = "plain"
    goals: Sequence[Goal] = ()
    per_file: bool = True


PEERS = ("rclone move", "s5cmd mv", "aws s3 mv", "boto3 loop")

_NO_LOOKING = ("--no-check-dest", "--s3-no-head", "--s3-no-check-bucket")
_AWS_TUNED = AwsCli(
    variant="tuned",
    options=("--only-show-errors",),
    settings=("max_concurrent_requests = 32", "max_queue_size = 10000"),
)
_DEFAULTS = (Ours(), Rclone(), S5cmd(), AwsCli(), Loop())


def _movers(rclone: tuple[str, ...], s5cmd: tuple[str, ...], s5cmd_mv: tuple[str, ...] = ()) -> tuple[Contestant, ...]:
    """Everybody as they come, and the peers that have something to tune."""
    return (
        *_DEFAULTS,
        Rclone(variant="tuned", options=(*rclone, *_NO_LOOKING)),
        S5cmd(variant="tuned", options=("--log", "error", *s5cmd), move_options=s5cmd_mv),
        _AWS_TUNED,
        Loop(name=OBSTORE_LOOP, variant="32 threads"),
    )


_SMALL = _movers(("--transfers", "32"), ("--numworkers", "64"))
_FASTEST_SMALL = tuple(each for each in _SMALL if each.name in ("rclone move", "s5cmd mv") and each.variant == "tuned")
_SLOW = _movers(("--transfers", "256"), ("--numworkers", "256"))
_MIDDLE = _movers(("--transfers", "8"), ("--numworkers", "16"))
_LARGE = (
    *_movers(
        (
            *("--transfers", "4", "--s3-upload-cutoff", "16M", "--s3-chunk-size", "16M"),
            *("--s3-upload-concurrency", "4", "--s3-disable-checksum"),
        ),
        ("--numworkers", "4"),
        ("--concurrency", "8", "--part-size", "16"),
    ),
    Loop(name=SENDFILE_LOOP, variant="4 threads", flags="no digest, no signature, no proof"),
)
_PROCESSES = (
    Ours(),
    *(Ours(variant=f"processes {number}", settings={"processes": number}) for number in (1, 2, 3)),
)
_OURS = (Ours(), Ours(variant="processes 1", settings={"processes": 1}))
_SMALL_MEMORY = Goal(measure="peak", limit=40e6)
_BIG_MEMORY = Goal(measure="peak", limit=200e6)

CASES: tuple[Case, ...] = (
    Case(
        name="small",
        title="20,000 files of 4 KiB",
        plan=Plan(files=20_000, size=4096),
        rounds=5,
        contestants=_SMALL,
        goals=(
            Goal(measure="seconds", limit=0.6, against=("s5cmd mv", "rclone move")),
            Goal(measure="cpu", limit=0.7, against=("s5cmd mv", "rclone move")),
            Goal(measure="seconds", limit=0.12, against=("boto3 loop",)),
        ),
    ),
    Case(
        name="small-20ms",
        title="20,000 files of 4 KiB, every answer 20 ms later",
        plan=Plan(files=20_000, size=4096),
        rounds=5,
        line="slow",
        contestants=(*_SLOW, Rclone(variant="32 transfers", options=("--transfers", "32"))),
        goals=(
            Goal(measure="seconds", limit=0.65, against=("s5cmd mv, tuned",)),
            Goal(measure="seconds", limit=0.35, against=("rclone move, 32 transfers",)),
        ),
    ),
    Case(
        name="small-tls",
        title="20,000 files of 4 KiB over TLS",
        plan=Plan(files=20_000, size=4096),
        rounds=5,
        line="tls",
        contestants=_SMALL,
        goals=(Goal(measure="seconds", limit=0.5, against=PEERS),),
    ),
    Case(
        name="middle",
        title="2,000 files of 256 KiB",
        plan=Plan(files=2_000, size=256 * 2**10),
        rounds=5,
        contestants=_MIDDLE,
        goals=(Goal(measure="seconds", limit=0.8, against=PEERS),),
    ),
    Case(
        name="large",
        title="32 files of 64 MiB",
        plan=Plan(files=32, size=64 * 2**20),
        rounds=5,
        contestants=_LARGE,
        goals=(Goal(measure="seconds", limit=0.75, against=PEERS), _BIG_MEMORY),
        per_file=False,
    ),
    Case(
        name="huge",
        title="one file of 2 GiB",
        plan=Plan(files=1, size=2 * 2**30),
        rounds=5,
        contestants=_LARGE,
        goals=(Goal(measure="seconds", limit=0.75, against=PEERS), _BIG_MEMORY),
        per_file=False,
    ),
    Case(
        name="tick-empty",
        title="a tick with nothing to do: an empty spool",
        plan=Plan(files=0, size=0),
        rounds=21,
        contestants=_DEFAULTS,
        goals=(Goal(measure="seconds", limit=0.7, against=("rclone move",)),),
        per_file=False,
    ),
    Case(
        name="tick-fresh",
        title="a tick with nothing to do: 5,000 files that are too young",
        plan=Plan(files=5_000, size=4096, fresh=True, topics=500),
        rounds=11,
        contestants=[contestant for contestant in _DEFAULTS if contestant.leaves_fresh],
        goals=(Goal(measure="seconds", limit=1.0, against=("rclone move",)),),
        per_file=False,
    ),
    Case(
        name="tick-6",
        title="a tick with 6 files of 4 KiB",
        plan=Plan(files=6, size=4096),
        rounds=21,
        contestants=_DEFAULTS,
        goals=(
            Goal(measure="seconds", limit=1.3, against=("rclone move",)),
            Goal(measure="seconds", limit=0.3, against=("aws s3 mv",)),
        ),
        per_file=False,
    ),
    Case(
        name="promises",
        title="what the promises cost: 20,000 files of 4 KiB",
        plan=Plan(files=20_000, size=4096),
        rounds=5,
        contestants=(
            Ours(),
            Ours(variant="the ledger only in memory", state_in_memory=True),
            Ours(variant="no proof asked for", settings={"minimum_proof": "size"}),
        ),
    ),
    Case(
        name="engines",
        title="the engines: 20,000 files of 4 KiB",
        plan=Plan(files=20_000, size=4096),
        rounds=3,
        contestants=(Ours(), Ours(variant="engine boto3", settings={"engine": "boto3"})),
    ),
    Case(
        name="processes",
        title="one run on several processors: 20,000 files of 4 KiB",
        plan=Plan(files=20_000, size=4096),
        rounds=5,
        contestants=(*_PROCESSES, *_FASTEST_SMALL),
        goals=(Goal(measure="seconds", limit=0.6, against=("s5cmd mv", "rclone move")),),
    ),
    Case(
        name="processes-256k",
        title="one run on several processors: 20,000 files of 256 KiB",
        plan=Plan(files=20_000, size=256 * 2**10),
        rounds=3,
        contestants=_PROCESSES,
    ),
    Case(
        name="backlog-10k",
        title="a backlog of 10,000 files of 4 KiB",
        plan=Plan(files=10_000, size=4096),
        rounds=5,
        contestants=(Ours(),),
    ),
    Case(
        name="backlog-1m",
        title="a backlog of 1,000,000 files of 4 KiB",
        plan=Plan(files=1_000_000, size=4096),
        rounds=1,
        contestants=(Ours(), *_FASTEST_SMALL),
        goals=(
            Goal(measure="seconds", limit=1.3, per_file_of="backlog-10k"),
            Goal(measure="cpu", limit=1.3, per_file_of="backlog-10k"),
            Goal(measure="peak", limit=80e6),
        ),
    ),
    Case(
        name="one-directory-20k",
        title="20,000 files of 16 bytes in one directory",
        plan=Plan(files=20_000, size=16, locations=1, minutes=0),
        rounds=5,
        contestants=_OURS,
    ),
    Case(
        name="one-directory-1m",
        title="1,000,000 files of 16 bytes in one directory",
        plan=Plan(files=1_000_000, size=16, locations=1, minutes=0),
        rounds=1,
        contestants=_OURS,
        goals=(Goal(measure="cpu", limit=1.1, per_file_of="one-directory-20k"), _SMALL_MEMORY),
    ),
    Case(
        name="directories-20k",
        title="20,000 files of 16 bytes in 2,000 directories",
        plan=Plan(files=20_000, size=16, locations=100, topics=1, minutes=6),
        rounds=5,
        contestants=_OURS,
    ),
    Case(
        name="directories-1m",
        title="1,000,000 files of 16 bytes in 100,000 directories",
        plan=Plan(files=1_000_000, size=16, locations=100, topics=1, minutes=6),
        rounds=1,
        contestants=_OURS,
        goals=(Goal(measure="cpu", limit=1.1, per_file_of="directories-20k"), _SMALL_MEMORY),
    ),
)
