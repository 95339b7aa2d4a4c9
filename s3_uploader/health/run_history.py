"""Evaluates the ledger's rows of runs: their rhythm, which ones finished, and since when they end alike.

Rows come with the latest first. A row of ticks stands for many runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from s3_uploader.core.model import RunEnd
from s3_uploader.ledger.rows import RunRow

_STEADY_GAPS = 4
_STEADY_FACTOR = 1.5
_STEADY_SHARE = 0.7
"""Runs have a rhythm if there are this many gaps, and this share of them is within this factor of the usual gap."""
_LONG_ENOUGH_SECONDS = 86400.0
"""Without a rhythm, a run is missed after the longest gap so far, but only if runs have come for this many seconds."""


class Pace(msgspec.Struct, frozen=True):
    """The rhythm of runs: seconds from one to the next, and whether that is a steady rhythm or only the longest gap."""

    seconds: float
    is_steady: bool


def pace_of(runs: Sequence[RunRow]) -> Pace | None:
    """Find the rhythm of runs; ``None`` while it is unknown, as after a few runs started by hand.

    :param runs: the latest first. A row of ticks stands for many runs.
    """
    starts: list[tuple[float, int]] = []  # from one start to the next, and how often
    pauses: list[tuple[float, int]] = []  # from one end to the next start
    for row in runs:
        if row.ticks > 1 and row.finished_at is not None:
            gap = (_last_start(row) - row.started_at) / (row.ticks - 1)
            starts.append((gap, row.ticks - 1))
            pauses.append((max(gap - row.duration, 0.0), row.ticks - 1))
    for later, earlier in pairwise(runs):
        starts.append((later.started_at - _last_start(earlier), 1))
        pauses.append((later.started_at - (earlier.finished_at or earlier.started_at), 1))
    for gaps in (starts, pauses):
        usual = _usual(gaps)
        if usual is not None:
            return Pace(usual, is_steady=True)
    if runs and _last_start(runs[0]) - runs[-1].started_at >= _LONG_ENOUGH_SECONDS:
        return Pace(max(gap for gap, _ in starts), is_steady=False)
    return None


def next_start(runs: Sequence[RunRow], *, now: float) -> float | None:
    """When the next run is expected; ``None`` without a steady rhythm.

    :param runs: the latest first.
    """
    pace = pace_of(runs)
    if pace is None or not pace.is_steady:
        return None
    expected = _last_start(runs[0]) + pace.seconds
    # A run that is long overdue is no longer expected.
    return expected if now - expected <= pace.seconds else None


def finished(runs: list[RunRow]) -> list[RunRow]:
    """The runs that have finished."""
    # A run that is still at work, or was killed, says nothing about what is wrong.
    return [row for row in runs if row.finished_at is not None]


def did_not_end(row: RunRow) -> bool:
    """Whether a run was killed, or interrupted."""
    return row.finished_at is None or row.ended_by == RunEnd.SIGNAL.value


def alike_since(ended: list[RunRow], alike: Callable[[RunRow], bool]) -> float:
    """When the first run of the latest unbroken series with the same end began."""
    since = ended[0].started_at
    for row in ended:
        if not alike(row):
            break
        since = row.started_at
    return since


def last_moment(runs: list[RunRow]) -> float | None:
    """When the last run was, whatever its result."""
    if not runs:
        return None
    return runs[0].finished_at if runs[0].finished_at is not None else runs[0].started_at


def _usual(gaps: Sequence[tuple[float, int]]) -> float | None:
    """The usual gap; ``None`` if there are too few gaps or they differ too much."""
    number = sum(times for _, times in gaps)
    if number < _STEADY_GAPS:
        return None
    usual, passed = 0.0, 0
    for gap, times in sorted(gaps):
        if passed * 2 < number:
            usual = gap
        passed += times
    alike = sum(times for gap, times in gaps if usual / _STEADY_FACTOR <= gap <= usual * _STEADY_FACTOR)
    return usual if usual > 0 and alike >= _STEADY_SHARE * number else None


def _last_start(row: RunRow) -> float:
    """When the last run of a row began."""
    return row.started_at if row.finished_at is None else max(row.finished_at - row.duration, row.started_at)
