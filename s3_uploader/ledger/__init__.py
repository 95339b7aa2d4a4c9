"""The ledger: a record of shipped files, failing files and runs.

It saves work and keeps the history, but never makes deleting safe. It promises that a file whose row was committed by
:meth:`Ledger.commit_batch` is remembered after a power cut, and that losing the ledger loses nothing else.

Terms
-----
shipped
    At the destination and proven.
failing
    Tried and not shipped, waiting for its next try; forgotten when it is shipped or has vanished.
kept
    Shipped with ``on_success: keep``: it is still there and must not be shipped again.
tick
    A run that found nothing to do. An unbroken series of them is one row with a count.

Importing this is cheap; SQLite is loaded when a ledger is opened, and the rows when one is read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3_uploader.core.events import LocationTotals
from s3_uploader.ledger.ledger import Ledger
from s3_uploader.ledger.queries import EndpointMemory, LedgerReader
from s3_uploader.ledger.state_directory import LEDGER_NAME, create_state_directory, spool_name, state_directory

if TYPE_CHECKING:
    from s3_uploader.ledger.rows import FailingRow, HistoryTotals, RunRow, ShippedRow, after_failure, next_pause

__all__ = [
    "LEDGER_NAME",
    "EndpointMemory",
    "FailingRow",
    "HistoryTotals",
    "Ledger",
    "LedgerReader",
    "LocationTotals",
    "RunRow",
    "ShippedRow",
    "after_failure",
    "create_state_directory",
    "next_pause",
    "spool_name",
    "state_directory",
]


if not TYPE_CHECKING:  # a type checker would take every name for one of the package, misspelt ones too

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from s3_uploader.ledger import rows

        return getattr(rows, name)
