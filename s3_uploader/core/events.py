"""What happens during a run, as small frozen values; log, progress, metrics and the run report subscribe to them.

A component emits an event and does nothing else about it: it neither logs nor counts nor prints. ``path`` is always
absolute, as the user configured ``base_dir``; ``address`` is ``bucket/key``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from s3_uploader.core.model import Left, LocationTotals, Receipt, RunReport, Totals

if TYPE_CHECKING:
    from s3_uploader.core.findings import Problem, Strangers


class RunStarted(msgspec.Struct, frozen=True):
    """A run has the lock and begins to scan."""

    base_dir: str
    destination: str


class UploadStarted(msgspec.Struct, frozen=True):
    """A file was handed to the store. ``data_time``: when its data began, as its path says, else its last change."""

    path: str
    size: int
    data_time: float | None = None


class Uploaded(msgspec.Struct, frozen=True):
    """A file is at the destination, proven and recorded; what ``on_success`` says has been done to the local copy.

    ``derived_key``: it is not under the key that was asked for, which is taken (``on_conflict: keep-both``).
    """

    path: str
    location: str
    store_name: str
    address: str
    receipt: Receipt
    seconds: float
    derived_key: bool = False


class UploadFailed(msgspec.Struct, frozen=True):
    """A file could not be shipped; unless ``on_failure`` says otherwise it stays and is tried again.

    ``disposition`` says what became of the local file: ``kept``, ``moved to …`` or ``deleted``.
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
    """An entry was left where it is; ``detail`` says more than the reason where there is more to say."""

    path: str
    reason: Left
    detail: str
    size: int


class LocalTrouble(msgspec.Struct, frozen=True):
    """Something local went wrong with one entry (unreadable, cannot be removed); it costs only that entry."""

    path: str
    action: str
    message: str
    hint: str = ""
    is_repeated: bool = False


class DirectoryPruned(msgspec.Struct, frozen=True):
    """An empty directory was removed."""

    path: str


class Notice(msgspec.Struct, frozen=True):
    """Something a person should know that is about the run as a whole. ``level``: ``info``, ``warning``, ``error``.

    :param about: a name for what lasts from run to run, so that it is not told in each; empty for what happens once.
    :param is_repeated: it was told not long ago.
    """

    level: str
    message: str
    about: str = ""
    is_repeated: bool = False


class StrangersFound(msgspec.Struct, frozen=True, kw_only=True):
    """There are files in the spool that its layout does not recognise. ``level`` is one of a :class:`Notice`.

    :param matching: how many files the layout recognised in this run.
    """

    base_dir: str
    layout: str
    matching: int
    found: Strangers
    level: str = "warning"


class RunFinished(msgspec.Struct, frozen=True):
    """The run is over.

    ``totals`` and ``failing_files`` are what the ledger says after it, ``None`` where it could not be asked.
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
    """One ``emit`` that hands each event to every subscriber in turn."""
    if len(subscribers) == 1:
        return subscribers[0]

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    return emit


MOST_LOCATIONS = 50
"""So many locations have series of their own. Prometheus keeps each of them for ever, whatever becomes of it."""


class ActiveProblem(msgspec.Struct, frozen=True):
    """Something that keeps files from being shipped, and since when, in seconds since the epoch."""

    cause: str
    since: float


def measured_problems(found: Iterable[Problem], *, now: float) -> tuple[ActiveProblem, ...]:
    """Of what is wrong that which is counted. What has no known begin is taken to begin now."""
    return tuple(ActiveProblem(each.cause.value, now if each.since is None else each.since) for each in found)


class RunMeasured(msgspec.Struct, frozen=True, kw_only=True):
    """A run came to its end.

    ``totals``, ``failing_files`` and ``locations``, the first :data:`MOST_LOCATIONS` by name, are what the ledger says
    after it, ``None`` where it could not be asked.
    """

    report: RunReport
    totals: Totals | None = None
    failing_files: int | None = None
    locations: tuple[LocationTotals, ...] | None = None
    problems: tuple[ActiveProblem, ...] = ()


class RunNotBegun(msgspec.Struct, frozen=True, kw_only=True):
    """A run could not begin: another one has the spool, or the spool or the state directory cannot be used.

    :param held_since: since when another run has the spool, where that is known.
    :param problems: ``None`` where it is not known whether they are still those of the last run.
    """

    base_dir: str
    at: float
    message: str
    is_held: bool = False
    held_since: float | None = None
    problems: tuple[ActiveProblem, ...] | None = None


class RunInProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A run is at work for long already, or no more.

    :param since: since when, in seconds since the epoch; 0 if it is no more.
    :param is_news: this was not told of this run before.
    :param ledger: what the ledger says as of now, ``None`` where it could not be asked.
    """

    base_dir: str
    since: float
    is_news: bool = False
    ledger: RunMeasured | None = None


Measurement: TypeAlias = RunMeasured | RunNotBegun
Measure: TypeAlias = Callable[[Measurement], None]
