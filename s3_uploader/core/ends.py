"""What ends a run."""

from __future__ import annotations

import enum


class RunEnd(enum.Enum):
    """What ended a run."""

    DONE = "done"
    BUDGET = "time budget"
    SIGNAL = "signal"
    DESTINATION = "destination unusable"
    DESTINATION_BUSY = "destination busy"
    STATE = "ledger unusable"
    LOCKED = "another run has the spool"
