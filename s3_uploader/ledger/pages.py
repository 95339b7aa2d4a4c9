"""Reads queries in pieces: in bounded memory, and without blocking writers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Return the rows of one query."""


def pages(
    read: Read,
    sql: str,
    *,
    after: tuple[Any, ...],
    parameters: Sequence[Any] = (),
    size: int,
    limit: int | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query; each piece is read by a query of its own that begins after the last row before.

    The statement selects its sort columns once more as its last columns, which are not yielded. Its first parameters
    are the sort values after which to begin, its last one is that of ``LIMIT``.

    :param after: where the first piece begins.
    :param size: rows of a piece.
    :param limit: at the most so many rows in all.
    """
    width = len(after)
    while limit is None or limit > 0:
        wanted = size if limit is None else min(limit, size)
        rows = read(sql, (*after, *parameters, wanted))
        for row in rows:
            yield row[:-width]
        if len(rows) < wanted:
            return
        after = rows[-1][-width:]
        if limit is not None:
            limit -= wanted
