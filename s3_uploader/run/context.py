"""What a run is given from outside beside its configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.control import Clock, ScanTrigger, StopRequest
from s3_uploader.core.events import Emit, Measure

if TYPE_CHECKING:
    from s3_uploader.run.assembly import MakeStore


def _random() -> float:
    # Only a file that failed needs a random number; the module costs 2 ms.
    import random

    return random.random()


def _no_beat() -> None:
    pass


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is given from outside beside its configuration; tests and ``watch`` give something else.

    :param beat: called often by the thread that leads the run, to show that it is alive.
    :param make_store: makes the store, once there is a file to ship; the run opens and closes it. ``None`` for
        :func:`~s3_uploader.run.assembly.build_store`.
    :param is_rehearsal: failures are made up, so that no file may be moved or deleted for them.
    :param news: see :class:`~s3_uploader.run.pipeline.Pipeline`.
    :param says_again: somebody looks on: what earlier runs have told of lasting troubles is told again.
    :param is_one_of_many: a timer starts one after the other: what earlier runs have told is not told by each.
    :param retries: files that failed are tried although their pauses are not over.
    :param may_be_divided: the run may start worker processes, if its configuration says so.
    :param measure: told once what the run measured, or that it could not begin. Where nobody wants to know, the ledger
        is asked for less.
    """

    emit: Emit
    stop: StopRequest = msgspec.field(default_factory=StopRequest)
    clock: Clock = Clock()
    environ: Mapping[str, str] = os.environ
    random: Callable[[], float] = _random
    beat: Callable[[], None] = _no_beat
    make_store: MakeStore | None = None
    is_rehearsal: bool = False
    news: ScanTrigger | None = None
    measure: Measure | None = None
    says_again: bool = False
    is_one_of_many: bool = False
    retries: bool = False
    may_be_divided: bool = True
