"""The rows of the ledger as values, made of what SQLite returns, which may be damaged; rules that need no database."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from s3_uploader.core.control import backoff
from s3_uploader.core.errors import StateError
from s3_uploader.core.model import Fingerprint, Proof
from s3_uploader.ledger.columns import restored

FIRST_PAUSE = 60.0
"""The first pause of a failed file, in seconds."""
LONGEST_PAUSE = 6 * 3600.0
"""The longest pause, in seconds."""
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


class ShippedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One shipped file.

    :param path: relative to the spool.
    :param destination: name of the store, e.g. the bucket.
    :param key: where the object really is.
    :param period_begin: data time in seconds since the epoch, ``None`` if the path names none.
    :param seconds: how long the upload took.
    :param run: the run that shipped it.
    :param stored_size: size of the object, if the file was compressed.
    :param encoding: the compression; empty if there is none.
    :param kept: fingerprint of the local file if it stays; used by :meth:`Ledger.remembers`.
    :param kept_path: the path under which it stays, if that is not ``path``.
    """

    path: str
    key: str
    destination: str
    size: int
    mtime_ns: int
    shipped_at: float
    proof: Proof
    location: str = ""
    period_begin: float | None = None
    seconds: float = 0.0
    checksum: str = ""
    etag: str = ""
    version_id: str = ""
    already_there: bool = False
    run: int | None = None
    kept: Fingerprint | None = None
    kept_path: str = ""
    stored_size: int | None = None
    encoding: str = ""


class FailingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One file that could not be shipped so far. ``size`` and ``mtime_ns`` show whether its content has changed since.

    :param origin: the cause of its last error (:class:`~s3_uploader.core.origins.Origin`); empty in records of older
        versions.
    """

    path: str
    key: str
    size: int
    mtime_ns: int
    attempts: int
    first_failed_at: float
    last_failed_at: float
    next_try_at: float
    code: str
    message: str
    origin: str = ""

    def waits(self, *, size: int, mtime_ns: int, now: float) -> bool:
        """Whether the file, in its present state, has to wait for its next try.

        Changed content is tried at once. A next try further away than the longest pause was set by a wrong clock.
        """
        if size != self.size or mtime_ns != self.mtime_ns:
            return False
        return now < self.next_try_at <= now + LONGEST_PAUSE


class FailingGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The files that fail with the same code.

    ``attempts``, ``path`` and ``message`` are those of the one that has failed for longest, ``next_try_at`` is the
    earliest of all.
    """

    code: str
    files: int
    first_failed_at: float
    attempts: int
    next_try_at: float
    path: str
    message: str
    origin: str = ""


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run, or an unbroken series of ``ticks`` runs that had nothing to do.

    ``finished_at`` is ``None`` while it runs, and for ever if it was killed. Of several ticks ``started_at`` belongs to
    the first, everything else to the last.
    """

    id: int
    started_at: float
    finished_at: float | None
    pid: int
    host: str
    destination: str = ""
    ticks: int = 1
    duration: float = 0.0
    exit_code: int | None = None
    shipped: int = 0
    shipped_bytes: int = 0
    already_there: int = 0
    failed: int = 0
    left: dict[str, int] = {}
    backlog: int = 0
    backlog_bytes: int = 0
    oldest_waiting: float | None = None
    pruned_directories: int = 0
    ended_by: str = ""
    message: str = ""
    code: str = ""
    origin: str = ""


class HistoryTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one day, of one location, or of both, within the history.

    :param day: ``2026-11-20`` in local time; empty if days are summed up.
    :param location: empty if locations are summed up.
    """

    day: str
    location: str
    files: int
    bytes: int
    already_there: int
    first_shipped_at: float
    last_shipped_at: float


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the shipped files are to be forgotten: those that were shipped before ``end``."""

    files: int
    forgotten: int
    end: float


def next_pause(attempts: int, random: Callable[[], float]) -> float:
    """The pause in seconds after the ``attempts``-th failure: doubling, with jitter to spread files.

    :param random: returns a float in [0, 1).
    """
    return backoff(attempts, first=FIRST_PAUSE, longest=LONGEST_PAUSE) * (0.5 + 0.5 * random())


def after_failure(
    before: FailingRow | None,
    *,
    path: str,
    key: str,
    size: int,
    mtime_ns: int,
    code: str,
    message: str,
    origin: str = "",
    now: float,
    random: Callable[[], float],
) -> FailingRow:
    """Make the row of a file that has just failed; ``before`` is its previous row.

    Changed content counts from one again.
    """
    same = before is not None and before.size == size and before.mtime_ns == mtime_ns
    attempts = before.attempts + 1 if before is not None and same else 1
    return FailingRow(
        path=path,
        key=key,
        size=size,
        mtime_ns=mtime_ns,
        attempts=attempts,
        first_failed_at=before.first_failed_at if before is not None and same else now,
        last_failed_at=now,
        next_try_at=now + next_pause(attempts, random),
        code=code,
        message=message,
        origin=origin,
    )


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
