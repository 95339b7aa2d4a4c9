"""The events of a run, as small frozen values. Log, progress, metrics and the run report subscribe to them.

A component only emits an event: it neither logs nor counts nor prints. ``path`` is always
absolute, as the user configured ``base_dir``; ``address`` is ``bucket/key``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from s3_uploader.core.model import Left, Receipt, RunReport

if TYPE_CHECKING:
    from s3_uploader.core.findings import Problem, Strangers


class RunStarted(msgspec.Struct, frozen=True):
    """A run has the lock and begins to scan."""

    base_dir: str
    destination: str


class UploadStarted(msgspec.Struct, frozen=True):
    """A file was handed to the store. ``data_time``: when its data began, by its path, else its last change."""

    path: str
    size: int
    data_time: float | None = None


class Uploaded(msgspec.Struct, frozen=True):
    """A file is at the destination, proven and recorded, and ``on_success`` has been applied to the local copy.

    ``derived_key``: it is under another key, because its own is taken (``on_conflict: keep-both``).
    """

    path: str
    location: str
    store_name: str
    address: str
    receipt: Receipt
    seconds: float
    derived_key: bool = False


class UploadFailed(msgspec.Struct, frozen=True):
    """A file could not be shipped. Unless ``on_failure`` says otherwise, it stays and is tried again.

    ``disposition`` is what was done to the local file: ``kept``, ``moved to …`` or ``deleted``.
    """

    path: str
    location: str
    address: str
    code: str
    message: str
    hint: str
    attempts: int
    next_try_at: float | None
    disposition: str = "kept"
    is_repeated: bool = False


class FileLeft(msgspec.Struct, frozen=True):
    """An entry was left. ``detail`` adds to the reason, if there is more to say."""

    path: str
    reason: Left
    detail: str
    size: int


class LocalTrouble(msgspec.Struct, frozen=True):
    """A local problem with one entry, which is unreadable or cannot be removed. Other entries are not affected."""

    path: str
    action: str
    message: str
    hint: str = ""
    is_repeated: bool = False


class DirectoryPruned(msgspec.Struct, frozen=True):
    """An empty directory was removed."""

    path: str


class Notice(msgspec.Struct, frozen=True):
    """Something about the whole run that a person should know. ``level``: ``info``, ``warning``, ``error``.

    :param about: a name for something that lasts over several runs, so that it is not reported in each; empty for
        single events. After a blank it may say which one of its kind.
    :param is_repeated: it was reported recently.
    :param is_of_endpoint: it is about the destination's server, and the same in each run that ships there.
    """

    level: str
    message: str
    about: str = ""
    is_repeated: bool = False
    is_of_endpoint: bool = False

    @property
    def kind(self) -> str:
        """What ``about`` begins with."""
        return self.about.partition(" ")[0]


class StrangersFound(msgspec.Struct, frozen=True, kw_only=True):
    """There are files in the spool that its layout does not recognise. ``level`` is one of a :class:`Notice`.

    :param matching: how many files the layout recognised in this run.
    """

    base_dir: str
    layout: str
    matching: int
    found: Strangers
    level: str = "warning"


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of the ledger over all runs. Pruning its history does not change them.

    ``shipped_files`` includes those that were ``already_there``. A run is a success if its exit code was 0. Times are
    seconds since the epoch, ``None`` if there was none yet.
    """

    shipped_files: int = 0
    shipped_bytes: int = 0
    already_there: int = 0
    failed_uploads: int = 0
    runs: int = 0
    last_run_at: float | None = None
    last_success_at: float | None = None
    last_shipped_at: float | None = None


class LocationTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of one location since the ledger began, with pruned history."""

    location: str
    files: int
    bytes: int
    last_shipped_at: float
    last_period_begin: float | None


class RunFinished(msgspec.Struct, frozen=True):
    """The run is over.

    ``totals`` and ``failing_files`` come from the ledger after the run, ``None`` if it could not be read.
    """

    report: RunReport
    totals: Totals | None = None
    failing_files: int | None = None
    is_repeated: bool = False


Event: TypeAlias = (
    RunStarted
    | UploadStarted
    | Uploaded
    | UploadFailed
    | FileLeft
    | LocalTrouble
    | DirectoryPruned
    | Notice
    | StrangersFound
    | RunFinished
)

Emit: TypeAlias = Callable[[Event], None]


def fan_out(subscribers: list[Emit]) -> Emit:
    """Make one ``emit`` that passes each event to every subscriber in turn."""
    if len(subscribers) == 1:
        return subscribers[0]

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    return emit


MOST_LOCATIONS = 50
"""Most locations with series of their own. Prometheus keeps each series forever."""


class ActiveProblem(msgspec.Struct, frozen=True):
    """Something that keeps files from being shipped, and since when, in seconds since the epoch."""

    cause: str
    since: float


def measured_problems(found: Iterable[Problem], *, now: float) -> tuple[ActiveProblem, ...]:
    """Convert problems for the metrics. A problem without a known beginning is taken to begin now."""
    return tuple(ActiveProblem(each.cause.value, now if each.since is None else each.since) for each in found)


class RunMeasured(msgspec.Struct, frozen=True, kw_only=True):
    """A run has finished.

    ``totals``, ``failing_files`` and ``locations``, the first :data:`MOST_LOCATIONS` by name, come from the ledger
    after the run, ``None`` if it could not be read.
    """

    report: RunReport
    totals: Totals | None = None
    failing_files: int | None = None
    locations: tuple[LocationTotals, ...] | None = None
    problems: tuple[ActiveProblem, ...] = ()


class RunNotBegun(msgspec.Struct, frozen=True, kw_only=True):
    """A run could not begin: another one has the spool, or the spool or the state directory cannot be used.

    :param held_since: since when another run has the spool, if known.
    :param problems: ``None`` if it is unknown whether they are still those of the last run.
    """

    base_dir: str
    at: float
    message: str
    is_held: bool = False
    held_since: float | None = None
    problems: tuple[ActiveProblem, ...] | None = None


class RunInProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A run has been at work for long, or has ended.

    :param since: when it began, in seconds since the epoch; 0 if it has ended.
    :param is_news: this is the first report about this run.
    :param ledger: what the ledger says now; ``None`` if it could not be read.
    """

    base_dir: str
    since: float
    is_news: bool = False
    ledger: RunMeasured | None = None


Measurement: TypeAlias = RunMeasured | RunNotBegun
Measure: TypeAlias = Callable[[Measurement], None]
