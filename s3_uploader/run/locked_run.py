"""Runs one pass over a locked spool: scans it, ships what is ready, records how the run ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core.events import Emit, Notice, RunStarted
from s3_uploader.core.model import RunReport
from s3_uploader.core.text import counted
from s3_uploader.health import MEMORY_PREFIX
from s3_uploader.ledger import Ledger
from s3_uploader.run.conclusion import Done, conclude
from s3_uploader.run.context import RunContext
from s3_uploader.run.ending import Ending
from s3_uploader.run.place import Place, open_claims
from s3_uploader.run.scan import SpoolScan
from s3_uploader.spool.lock import Lock

if TYPE_CHECKING:
    from s3_uploader.health.said import Sayings
    from s3_uploader.spool.claims import Claims


def locked_run(place: Place, context: RunContext, max_runtime_seconds: float | None, lock: Lock) -> RunReport:
    """Run one pass over the locked spool.

    :raises StateError: if the ledger cannot be opened.
    """
    config, clock, emit = place.config, context.clock, context.emit
    with Ledger.open(
        place.ledger_path, notice=lambda sentence: emit(Notice("warning", sentence)), clock=clock.now
    ) as ledger:
        memory = ledger.endpoint_memory(prefix=MEMORY_PREFIX)
        sayings: Sayings | None = None
        if context.is_one_of_many:
            from s3_uploader.health.telling import Telling

            telling = Telling.recalled(emit, memory, now=clock.now(), says_again=context.says_again)
            sayings, context = telling.sayings, msgspec.structs.replace(context, emit=telling)
        destination = config.destination.name
        run = ledger.begin_run(
            started_at=clock.now(), pid=os.getpid(), host=os.uname().nodename, destination=destination
        )
        context.emit(RunStarted(config.base_dir, destination))
        _warn_of_deletion(config, context)
        if ledger.any_failing:
            from s3_uploader.run.pauses import end_pauses

            end_pauses(config, ledger, environ=context.environ, now=clock.now(), emit=context.emit)
        scan = scan_of(place, context, max_runtime_seconds or config.max_runtime_seconds)
        done = _look_and_ship(place, context, ledger, scan, run, lock)
        finished, problems = conclude(
            place, context, ledger, run, done, counters=scan.counters, memory=memory, sayings=sayings
        )
        context.emit(finished)
        if context.measure is not None:
            from s3_uploader.run.measuring import measured

            context.measure(measured(ledger, finished, problems))
        return done.report


def scan_of(place: Place, context: RunContext, max_runtime_seconds: float | None) -> SpoolScan:
    """Make the scan of a spool. The time of the run counts from here."""
    config, clock = place.config, context.clock
    return SpoolScan(
        place.root,
        place.layout,
        settle_seconds=config.settle_seconds,
        prune=config.prune_empty_dirs if config.prune_empty_dirs is not None else config.layout == "dated",
        ending=Ending(context.stop, clock=clock, max_runtime_seconds=max_runtime_seconds),
        emit=context.emit,
        clock=clock,
        beat=context.beat,
    )


def _look_and_ship(place: Place, context: RunContext, ledger: Ledger, scan: SpoolScan, run: int, lock: Lock) -> Done:
    claims = _claims(place, context.emit)
    try:
        if context.news is not None:
            context.news.forget()
        begun = scan.find()
        if begun is not None:
            # Half of the program is needed only where there is a file to ship, and most runs, one each minute, find
            # none: so it is imported here, and nowhere before.
            from s3_uploader.run.shipping import ship_as_leader

            return ship_as_leader(place, context, ledger, scan, begun, run=run, lock=lock, claims=claims)
    finally:
        # What is claimed is given back only when no upload can be under way any more.
        if claims is not None:
            claims.close()
    report = scan.ending.report(
        scan.counters, base_dir=place.root.base_dir, destination=place.config.destination.name, emit=context.emit
    )
    return Done(report=report)


def _claims(place: Place, emit: Emit) -> Claims | None:
    claims = open_claims(place)
    if claims is None:
        return None
    recovered = claims.recover()
    if recovered:
        emit(Notice("warning", f"{counted(recovered, 'file')} of an abandoned claim went back to the spool."))
    return claims


def _warn_of_deletion(config: Config, context: RunContext) -> None:
    if config.on_failure == "delete" and not context.is_rehearsal:
        sentence = (
            "on_failure is delete: a file that cannot be shipped is deleted and lost. "
            "A file whose key is taken by other content is kept."
        )
        context.emit(Notice("warning", sentence))
