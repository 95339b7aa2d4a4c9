"""The columns of the ledger's tables, and the rows made of what SQLite returns for them, which may be damaged."""

from __future__ import annotations

import functools
import os
from typing import Any

import msgspec

from s3_uploader.core.errors import StateError
from s3_uploader.core.model import Proof
from s3_uploader.ledger.rows import FailingRow, RunRow, ShippedRow

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
_NUMBER = (int, float)
_NONE = type(None)
# The types that SQLite returns for each column. It stores a value that does not fit a column's type unchanged, so a
# damaged file may hold anything in any column.
_SHIPPED_TYPES: tuple[tuple[type, ...], ...] = (
    *((str, bytes), (str, bytes, _NONE), (str, bytes), (str, bytes), (int,), (int,), (*_NUMBER, _NONE), _NUMBER),
    *(_NUMBER, (str,), (str,), (str,), (str,), (int,), (int, _NONE), (int, _NONE), (str,)),
)
_FAILING_TYPES: tuple[tuple[type, ...], ...] = (
    *((str, bytes), (str, bytes), (int,), (int,), (int,), _NUMBER, _NUMBER, _NUMBER),
    *((str, bytes), (str, bytes), (str,)),
)
_CHECKED: set[tuple[type, ...]] = set()
"""The combinations of types of ``SHIPPED_COLUMNS``, and of any columns after them, that were found valid."""


def restored(value: str | bytes) -> str:
    """The name that :func:`~s3_uploader.ledger.records.stored` was given."""
    return os.fsdecode(value) if isinstance(value, bytes) else value


def shipped_row(values: tuple[Any, ...], *, destination: str | None = None) -> ShippedRow:
    """Make a row of ``SHIPPED_COLUMNS``, with the destination's name in place of its number.

    :param destination: the name, if it is known and the column holds any text. More columns may follow.
    """
    # There are few combinations of types, and millions of rows.
    types = tuple(map(type, values))
    if types not in _CHECKED:
        _check(values, _SHIPPED_TYPES)
        _CHECKED.add(types)
    path = restored(values[0])
    return ShippedRow(
        path=path,
        key=path if values[1] is None else restored(values[1]),
        location=restored(values[2]),
        destination=restored(values[3]) if destination is None else destination,
        size=values[4],
        mtime_ns=values[5],
        period_begin=values[6],
        shipped_at=values[7],
        seconds=values[8],
        proof=_proof(values[9]),
        checksum=values[10],
        etag=values[11],
        version_id=values[12],
        already_there=bool(values[13]),
        run=values[14],
        stored_size=values[15],
        encoding=values[16],
    )


def failing_row(values: tuple[Any, ...]) -> FailingRow:
    """Make a row of ``FAILING_COLUMNS``."""
    _check(values, _FAILING_TYPES)
    path, key, size, mtime_ns, attempts, first, last, next_try, code, message, origin = values
    return FailingRow(
        path=restored(path),
        key=restored(key),
        size=size,
        mtime_ns=mtime_ns,
        attempts=attempts,
        first_failed_at=first,
        last_failed_at=last,
        next_try_at=next_try,
        code=restored(code),
        message=restored(message),
        origin=origin,
    )


def run_row(values: tuple[Any, ...]) -> RunRow:
    """Make a row of ``RUN_COLUMNS``."""
    fields = dict(zip(RunRow.__struct_fields__, values, strict=True))
    try:
        fields["left"] = msgspec.json.decode(fields["left"])
        for name in ("host", "destination", "message"):
            fields[name] = restored(fields[name])
        return msgspec.convert(fields, RunRow)
    except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError) as error:
        raise _damaged(f"a run: {error}") from None


def _check(values: tuple[Any, ...], types: tuple[tuple[type, ...], ...]) -> None:
    # A query may select more columns after these.
    for value, expected in zip(values, types, strict=False):
        if not isinstance(value, expected):
            raise _damaged(f"{type(value).__name__} where {expected[0].__name__} belongs")


@functools.cache
def _proof(label: str) -> Proof:
    for proof in Proof:
        if proof.label == label:
            return proof
    raise _damaged(f"the proof {label[:40]!r}")


def _damaged(what: str) -> StateError:
    return StateError(
        f"The ledger is damaged: it contains {what}.",
        hint="Move ledger.sqlite3 out of the state directory. The next run starts a new one.",
        code="Damaged",
    )
