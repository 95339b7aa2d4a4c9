"""Composes a run from its configuration: the store, the settlement and the pipeline, which then ship what is ready."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.destinations import LocalDestination, S3Destination
from s3_uploader.config.schema import Config, MoveTo
from s3_uploader.core.events import Notice
from s3_uploader.core.files import free_descriptors
from s3_uploader.core.model import Receipt, RunReport
from s3_uploader.ledger import Ledger
from s3_uploader.run.admission import Admission
from s3_uploader.run.context import DELIVERED, ENDPOINT_MEMORY, SIGHTINGS, Done, MakeStore, RunContext
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.run.pipeline import MAX_BYTES_IN_FLIGHT, Limits, Pipeline
from s3_uploader.run.place import Place, move_directory
from s3_uploader.run.routing import build_routes, compression_formats, constant_prefix, constant_prefixes
from s3_uploader.run.scan import SpoolScan
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.layouts.base import Found
from s3_uploader.spool.lock import Lock
from s3_uploader.spool.open_file import Removable, Sightings
from s3_uploader.stores.base import USUAL_LIMITS, Store, ignore

if TYPE_CHECKING:
    from s3_uploader.core.findings import Finding
    from s3_uploader.run.workers import Workers
    from s3_uploader.spool.claims import Claims
    from s3_uploader.stores.base import CheckLimits, Loop, Memory, PendingReceipt, PutOptions, Source
    from s3_uploader.stores.s3.store import S3Store

_CLOSE_SECONDS = 5.0
_FEWEST_FILES = 2


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
    limits = limits_of(place.config)
    store = make_store(place, context, ledger, connections=limits.max_in_flight)
    settlement = make_settlement(place, context, ledger, store, scan, run, confirm_lock=lock.confirm)
    sightings = recalled_sightings(place, context, ledger)
    made: list[Workers] = []

    def make_workers() -> Workers | None:
        workers = _workers(place, context, scan, run, lock, store)
        if workers is not None:
            made.append(workers)
        return workers

    report = ship(
        place,
        context,
        store,
        settlement,
        sightings,
        limits,
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


def _workers(place: Place, context: RunContext, scan: SpoolScan, run: int, lock: Lock, store: Store) -> Workers | None:
    try:
        from s3_uploader.run.division import workers_of  # most runs ship few files, and never get here

        return workers_of(place, context, scan, run, lock, store)
    except (ImportError, OSError) as error:  # for example because too many files are open
        sentence = f"No worker process can be started ({error}). The run continues with one process."
        context.emit(Notice("warning", sentence))
        return None


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
    clock, routes = context.clock, build_routes(place.config)
    admission = Admission(
        place.root,
        settle_seconds=limits.settle_seconds,
        known_failure=settlement.failed_now if context.retries else settlement.known_failure,
        is_remembered=settlement.is_remembered if settlement.keeps else None,
        claims=claims,
        may_replace=routes.may_replace,
        is_done=settlement.remembers,
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
        routes=routes,
        admission=admission,
        scan_trigger=context.scan_trigger,
        make_workers=make_workers,
    )
    try:
        return pipeline.run(begun)
    finally:
        store.close(timeout=_CLOSE_SECONDS)


def limits_of(config: Config, *, of: int = 1) -> Limits:
    """The bounds of a run, as far as there are descriptors for it now.

    :param of: how many processes it has, of which this is one.
    """
    open_files, connections = shared_descriptors(
        free_descriptors(),
        connections=config.destination.max_concurrency,
        of_upload=2 if compression_formats(config) else 1,
    )
    return Limits(
        settle_seconds=config.settle_seconds,
        upload_timeout_seconds=config.upload_timeout_seconds,
        drain_seconds=config.drain_seconds,
        max_in_flight=connections,
        max_open_files=open_files,
        max_bytes_in_flight=MAX_BYTES_IN_FLIGHT // of,
    )


def shared_descriptors(descriptors: int, *, connections: int, of_upload: int = 1) -> tuple[int, int]:
    """Divide descriptors between files and connections.

    A file stays open until it is removed, longer than a connection is used for it, so files get more.

    :param connections: most connections that are useful.
    :param of_upload: how many descriptors an upload in flight has, with its connection.
    """
    for_connections = min(connections, max(1, descriptors // (2 + of_upload)))
    return max(_FEWEST_FILES, descriptors - of_upload * for_connections), for_connections


def success_policy(config: Config) -> SuccessPolicy:
    """Build the disposition of shipped files."""
    if isinstance(config.on_success, MoveTo):
        from s3_uploader.spool.move_target import MoveTarget

        return SuccessPolicy(move_to=MoveTarget(move_directory(config.on_success)))
    return SuccessPolicy(keep=config.on_success == "keep")


def failure_policy(config: Config) -> FailurePolicy:
    """Build the disposition of files that cannot be shipped."""
    if isinstance(config.on_failure, MoveTo):
        if os.path.realpath(move_directory(config.on_failure)) == os.path.realpath(config.base_dir):
            return FailurePolicy()  # resubmitted: it stays in the spool, or goes back there from its claim
        from s3_uploader.spool.move_target import MoveTarget

        return FailurePolicy(move_to=MoveTarget(move_directory(config.on_failure)), attempts=config.on_failure.attempts)
    return FailurePolicy(delete=config.on_failure == "delete")


def make_store(place: Place, context: RunContext, ledger: Ledger, *, connections: int) -> Store:
    """The store of a run, not open yet; it remembers in the ledger.

    :param connections: the most that it may have, so that descriptors are left for files and directories.
    """
    return shipping_store(
        with_connections(place.config, connections),
        make_store=context.make_store,
        notice=lambda level, sentence: context.emit(Notice(level, sentence, is_of_endpoint=True)),
        memory=ledger.endpoint_memory(prefix=ENDPOINT_MEMORY),
        state_dir=place.state_dir,
    )


def with_connections(config: Config, connections: int) -> Config:
    """The same configuration, but with so many connections to its destination."""
    destination = msgspec.structs.replace(config.destination, max_concurrency=connections)
    return msgspec.structs.replace(config, destination=destination)


def shipping_store(
    config: Config,
    *,
    make_store: MakeStore | None = None,
    notice: Callable[[str, str], None],
    memory: Memory | None,
    state_dir: str,
) -> Store:
    """Build the store of a run and of ``check``, with compression.

    :param make_store: makes the destination's own store, by default :func:`build_store`.
    :param state_dir: directory for large compressed files before they are sent.
    """
    store = (make_store or build_store)(config, notice=notice, memory=memory)
    formats = compression_formats(config)
    if not formats:
        return store
    from s3_uploader.stores.wrappers.compressing import CompressingStore

    return CompressingStore(store, directory=state_dir, formats=formats)


def build_store(
    config: Config,
    *,
    notice: Callable[[str, str], None],
    memory: Memory | None,
    bytes_in_flight: int | None = None,
) -> Store:
    """Build the store that the configuration names; its libraries are imported when it is opened.

    :param bytes_in_flight: most bytes of files in memory; ``None`` for the store's default.
    """
    destination = config.destination

    def make() -> Store:
        if isinstance(destination, S3Destination):
            return s3_store(config, destination, notice=notice, memory=memory, bytes_in_flight=bytes_in_flight)
        if isinstance(destination, LocalDestination):
            from s3_uploader.stores.local.store import LocalStore

            many, prefixes = destination.max_concurrency, constant_prefixes(config)
            return LocalStore(path=destination.path, max_concurrency=many, key_prefixes=prefixes)
        from s3_uploader.run.file_servers import server_store

        return server_store(config, destination, notice=notice, memory=memory)

    return LazyStore(name=destination.name, make=make)


def s3_store(
    config: Config,
    bucket: S3Destination,
    *,
    notice: Callable[[str, str], None],
    memory: Memory | None,
    bytes_in_flight: int | None = None,
) -> S3Store:
    """Build the store of a bucket; see :func:`build_store`."""
    from s3_uploader.stores.s3 import store as s3

    settings = msgspec.structs.asdict(bucket)
    del settings["on_conflict"], settings["minimum_proof"]
    return s3.create(
        **settings,
        # Permissions may be limited to the prefix: the probe of `check` goes there too.
        key_prefix=constant_prefix(config),
        variants=build_routes(config).options,
        bytes_in_flight=bytes_in_flight,
        notice=notice,
        memory=memory,
    )


class LazyStore:
    """Stands for another store until it is opened.

    :param name: the name of the other store.
    :param make: makes it; called at most once.
    """

    def __init__(self, *, name: str, make: Callable[[], Store]) -> None:
        self.name, self._make = name, make
        self._store: Store | None = None

    @property
    def loop(self) -> Loop | None:
        """See :class:`Store`."""
        return None if self._store is None else self._store.loop

    @property
    def keeps_writers_apart(self) -> bool:
        """See :class:`Store`."""
        return self._made().keeps_writers_apart

    def open(self) -> None:
        """Make the store and open it."""
        self._made().open()

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """See :meth:`Store.put`."""
        store = self._store or self._made()
        return store.put(key, source, options=options, deadline=deadline, replaces=replaces)

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """See :meth:`Store.confirm`."""
        return self._made().confirm(receipt, deadline=deadline)

    def cancel(self) -> None:
        """See :meth:`Store.cancel`."""
        if self._store is not None:
            self._store.cancel()

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """See :meth:`Store.check`."""
        return self._made().check(now=now, stored=stored, limits=limits)

    def address(self, key: str) -> str:
        """See :meth:`Store.address`."""
        return f"{self.name}/{key}" if self._store is None else self._store.address(key)

    def close(self, *, timeout: float) -> None:
        """Close the store if it was ever made."""
        if self._store is not None:
            self._store.close(timeout=timeout)

    def _made(self) -> Store:
        if self._store is None:
            self._store = self._make()
            self.name = self._store.name
        return self._store
