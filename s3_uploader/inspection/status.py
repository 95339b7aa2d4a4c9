"""How a spool stands right now: what waits, what fails, who works on it, and what is wrong.

Everything is looked at that can be, and what cannot (a ledger that is damaged or another user's, a spool that is not
mounted) is said beside it. Changes nothing, and takes seconds at the most, however much waits.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping

import msgspec

from s3_uploader.config.schema import Config, MoveTo
from s3_uploader.core import procfs
from s3_uploader.core.control import Clock
from s3_uploader.core.errors import NotMounted, SpoolError, StateError
from s3_uploader.core.model import Candidate, Left, Problem, Strangers, Totals
from s3_uploader.core.text import shown_name, shown_text
from s3_uploader.health.diagnosis import diagnose
from s3_uploader.health.left_files import FUTURE_SECONDS, LONG_OPEN_SECONDS, LONG_READY_SECONDS
from s3_uploader.health.notices import MEMORY_PREFIX, Seen, hung_of, not_finished
from s3_uploader.health.observations import FullDisk, FutureFiles, HolderSeen, Observations, OpenFileSeen, ReadyFiles
from s3_uploader.health.run_history import next_start
from s3_uploader.inspection.preview import look
from s3_uploader.ledger import FailingRow, Ledger, LedgerReader, RunRow
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.run.assembly import build_globs, move_directory
from s3_uploader.run.place import Place, open_place, verify_mounts
from s3_uploader.spool.holder import Holder, holder_of
from s3_uploader.spool.layouts.base import ScanStopped, is_stranger
from s3_uploader.spool.layouts.strangers import look_at
from s3_uploader.spool.lock_file import LOCK_NAME
from s3_uploader.spool.removable import refuse_read_only
from s3_uploader.spool.root import Names
from s3_uploader.spool.sightings import foreign_file_system
from s3_uploader.spool.watcher import watcher_of

_LOOK_SECONDS = 3.0
_MOST_NOT_FINISHED = 100
_MOST_STRANGERS = 5000
_MOST_RUNS = 20_000
_RUNS_SHOWN = 5
_FAILING_SHOWN = 20
_FAILING_LOOKED_AT = 10_000
_FILES_SHOWN = 3
_FULL_BYTES = 64 * 1024


class Backlog(msgspec.Struct):
    """What waits in one location."""

    location: str
    files: int = 0
    bytes: int = 0
    ready: int = 0
    oldest: float | None = None


class Waiting(msgspec.Struct, kw_only=True):
    """What waits in the spool, and what is left alone there.

    :param foreign: how many files, or other entries, are left alone, by reason.
    :param strangers: the files that the layout does not recognise.

    :param is_complete: whether all of it was looked at in the time there is.
    """

    by_location: dict[str, Backlog] = {}
    foreign: dict[str, int] = {}
    not_finished: list[tuple[Candidate, Left]] = []
    future: FutureFiles | None = None
    ready: ReadyFiles | None = None
    strangers: Strangers | None = None
    is_complete: bool = True

    @property
    def files(self) -> int:
        """How many files wait."""
        return sum(row.files for row in self.by_location.values())

    @property
    def oldest(self) -> float | None:
        """The data time of the oldest, seconds since the epoch."""
        return min((row.oldest for row in self.by_location.values() if row.oldest is not None), default=None)


class AtWork(msgspec.Struct, frozen=True, kw_only=True):
    """The run that has the spool now.

    :param is_alive: whether its process is there; ``None`` where that cannot be seen from here.
    :param doing: what the process does, in words; empty if there is no telling.
    :param open_files: some of the files of the spool that it has open.
    :param open_count: how many it has open, ``None`` if there is no telling.
    :param shipped: files it has shipped so far, with their bytes and the time of the last; ``None`` if not recorded.
    """

    holder: Holder
    is_alive: bool | None = None
    doing: str = ""
    open_files: tuple[str, ...] = ()
    open_count: int | None = None
    shipped: int | None = None
    shipped_bytes: int = 0
    shipped_at: float | None = None


class SpoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; times are seconds since the epoch.

    :param watcher: the process that watches the spool, at work or between two looks; ``None`` if there is none.
    :param waiting: ``None`` if the spool cannot be looked at.
    :param failing: the first of the failing files in the order of their next try.
    :param runs: the last runs, the latest first.
    :param next_run_at: when the next run is to be expected, by the pace so far; ``None`` if there is no telling.
    :param writers_unseen_on: the type of the spool's file system, if it does not tell of writers on other hosts.
    :param spool_error: why the spool cannot be looked at.
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
    next_run_at: float | None = None
    writers_unseen_on: str = ""
    spool_error: SpoolError | None = None
    ledger_error: StateError | None = None


def standing_of(config: Config, *, clock: Clock, environ: Mapping[str, str] = os.environ) -> SpoolStatus:
    """Look at everything once."""
    try:
        path = ledger_path(config, environ=environ)
    except StateError as error:
        return _with_ledger(config, None, "", error, clock)
    try:
        with Ledger.open_readonly(path) as ledger:
            return _with_ledger(config, ledger, path, None, clock)
    except StateError as error:
        return _with_ledger(config, None, path, error, clock)


def _with_ledger(
    config: Config, ledger: LedgerReader | None, path: str, ledger_error: StateError | None, clock: Clock
) -> SpoolStatus:
    now = clock.now()
    state_dir = os.path.dirname(path)
    at_work, waiting, spool_error = None, None, None
    watcher = watcher_of(state_dir) if state_dir else None
    failing: list[FailingRow] = []
    failing_count = 0
    unseen = ""
    try:
        with open_place(config) as place:
            unseen = foreign_file_system(place.root.descriptor)
            at_work = _at_work(place, ledger)
            waiting = _waiting(place, ledger, clock)
            if ledger is not None:
                failing, failing_count = _failing(place, ledger)
            if config.on_success != "keep":
                refuse_read_only(place.root)
    except SpoolError as error:
        spool_error = error
    try:
        verify_mounts(config)
    except NotMounted as error:
        spool_error = error
    totals = Totals() if ledger is None else ledger.totals()
    runs = [] if ledger is None else list(ledger.latest_runs(most=_RUNS_SHOWN * 10))
    facts = Observations(
        now=now,
        base_dir=config.base_dir,
        runs=() if ledger is None else ledger.latest_runs(most=_MOST_RUNS),
        failing=ledger.failing_kinds() if ledger is not None and failing_count else (),
        not_finished=_not_finished(config, waiting, ledger, now),
        future=_future(waiting, ledger),
        holder=_holder_seen(config, at_work, now),
        is_watched=watcher is not None,
        hung_after=hung_of(config),
        prevented=spool_error,
        full=_full(config, state_dir),
        waiting=None if waiting is None or ledger is None else waiting.files,
        # Those that have failed have their own sentence once they have failed again.
        ready=None if waiting is None or failing_count else waiting.ready,
        strangers=None if waiting is None else waiting.strangers,
        are_all_strangers=waiting is not None and not waiting.files and not totals.shipped_files,
        layout=config.layout,
    )
    return SpoolStatus(
        now=now,
        base_dir=config.base_dir,
        ledger=path,
        problems=diagnose(facts),
        at_work=at_work,
        watcher=watcher,
        waiting=waiting,
        failing=tuple(failing),
        failing_count=failing_count,
        runs=tuple(runs[:_RUNS_SHOWN]),
        totals=totals,
        next_run_at=None if at_work is not None or watcher is not None else next_start(runs, now=now),
        writers_unseen_on=unseen,
        spool_error=spool_error,
        ledger_error=ledger_error,
    )


# -------------------------------------------------------------------------------------------------- the spool


def _waiting(place: Place, ledger: LedgerReader | None, clock: Clock) -> Waiting:
    found = Waiting()
    foreign: Counter[str] = Counter()
    until = clock.monotonic() + _LOOK_SECONDS
    strangers: list[tuple[Names, str]] = []

    def skip(names: Names, name: str, reason: Left, detail: str) -> None:
        if is_stranger(reason, detail) and len(strangers) < _MOST_STRANGERS:
            strangers.append((names, name))
        else:
            foreign[reason.value] += 1
        if clock.monotonic() > until:
            raise ScanStopped

    try:
        for verdict in look(place, ledger=ledger, clock=clock, skip=skip):
            if clock.monotonic() > until:
                raise ScanStopped
            if verdict.reason in (Left.REMEMBERED, Left.VANISHED, Left.SPECIAL):
                continue
            now = clock.now()
            _count(found, verdict.candidate, verdict.reason, now)
            if verdict.reason is None:
                _count_ready(found, place, verdict.candidate, now)
    except ScanStopped:
        found.is_complete = False
    if strangers:
        # Also after a look that took all its time: why a foreign tree is not shipped is what is asked for.
        until = max(until, clock.monotonic() + _LOOK_SECONDS / 3)
        found.strangers = look_at(
            place.root,
            strangers,
            layout=place.config.layout,
            globs=build_globs(place.config),
            now=clock.now(),
            go_on=lambda: clock.monotonic() < until,
            is_complete=found.is_complete and len(strangers) < _MOST_STRANGERS,
        )
        foreign[Left.UNDATED.value] += found.strangers.files
    found.foreign = {reason: number for reason, number in foreign.items() if number}
    return found


def _count(found: Waiting, candidate: Candidate, reason: Left | None, now: float) -> None:
    row = found.by_location.setdefault(candidate.location, Backlog(candidate.location))
    row.files += 1
    row.bytes += candidate.size
    row.ready += reason is None
    since = candidate.period_begin if candidate.period_begin is not None else candidate.mtime_ns / 1e9
    row.oldest = since if row.oldest is None else min(row.oldest, since)
    if reason in (Left.BUSY, Left.FRESH) and len(found.not_finished) < _MOST_NOT_FINISHED:
        found.not_finished.append((candidate, reason))
    ahead = candidate.mtime_ns / 1e9 - now
    if ahead > FUTURE_SECONDS:
        before = found.future
        found.future = FutureFiles(
            files=1 if before is None else before.files + 1,
            path=candidate.path if before is None else before.path,
            seconds=ahead if before is None else before.seconds,
        )


def _count_ready(found: Waiting, place: Place, candidate: Candidate, now: float) -> None:
    since = max(candidate.mtime_ns / 1e9, candidate.period_end or 0.0) + place.config.settle_seconds
    if now - since <= LONG_READY_SECONDS:
        return
    # It may have been moved into the spool long after it was written to, which its ctime tells.
    with contextlib.suppress(OSError):
        since = max(since, place.root.stat(candidate.directory, candidate.name).st_ctime)
        if now - since > LONG_READY_SECONDS:
            before = found.ready
            found.ready = ReadyFiles(
                files=1 if before is None else before.files + 1,
                path=candidate.path if before is None or since < before.since else before.path,
                since=since if before is None else min(since, before.since),
            )


def _failing(place: Place, ledger: LedgerReader) -> tuple[list[FailingRow], int]:
    """The first of the files that keep failing, and how many there are.

    The ledger forgets a file that is gone only when its next try is due; nobody should read of it until then.
    """
    shown: list[FailingRow] = []
    count = 0
    for number, row in enumerate(ledger.failing_rows()):
        if not row.attempts:  # Nothing more than suspected, when the destination failed altogether.
            continue
        if number < _FAILING_LOOKED_AT and not _is_there(place, row.path):
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
        pass  # there is no telling
    return True


# -------------------------------------------------------------------------------------------------- who works on it


def _at_work(place: Place, ledger: LedgerReader | None) -> AtWork | None:
    holder = holder_of(place.root.descriptor, place.state_dir)
    if holder is None:
        return None
    if not holder.pid or (holder.host and holder.host != os.uname().nodename):
        return AtWork(holder=holder)
    opened = procfs.open_files_below(holder.pid, place.config.base_dir)
    files = [path for path in opened if os.path.basename(path) != LOCK_NAME]
    shipped = None
    if ledger is not None:
        runs = ledger.runs(limit=1)
        if runs and runs[0].finished_at is None and runs[0].pid == holder.pid:
            shipped = ledger.shipped_in(runs[0].id, since=runs[0].started_at)
    return AtWork(
        holder=holder,
        is_alive=procfs.is_alive(holder.pid),
        doing=procfs.state_of(holder.pid),
        open_files=tuple(files[:_FILES_SHOWN]),
        open_count=len(files) if os.access(f"/proc/{holder.pid}/fd", os.R_OK) else None,
        shipped=None if shipped is None else shipped[0],
        shipped_bytes=0 if shipped is None else shipped[1],
        shipped_at=None if shipped is None else shipped[2],
    )


def _holder_seen(config: Config, at_work: AtWork | None, now: float) -> HolderSeen | None:
    if at_work is None:
        return None
    # Where files are claimed, many have the lock together and none of them says since when.
    since = None if config.claim_dir is not None else at_work.holder.since
    return HolderSeen(
        words=at_work.holder.described(now=now), since=since, shipped_at=at_work.shipped_at, state=at_work.doing
    )


# -------------------------------------------------------------------------------------------------- what is wrong


def _not_finished(
    config: Config, waiting: Waiting | None, ledger: LedgerReader | None, now: float
) -> list[OpenFileSeen]:
    if waiting is None:
        return []
    before = {} if ledger is None else Seen.recalled(ledger.endpoint_memory(prefix=MEMORY_PREFIX)).not_finished
    files = not_finished(waiting.not_finished, before, now=now)
    seen = {shown_name(file.path) for file in files}
    files += [
        OpenFileSeen(path=path, since=since)
        for path, since in before.items()
        if path not in seen and _cannot_be_told(os.path.join(config.base_dir, path))
    ]
    if not files:
        return []
    oldest = min(files, key=lambda file: file.since)
    if now - oldest.since > LONG_OPEN_SECONDS:
        writers = procfs.writers_of(os.path.join(config.base_dir, oldest.path))
        by = ", ".join(f"process {pid}: {shown_text(command)}" for pid, command in writers[:2])
        files[files.index(oldest)] = msgspec.structs.replace(oldest, by=by)
    return files


def _cannot_be_told(path: str) -> bool:
    """Whether a file is there of which only others can tell whether it is open: its owner and root."""
    try:
        return os.geteuid() not in (0, os.lstat(path).st_uid)
    except OSError:
        return False


def _future(waiting: Waiting | None, ledger: LedgerReader | None) -> FutureFiles | None:
    if waiting is not None and waiting.future is not None:
        return waiting.future
    return None if ledger is None else Seen.recalled(ledger.endpoint_memory(prefix=MEMORY_PREFIX)).future


def _full(config: Config, state_dir: str) -> list[FullDisk]:
    """Those of the directories that a run writes to whose disks have no room."""
    wanted = [("state directory", state_dir)] if state_dir else []
    for purpose, policy in (("target of on_success", config.on_success), ("target of on_failure", config.on_failure)):
        if isinstance(policy, MoveTo):
            wanted.append((purpose, move_directory(policy)))
    return [
        FullDisk(purpose=purpose, directory=directory, why=why)
        for purpose, directory in wanted
        if (why := _why_no_room(directory))
    ]


def _why_no_room(directory: str) -> str:
    while not os.path.isdir(directory) and directory not in ("/", ""):
        directory = os.path.dirname(directory)  # it is made when it is needed
    try:
        status = os.statvfs(directory)
    except OSError:
        return ""
    if status.f_flag & os.ST_RDONLY:
        return "is mounted read-only"
    # Some file systems count no blocks, and some no inodes.
    if status.f_blocks and status.f_bavail * status.f_frsize < _FULL_BYTES:
        return "is full"
    return "has no inodes left" if status.f_files and not status.f_favail else ""
