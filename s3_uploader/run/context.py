"""What a run gets from its caller besides its configuration, and what it leaves to the next runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from s3_uploader.core.control import Clock, ScanTrigger, StopRequest
from s3_uploader.core.events import Emit, Measure
from s3_uploader.core.model import FailureBucket, RunReport

if TYPE_CHECKING:
    from s3_uploader.config.schema import Config
    from s3_uploader.stores.base import Memory, Store


ENDPOINT_MEMORY = "endpoint:"
"""The prefix of names in the ledger for what a store learned about its endpoint."""
SIGHTINGS = "sightings"
"""The name in the ledger for what runs have seen of files whose writers may be on other hosts."""
DELIVERED = "delivered"
"""The name in the ledger for some deliveries, to recognise them in the spool."""
CLAIM_DIR = "claim_dir of the last run"
"""The name in the ledger for the directory of its claims."""


class MakeStore(Protocol):
    """Makes the store of a configuration; see :func:`~s3_uploader.run.assembly.build_store`."""

    def __call__(self, config: Config, *, notice: Callable[[str, str], None], memory: Memory | None) -> Store:
        """Make the store."""


def _random() -> float:
    # Only a file that failed needs a random number; the module costs 2 ms.
    import random

    return random.random()


def _no_beat() -> None:
    pass


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a run gets from its caller besides its configuration.

    :param beat: heartbeat, called often by the thread that leads the run.
    :param make_store: makes the store, once there is a file to ship; the run opens and closes it. ``None`` for
        :func:`~s3_uploader.run.assembly.build_store`.
    :param is_rehearsal: failures are simulated, so no file may be moved or deleted for them.
    :param scan_trigger: see :class:`~s3_uploader.run.pipeline.Pipeline`.
    :param says_again: report lasting problems again that earlier runs have reported, because a person is watching.
    :param is_one_of_many: a timer starts the runs: do not repeat what earlier runs have reported.
    :param retries: try failed files although their pauses are not over.
    :param may_be_divided: the run may start worker processes, if its configuration says so.
    :param measure: called once with the run's measurement, or with the reason why it could not begin. Without it the
        ledger is read less.
    """

    emit: Emit
    stop: StopRequest = msgspec.field(default_factory=StopRequest)
    clock: Clock = Clock()
    environ: Mapping[str, str] = os.environ
    random: Callable[[], float] = _random
    beat: Callable[[], None] = _no_beat
    make_store: MakeStore | None = None
    is_rehearsal: bool = False
    scan_trigger: ScanTrigger | None = None
    measure: Measure | None = None
    says_again: bool = False
    is_one_of_many: bool = False
    retries: bool = False
    may_be_divided: bool = True


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a run, and what the next runs need to know of them.

    :param failures: how many uploads failed, by kind.
    :param delivered: some of what was delivered (:meth:`s3_uploader.run.second_copy.SecondCopies.dump`).
    :param sightings: see :meth:`s3_uploader.spool.open_file.Sightings.dump`.
    :param unseen: see :attr:`s3_uploader.spool.open_file.Sightings.unseen`.
    """

    report: RunReport
    failures: Mapping[FailureBucket, int] = {}
    delivered: str = ""
    sightings: str = ""
    unseen: Mapping[str, str] = {}
