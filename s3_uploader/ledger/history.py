"""Finds shipped files in the ledger's history, for people, and sums them up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from s3_uploader.ledger.columns import SHIPPED_COLUMNS, restored
from s3_uploader.ledger.pages import Read, pages
from s3_uploader.ledger.records import stored
from s3_uploader.ledger.rows import HistoryTotals, ShippedRow, shipped_row

SHIPPED_WITH_NAME = ", ".join(
    "destinations.name" if column == "destination" else f"shipped.{column}" for column in SHIPPED_COLUMNS.split(", ")
)
"""``SHIPPED_COLUMNS`` of ``SHIPPED_AND_NAME``, with the name of the destination in place of its number."""
SHIPPED_AND_NAME = "shipped JOIN destinations ON destinations.id = shipped.destination"
"""The tables that these columns are in."""


def select(
    read: Read,
    *,
    since: float | None,
    until: float | None,
    match: str | None,
    location: str | None,
    limit: int | None,
    newest_first: bool,
    size: int,
) -> Iterator[ShippedRow]:
    """Yield shipped files in the order of time; see :meth:`s3_uploader.ledger.Ledger.history`."""
    # Where the first piece begins. Numbers of rows begin with 1, so that since is included and until is not.
    lower = float("-inf") if since is None else since
    upper = float("inf") if until is None else until
    parameters: list[Any]
    if newest_first:
        conditions, after, parameters = ["(shipped_at, shipped.id) < (?, ?)", "shipped_at >= ?"], (upper, 0), [lower]
    else:
        conditions, after, parameters = ["(shipped_at, shipped.id) > (?, ?)", "shipped_at < ?"], (lower, 0), [upper]
    _narrow(conditions, parameters, match=match, location=location)
    direction = "DESC" if newest_first else "ASC"
    sql = (
        f"SELECT {SHIPPED_WITH_NAME}, shipped_at, shipped.id FROM {SHIPPED_AND_NAME}"
        f" WHERE {' AND '.join(conditions)} ORDER BY shipped_at {direction}, shipped.id {direction} LIMIT ?"
    )
    yield from map(shipped_row, pages(read, sql, after=after, parameters=parameters, size=size, limit=limit))


def selection(
    *, since: float | None, until: float | None, match: str | None, location: str | None
) -> tuple[list[str], list[Any]]:
    """The conditions that select shipped files, and their parameters; see :meth:`s3_uploader.ledger.Ledger.history`."""
    conditions: list[str] = []
    parameters: list[Any] = []
    for condition, moment in (("shipped_at >= ?", since), ("shipped_at < ?", until)):
        if moment is not None:
            conditions.append(condition)
            parameters.append(moment)
    _narrow(conditions, parameters, match=match, location=location)
    return conditions, parameters


def _narrow(conditions: list[str], parameters: list[Any], *, match: str | None, location: str | None) -> None:
    """Add the conditions for location, path and key; see :meth:`s3_uploader.ledger.Ledger.history`."""
    if location is not None:
        conditions.append("location = ?")
        parameters.append(stored(location))
    if match is not None:
        # CAST, because a value with a byte that is not text is a blob here.
        test = "CAST({} AS TEXT) GLOB CAST(? AS TEXT)" if is_glob(match) else "instr(CAST({} AS TEXT), CAST(? AS TEXT))"
        conditions.append(f"({test.format('path')} OR {test.format('key')})")
        parameters += [stored(match)] * 2


def is_glob(match: str) -> bool:
    """Whether ``match`` is a glob pattern for the whole name, and not a text to search for."""
    return any(character in match for character in "*?[")


def matches(name: str, match: str) -> bool:
    """Whether a name matches, by the same rule."""
    import fnmatch

    return fnmatch.fnmatchcase(name, match) if is_glob(match) else match in name


def totals(
    read: Read,
    *,
    by_day: bool,
    by_location: bool,
    since: float | None,
    until: float | None,
    match: str | None,
    location: str | None,
) -> Iterator[HistoryTotals]:
    """Sum up shipped files; see :meth:`s3_uploader.ledger.Ledger.history_totals`."""
    conditions, parameters = selection(since=since, until=until, match=match, location=location)
    day = "date(shipped_at, 'unixepoch', 'localtime')" if by_day else "''"
    place = "location" if by_location else "''"
    rows = read(
        f"SELECT {day} AS day, {place} AS place, count(*), sum(size), sum(already_there), min(shipped_at),"
        f" max(shipped_at) FROM shipped WHERE {' AND '.join(conditions) or 1} GROUP BY 1, 2 ORDER BY 1, 2",
        parameters,
    )
    for day_name, place_name, files, size, there, first, last in rows:
        yield HistoryTotals(
            day=day_name,
            location=restored(place_name),
            files=files,
            bytes=size,
            already_there=there,
            first_shipped_at=first,
            last_shipped_at=last,
        )
