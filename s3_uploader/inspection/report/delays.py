"""A histogram of durations in bounded size, with quantiles exact to one percent."""

from __future__ import annotations

import math
from collections.abc import Mapping

_RESOLUTION = 100.0  # steps for each factor of e, so neighbours are one percent apart


def step_of(seconds: float) -> int:
    """The step of the histogram for a duration. Negative durations count as zero."""
    return round(math.log1p(seconds) * _RESOLUTION) if seconds > 0 else 0


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The quantile for a share of the values; ``None`` without values.

    :param counts: number of values in each step.
    """
    wanted = share * sum(counts.values())
    reached = 0
    for step in sorted(counts):
        reached += counts[step]
        if reached >= wanted:
            return rounded(math.expm1(step / _RESOLUTION))
    return None


def rounded(seconds: float) -> float:
    """Round to four digits, more than the histogram's precision."""
    return float(f"{seconds:.4g}")
