"""Merges the counts that ledgers have kept since they began.

A row that was merged before is recognized; a count is not. So each ledger has an identity, and a merged ledger
remembers what each of its inputs had counted. When a later copy of an input is merged, only the difference is added.
Two copies may also have gone on side by side, on two machines or after one was restored from a backup. Then the
difference of their counts says nothing, and at least the new rows are counted.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from s3_uploader.core.model import NOT_JSON
from s3_uploader.ledger import coverage
from s3_uploader.ledger.coverage import ALWAYS, Coverage, Span

NOTED_AS = "merged"
"""The name in the ledger for what was merged into it."""

_COUNTED = ("shipped_files", "shipped_bytes", "already_there", "failed_uploads", "runs")
_MOMENTS = ("last_run_at", "last_success_at", "last_shipped_at")
_FOREVER = 0.0
"""The time of notes that are not about an endpoint: too long ago for them to be read as notes about one."""


class Known(msgspec.Struct, frozen=True):
    """What a ledger had counted when it was merged, and the last hour in which it counted failures."""

    counted: tuple[int, ...]
    hour: int


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger to merge, without its rows.

    :param merged: what was merged into it before.
    :param spans: first and last moment at which a file was shipped, by destination.
    """

    path: str
    identity: str
    counted: tuple[int, ...]
    moments: tuple[float | None, ...]
    locations: list[tuple[object, int, int, float, float | None]]
    failures: list[tuple[int, str, object, int]]
    merged: dict[str, Known]
    clock: tuple[str, float] | None
    covered: Coverage
    spans: dict[str, Span]

    @property
    def known(self) -> Known:
        """What the merged ledger remembers of this one."""
        return Known(self.counted, max((hour for hour, *_ in self.failures), default=0))


def read(connection: sqlite3.Connection, path: str) -> Input:
    """Read the ledger that is attached as ``ledger``."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    notes = {str(name): (str(value), at) for name, value, at in ask("SELECT name, value, noted_at FROM ledger.memory")}
    tables = {name for (name,) in ask("SELECT name FROM ledger.sqlite_master WHERE type = 'table'")}
    (totals,) = ask(f"SELECT {', '.join((*_COUNTED, *_MOMENTS))} FROM ledger.totals")
    shipped = ask(
        "SELECT name, min(shipped_at), max(shipped_at) FROM ledger.shipped"
        " JOIN ledger.destinations ON destinations.id = destination GROUP BY destination"
    )
    clock = notes.get("clock")
    return Input(
        path=path,
        identity=notes["identity"][0] if "identity" in notes else _likely_identity(connection),
        counted=tuple(map(int, totals[: len(_COUNTED)])),
        moments=totals[len(_COUNTED) :],
        locations=ask("SELECT location, files, bytes, last_shipped_at, last_period_begin FROM ledger.locations"),
        failures=ask("SELECT hour, code, location, uploads FROM ledger.failures") if "failures" in tables else [],
        merged=_merged(notes.get(NOTED_AS, ("", 0))[0]),
        clock=None if clock is None else (clock[0], float(clock[1])),
        covered=Coverage.recalled(notes.get(coverage.NOTED_AS, ("", 0))[0]),
        spans={_text(name): (first, last) for name, first, last in shipped},
    )


def write(connection: sqlite3.Connection, inputs: Sequence[Input], target: str, *, columns: Sequence[str]) -> None:
    """Write the combined counts of the ledgers to the new one, which already has all rows.

    :param columns: the columns that identify a file in ``scratch.files``.
    """
    own = next((each for each in inputs if each.path == target), None)
    known: dict[str, Known] = {} if own is None else dict(own.merged)
    if own is not None:
        # A copy of the target itself counts what the target had counted by itself.
        parts = [each.counted for each in own.merged.values()]
        alone = tuple(max(0, whole - sum(part)) for whole, *part in zip(own.counted, *parts, strict=True))
        known[own.identity] = Known(alone, own.known.hour)
    sums = list(own.counted) if own is not None else [0] * len(_COUNTED)
    if own is not None:
        _add_locations(connection, own)
        _add_failures(connection, own, after=-1)
    # Those into which others were merged come first, so that what they have counted for these is known.
    for each in sorted((one for one in inputs if one is not own), key=lambda one: -len(one.merged)):
        before = known.get(each.identity)
        already = [known[name].counted for name in each.merged if name in known]
        if before is not None:
            already.append(before.counted)
        added = [max(0, now - sum(parts)) for now, *parts in zip(each.counted, *already, strict=True)]
        if before is None:
            _add_locations(connection, each)
            _add_failures(connection, each, after=-1)
        else:
            place, own_place = inputs.index(each), -1 if own is None else inputs.index(own)
            new = _new_rows(connection, place, own_place, columns)
            added = list(map(max, added, _at_least(connection, place, own_place, columns)))
            _add_locations(connection, msgspec.structs.replace(each, locations=new))
            _add_failures(connection, each, after=before.hour)
        sums = [one + other for one, other in zip(sums, added, strict=True)]
        known = {**each.merged, **known, each.identity: _later(before, each.known)}
    columns_of_moments = zip(*(each.moments for each in inputs), strict=True)
    moments = [max((each for each in one if each is not None), default=None) for one in columns_of_moments]
    assignments = ", ".join(f"{name} = ?" for name in (*_COUNTED, *_MOMENTS))
    connection.execute(
        f"UPDATE main.totals SET {assignments}, shipped_rows = (SELECT count(*) FROM main.shipped)", (*sums, *moments)
    )
    identity = _identity_of(connection) if own is None else own.identity
    others = {name: each for name, each in known.items() if name != identity}
    notes = {"identity": identity, NOTED_AS: msgspec.json.encode(others).decode()}
    notes[coverage.NOTED_AS] = _covered_by_all(inputs, own).noted()
    for name, value in notes.items():
        connection.execute("INSERT OR REPLACE INTO main.memory VALUES (?, ?, ?)", (name, value, _FOREVER))
    clock = next((each.clock for each in (own, *inputs) if each is not None and each.clock is not None), None)
    if clock is not None:
        connection.execute("INSERT OR REPLACE INTO main.memory VALUES ('clock', ?, ?)", clock)


def _covered_by_all(inputs: Sequence[Input], own: Input | None) -> Coverage:
    """The spans that audits have covered in every ledger. A ledger without files has nothing to cover."""
    last = max((each.covered.last for each in inputs if each.covered.last), key=lambda audit: audit.at, default=None)
    together = Coverage(last=last)
    end = max((last for each in inputs for _, last in each.spans.values()), default=0.0)
    for name in {name for each in inputs for name in each.spans}:
        spans: list[Span] = [(ALWAYS, float("inf"))]
        for each in inputs:
            if name in each.spans:
                first, latest = each.spans[name]
                own_spans = [*each.covered.of(name), (ALWAYS, first), (_after(latest), _after(end))]
                spans = coverage.common(spans, coverage.united(own_spans))
        together = together.with_spans(name, spans)
    return together


def _after(moment: float) -> float:
    return math.nextafter(moment, math.inf)


def _later(before: Known | None, now: Known) -> Known:
    if before is None:
        return now
    pairs = zip(before.counted, now.counted, strict=True)
    return Known(tuple(max(pair) for pair in pairs), max(before.hour, now.hour))


def _new_rows(
    connection: sqlite3.Connection, number: int, own: int, columns: Sequence[str]
) -> list[tuple[object, int, int, float, float | None]]:
    """Count, by location, the files of a ledger that neither the target nor an earlier input had."""
    names = ", ".join([*columns, "alike"])
    return connection.execute(
        "SELECT location, count(*), sum(size), max(shipped_at), max(period_begin) FROM (SELECT location, size,"
        " shipped_at, period_begin, min(source) AS first, max(source = ?) AS is_there FROM scratch.files"
        f" GROUP BY {names}) WHERE first = ? AND NOT is_there GROUP BY location",
        (own, number),
    ).fetchall()


def _at_least(connection: sqlite3.Connection, number: int, own: int, columns: Sequence[str]) -> tuple[int, ...]:
    """What a ledger has counted, by its rows, that neither the target nor an earlier input had.

    Rows from before the others begin are no evidence: the others may have had them once, and pruned them.
    """
    new = "SELECT *, min(source) AS first, max(source = :own) AS is_there FROM scratch.{} GROUP BY {}"
    since = "(SELECT coalesce(min({0}), 0) FROM scratch.{1} WHERE source < :number OR source = :own)"
    which = "WHERE first = :number AND NOT is_there AND {0} >= " + since
    (files,) = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(already_there), 0)"
        f" FROM ({new.format('files', ', '.join([*columns, 'alike']))}) {which.format('shipped_at', 'files')}",
        {"number": number, "own": own},
    ).fetchall()
    ((runs,),) = connection.execute(
        "SELECT coalesce(sum(ticks), 0)"
        f" FROM ({new.format('runs', 'started_at, host, destination, alike')}) {which.format('started_at', 'runs')}",
        {"number": number, "own": own},
    ).fetchall()
    return (*map(int, files), 0, int(runs))


def _add_locations(connection: sqlite3.Connection, one: Input) -> None:
    connection.executemany(
        "INSERT INTO main.locations VALUES (?, ?, ?, ?, ?) ON CONFLICT (location) DO UPDATE SET"
        " files = files + excluded.files, bytes = bytes + excluded.bytes,"
        " last_shipped_at = max(last_shipped_at, excluded.last_shipped_at),"
        " last_period_begin = max(coalesce(last_period_begin, excluded.last_period_begin),"
        " coalesce(excluded.last_period_begin, last_period_begin))",
        one.locations,
    )


def _add_failures(connection: sqlite3.Connection, one: Input, *, after: int) -> None:
    connection.executemany(
        "INSERT INTO main.failures VALUES (?, ?, ?, ?)"
        " ON CONFLICT (hour, code, location) DO UPDATE SET uploads = uploads + excluded.uploads",
        [row for row in one.failures if row[0] > after],
    )


def _identity_of(connection: sqlite3.Connection) -> str:
    ((identity,),) = connection.execute("SELECT value FROM main.memory WHERE name = 'identity'").fetchall()
    return str(identity)


def _likely_identity(connection: sqlite3.Connection) -> str:
    """A substitute for the identity of a ledger made by an older version: its first run and its first file."""
    import hashlib

    first = connection.execute(
        "SELECT * FROM (SELECT started_at, pid, host FROM ledger.runs ORDER BY id LIMIT 1) LEFT JOIN"
        " (SELECT path, shipped_at, size FROM ledger.shipped ORDER BY id LIMIT 1) ON true"
    ).fetchall()
    return "first-" + hashlib.sha256(repr(first).encode()).hexdigest()[:32]


def _merged(text: str) -> dict[str, Known]:
    try:
        return msgspec.json.decode(text, type=dict[str, Known]) if text else {}
    except NOT_JSON:
        return {}


def _text(name: object) -> str:
    from s3_uploader.ledger.columns import restored

    assert isinstance(name, (str, bytes))
    return restored(name)
