"""The quick benchmark: does a file cost more CPU than it used to? Measured against a plain boto3 loop, in the same run.

Absolute times say more about the machine than about the program. The loop is our yardstick: it does the same work on
the same files, and nothing of it is ours.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.contestants import Loop, Ours
from benchmarks.measure import Bench
from benchmarks.spools import Plan
from benchmarks.summary import Run

BASELINE = Path(__file__).with_name("baseline.json")
ALLOWED_GROWTH = 1.5
PLAN = Plan(files=2_000, size=4096)
ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What was measured when it was last looked at by a person: our CPU time as a share of the loop's."""

    cpu_ratio: float


def measure(bench: Bench) -> tuple[list[Run], list[Run]]:
    """Rounds of ours and of the loop, one after the other."""
    ours, loop = [], []
    for _ in range(ROUNDS):
        ours.append(bench.run(Ours(), PLAN, "plain", keep_state_as="quick-ours"))
        loop.append(bench.run(Loop(), PLAN, "plain", keep_state_as="quick-loop"))
    return ours, loop


def cpu_ratio(ours: Sequence[Run], loop: Sequence[Run]) -> float:
    """The median of ours by the median of the loop's.

    :raises ValueError: if a run does not count.
    """
    for run in (*ours, *loop):
        if run.problem:
            raise ValueError(run.problem)
    return statistics.median(run.cpu for run in ours) / statistics.median(run.cpu for run in loop)


def verdict(measured: float, baseline: Baseline) -> tuple[bool, str]:
    """Whether it is still good, and a sentence."""
    limit = baseline.cpu_ratio * ALLOWED_GROWTH
    good = measured <= limit
    sentence = (
        f"A file costs {measured:.3f} of the CPU time that it costs a plain boto3 loop; "
        f"it was {baseline.cpu_ratio:.3f}, and {limit:.3f} is the most that is allowed."
    )
    if not good:
        sentence += (
            " Find out what made it dearer; if it is worth it, write the new figure: "
            "python -m benchmarks quick --save-baseline"
        )
    return good, sentence


def load_baseline() -> Baseline:
    """The committed figure."""
    return msgspec.json.decode(BASELINE.read_bytes(), type=Baseline)


def save_baseline(measured: float) -> None:
    """Make what was measured the committed figure."""
    baseline = Baseline(cpu_ratio=round(measured, 3))
    BASELINE.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n")
