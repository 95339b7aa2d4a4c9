"""The composition root: a configuration becomes a wired run. The only module that knows every part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from s3_uploader.config.keys import Config, FtpDestination, LocalDestination, MoveTo, S3Destination
from s3_uploader.errors import LockHeld, SpoolError, StateError
from s3_uploader.events import Emit, Notice, RunFinished, RunStarted
from s3_uploader.intake import Intake, Verdict, survey
from s3_uploader.ledger import LEDGER_NAME, Ledger, create_state_directory, state_directory
from s3_uploader.lock import Lock, acquire
from s3_uploader.model import OnConflict, Proof, RunReport
from s3_uploader.pipeline import Limits, Pipeline
from s3_uploader.settlement import FailurePolicy, Settlement, SuccessPolicy
from s3_uploader.spool.disposition import MoveTarget
from s3_uploader.spool.layout import Globs, Layout, Skip
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.stop import Clock, News, Stop
from s3_uploader.stores.base import Memory, PutOptions, Store
from s3_uploader.stores.lazy import LazyStore
from s3_uploader.tally import End, Tally
from s3_uploader.text import counted

if TYPE_CHECKING:
    from s3_uploader.spool.claims import Claims
    from s3_uploader.spool.source import OpenFile

_CLOSE_SECONDS = 5.0
_TIDY_SECONDS = 1.0


# -------------------------------------------------------------------------------------------------- places


class Place(msgspec.Struct, frozen=True):
    """An open spool and where its state lives."""

    config: Config
    root: SpoolRoot
    layout: Layout
    state_dir: str

    @property
    def ledger_path(self) -> str:
        """Where the ledger is, or would be."""
        return os.path.join(self.state_dir, LEDGER_NAME)


def ledger_path(config: Config, *, environ: Mapping[str, str] = os.environ) -> str:
    """Where the ledger of a configuration is, whether its spool exists or not."""
    state_dir = state_directory(
        config_state_dir=config.state_dir, environ=environ, base_dir=config.base_dir, uid=os.getuid()
    )
    return os.path.join(state_dir, LEDGER_NAME)


@contextmanager
def open_place(config: Config, *, environ: Mapping[str, str] = os.environ) -> Iterator[Place]:
    """Open the spool of a configuration and make sure that nothing of our own lies where it would be shipped.

    :raises SpoolError: if the spool cannot be used.
    """
    root = SpoolRoot(config.base_dir)
    try:
        state_dir = os.path.dirname(ledger_path(config, environ=environ))
        _refuse_overlap(config, root, state_dir)
        yield Place(config, root, build_layout(config), state_dir)
    finally:
        root.close()


def _refuse_overlap(config: Config, root: SpoolRoot, state_dir: str) -> None:
    base = os.path.realpath(config.base_dir)
    if _is_within(state_dir, base):
        raise SpoolError(
            f"The state directory {state_dir} lies in the spool {config.base_dir}.",
            hint="Set state_dir to a directory outside the spool.",
        )
    for key, policy in (("on_success", config.on_success), ("on_failure", config.on_failure)):
        if isinstance(policy, MoveTo):
            target = move_directory(policy)
            if key == "on_failure" and os.path.realpath(target) == base:
                continue
            if _is_within(target, base):
                raise SpoolError(
                    f"{key}: {target} lies in the spool {config.base_dir}; what is moved there would be shipped again.",
                    hint="Name a directory outside the spool.",
                )
    if config.claim_dir is not None and _is_within(config.claim_dir, base):
        raise SpoolError(
            f"claim_dir {config.claim_dir} lies in the spool {config.base_dir}.", hint="Put it beside the spool."
        )
    if isinstance(config.destination, LocalDestination):
        target = config.destination.path
        if _is_within(target, base) or _is_within(base, os.path.realpath(target)):
            raise SpoolError(
                f"The destination {target} and the spool {config.base_dir} contain one another.",
                hint="Keep them apart.",
            )


def _is_within(path: str, base: str) -> bool:
    real = os.path.realpath(path)
    return real == base or real.startswith(base.rstrip("/") + "/")


def move_directory(policy: MoveTo) -> str:
    """The directory of a ``move_to``, absolute; a relative one is taken from where the program was started."""
    return os.path.abspath(policy.move_to)


# -------------------------------------------------------------------------------------------------- parts


class MakeStore(Protocol):
    """Makes the store of a configuration; see :func:`build_store`."""

    def __call__(self, config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        """Make it."""


def build_layout(config: Config) -> Layout:
    """The layout that the configuration names."""
    globs = Globs(include=config.include, exclude=config.exclude)
    if config.layout == "tree":
        from s3_uploader.spool.tree import TreeLayout

        return TreeLayout(settle_seconds=config.settle_seconds, globs=globs)
    if config.layout == "queue":
        from s3_uploader.spool.queue import QueueLayout

        return QueueLayout(globs=globs)
    from s3_uploader.spool.dated import DatedLayout, epoch_function

    return DatedLayout(settle_seconds=config.settle_seconds, globs=globs, epoch_of=epoch_function(config.timezone))


def build_store(config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
    """The store that the configuration names; nothing of it is imported before it is opened."""
    destination = config.destination
    if isinstance(destination, S3Destination):
        bucket = destination

        def make_s3() -> Store:
            from s3_uploader.stores import s3

            settings = msgspec.structs.asdict(bucket)
            for name in ("on_conflict", "minimum_proof"):
                del settings[name]
            # Rights may be limited to the prefix: the probe of `check` goes there too.
            return s3.create(**settings, key_prefix=config.key_prefix, notice=notice, memory=memory)

        return LazyStore(name=bucket.bucket, scheme="s3", make=make_s3)
    if isinstance(destination, FtpDestination):
        server = destination

        def make_ftp() -> Store:
            from s3_uploader.stores import ftp

            settings = msgspec.structs.asdict(server)
            for name in ("on_conflict", "minimum_proof"):
                del settings[name]
            return ftp.create(**settings, identity=config.base_dir)

        return LazyStore(name=f"{server.host}:{server.port}", scheme="ftps" if server.tls else "ftp", make=make_ftp)
    directory = destination

    def make_local() -> Store:
        from s3_uploader.stores.local import LocalStore

        return LocalStore(path=directory.path, max_concurrency=directory.max_concurrency)

    return LazyStore(name=directory.path, scheme="file", make=make_local)


def store_maker(simulated_failure_rate: float) -> MakeStore:
    """:func:`build_store`, or with a rate a maker of stores that fail that often, for a rehearsal."""
    if not simulated_failure_rate:
        return build_store

    def make(config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        from s3_uploader.stores.simulated import UnreliableStore

        notice("warning", f"Rehearsal: {simulated_failure_rate:.0%} of the uploads are made to fail.")
        return UnreliableStore(build_store(config, notice=notice, memory=memory), rate=simulated_failure_rate)

    return make


def put_options(config: Config) -> PutOptions:
    """What every upload of a configuration has in common."""
    destination = config.destination
    return PutOptions(
        on_conflict=OnConflict(destination.on_conflict),
        minimum_proof=Proof.of_label(destination.minimum_proof),
        metadata=destination.metadata if isinstance(destination, S3Destination) else {},
    )


def _success_policy(config: Config) -> SuccessPolicy:
    if isinstance(config.on_success, MoveTo):
        return SuccessPolicy(move_to=MoveTarget(move_directory(config.on_success)))
    return SuccessPolicy(keep=config.on_success == "keep")


def _failure_policy(config: Config) -> FailurePolicy:
    if isinstance(config.on_failure, MoveTo):
        if os.path.realpath(move_directory(config.on_failure)) == os.path.realpath(config.base_dir):
            return FailurePolicy()  # resubmitted: it stays in the spool, or goes back there from its claim
        return FailurePolicy(move_to=MoveTarget(move_directory(config.on_failure)), attempts=config.on_failure.attempts)
    return FailurePolicy(delete=config.on_failure == "delete")


# -------------------------------------------------------------------------------------------------- a run


def _random() -> float:
    # Only a file that failed needs a random number; the module costs 2 ms.
    import random

    return random.random()


def _no_beat() -> None:
    pass


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is given from outside beside its configuration; tests and ``watch`` give something else.

    :param beat: called often by the thread that leads the run, to show that it is alive.
    :param make_store: makes the store; the run opens and closes it.
    :param is_rehearsal: failures are made up, so that no file may be moved or deleted for them.
    :param news: see :class:`~s3_uploader.pipeline.Pipeline`.
    """

    emit: Emit
    stop: Stop = msgspec.field(default_factory=Stop)
    clock: Clock = Clock()
    environ: Mapping[str, str] = os.environ
    random: Callable[[], float] = _random
    beat: Callable[[], None] = _no_beat
    make_store: MakeStore = build_store
    is_rehearsal: bool = False
    news: News | None = None


def run_once(
    config: Config,
    surroundings: Surroundings,
    *,
    wait_for_lock_seconds: float = 0.0,
    max_runtime_seconds: float | None = None,
) -> RunReport:
    """One pass over the spool.

    A spool that another run has is left to it: the report then says ``ended_by: another run has the spool``.

    :param max_runtime_seconds: instead of the configuration's own.
    :raises SpoolError: if the spool cannot be used.
    :raises StateError: if the ledger cannot be opened, so that nothing may be shipped.
    :raises LockHeld: if another run still has the spool after ``wait_for_lock_seconds``, and that was not zero.
    """
    emit, clock = surroundings.emit, surroundings.clock
    with open_place(config, environ=surroundings.environ) as place:
        create_state_directory(place.state_dir)
        began = clock.monotonic()
        started_at = clock.now()
        stop = surroundings.stop
        try:
            lock = _lock(place, emit, _stoppable(clock, stop), wait_for_lock_seconds)
        except LockHeld as held:
            if wait_for_lock_seconds:
                raise
            emit(Notice("info", str(held)))
            return _empty_report(config, End.LOCKED, started_at, clock.monotonic() - began, message=str(held))
        except _StoppedWaiting:
            seconds = clock.monotonic() - began
            return _empty_report(config, End.SIGNAL, started_at, seconds, signal_number=stop.signal_number)
        try:
            return _locked_run(place, surroundings, max_runtime_seconds)
        finally:
            lock.release()


class _StoppedWaiting(Exception):
    """The stop was requested while the run waited for the lock."""


def _stoppable(clock: Clock, stop: Stop) -> Clock:
    """The same clock, but its sleep ends in ``_StoppedWaiting`` once a stop is requested."""

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if stop.requests:
            raise _StoppedWaiting

    return Clock(now=clock.now, monotonic=clock.monotonic, sleep=sleep)


def _lock(place: Place, emit: Emit, clock: Clock, wait_seconds: float) -> Lock:
    return acquire(
        place.root.descriptor,
        base_dir=place.config.base_dir,
        state_dir=place.state_dir,
        wait_seconds=wait_seconds,
        clock=clock.monotonic,
        now=clock.now,
        sleep=clock.sleep,
        # Uploaders that claim files keep apart by that, and share the spool; one that does not must have it alone.
        shared=place.config.claim_dir is not None,
        notice=lambda sentence: emit(Notice("warning", sentence)),
    )


def _locked_run(place: Place, surroundings: Surroundings, max_runtime_seconds: float | None) -> RunReport:
    config = place.config
    emit, clock = surroundings.emit, surroundings.clock
    with Ledger.open(
        place.ledger_path, notice=lambda sentence: emit(Notice("warning", sentence)), clock=clock.now
    ) as ledger:
        store = surroundings.make_store(
            config,
            notice=lambda level, sentence: emit(Notice(level, sentence)),
            memory=ledger.endpoint_memory(prefix="endpoint:"),
        )
        run = ledger.begin_run(
            started_at=clock.now(), pid=os.getpid(), host=os.uname().nodename, destination=store.properties.name
        )
        emit(RunStarted(config.base_dir, store.properties.name))
        if config.on_failure == "delete" and not surroundings.is_rehearsal:
            emit(
                Notice(
                    "warning", "on_failure is delete: a file that cannot be shipped is deleted, and is nowhere else."
                )
            )
        settlement = Settlement(
            root=place.root,
            layout=place.layout,
            store=store,
            records=ledger,
            run=run,
            emit=emit,
            clock=clock,
            on_success=_success_policy(config),
            on_failure=FailurePolicy() if surroundings.is_rehearsal else _failure_policy(config),
            prune=config.prune_empty_dirs if config.prune_empty_dirs is not None else config.layout == "dated",
            random=surroundings.random,
            is_rehearsal=surroundings.is_rehearsal,
        )
        claims = _claims(place, emit)
        pipeline = Pipeline(
            root=place.root,
            layout=place.layout,
            store=store,
            settlement=settlement,
            emit=emit,
            clock=clock,
            stop=surroundings.stop,
            beat=surroundings.beat,
            limits=Limits(
                settle_seconds=config.settle_seconds,
                upload_timeout_seconds=config.upload_timeout_seconds,
                drain_seconds=config.drain_seconds,
                max_runtime_seconds=max_runtime_seconds or config.max_runtime_seconds,
                max_in_flight=config.destination.max_concurrency,
            ),
            put_options=put_options(config),
            key_prefix=config.key_prefix,
            claims=claims,
            news=surroundings.news,
        )
        try:
            report = pipeline.run()
        finally:
            # What is claimed is given back only when no upload can be under way any more.
            store.close(timeout=_CLOSE_SECONDS)
            if claims is not None:
                claims.close()
        try:
            _tidy(ledger, place, clock)
            ledger.finish_run(run, report)
            finished = RunFinished(report, ledger.totals(), ledger.failing_count(attempts=1))
        except StateError as error:
            # A full disk, for one, has been reported by the run already; metrics and ping hear of it all the same.
            if report.ended_by != End.STATE.value:
                emit(Notice("warning", f"The run is not in the history: {error}"))
            finished = RunFinished(report)
        emit(finished)
        return report


def _claims(place: Place, emit: Emit) -> Claims | None:
    if place.config.claim_dir is None:
        return None
    from s3_uploader.spool.claims import Claims

    claims = Claims(place.root, os.path.abspath(place.config.claim_dir))
    recovered = claims.recover()
    if recovered:
        emit(
            Notice(
                "warning", f"{counted(recovered, 'file')} that another uploader left claimed went back to the spool."
            )
        )
    return claims


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


def _empty_report(
    config: Config, end: End, started_at: float, duration: float, *, message: str = "", signal_number: int | None = None
) -> RunReport:
    return Tally().report(
        end,
        base_dir=config.base_dir,
        destination="",
        started_at=started_at,
        duration=duration,
        message=message,
        signal_number=signal_number,
    )


# -------------------------------------------------------------------------------------------------- looking


def count_ready(config: Config, *, clock: Clock, seconds: float) -> tuple[int, int] | None:
    """How many files and bytes a run would ship now; ``None`` if it takes longer than ``seconds`` to find out."""
    until = clock.monotonic() + seconds
    files = size = 0
    with open_place(config) as place, Ledger.open_readonly(place.ledger_path) as ledger:
        for verdict in look(place, ledger=ledger, clock=clock, skip=lambda names, name, reason, detail: None):
            if verdict.reason is None:
                files, size = files + 1, size + verdict.candidate.size
            if clock.monotonic() > until:
                return None
    return files, size


def look(place: Place, *, ledger: Ledger | None, clock: Clock, skip: Skip) -> Iterator[Verdict]:
    """What a run would do now, without doing anything: for ``--dry-run`` and ``status``."""
    destination = build_store(place.config, notice=lambda level, sentence: None, memory=None).properties.name
    keeps = place.config.on_success == "keep"

    def is_remembered(file: OpenFile) -> bool:
        return (
            keeps
            and ledger is not None
            and ledger.remembers(file.candidate.path, file.fingerprint, destination=destination)
        )

    intake = Intake(
        place.root,
        settle_seconds=place.config.settle_seconds,
        known_failure=ledger.failing if ledger is not None else lambda path: None,
        is_remembered=is_remembered,
    )
    return survey(place.root, place.layout, intake, now=clock.now, skip=skip)
