"""Ships what the scan of a run finds: makes store, settlement and pipeline, and runs them to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from s3_uploader.config.schema import Config
from s3_uploader.core.events import Notice
from s3_uploader.core.files import free_descriptors, shared_descriptors
from s3_uploader.core.model import RunReport
from s3_uploader.ledger import Ledger
from s3_uploader.run.admission import Admission
from s3_uploader.run.assembly import ENDPOINT_MEMORY, build_routes, failure_policy, shipping_store, success_policy
from s3_uploader.run.context import RunContext
from s3_uploader.run.disposition import FailurePolicy
from s3_uploader.run.ending import DELIVERED, SIGHTINGS, Done
from s3_uploader.run.pipeline import MAX_BYTES_IN_FLIGHT, Limits, Pipeline
from s3_uploader.run.place import Place
from s3_uploader.run.scan import SpoolScan
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.layouts.base import Found
from s3_uploader.spool.lock import Lock
from s3_uploader.spool.readiness import Removable, Sightings
from s3_uploader.stores.base import Store

if TYPE_CHECKING:
    from s3_uploader.run.workers import Workers
    from s3_uploader.spool.claims import Claims

_CLOSE_SECONDS = 5.0


def ship_as_leader(
    place: Place,
    context: RunContext,
    ledger: Ledger,
    scan: SpoolScan,
    begun: Iterator[Found],
    *,
    run: int,
    lock: Lock,
    claims: Claims | None,
) -> Done:
    """Ship what is ready, with worker processes if the configuration says so.

    :param begun: the scan, from the first file on that may be ready.
    :param run: the number of the run in the ledger.
    """
    if place.config.on_success == "keep":
        from s3_uploader.run.kept_files import forget_those_of_another_place

        now = context.clock.now()
        forget_those_of_another_place(place.config, ledger, environ=context.environ, now=now, emit=context.emit)
    store = make_store(place, context, ledger)
    settlement = make_settlement(place, context, ledger, store, scan, run, confirm_lock=lock.confirm)
    sightings = recalled_sightings(place, context, ledger)
    made: list[Workers] = []

    def make_workers() -> Workers | None:
        try:
            workers = _workers(place, context, scan, run, lock)
        except (ImportError, OSError) as error:  # for example because too many files are open
            sentence = f"No worker process can be started ({error}). The run continues with one process."
            context.emit(Notice("warning", sentence))
            return None
        if workers is not None:
            made.append(workers)
        return workers

    report = ship(
        place,
        context,
        store,
        settlement,
        sightings,
        limits_of(place.config),
        scan=scan,
        begun=begun,
        claims=claims,
        make_workers=None if place.config.processes == 1 else make_workers,
    )
    for workers in made:
        workers.tell_sightings(sightings)
    return Done(
        report=report,
        failures=settlement.failed_uploads,
        delivered=settlement.second_copies.dump(),
        sightings=sightings.dump(),
        unseen=sightings.unseen,
    )


def make_store(place: Place, context: RunContext, ledger: Ledger) -> Store:
    """The store of a run, not open yet; it remembers in the ledger."""
    return shipping_store(
        place.config,
        make_store=context.make_store,
        notice=lambda level, sentence: context.emit(Notice(level, sentence, is_of_endpoint=True)),
        memory=ledger.endpoint_memory(prefix=ENDPOINT_MEMORY),
        state_dir=place.state_dir,
    )


def make_settlement(
    place: Place,
    context: RunContext,
    ledger: Ledger,
    store: Store,
    scan: SpoolScan,
    run: int,
    *,
    confirm_lock: Callable[[], None],
) -> Settlement:
    """Make the settlement, which handles the files that are shipped."""
    config = place.config
    settlement = Settlement(
        scan=scan,
        store=store,
        records=ledger,
        run=run,
        emit=context.emit,
        clock=context.clock,
        on_success=success_policy(config),
        on_failure=FailurePolicy() if context.is_rehearsal else failure_policy(config),
        random=context.random,
        is_rehearsal=context.is_rehearsal,
        confirm_lock=confirm_lock,
    )
    settlement.second_copies.load(ledger.recall(DELIVERED, now=context.clock.now()))
    return settlement


def recalled_sightings(place: Place, context: RunContext, ledger: Ledger) -> Sightings:
    """What earlier runs saw of files whose writers may be on other hosts."""
    known = ledger.recall(SIGHTINGS, now=context.clock.now())
    return Sightings(place.root, settle_seconds=place.config.settle_seconds, known=known)


def _workers(place: Place, context: RunContext, scan: SpoolScan, run: int, lock: Lock) -> Workers | None:
    """The workers of a run; ``None`` if it must not be divided."""
    # Most runs ship few files, and never get here.
    from s3_uploader.run.division import Division, may_be_divided
    from s3_uploader.run.workers import Workers

    if not may_be_divided(place.config, context):
        return None
    division = Division(
        place, run=run, lock_file=lock.lock_file, seconds_left=scan.ending.seconds_left, retries=context.retries
    )
    return Workers(division, locks=lock.descriptors(), emit=context.emit, counters=scan.counters)


def ship(
    place: Place,
    context: RunContext,
    store: Store,
    settlement: Settlement,
    sightings: Sightings,
    limits: Limits,
    *,
    scan: SpoolScan,
    begun: Iterator[Found] | None = None,
    claims: Claims | None = None,
    make_workers: Callable[[], Workers | None] | None = None,
) -> RunReport:
    """Ship what is ready, with a store that is closed afterwards.

    :param begun: the scan, if it was begun already.
    """
    clock = context.clock
    admission = Admission(
        place.root,
        settle_seconds=limits.settle_seconds,
        known_failure=settlement.known_failure if not context.retries else lambda path: None,
        is_remembered=settlement.is_remembered if settlement.keeps else None,
        claims=claims,
        sleep=clock.sleep,
        removable=None if settlement.keeps else Removable(place.root),
        sightings=sightings,
    )
    pipeline = Pipeline(
        scan=scan,
        store=store,
        settlement=settlement,
        emit=context.emit,
        clock=clock,
        stop=context.stop,
        beat=context.beat,
        limits=limits,
        routes=build_routes(place.config),
        admission=admission,
        scan_trigger=context.scan_trigger,
        make_workers=make_workers,
    )
    try:
        return pipeline.run(begun)
    finally:
        store.close(timeout=_CLOSE_SECONDS)


def limits_of(config: Config, *, of: int = 1) -> Limits:
    """The bounds of a run.

    :param of: how many processes it has, of which this is one.
    """
    open_files, connections = shared_descriptors(free_descriptors(), connections=config.destination.max_concurrency)
    return Limits(
        settle_seconds=config.settle_seconds,
        upload_timeout_seconds=config.upload_timeout_seconds,
        drain_seconds=config.drain_seconds,
        max_in_flight=connections,
        max_open_files=open_files,
        max_bytes_in_flight=MAX_BYTES_IN_FLIGHT // of,
    )
