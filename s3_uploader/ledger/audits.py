"""Notes in a ledger that it was audited, so that rows that were not can be kept."""

from __future__ import annotations

import os
import sqlite3

from s3_uploader.ledger.coverage import LastAudit
from s3_uploader.ledger.ledger import Ledger
from s3_uploader.ledger.read_only import ReadOnlyDatabase
from s3_uploader.ledger.schema import VERSION
from s3_uploader.ledger.trouble import explained

_WAIT_SECONDS = 5.0


def note_audit(path: str, audit: LastAudit) -> None:
    """Note an audit in the ledger that was audited.

    :raises StateError: if that is not possible, or if it would migrate the ledger of an older version, which
        that version could no longer use.
    """
    for place in (path, os.path.dirname(path) or "."):
        if not os.access(place, os.W_OK):
            raise explained(sqlite3.OperationalError("readonly database"), path)
    database = ReadOnlyDatabase(path)
    try:
        ((version,),) = database.read("PRAGMA user_version")
    finally:
        database.close()
    if version != VERSION:
        raise explained(sqlite3.OperationalError("it is of an older version of this program"), path)
    with Ledger.open(path, busy_seconds=_WAIT_SECONDS) as ledger:
        ledger.remember_audit(audit)
