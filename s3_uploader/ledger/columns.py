"""The columns of the ledger's tables in the order in which rows are read and written, and what their texts stand for.

A run with nothing to do reads no rows, so the classes of rows are not imported here.
"""

from __future__ import annotations

import os

FAILING_COLUMNS = (
    "path, key, size, mtime_ns, attempts, first_failed_at, last_failed_at, next_try_at, code, message, origin"
)
RUN_COLUMNS = (
    "id, started_at, finished_at, pid, host, destination, ticks, duration, exit_code, shipped, shipped_bytes,"
    ' already_there, failed, "left", backlog, backlog_bytes, oldest_waiting, pruned_directories, ended_by, message,'
    " code, origin"
)
SHIPPED_COLUMNS = (
    "path, key, location, destination, size, mtime_ns, period_begin, shipped_at, seconds, proof, checksum, etag,"
    " version_id, already_there, run, stored_size, encoding"
)


def restored(value: str | bytes) -> str:
    """The name that :func:`~s3_uploader.ledger.records.stored` was given."""
    return os.fsdecode(value) if isinstance(value, bytes) else value
