"""A run that has the spool's lock: its parts are wired, it ships, and its end is noted."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core import descriptors
from s3_uploader.core.events import Emit, Notice, RunStarted
from s3_uploader.core.model import RunReport
from s3_uploader.core.text import counted
from s3_uploader.health import notices
from s3_uploader.health.said import Sayings
from s3_uploader.ledger import Ledger
from s3_uploader.run.admission import Admission
from s3_uploader.run.assembly import (
    ENDPOINT_MEMORY,
    SIGHTINGS,
    build_plan,
    failure_policy,
    shipping_store,
    success_policy,
)
from s3_uploader.run.conclusion import DELIVERED, conclude
from s3_uploader.run.context import RunContext
from s3_uploader.run.disposition import FailurePolicy
from s3_uploader.run.ending import Ending
from s3_uploader.run.pipeline import MAX_BYTES_IN_FLIGHT, Limits, Pipeline
from s3_uploader.run.place import Place, open_claims
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.lock import Lock
from s3_uploader.spool.removable import Removable
from s3_uploader.spool.sightings import Sightings
from s3_uploader.stores.base import Store

if TYPE_CHECKING:
    from s3_uploader.run.workers import Workers
    from s3_uploader.spool.claims import Claims

_CLOSE_SECONDS = 5.0


def locked_run(place: Place, context: RunContext, max_runtime_seconds: float | None, lock: Lock) -> RunReport:
    """One pass over a spool that nobody else has.

    :raises StateError: if the ledger cannot be opened.
    """
    config, clock, emit = place.config, context.clock, context.emit
    with Ledger.open(
        place.ledger_path, notice=lambda sentence: emit(Notice("warning", sentence)), clock=clock.now
    ) as ledger:
        memory = ledger.endpoint_memory(prefix=notices.MEMORY_PREFIX)
        sayings = Sayings(notices.Seen.recalled(memory).said, now=clock.now(), says_again=context.says_again)
        if context.is_one_of_many:
            from s3_uploader.health.telling import Telling

            context = msgspec.structs.replace(context, emit=Telling(emit, sayings))
        store = make_store(place, context, ledger)
        run = ledger.begin_run(
            started_at=clock.now(), pid=os.getpid(), host=os.uname().nodename, destination=store.name
        )
        context.emit(RunStarted(config.base_dir, store.name))
        _warn_of_deletion(config, context)
        settlement = make_settlement(place, context, ledger, store, run, confirm_lock=lock.confirm)
        sightings = Sightings(
            place.root,
            settle_seconds=config.settle_seconds,
            known=ledger.recall(SIGHTINGS, now=clock.now()),
        )
        if ledger.any_failing:
            from s3_uploader.run.pauses import end_pauses

            end_pauses(config, ledger, environ=context.environ, now=clock.now(), emit=context.emit)
        workers = _workers(place, context, run, lock, settlement, max_runtime_seconds)
        limits = limits_of(config, max_runtime_seconds)
        report, _ = ship(place, context, store, settlement, sightings, limits, workers=workers)
        if workers is not None:
            workers.tell_sightings(sightings)
        finished, problems = conclude(
            place,
            context,
            ledger,
            run,
            report,
            settlement=settlement,
            sightings=sightings,
            memory=memory,
            sayings=sayings,
        )
        context.emit(finished)
        if context.measure is not None:
            from s3_uploader.run.measuring import measured

            context.measure(measured(ledger, finished, problems))
        return report


def make_store(place: Place, context: RunContext, ledger: Ledger) -> Store:
    """The store of a run, not open yet; it remembers in the ledger."""
    return shipping_store(
        place.config,
        make_store=context.make_store,
        notice=lambda level, sentence: context.emit(Notice(level, sentence)),
        memory=ledger.endpoint_memory(prefix=ENDPOINT_MEMORY),
        state_dir=place.state_dir,
    )


def _warn_of_deletion(config: Config, context: RunContext) -> None:
    if config.on_failure == "delete" and not context.is_rehearsal:
        sentence = (
            "on_failure is delete: a file that cannot be shipped is deleted, and is nowhere else. "
            "A file whose key is taken by other content is kept."
        )
        context.emit(Notice("warning", sentence))


def make_settlement(
    place: Place, context: RunContext, ledger: Ledger, store: Store, run: int, *, confirm_lock: Callable[[], None]
) -> Settlement:
    """What takes the files that are shipped."""
    config = place.config
    settlement = Settlement(
        root=place.root,
        layout=place.layout,
        store=store,
        records=ledger,
        run=run,
        emit=context.emit,
        clock=context.clock,
        on_success=success_policy(config),
        on_failure=FailurePolicy() if context.is_rehearsal else failure_policy(config),
        prune=config.prune_empty_dirs if config.prune_empty_dirs is not None else config.layout == "dated",
        random=context.random,
        is_rehearsal=context.is_rehearsal,
        confirm_lock=confirm_lock,
    )
    settlement.second_copies.load(ledger.recall(DELIVERED, now=context.clock.now()))
    return settlement


def _workers(
    place: Place, context: RunContext, run: int, lock: Lock, settlement: Settlement, max_runtime_seconds: float | None
) -> Workers | None:
    if place.config.processes == 1:
        return None
    from s3_uploader.run.division import Division, may_be_divided
    from s3_uploader.run.workers import Workers

    if not may_be_divided(place.config, context):
        return None
    budget = max_runtime_seconds or place.config.max_runtime_seconds
    began = context.clock.monotonic()
    division = Division(
        place,
        run=run,
        lock_file=lock.lock_file,
        seconds_left=lambda: None if budget is None else max(0.01, budget - (context.clock.monotonic() - began)),
        retries=context.retries,
    )
    return Workers(division, locks=lock.descriptors(), emit=context.emit, counters=settlement.counters)


def ship(
    place: Place,
    context: RunContext,
    store: Store,
    settlement: Settlement,
    sightings: Sightings,
    limits: Limits,
    *,
    workers: Workers | None = None,
) -> tuple[RunReport, Ending]:
    """Ship what is ready, with a store that is closed afterwards; returns the report, and how it came to its end."""
    clock, claims = context.clock, _claims(place, context.emit)
    admission = Admission(
        place.root,
        settle_seconds=limits.settle_seconds,
        known_failure=settlement.failures.known if not context.retries else lambda path: None,
        is_remembered=settlement.is_remembered,
        claims=claims,
        sleep=clock.sleep,
        removable=None if settlement.keeps else Removable(place.root),
        sightings=sightings,
    )
    pipeline = Pipeline(
        root=place.root,
        layout=place.layout,
        store=store,
        settlement=settlement,
        emit=context.emit,
        clock=clock,
        stop=context.stop,
        beat=context.beat,
        limits=limits,
        plan=build_plan(place.config),
        admission=admission,
        news=context.news,
        workers=workers,
    )
    try:
        return pipeline.run(), pipeline.ending
    finally:
        # What is claimed is given back only when no upload can be under way any more.
        store.close(timeout=_CLOSE_SECONDS)
        if claims is not None:
            claims.close()


def _claims(place: Place, emit: Emit) -> Claims | None:
    claims = open_claims(place)
    if claims is None:
        return None
    recovered = claims.recover()
    if recovered:
        emit(
            Notice(
                "warning", f"{counted(recovered, 'file')} that another uploader left claimed went back to the spool."
            )
        )
    return claims


def limits_of(config: Config, max_runtime_seconds: float | None, *, of: int = 1) -> Limits:
    """The bounds of a run.

    :param of: how many processes it has, of which this is one.
    """
    open_files, connections = descriptors.share(descriptors.room(), connections=config.destination.max_concurrency)
    return Limits(
        settle_seconds=config.settle_seconds,
        upload_timeout_seconds=config.upload_timeout_seconds,
        drain_seconds=config.drain_seconds,
        max_runtime_seconds=max_runtime_seconds or config.max_runtime_seconds,
        max_in_flight=connections,
        max_open_files=open_files,
        max_bytes_in_flight=MAX_BYTES_IN_FLIGHT // of,
    )
