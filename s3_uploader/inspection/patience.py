"""The state of a spool within a time limit: if the disk does not answer, the state says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from s3_uploader.config.schema import Config
from s3_uploader.core.control import Clock, start_thread
from s3_uploader.core.errors import SpoolError, StateError
from s3_uploader.core.text import counted, shown_name
from s3_uploader.health.diagnosis import diagnose
from s3_uploader.health.observations import Observations, Starter
from s3_uploader.inspection.status import SpoolStatus, standing_of

PATIENCE_SECONDS = 15.0
"""Timeout. As long as the disk answers, a look takes a few seconds at most, however large the spool is."""
_WORKING = 0.02
"""The part of a timeout that a look computes that does not wait for a disk, but reads thousands of ledgers."""
_MOST_TIMEOUTS = 20


def standing_in_time(
    config: Config,
    *,
    clock: Clock,
    seconds: float = PATIENCE_SECONDS,
    starter: Starter | None = None,
    computed: Callable[[], float] = time.process_time,
) -> SpoolStatus:
    """Find out the state of the spool within the timeout.

    A thread that waits for a disk cannot be cancelled. It is abandoned and ends with the process.

    :param computed: how long this process has computed. While it computes, a look may take some timeouts.
    """
    found: list[SpoolStatus | BaseException] = []

    def look() -> None:
        try:
            found.append(standing_of(config, clock=clock, starter=starter))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=look, name="look", daemon=True)
    start_thread(thread)
    for _ in range(_MOST_TIMEOUTS):
        before = computed()
        thread.join(seconds)
        if found or computed() - before < _WORKING * seconds:
            break
    if not found:
        return _without_answer(config, clock, seconds)
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _without_answer(config: Config, clock: Clock, seconds: float) -> SpoolStatus:
    now = clock.now()
    error = SpoolError(
        f"the disk of {shown_name(config.base_dir)} has not answered for {counted(round(seconds), 'second')}",
        hint="Repair the disk (`dmesg` shows its errors), the mount or its server. Runs hang there too.",
    )
    return SpoolStatus(
        now=now,
        base_dir=config.base_dir,
        problems=diagnose(Observations(now=now, base_dir=config.base_dir, prevented=error)),
        spool_error=error,
        # Where it lies depends on where the spool really is.
        ledger_error=StateError("The ledger was not read."),
    )
