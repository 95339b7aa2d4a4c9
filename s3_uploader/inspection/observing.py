"""Observes a spool: open files, times in the future, full disks."""

from __future__ import annotations

import contextlib
import os

import msgspec

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import Config, MoveTo
from s3_uploader.core import procfs
from s3_uploader.core.model import Untouchable
from s3_uploader.core.text import shown_name, shown_text
from s3_uploader.health import MEMORY_PREFIX
from s3_uploader.health.left_files import LONG_OPEN_SECONDS
from s3_uploader.health.notices import Seen, hung_of, not_finished
from s3_uploader.health.observations import (
    SPOOL,
    STATE_DIRECTORY,
    ClaimedFiles,
    FullDisk,
    FutureFiles,
    OpenFileSeen,
)
from s3_uploader.inspection.waiting import Waiting
from s3_uploader.ledger import LedgerReader
from s3_uploader.run.place import move_directory
from s3_uploader.spool.claim_dir import FILES, claims_in, uploader_of
from s3_uploader.spool.root import SpoolRoot, original_name

_FULL_BYTES = 64 * 1024
_READ_ONLY = "is mounted read-only"
_MOST_CLAIMED = 1000
_SLOWEST = 64 * 1024
"""Bytes a second that the deadline of an upload allows."""


def open_files(config: Config, waiting: Waiting | None, ledger: LedgerReader | None, now: float) -> list[OpenFileSeen]:
    """Overdue unfinished files: those seen now, and those that runs have noticed."""
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


def future_files(waiting: Waiting | None, ledger: LedgerReader | None) -> FutureFiles | None:
    """Files with times in the future, seen now or by runs."""
    if waiting is not None and waiting.future is not None:
        return waiting.future
    return None if ledger is None else Seen.recalled(ledger.endpoint_memory(prefix=MEMORY_PREFIX)).future


def untouchable_entry(ledger: LedgerReader | None) -> Untouchable | None:
    """An example of what the last run could not read or remove."""
    return None if ledger is None else Seen.recalled(ledger.endpoint_memory(prefix=MEMORY_PREFIX)).untouchable


def endpoint_limits(config: Config, ledger: LedgerReader | None) -> list[str]:
    """Sentences about what the destination cannot do, as far as runs have found out."""
    destination = config.destination
    if ledger is None or not isinstance(destination, S3Destination):
        return []
    from s3_uploader.run.context import ENDPOINT_MEMORY
    from s3_uploader.stores.s3.capabilities import remembered_limits

    known = ledger.endpoint_memory(prefix=ENDPOINT_MEMORY).all()
    return list(remembered_limits(known, bucket=destination.bucket, acknowledged=destination.acknowledged))


def full_disks(config: Config, state_dir: str) -> list[FullDisk]:
    """The directories that a run, or a producer, writes to whose disks are full."""
    wanted = [(STATE_DIRECTORY, state_dir)] if state_dir else []
    for purpose, policy in (("target of on_success", config.on_success), ("target of on_failure", config.on_failure)):
        if isinstance(policy, MoveTo):
            wanted.append((purpose, move_directory(policy)))
    found = [
        FullDisk(purpose=purpose, directory=directory, why=why, is_read_only=why == _READ_ONLY)
        for purpose, directory in wanted
        if (why := _why_no_room(directory))
    ]
    why = _why_no_room(config.base_dir)
    # Whether a run may find the spool read-only is decided elsewhere.
    return (
        [*found, FullDisk(purpose=SPOOL, directory=config.base_dir, why=why)] if why not in ("", _READ_ONLY) else found
    )


def claimed_files(config: Config, spool: SpoolRoot, now: float) -> ClaimedFiles | None:
    """The files that uploaders of the spool have claimed for longer than an upload may take."""
    if config.claim_dir is None:
        return None
    patience = max(hung_of(config), config.upload_timeout_seconds)
    late: list[tuple[float, str, str]] = []
    for claim in claims_in(config.claim_dir, spool):
        files = os.path.join(config.claim_dir, claim, FILES)
        for directory, _, names in os.walk(files):
            for name in names[:_MOST_CLAIMED]:
                with contextlib.suppress(OSError):
                    status = os.lstat(os.path.join(directory, name))
                    # A rename sets the ctime. The deadline of an upload grows with its size.
                    if now - status.st_ctime > patience + status.st_size / _SLOWEST:
                        path = os.path.relpath(os.path.join(directory, original_name(name)), files)
                        late.append((status.st_ctime, path, claim))
    if not late:
        return None
    since, path, claim = min(late)
    return ClaimedFiles(files=len(late), path=path, since=since, by=_uploader_of(claim))


def _uploader_of(claim: str) -> str:
    """The uploader in the name of a claim, in words."""
    host, pid = uploader_of(claim)
    is_here = host == os.uname().nodename
    state = procfs.state_of(pid) if is_here else ""
    return f"process {pid}{'' if is_here else f' on {shown_text(host)}'}{f', which is {state}' if state else ''}"


def _cannot_be_told(path: str) -> bool:
    """Whether there is a file whose open writers only its owner and root can see."""
    try:
        return os.geteuid() not in (0, os.lstat(path).st_uid)
    except OSError:
        return False


def _why_no_room(directory: str) -> str:
    while not os.path.isdir(directory) and directory not in ("/", ""):
        directory = os.path.dirname(directory)  # it is made when it is needed
    try:
        status = os.statvfs(directory)
    except OSError:
        return ""
    if status.f_flag & os.ST_RDONLY:
        return _READ_ONLY
    # Some file systems count no blocks, and some no inodes.
    if status.f_blocks and status.f_bavail * status.f_frsize < _FULL_BYTES:
        return "is full"
    return "has no inodes left" if status.f_files and not status.f_favail else ""
