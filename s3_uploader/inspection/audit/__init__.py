"""Compares the ledger with the destination: every shipped file must be there, unchanged.

Terms
-----
row
    A shipped file in the ledger. Of several under one key only the last counts.
entry
    What is at the destination under a key (:class:`~s3_uploader.stores.listing.Entry`).
finding
    A difference between row and entry, or a note.
"""

from __future__ import annotations

from s3_uploader.inspection.audit.auditor import Audit, Progress
from s3_uploader.inspection.audit.discrepancies import Discrepancy, Kind, Summary

__all__ = ["Audit", "Discrepancy", "Kind", "Progress", "Summary"]
