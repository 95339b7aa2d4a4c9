"""Finds the run that is at work on a spool: its process, its state, and what it has shipped."""

from __future__ import annotations

import os

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core import procfs
from s3_uploader.health.observations import HolderSeen, WatchSeen
from s3_uploader.ledger import LedgerReader
from s3_uploader.run.place import Place
from s3_uploader.spool.holder import holder_of
from s3_uploader.spool.lock_file import LOCK_NAME, Holder

_FILES_SHOWN = 3
_LAST_RUNS = 20


class AtWork(msgspec.Struct, frozen=True, kw_only=True):
    """The run that has the spool now.

    :param is_alive: whether its process exists; ``None`` if that cannot be seen from here.
    :param doing: what the process does, in words; empty if unknown.
    :param open_files: some of the files of the spool that it has open.
    :param open_count: number of files that it has open; ``None`` if unknown.
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


def at_work_on(place: Place, ledger: LedgerReader | None) -> AtWork | None:
    """Find the run that has the spool; ``None`` if there is none."""
    holder = holder_of(place.root.descriptor, place.state_dir)
    if holder is None:
        return None
    if not holder.pid or (holder.host and holder.host != os.uname().nodename):
        return AtWork(holder=holder)
    opened = procfs.open_files_below(holder.pid, place.config.base_dir)
    files = [path for path in opened if os.path.basename(path) != LOCK_NAME]
    shipped = None
    if ledger is not None:
        # Of shares several runs are at work, and others have ended since this one began.
        own = [run for run in ledger.runs(limit=_LAST_RUNS) if run.finished_at is None and run.pid == holder.pid]
        if own:
            shipped = ledger.shipped_in(own[0].id, since=own[0].started_at)
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


def holder_seen(config: Config, at_work: AtWork | None, now: float) -> HolderSeen | None:
    """Convert it to what the diagnosis needs."""
    if at_work is None:
        return None
    # Where files are claimed, many have the lock together and none of them says since when.
    since = None if config.claim_dir is not None else at_work.holder.since
    return HolderSeen(
        words=at_work.holder.described(now=now),
        since=since,
        shipped_at=at_work.shipped_at,
        state=at_work.doing,
        is_stranger=at_work.holder.is_stranger,
    )


def watch_seen(watcher: Holder | None, now: float) -> WatchSeen | None:
    """The process that watches the spool, as the diagnosis needs it."""
    if watcher is None:
        return None
    is_here = watcher.pid and watcher.host == os.uname().nodename
    return WatchSeen(
        words=watcher.described(now=now),
        since=watcher.since,
        interval=watcher.interval,
        state=procfs.state_of(watcher.pid) if is_here else "",
    )
