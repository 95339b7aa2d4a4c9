"""What is handed, once a run, to those who count and not to those who read: the metrics file and the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from s3_uploader.core import model
from s3_uploader.core.model import LocationTotals, RunReport, Totals

MOST_LOCATIONS = 50
"""So many locations have series of their own. Prometheus keeps each of them for ever, whatever becomes of it."""


class Problem(msgspec.Struct, frozen=True):
    """Something that keeps files from being shipped, and since when, in seconds since the epoch."""

    cause: str
    since: float


def measured_problems(found: Iterable[model.Problem], *, now: float) -> tuple[Problem, ...]:
    """Of what is wrong that which is counted. What has no known begin is taken to begin now."""
    return tuple(Problem(each.cause.value, now if each.since is None else each.since) for each in found)


class RunMeasured(msgspec.Struct, frozen=True, kw_only=True):
    """A run came to its end.

    ``totals``, ``failing_files`` and ``locations``, the first :data:`MOST_LOCATIONS` by name, are what the ledger says
    after it, ``None`` where it could not be asked.
    """

    report: RunReport
    totals: Totals | None = None
    failing_files: int | None = None
    locations: tuple[LocationTotals, ...] | None = None
    problems: tuple[Problem, ...] = ()


class RunNotBegun(msgspec.Struct, frozen=True, kw_only=True):
    """A run could not begin: another one has the spool, or the spool or the state directory cannot be used.

    :param held_since: since when another run has the spool, where that is known.
    :param problems: ``None`` where it is not known whether they are still those of the last run.
    """

    base_dir: str
    at: float
    message: str
    is_held: bool = False
    held_since: float | None = None
    problems: tuple[Problem, ...] | None = None


class RunInProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A run is at work for long already, or no more.

    :param since: since when, in seconds since the epoch; 0 if it is no more.
    :param is_news: this was not told of this run before.
    :param ledger: what the ledger says as of now, ``None`` where it could not be asked.
    """

    base_dir: str
    since: float
    is_news: bool = False
    ledger: RunMeasured | None = None


Measurement: TypeAlias = RunMeasured | RunNotBegun
Measure: TypeAlias = Callable[[Measurement], None]
