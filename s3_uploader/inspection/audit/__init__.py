"""Holds the ledger against the destination: what was shipped must be there, and still be the same.

Terms
-----
row
    A file that was shipped, as the ledger has it; of several under one key only the last counts.
entry
    What is at the destination under a key (:class:`~s3_uploader.stores.listing.Entry`).
finding
    A difference between the two that somebody has to know of, or a note that is none.
"""

from __future__ import annotations

from s3_uploader.inspection.audit.auditor import Audit, Progress
from s3_uploader.inspection.audit.discrepancies import Discrepancy, Kind, Summary

__all__ = ["Audit", "Discrepancy", "Kind", "Progress", "Summary"]
