"""The observations from which a diagnosis is made, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from s3_uploader.core.errors import UploaderError
from s3_uploader.core.findings import Strangers
from s3_uploader.core.model import Untouchable
from s3_uploader.ledger.rows import FailingGroup, RunRow

HUNG_SECONDS = 3600.0
"""Seconds after which another run is suspected to hang, unless its time budget is longer."""
STATE_DIRECTORY, SPOOL = "state directory", "spool"
"""What a full disk is for (:attr:`FullDisk.purpose`)."""


class OpenFileSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An overdue unfinished file.

    :param since: seconds since the epoch: when it was first seen so, or last written to if that was earlier.
    :param is_open: a writer has it open; else it is still being changed.
    :param by: the writer in words, where it is known.
    """

    path: str
    since: float
    is_open: bool = True
    by: str = ""


class ReadyFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files that have been ready for long: their number, the oldest, and since when it has been ready."""

    files: int
    path: str
    since: float


class ClaimedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files that uploaders have claimed for longer than an upload may take.

    :param path: the one that was claimed first, at ``since``.
    :param by: its uploader in words.
    """

    files: int
    path: str
    since: float
    by: str


class HolderSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The lock holder.

    :param words: the holder described for people.
    :param since: when it took the lock, seconds since the epoch; ``None`` if unknown.
    :param shipped_at: when it last shipped a file; ``None`` if it has not or if unknown.
    :param state: what its process does, in words; empty if unknown.
    :param is_stranger: it does not look like a run of this program.
    """

    words: str
    since: float | None
    shipped_at: float | None = None
    state: str = ""
    is_stranger: bool = False


class WatchSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The process that watches the spool, at work or between two passes.

    :param words: the process described for people.
    :param since: when it began, seconds since the epoch; ``None`` if unknown.
    :param interval: the longest time between two passes while all is well, in seconds; ``None`` if unknown.
    :param state: what it does, in words; empty if unknown.
    """

    words: str
    since: float | None = None
    interval: float | None = None
    state: str = ""


class Starter(msgspec.Struct, frozen=True, kw_only=True):
    """A unit that starts the runs.

    :param is_active: whether it is active; an inactive timer starts nothing.
    :param next_at: seconds since the epoch; ``None`` if unknown.
    :param is_user: whether it is a unit of the user's own service manager.
    """

    unit: str
    is_active: bool
    next_at: float | None = None
    is_user: bool = False

    @property
    def command(self) -> str:
        """The command that starts it."""
        return f"systemctl{' --user' if self.is_user else ''} enable --now {self.unit}"


class FutureFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files with times in the future: their number, one of them, by how many seconds, and since when there are any."""

    files: int
    path: str
    seconds: float
    since: float | None = None


class FullDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that cannot be written to: its purpose, its path and the reason, as in ``is full``."""

    purpose: str
    directory: str
    why: str
    is_read_only: bool = False


class Observations(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a spool. Everything but the time may be missing.

    :param now: seconds since the epoch.
    :param base_dir: the spool.
    :param runs: the runs of the ledger, the latest first; read only as far as needed.
    :param failing: the files that fail, by kind of failure.
    :param not_finished: files that are open or still change.
    :param future: files from the future.
    :param holder: the lock holder, if there is one.
    :param watch: the process that watches the spool, if there is one.
    :param starter: the unit that starts the runs, where one is known.
    :param claimed: files that an uploader has claimed and does not ship.
    :param hung_after: seconds after which a holder is suspected to hang.
    :param prevented: why no run can begin, as found now.
    :param full: directories whose disks have no room.
    :param not_writable: what of the state directory this user, who may be another one, may not write to.
    :param waiting: how many files wait, ``None`` if that was not looked at.
    :param ready: those of them that are ready, and have been so for long.
    :param strangers: files that the layout does not recognise.
    :param untouchable: an example of what the last run could not read or remove.
    :param are_all_strangers: nothing else is in the spool, and nothing was ever shipped from it.
    :param layout: the name of the layout.
    """

    now: float
    base_dir: str
    runs: Iterable[RunRow] = ()
    failing: Sequence[FailingGroup] = ()
    not_finished: Sequence[OpenFileSeen] = ()
    future: FutureFiles | None = None
    holder: HolderSeen | None = None
    watch: WatchSeen | None = None
    starter: Starter | None = None
    claimed: ClaimedFiles | None = None
    hung_after: float = HUNG_SECONDS
    prevented: UploaderError | None = None
    full: Sequence[FullDisk] = ()
    not_writable: str = ""
    waiting: int | None = None
    ready: ReadyFiles | None = None
    strangers: Strangers | None = None
    untouchable: Untouchable | None = None
    are_all_strangers: bool = False
    layout: str = ""
