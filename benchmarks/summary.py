"""Medians, ratios and goals: what the single runs come to. Pure functions and values."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.cases import Goal


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run took.

    :param seconds: wall time.
    :param cpu: seconds of user and system time together.
    :param peak: most memory that was resident, in bytes.
    :param others: share of the machine that other programs used meanwhile, 0 to 1.
    :param problem: why it does not count; empty if it does.
    """

    seconds: float
    cpu: float
    peak: float
    others: float = 0.0
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The medians of one contestant's runs that count."""

    label: str
    flags: str
    rounds: int
    seconds: float
    cpu: float
    peak: float
    problem: str = ""


def summarize(label: str, flags: str, runs: Sequence[Run]) -> Row:
    """The medians. One run that does not count spoils the contestant's row: being fast now and then is not enough."""
    problem = next((run.problem for run in runs if run.problem), "" if runs else "it did not run")
    if problem:
        return Row(label=label, flags=flags, rounds=len(runs), seconds=0.0, cpu=0.0, peak=0.0, problem=problem)
    return Row(
        label=label,
        flags=flags,
        rounds=len(runs),
        seconds=statistics.median(run.seconds for run in runs),
        cpu=statistics.median(run.cpu for run in runs),
        peak=statistics.median(run.peak for run in runs),
    )


def ratio(value: float, ours: float) -> float | None:
    """``value`` as a multiple of ours; ``None`` where there is nothing to compare."""
    return value / ours if value and ours else None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How ours stands against a goal. ``measured`` is a ratio, or bytes where nobody is named; ``None`` if unknown."""

    goal: Goal
    rival: str
    measured: float | None

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.measured is not None and self.measured <= self.goal.limit


def judge(goal: Goal, ours: Row | None, others: Mapping[str, Row]) -> Verdict:
    """Hold ours against the best of the others.

    :param ours: of the case that the goal belongs to.
    :param others: by what they are called in the verdict; of a goal with ``per_file_of`` both ours and these are rows
        of a single file (:func:`of_one_file`).
    """
    if ours is None or ours.problem:
        return Verdict(goal=goal, rival="", measured=None)
    mine: float = getattr(ours, goal.measure)
    if not goal.against and not goal.per_file_of:
        return Verdict(goal=goal, rival="", measured=mine)
    rivals: Mapping[str, float] = {
        name: getattr(row, goal.measure)
        for name, row in others.items()
        if not row.problem and (goal.per_file_of or name.startswith(goal.against))
    }
    if not rivals:
        return Verdict(goal=goal, rival="", measured=None)
    best = min(rivals, key=lambda name: rivals[name])
    return Verdict(goal=goal, rival=best, measured=ratio(mine, rivals[best]))


def of_one_file(row: Row, files: int) -> Row:
    """The row of a case with so many files, as if it had been one."""
    return replace(row, seconds=row.seconds / files, cpu=row.cpu / files)


def rounds_for(wanted: int, *, first_took: float, patience: float) -> int:
    """How many rounds a contestant takes part in, by what its first run took: one if it is slow, else all.

    :param patience: seconds that a run may take before that.
    """
    return min(wanted, 1) if first_took > patience else wanted
