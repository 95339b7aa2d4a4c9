"""The values that the parts of the program exchange, and the counts of a run.

Terms
-----
candidate
    One file of the spool that its layout recognises.
fingerprint
    What shows whether a file is unchanged.
receipt
    What a store returns for one object.
proof
    How we know that the store has our bytes.

All names of files are ``str`` in the form of :func:`os.fsdecode`: bytes that are not UTF-8 are kept as lone surrogates,
so that ``os.fsencode`` gives back the very same bytes. They are escaped only where they are shown.
"""

from __future__ import annotations

import enum
import os
from collections import Counter
from collections.abc import Iterable

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What the decoder raises for a text from outside that is not the expected JSON, not UTF-8, or nested too deeply."""


class Proof(enum.IntEnum):
    """How we know that the store has our bytes, weakest first."""

    NONE = 0
    """The answer says nothing about the bytes."""
    SIZE = 1
    """Only the length was confirmed."""
    MD5 = 2
    """The store answered with the MD5 of our bytes."""
    CHECKSUM = 3
    """The store verified a checksum of the bytes that we sent and said so."""

    @property
    def label(self) -> str:
        """The name of the proof in the log, the ledger and the configuration."""
        return self.name.lower()

    @classmethod
    def of_label(cls, label: str) -> Proof:
        """The proof with this name."""
        return cls[label.upper()]


class OnConflict(enum.Enum):
    """What to do if the key is taken by other content."""

    FAIL = "fail"
    OVERWRITE = "overwrite"
    KEEP_BOTH = "keep-both"


class Fingerprint(msgspec.Struct, frozen=True):
    """Identity and state of an open file; equal fingerprints mean that it was not changed in between.

    ``ctime_ns`` is what makes it strong: a program can set a file's mtime, but not its ctime (``inode(7)``).
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """The fingerprint in a result of ``fstat``."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def counts_seconds(self) -> bool:
        """Whether the file system seems to store whole seconds, so that changes within one of them look alike.

        Elsewhere hardly any time is a whole second.
        """
        return self.ctime_ns % 1_000_000_000 == 0

    def same_content_as(self, other: Fingerprint) -> bool:
        """Whether both are equal except for ``ctime_ns``, which a rename of the file changes too."""
        return (
            self.inode == other.inode
            and self.size == other.size
            and self.mtime_ns == other.mtime_ns
            and self.device == other.device
        )


class Candidate(msgspec.Struct, frozen=True):
    """One regular file that the layout recognises.

    :param directory: path of its directory relative to the spool, as a tuple of names.
    :param name: its name in that directory.
    :param key: the object key without the configured prefix.
    :param period_begin: seconds since the epoch at which the period that its path names begins, ``None`` if the path
        names none or an impossible date.
    :param period_end: end of that period, exclusive.
    :param location: the producer it belongs to, for reports; empty if the layout has none.
    :param mtime_ns: of the file when it was scanned.
    :param size: in bytes, when it was scanned.
    """

    directory: tuple[str, ...]
    name: str
    key: str
    period_begin: float | None
    period_end: float | None
    location: str
    mtime_ns: int
    size: int

    @property
    def path(self) -> str:
        """Path relative to the spool."""
        return "/".join((*self.directory, self.name))

    @property
    def data_time(self) -> float:
        """When its data began, by its path, else when it was last changed. Seconds since the epoch."""
        return self.mtime_ns / 1e9 if self.period_begin is None else self.period_begin


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a store returns for one object.

    :param key: where the object really is; with ``on_conflict: keep-both`` it may differ from the one asked for.
    :param size: number of bytes of the file.
    :param proof: how we know.
    :param checksum: ``algorithm:value`` as the store spells it (``crc64nvme:…``, ``md5:…``), empty if there is none.
    :param etag: without quotes, empty if there is none.
    :param version_id: of a versioned bucket, else empty.
    :param already_there: the same content was under the key before, nothing was replaced.
    :param stored_size: number of bytes stored, where they are not those of the file but compressed ones.
    :param encoding: how they are compressed; empty if they are not.
    :param after_lost_answer: it was found under the key after an attempt without an answer: either that attempt has
        stored it, or it was there before.
    """

    key: str
    size: int
    proof: Proof
    checksum: str = ""
    etag: str = ""
    version_id: str = ""
    already_there: bool = False
    stored_size: int | None = None
    encoding: str = ""
    after_lost_answer: bool = False

    @property
    def may_be_the_file(self) -> bool:
        """Whether the object may have been there before the upload: if the destination leads back, it is the file."""
        return self.already_there or self.after_lost_answer


OTHER_LOCATIONS = "/others"
"""Stands for all locations that are not counted one by one. No location has this name: their names are those of
directories, and hold no slash."""


class Left(enum.Enum):
    """Why an entry of the spool was left where it is, without that being a failure.

    The values are identifiers in the ledger, JSON and the metrics. Their words are in ``monitoring/words.py``.
    """

    FRESH = "fresh"
    """Too young: its settle time is not over."""
    BUSY = "busy"
    """A writer has it open."""
    CHANGED = "changed"
    """It changed while it was being uploaded; the next run ships it anew."""
    WAITING = "waiting"
    """It failed before and its pause is not over."""
    UNMATCHED = "unmatched"
    """Its path is not one that the layout recognises."""
    EXCLUDED = "excluded"
    """``include`` or ``exclude`` keeps it out."""
    SPECIAL = "special"
    """A link, FIFO, socket or device."""
    VANISHED = "vanished"
    """It was there when its directory was listed and gone when it was opened."""
    UNDECODABLE = "undecodable"
    """Its name does not decode to a key (layout ``queue``)."""
    UNREADABLE = "unreadable"
    """Its directory, or the file itself, cannot be read."""
    REMEMBERED = "remembered"
    """``on_success`` is ``keep`` and the ledger knows this very file."""
    POSTPONED = "postponed"
    """The run ended (budget, signal, unusable destination) before its turn."""


class FailureBucket(msgspec.Struct, frozen=True, order=True):
    """How failed uploads are counted: by hour since the epoch, error code and location."""

    hour: int
    code: str
    location: str


class Waiting(msgspec.Struct):
    """The waiting files of one location: number, bytes, and the data time of the oldest."""

    files: int
    bytes: int
    oldest: float


class Untouchable(msgspec.Struct, frozen=True):
    """An entry of the spool that a run could not ``read`` or ``remove``, or ``return`` from the claim of a killed run.

    :param path: absolute, in its printable form.
    """

    path: str
    action: str
    why: str
    hint: str


class RunEnd(enum.Enum):
    """What ended a run.

    The values are identifiers in the ledger and JSON. Their words are in ``monitoring/words.py``.
    """

    DONE = "done"
    """It came to its end."""
    BUDGET = "budget"
    """Its time budget was used up."""
    SIGNAL = "signal"
    """It was told to stop."""
    DESTINATION = "destination"
    """The destination cannot be used."""
    DESTINATION_BUSY = "destination_busy"
    """Another client has locked the destination."""
    STATE = "state"
    """The ledger cannot be written."""
    LOCKED = "locked"
    """Another run has the spool."""


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one run. Counts are files, sizes bytes, times seconds since the epoch, durations seconds.

    ``waiting`` is the backlog by location. If there are very many locations, the last ones are counted together
    under :data:`OTHER_LOCATIONS`. ``left`` and ``ended_by`` hold values of :class:`Left` and
    :class:`RunEnd`. ``code`` is the name of the error in ``message``, as errors have it, and
    ``origin`` its cause (:class:`~s3_uploader.core.origins.Origin`); both are empty if there is none.
    """

    base_dir: str
    destination: str
    started_at: float
    duration: float
    exit_code: int
    shipped: int = 0
    shipped_bytes: int = 0
    already_there: int = 0
    failed: int = 0
    left: dict[str, int] = {}
    backlog: int = 0
    backlog_bytes: int = 0
    oldest_waiting: float | None = None
    pruned_directories: int = 0
    ended_by: str = RunEnd.DONE.value
    message: str = ""
    code: str = ""
    origin: str = ""
    dry_run: bool = False
    waiting: dict[str, Waiting] = {}

    @property
    def reasons(self) -> dict[Left, int]:
        """How many entries were left, by reason: ``left`` as members of the enumeration."""
        return {reason: self.left[reason.value] for reason in Left if self.left.get(reason.value)}

    @property
    def end(self) -> RunEnd:
        """What ended the run: ``ended_by`` as a member of the enumeration."""
        return RunEnd(self.ended_by)


MOST_LOCATIONS = 500
"""Most locations that are kept in memory and reported; a spool may have any number."""
MOST_NOT_FINISHED = 100
MOST_STRANGERS = 5000
_STILL_SETTLING_SECONDS = 60.0
_NOT_FINISHED = (Left.BUSY, Left.FRESH)
_NOT_WAITING = (Left.VANISHED, Left.SPECIAL, Left.UNMATCHED, Left.EXCLUDED, Left.REMEMBERED)


def overdue(left: Iterable[tuple[Candidate, Left]], now: float) -> list[tuple[Candidate, Left]]:
    """Of files that were left as fresh or busy, select those that should be finished by now.

    These are files that are open, and files that still change although the period in their path is long over. A file
    without a period may grow for any time.
    """
    return [
        (candidate, reason)
        for candidate, reason in left
        if reason is Left.BUSY
        or (candidate.period_end is not None and candidate.period_end + _STILL_SETTLING_SECONDS < now)
    ]


class RunCounters:
    """Counts of one run."""

    def __init__(self) -> None:
        self.shipped = 0
        self.shipped_bytes = 0
        self.already_there = 0
        self.failures = 0
        self.troubles = 0
        self.pruned = 0
        self.left: Counter[str] = Counter()
        self.waiting: dict[str, Waiting] = {}
        self.not_finished: list[tuple[Candidate, Left]] = []
        self.strangers: list[tuple[tuple[str, ...], str]] = []
        self.more_strangers = False
        self.untouchable: Untouchable | None = None
        self.from_future = 0
        self.future_example: tuple[Candidate, float] | None = None

    def count_shipped(self, receipt: Receipt) -> None:
        """Count a file that is at the destination, recorded and disposed of."""
        self.shipped += 1
        self.shipped_bytes += receipt.size
        self.already_there += receipt.already_there

    def count_future(self, candidate: Candidate, seconds: float) -> None:
        """Count a file whose time is this many seconds in the future."""
        self.from_future += 1
        if self.future_example is None:
            self.future_example = candidate, seconds

    def begin_scan(self) -> None:
        """Prepare for another scan in the same run: files that are left are counted again, shipped files are not."""
        self.troubles = 0
        self.left.clear()
        self.waiting.clear()
        self.not_finished.clear()
        self.strangers.clear()
        self.more_strangers = False
        self.untouchable = None

    def count_left(self, reason: Left, candidate: Candidate | None = None) -> None:
        """Count an entry that was left; a candidate still has to be shipped later."""
        self.left[reason._value_] += 1
        if candidate is not None and reason not in _NOT_WAITING:
            self.count_waiting(candidate)
            # Scans begin with the oldest files, so the first ones have been in this state for longest.
            if len(self.not_finished) < MOST_NOT_FINISHED and reason in _NOT_FINISHED:
                self.not_finished.append((candidate, reason))

    def count_untouchable(self, entry: Untouchable, candidate: Candidate | None = None) -> None:
        """Count an entry that cannot be read or removed; the first is remembered as an example."""
        self.count_left(Left.UNREADABLE, candidate)
        self.troubles += 1
        if self.untouchable is None:
            self.untouchable = entry

    def note_stranger(self, directory: tuple[str, ...], name: str) -> None:
        """Take note of an entry that is outside the layout; it may be a directory full of files."""
        if len(self.strangers) < MOST_STRANGERS:
            self.strangers.append((directory, name))
        else:
            self.more_strangers = True

    def count_waiting(self, candidate: Candidate) -> None:
        """Count a candidate that stays in the spool and still has to be shipped."""
        since = candidate.data_time
        waiting = self.waiting.get(candidate.location)
        if waiting is None:
            location = candidate.location if len(self.waiting) < MOST_LOCATIONS else OTHER_LOCATIONS
            waiting = self.waiting.setdefault(location, Waiting(0, 0, since))
        waiting.files += 1
        waiting.bytes += candidate.size
        if since < waiting.oldest:
            waiting.oldest = since
