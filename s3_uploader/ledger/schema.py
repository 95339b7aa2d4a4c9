"""The tables of the ledger, as migrations from each version to the next.

Columns without a type hold names: text where the name is valid UTF-8, else the bytes of the name as a blob.
Times are seconds since the epoch unless they end in ``_ns``.
"""

from __future__ import annotations

APPLICATION_ID = 0x53335550  # "S3UP"; `file` and sqlite3_analyzer show it

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE destinations (
            id INTEGER PRIMARY KEY,
            name NOT NULL UNIQUE
        )""",
        # A key that equals the path, which is the rule, is stored as NULL.
        """CREATE TABLE shipped (
            id INTEGER PRIMARY KEY,
            path NOT NULL,
            key,
            location NOT NULL,
            destination INTEGER NOT NULL REFERENCES destinations,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            period_begin REAL,
            shipped_at REAL NOT NULL,
            seconds REAL NOT NULL,
            proof TEXT NOT NULL,
            checksum TEXT NOT NULL,
            etag TEXT NOT NULL,
            version_id TEXT NOT NULL,
            already_there INTEGER NOT NULL,
            run INTEGER
        )""",
        "CREATE INDEX shipped_by_time ON shipped (shipped_at)",
        """CREATE TABLE kept (
            id INTEGER PRIMARY KEY,
            path NOT NULL UNIQUE,
            destination INTEGER NOT NULL REFERENCES destinations,
            inode INTEGER NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL
        )""",
        """CREATE TABLE failing (
            path NOT NULL PRIMARY KEY,
            key NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            first_failed_at REAL NOT NULL,
            last_failed_at REAL NOT NULL,
            next_try_at REAL NOT NULL,
            code TEXT NOT NULL,
            message NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX failing_by_time ON failing (next_try_at)",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            started_at REAL NOT NULL,
            finished_at REAL,
            pid INTEGER NOT NULL,
            host NOT NULL,
            destination NOT NULL,
            idle INTEGER NOT NULL DEFAULT 0,
            ticks INTEGER NOT NULL DEFAULT 1,
            duration REAL NOT NULL DEFAULT 0,
            exit_code INTEGER,
            shipped INTEGER NOT NULL DEFAULT 0,
            shipped_bytes INTEGER NOT NULL DEFAULT 0,
            already_there INTEGER NOT NULL DEFAULT 0,
            failed INTEGER NOT NULL DEFAULT 0,
            "left" TEXT NOT NULL DEFAULT '{}',
            backlog INTEGER NOT NULL DEFAULT 0,
            backlog_bytes INTEGER NOT NULL DEFAULT 0,
            oldest_waiting REAL,
            pruned_directories INTEGER NOT NULL DEFAULT 0,
            ended_by TEXT NOT NULL DEFAULT '',
            message NOT NULL DEFAULT ''
        )""",
        """CREATE TABLE locations (
            location NOT NULL PRIMARY KEY,
            files INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            last_shipped_at REAL NOT NULL,
            last_period_begin REAL
        ) WITHOUT ROWID""",
        # What has been counted since the ledger began. Pruning changes none of it but shipped_rows.
        """CREATE TABLE totals (
            only INTEGER PRIMARY KEY CHECK (only = 1),
            shipped_rows INTEGER NOT NULL,
            shipped_files INTEGER NOT NULL,
            shipped_bytes INTEGER NOT NULL,
            already_there INTEGER NOT NULL,
            failed_uploads INTEGER NOT NULL,
            runs INTEGER NOT NULL,
            last_run_at REAL,
            last_success_at REAL,
            last_shipped_at REAL
        )""",
        "INSERT INTO totals VALUES (1, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL)",
        """CREATE TABLE memory (
            name TEXT NOT NULL PRIMARY KEY,
            value TEXT NOT NULL,
            noted_at REAL NOT NULL
        ) WITHOUT ROWID""",
        # Identifies a ledger that was merged into another one before; older ledgers have none.
        "INSERT INTO memory VALUES ('identity', lower(hex(randomblob(16))), 0)",
    ),
    (
        # Failed uploads, retried or not, by the hour (since the epoch) in which they failed.
        """CREATE TABLE failures (
            hour INTEGER NOT NULL,
            code TEXT NOT NULL,
            location NOT NULL,
            uploads INTEGER NOT NULL,
            PRIMARY KEY (hour, code, location)
        ) WITHOUT ROWID""",
    ),
    # The code of the error that ended a run.
    ("ALTER TABLE runs ADD COLUMN code TEXT NOT NULL DEFAULT ''",),
    # A compressed file has another size at its destination; NULL if the size is the same.
    (
        "ALTER TABLE shipped ADD COLUMN stored_size INTEGER",
        "ALTER TABLE shipped ADD COLUMN encoding TEXT NOT NULL DEFAULT ''",
    ),
)

VERSION = len(MIGRATIONS)

ADDED_COLUMNS = (
    # The origin of an error (core/origins.py), from which the diagnosis is made.
    ("runs", "origin", "TEXT NOT NULL DEFAULT ''"),
    ("failing", "origin", "TEXT NOT NULL DEFAULT ''"),
)
"""Columns that are added without a new schema version, so that older versions of the program can use the ledger too.

Older versions leave them at their default, which must mean that the value is unknown."""

OF_OLDER = {
    "runs": {"code": "''", "origin": "''"},
    "shipped": {"stored_size": "NULL", "encoding": "''"},
    "failing": {"origin": "''"},
}
"""Values of columns that a ledger lacks, for read-only connections."""


class ForeignFile(Exception):
    """The file is a database of another program."""
