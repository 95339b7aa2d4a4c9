"""Passes the counts of a run, and the entries that its layout did not recognise, to the notices of the spool."""

from __future__ import annotations

from collections.abc import Callable

from s3_uploader.core.control import Clock
from s3_uploader.core.findings import Problem, Strangers
from s3_uploader.core.model import RunCounters, RunReport
from s3_uploader.health import notices
from s3_uploader.health.said import Sayings
from s3_uploader.ledger import EndpointMemory, Ledger
from s3_uploader.run.context import RunContext
from s3_uploader.run.place import Place, build_globs
from s3_uploader.spool.layouts.strangers import look_at

_STRANGERS_SECONDS = 0.5


def notice(
    place: Place,
    context: RunContext,
    ledger: Ledger,
    report: RunReport,
    *,
    counters: RunCounters,
    memory: EndpointMemory,
    sayings: Sayings | None,
) -> Callable[[], tuple[Problem, ...]]:
    """Remember what a run has seen, and report what is new.

    Returns a function that lists the problems of the spool. It must be called after the run was recorded in the ledger.
    """
    totals = ledger.totals() if counters.strangers else None
    facts = notices.note(
        counters,
        memory,
        base_dir=report.base_dir,
        now=context.clock.now(),
        emit=context.emit,
        layout=place.config.layout,
        look=lambda: _strangers(place, counters, context.clock),
        is_first=totals is not None and not totals.runs,
        ever_shipped=totals is None or bool(totals.shipped_files),
        sayings=sayings,
        says_again=context.says_again,
    )
    return lambda: notices.problems_of(facts, ledger)


def _strangers(place: Place, counters: RunCounters, clock: Clock) -> Strangers:
    """Examine, for a moment at most, the entries that the layout did not recognise."""
    until = clock.monotonic() + _STRANGERS_SECONDS
    return look_at(
        place.root,
        counters.strangers,
        layout=place.config.layout,
        globs=build_globs(place.config),
        now=clock.now(),
        go_on=lambda: clock.monotonic() < until,
        is_complete=not counters.more_strangers,
    )
