"""Failing files in the ledger, summed up by kind of failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from s3_uploader.ledger.columns import restored
from s3_uploader.ledger.rows import FailingKind


def select_kinds(read: Callable[[str], list[tuple[Any, ...]]]) -> list[FailingKind]:
    """The failing files by code. Those that are only under suspicion are left out."""
    due = dict(read("SELECT code, min(next_try_at) FROM failing WHERE attempts > 0 GROUP BY code"))
    # With one min() the other columns come from the row that has it (https://sqlite.org/lang_select.html#bareagg).
    rows = read(
        "SELECT code, count(*), min(first_failed_at), attempts, path, message FROM failing WHERE attempts > 0"
        " GROUP BY code ORDER BY code"
    )
    return [
        FailingKind(
            code=restored(code),
            files=files,
            first_failed_at=first_failed_at,
            attempts=attempts,
            next_try_at=due.get(code, first_failed_at),
            path=restored(path),
            message=restored(message),
        )
        for code, files, first_failed_at, attempts, path, message in rows
    ]
