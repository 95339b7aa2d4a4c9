"""How long things took, as a histogram of bounded size: any number of values, quantiles within one percent."""

from __future__ import annotations

import math
from collections.abc import Mapping

_RESOLUTION = 100.0  # steps for each factor of e, so neighbours are one percent apart


def step_of(seconds: float) -> int:
    """The step of the histogram that a duration belongs to; below zero there is nothing."""
    return round(math.log1p(seconds) * _RESOLUTION) if seconds > 0 else 0


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The smallest duration that at least this share of the values does not exceed; ``None`` without values.

    :param counts: how many values each step has.
    """
    wanted = share * sum(counts.values())
    reached = 0
    for step in sorted(counts):
        reached += counts[step]
        if reached >= wanted:
            return rounded(math.expm1(step / _RESOLUTION))
    return None


def rounded(seconds: float) -> float:
    """Four digits, which is more than the histogram knows."""
    return float(f"{seconds:.4g}")
