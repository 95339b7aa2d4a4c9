"""The note in a ledger that an audit was made, for those who let it forget."""

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

    :raises StateError: if that is not possible, or would bring the ledger of an older version forward, which that
        version could not use any more.
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
