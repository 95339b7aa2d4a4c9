"""Values that the ledger's tests have in common."""

from __future__ import annotations

import os
import sqlite3

from s3_uploader.core.model import Fingerprint, Proof, RunReport
from s3_uploader.ledger import FailingRow, Ledger, ShippedRow

NOW = 1_600_000_000.0
DAY = 86400.0
PRINT = Fingerprint(device=1, inode=2**64 - 1, size=10, mtime_ns=2**63 + 5, ctime_ns=7)


def shipped(path: str = "bedroom/2020/11/29/20/46-topic.dat", **changes: object) -> ShippedRow:
    """A shipped file with everything that can be known of one."""
    values: dict = {
        "path": path,
        "key": path,
        "destination": "bucket",
        "size": 4096,
        "mtime_ns": 1_600_000_000_123_456_789,
        "shipped_at": NOW,
        "proof": Proof.CHECKSUM,
        "location": "bedroom",
        "period_begin": NOW - 60,
        "seconds": 0.25,
        "checksum": "crc64nvme:AAAAAAAAAAA=",
        "etag": "0" * 32,
        "version_id": "v1",
        "run": 1,
    }
    return ShippedRow(**{**values, **changes})


def failing(path: str = "a.dat", **changes: object) -> FailingRow:
    """A file that failed once."""
    values: dict = {
        "path": path,
        "key": path,
        "size": 10,
        "mtime_ns": 5,
        "attempts": 1,
        "first_failed_at": NOW,
        "last_failed_at": NOW,
        "next_try_at": NOW + 60,
        "code": "Conflict",
        "message": "the key is taken by other content.",
    }
    return FailingRow(**{**values, **changes})


def report(**changes: object) -> RunReport:
    """The report of a run that found nothing to do."""
    values: dict = {
        "base_dir": "/spool",
        "destination": "bucket",
        "started_at": NOW,
        "duration": 0.5,
        "exit_code": 0,
    }
    return RunReport(**{**values, **changes})


def begin(ledger: Ledger, *, at: float = NOW, host: str = "pi", destination: str = "bucket") -> int:
    """Begin a run."""
    return ledger.begin_run(started_at=at, pid=4711, host=host, destination=destination)


def connection_of(ledger: Ledger) -> sqlite3.Connection:
    """The ledger's own connection, to let it feel what cannot be arranged from outside."""
    connection = ledger._database._connection
    assert connection is not None
    return connection


def set_aside_in(path: str) -> list[str]:
    """Names of the ledgers that were set aside beside that one."""
    directory = os.path.dirname(path)
    return sorted(name for name in os.listdir(directory) if ".corrupt-" in name and not name.endswith(("-wal", "-shm")))
