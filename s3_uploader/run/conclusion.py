"""What is noted when a run has dealt with its files: what it saw, what is old, how it ended."""

from __future__ import annotations

import os

from s3_uploader.core.control import Clock
from s3_uploader.core.counters import RunCounters
from s3_uploader.core.ends import RunEnd
from s3_uploader.core.errors import StateError
from s3_uploader.core.events import Emit, Notice, RunFinished
from s3_uploader.core.model import Problem, RunReport, Strangers
from s3_uploader.core.text import shown_name
from s3_uploader.health import notices
from s3_uploader.health.said import Sayings
from s3_uploader.ledger import EndpointMemory, Ledger, reserve
from s3_uploader.run.assembly import SIGHTINGS, build_globs
from s3_uploader.run.context import RunContext
from s3_uploader.run.place import Place
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.sightings import Sightings, unseen_in_words

DELIVERED = "delivered"
"""Under which name the ledger keeps some of what runs have delivered, to know it again in the spool."""
_TIDY_SECONDS = 1.0
_STRANGERS_SECONDS = 0.5


def conclude(
    place: Place,
    context: RunContext,
    ledger: Ledger,
    run: int,
    report: RunReport,
    *,
    settlement: Settlement,
    sightings: Sightings,
    memory: EndpointMemory,
    sayings: Sayings,
) -> tuple[RunFinished, tuple[Problem, ...]]:
    """Note a run in the ledger; returns what is to be told of its end, and what is wrong with the spool.

    :param run: its number in the ledger.
    :param memory: the ledger's, of what was noticed.
    :param sayings: what this run has told already.
    """
    emit, clock = context.emit, context.clock
    try:
        reserve.keep(place.state_dir)
        _warn_of_unaudited(ledger, place, report, emit, clock)
        _tidy(ledger, place, clock)
        _note_sightings(ledger, place, sightings, emit, clock)
        delivered = settlement.second_copies.dump()
        if delivered:
            ledger.remember(DELIVERED, delivered, now=clock.now())
        if ledger.any_failing:
            from s3_uploader.run.pauses import note

            note(place.config, ledger, environ=context.environ, now=clock.now())
        noticed = notices.Noticing(
            ledger,
            settlement.counters,
            report,
            now=clock.now(),
            emit=emit,
            layout=place.config.layout,
            look=lambda: _strangers(place, settlement.counters, clock),
            memory=memory,
            sayings=sayings,
        )
        ledger.finish_run(run, report, failures=settlement.failures.counted)
        problems = noticed.problems()
        return RunFinished(report, ledger.totals(), ledger.failing_count(attempts=1)), problems
    except StateError as error:
        # A full disk, for one, has been reported by the run already; metrics and ping hear of it all the same.
        if report.ended_by != RunEnd.STATE.value:
            emit(Notice("warning", f"The run is not in the history: {error}"))
        return RunFinished(report), notices.problems_without_ledger(report)


def _strangers(place: Place, counters: RunCounters, clock: Clock) -> Strangers:
    """What the entries are that the layout did not recognise, looked at for a moment at most."""
    from s3_uploader.spool.layouts.strangers import look_at

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


def _note_sightings(ledger: Ledger, place: Place, sightings: Sightings, emit: Emit, clock: Clock) -> None:
    """Remember what was seen of files whose writers may be elsewhere; say once that such files are shipped."""
    now = clock.now()
    seen = sightings.dump()
    if seen:
        ledger.remember(SIGHTINGS, seen, now=now)
    for reason, path in sightings.unseen.items():
        name = f"unseen writers:{reason}"
        if ledger.recall(name, now=now, max_age=float("inf")) is None:
            emit(Notice("warning", unseen_in_words(reason, shown_name(place.root.shown((), path)))))
            ledger.remember(name, "said", now=now)


def _warn_of_unaudited(ledger: Ledger, place: Place, report: RunReport, emit: Emit, clock: Clock) -> None:
    """Say, once until the next audit, that the ledger is about to forget files that nobody has audited."""
    days, files = place.config.history_days, place.config.history_max_files
    if ledger.about_to_forget(
        now=clock.now(), history_days=days, history_max_files=files, destination=report.destination
    ):
        sentence = (
            f"The ledger forgets files {days:g} days after they were shipped, and more than {files:,} (history_days, "
            "history_max_files). No audit has covered those that it forgets next. Run s3-uploader-cli audit before; "
            "until the next audit this is said once."
        )
        emit(Notice("warning", sentence))


def _tidy(ledger: Ledger, place: Place, clock: Clock) -> None:
    """Let the ledger forget what is gone and what is old, for a moment at most; the rest is for the next run."""

    def exists(path: str) -> bool:
        try:
            # Claimed, a file is elsewhere; and between the two looks it may have been given back.
            return is_there(path) or is_claimed(path) or is_there(path)
        except OSError:
            return True  # there is no telling now

    def is_there(path: str) -> bool:
        names = tuple(path.split("/"))
        try:
            place.root.stat(names[:-1], names[-1])
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_claimed(path: str) -> bool:
        if place.config.claim_dir is None:
            return False
        from s3_uploader.spool import claims

        return claims.is_claimed(os.path.abspath(place.config.claim_dir), path)

    until = clock.monotonic() + _TIDY_SECONDS
    ledger.sweep_failed(exists, now=clock.now())
    if place.config.on_success == "keep":
        ledger.sweep_kept(exists, now=clock.now())
    ledger.prune(
        now=clock.now(),
        history_days=place.config.history_days,
        history_max_files=place.config.history_max_files,
        go_on=lambda: clock.monotonic() < until,
    )
