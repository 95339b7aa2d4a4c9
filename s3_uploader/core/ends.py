"""What ends a run."""

from __future__ import annotations

import enum


class RunEnd(enum.Enum):
    """What ended a run.

    The values are identifiers: the ledger and JSON have them. Their words are in ``monitoring/words.py``.
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
