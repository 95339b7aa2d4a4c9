"""The state of a spool now: what waits, what fails, which run is at work, and what is wrong.

Whatever can be read is shown, and what cannot (a damaged ledger, another user's ledger, a spool that is not mounted) is
reported beside it. Changes nothing, and takes seconds at most, however much waits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.config.share import whole
from s3_uploader.core.control import Clock
from s3_uploader.core.errors import NotMounted, SpoolDenied, SpoolError, StateError, UploaderError
from s3_uploader.core.events import Totals
from s3_uploader.core.findings import Problem
from s3_uploader.core.shares import Share
from s3_uploader.core.text import shown_name
from s3_uploader.health.notices import hung_of
from s3_uploader.health.observations import ClaimedFiles, Observations, Starter
from s3_uploader.health.run_history import next_start
from s3_uploader.inspection.at_work import AtWork, at_work_on, holder_seen, watch_seen
from s3_uploader.inspection.observing import (
    claimed_files,
    endpoint_limits,
    full_disks,
    future_files,
    open_files,
    untouchable_entry,
)
from s3_uploader.inspection.share_status import ShareStatus, divided, problems_of, shares_of
from s3_uploader.inspection.waiting import Waiting, waiting_in
from s3_uploader.ledger import FailingRow, LedgerReader, RunRow
from s3_uploader.ledger.state_directory import ledger_path, not_writable
from s3_uploader.ledger.together import open_together
from s3_uploader.run.place import Place, directories_of, open_place, verify_mounts
from s3_uploader.spool.lock_file import Holder, refuse_planted
from s3_uploader.spool.mounts import foreign_file_system, refuse_read_only, refuse_silent
from s3_uploader.spool.share_holders import holders_of_shares
from s3_uploader.spool.watcher import watcher_of

_SILENCE_SECONDS = 10.0
"""How long another directory than the spool may take to answer, so that it is named before the look as a whole ends."""
_AS_THE_OTHER = "Run this as the user that runs the uploads, or as root."
_WRITABLE = (
    "Make it writable for this user, or name another state directory with state_dir; no run can begin until then."
)
_MOST_RUNS = 20_000
_RUNS_SHOWN = 5
_FAILING_SHOWN = 20
_FAILING_LOOKED_AT = 10_000


class SpoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state; times are seconds since the epoch.

    :param watcher: the process that watches the spool, at work or between two passes; ``None`` if there is none.
    :param waiting: ``None`` if the spool cannot be read.
    :param failing: the first of the failing files in the order of their next try.
    :param runs: the last runs, the latest first.
    :param started_by: the unit that starts the runs; ``None`` if none is known.
    :param next_run_at: when the next run is expected, by the timer or the rhythm so far; ``None`` if unknown.
    :param writers_unseen_on: the type of the spool's file system, if it does not show writers on other hosts.
    :param endpoint_limits: sentences about what the destination cannot do.
    :param shares: the state of the shares, where the last runs shipped shares.
    :param spool_error: why the spool cannot be read.
    :param ledger_error: why the ledger cannot be read.
    """

    now: float
    base_dir: str
    ledger: str = ""
    problems: tuple[Problem, ...] = ()
    at_work: AtWork | None = None
    watcher: Holder | None = None
    waiting: Waiting | None = None
    failing: tuple[FailingRow, ...] = ()
    failing_count: int = 0
    runs: tuple[RunRow, ...] = ()
    totals: Totals = Totals()
    started_by: Starter | None = None
    next_run_at: float | None = None
    writers_unseen_on: str = ""
    endpoint_limits: tuple[str, ...] = ()
    shares: tuple[ShareStatus, ...] = ()
    spool_error: SpoolError | None = None
    ledger_error: StateError | None = None

    @property
    def hidden_by(self) -> UploaderError | None:
        """What keeps this user from finding out the whole state; it may keep no run from its work."""
        return self.ledger_error or self.spool_error


def standing_of(
    config: Config, *, clock: Clock, environ: Mapping[str, str] = os.environ, starter: Starter | None = None
) -> SpoolStatus:
    """Find out the state of all shares together.

    :param starter: the unit that starts the runs, where one is known.
    """
    config = whole(config)
    try:
        path = ledger_path(config, environ=environ)
    except StateError as error:
        return _with_ledger(config, None, "", error, clock, starter)
    try:
        with open_together(path) as ledger:
            return _with_ledger(config, ledger, path, None, clock, starter)
    except StateError as error:
        return _with_ledger(config, None, path, error, clock, starter)


def _with_ledger(
    config: Config,
    ledger: LedgerReader | None,
    path: str,
    ledger_error: StateError | None,
    clock: Clock,
    starter: Starter | None,
) -> SpoolStatus:
    now, state_dir = clock.now(), os.path.dirname(path)
    watched = _watched_shares(ledger, state_dir)
    watcher = (watcher_of(state_dir) if state_dir else None) or next(iter(watched.values()), None)
    spool = _look_at_spool(config, ledger, clock, state_dir)
    waiting = spool.waiting
    shares = shares_of(ledger, spool.shares_at_work, watched)
    totals = Totals() if ledger is None else ledger.totals()
    denied = not_writable(state_dir) if state_dir else ""
    runs = [] if ledger is None else list(ledger.latest_runs(most=_RUNS_SHOWN * 10))
    facts = Observations(
        now=now,
        base_dir=config.base_dir,
        runs=() if ledger is None else ledger.latest_runs(most=_MOST_RUNS),
        failing=ledger.failing_kinds() if ledger is not None and spool.failing_count else (),
        not_finished=open_files(config, waiting, ledger, now),
        future=future_files(waiting, ledger),
        holder=holder_seen(config, spool.at_work, now),
        watch=watch_seen(watcher, now),
        starter=starter,
        claimed=spool.claimed,
        hung_after=hung_of(config),
        prevented=_what_prevents(spool, denied, is_busy=spool.at_work is not None or watcher is not None),
        not_writable=denied,
        full=full_disks(config, state_dir),
        waiting=None if waiting is None or ledger is None else waiting.files,
        # Files that failed have their own sentence once they have failed again.
        ready=None if waiting is None or spool.failing_count else waiting.ready,
        strangers=None if waiting is None else waiting.strangers,
        untouchable=untouchable_entry(ledger),
        are_all_strangers=waiting is not None and not waiting.files and not totals.shipped_files,
        layout=config.layout,
    )
    return SpoolStatus(
        now=now,
        base_dir=config.base_dir,
        ledger=path,
        problems=problems_of(facts, ledger, shares),
        shares=shares,
        at_work=spool.at_work,
        watcher=watcher,
        waiting=waiting,
        failing=tuple(spool.failing),
        failing_count=spool.failing_count,
        runs=tuple(runs[:_RUNS_SHOWN]),
        totals=totals,
        started_by=starter,
        next_run_at=None if spool.at_work is not None or watcher is not None else _next_run(starter, runs, now),
        writers_unseen_on=spool.writers_unseen_on,
        endpoint_limits=tuple(endpoint_limits(config, ledger)),
        spool_error=spool.error,
        ledger_error=ledger_error,
    )


class _HiddenSpool(SpoolError):
    """A spool that the user of its runs may well read."""


def _what_prevents(spool: _Spool, denied: str, *, is_busy: bool) -> UploaderError | None:
    """What keeps every run out.

    :param denied: what of the state directory this user may not write to.
    :param is_busy: a run or a watch is at work, whatever its user may not do.
    """
    if spool.error is not None:
        return None if isinstance(spool.error, _HiddenSpool) else spool.error
    if not denied or is_busy or _is_another_users(denied):
        return None
    return StateError(f"{shown_name(denied)} cannot be written: permission denied.", hint=_WRITABLE, code="Denied")


def _is_another_users(path: str) -> bool:
    """Whether another user has made what a run uses, so that the permissions of this one say nothing about runs."""
    try:
        return os.geteuid() not in (0, os.stat(path).st_uid)
    except OSError:
        return False


def _watched_shares(ledger: LedgerReader | None, state_dir: str) -> dict[Share, Holder]:
    """The watching processes of the shares of the last division."""
    found = {share: watcher_of(os.path.join(state_dir, share.name)) for share in divided(ledger)}
    return {share: watcher for share, watcher in found.items() if watcher is not None}


def _next_run(starter: Starter | None, runs: list[RunRow], now: float) -> float | None:
    if starter is None:
        return next_start(runs, now=now)
    return starter.next_at if starter.is_active else None


# -------------------------------------------------------------------------------------------------- the spool


class _Spool(msgspec.Struct):
    """What is known from looking at the spool itself."""

    at_work: AtWork | None = None
    shares_at_work: dict[Share, Holder] = {}
    waiting: Waiting | None = None
    claimed: ClaimedFiles | None = None
    failing: list[FailingRow] = []
    failing_count: int = 0
    writers_unseen_on: str = ""
    error: SpoolError | None = None


def _look_at_spool(config: Config, ledger: LedgerReader | None, clock: Clock, state_dir: str) -> _Spool:
    spool = _Spool()
    try:
        refuse_silent(directories_of(config)[1:], seconds=_SILENCE_SECONDS)
    except NotMounted as error:
        spool.error = error
        return spool
    try:
        with open_place(config) as place:
            spool.writers_unseen_on = foreign_file_system(place.root.descriptor)
            spool.at_work = at_work_on(place, ledger)
            spool.shares_at_work = holders_of_shares(place.root.descriptor, place.common_state_dir)
            spool.waiting = waiting_in(place, ledger, clock)
            spool.claimed = claimed_files(config, place.root, clock.now())
            if ledger is not None:
                spool.failing, spool.failing_count = _failing(place, ledger)
            if config.on_success != "keep":
                refuse_read_only(place.root)
            refuse_planted(place.root.descriptor, base_dir=config.base_dir)
    except SpoolDenied as error:
        is_hidden = _is_another_users(state_dir)
        spool.error = _HiddenSpool(error.message, hint=_AS_THE_OTHER) if is_hidden else error
    except SpoolError as error:
        spool.error = error
    try:
        verify_mounts(config)
    except NotMounted as error:
        spool.error = error
        if error.is_spool:
            # The directory that was scanned is the empty mount point.
            spool.waiting = None
            spool.failing, spool.failing_count = ([], 0) if ledger is None else _failing(None, ledger)
    return spool


def _failing(place: Place | None, ledger: LedgerReader) -> tuple[list[FailingRow], int]:
    """The first files that keep failing, and their number.

    The ledger forgets a vanished file only when its next try is due. Until then it is left out here.

    :param place: ``None`` if the spool cannot be read; then all are listed.
    """
    shown: list[FailingRow] = []
    count = 0
    for number, row in enumerate(ledger.failing_rows()):
        if not row.attempts:  # Only suspected, because the destination itself failed.
            continue
        if place is not None and number < _FAILING_LOOKED_AT and not _is_there(place, row.path):
            continue
        count += 1
        if len(shown) < _FAILING_SHOWN:
            shown.append(row)
    return shown, count


def _is_there(place: Place, path: str) -> bool:
    *names, name = path.split("/")
    try:
        place.root.stat(tuple(names), name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # unknown, so it counts as present
    return True
