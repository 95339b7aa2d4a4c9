"""Reads queries in pieces: in bounded memory, and without blocking writers."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Return the rows of one query."""
_Row = TypeVar("_Row", bound=tuple[Any, ...])
_first = itemgetter(0)


def pages(
    read: Read,
    sql: str,
    *,
    after: tuple[Any, ...],
    parameters: Sequence[Any] = (),
    size: int,
    first: int | None = None,
    limit: int | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query; each piece is read by a query of its own that begins after the last row before.

    The statement selects its sort columns once more as its last columns, which are not yielded. Its first parameters
    are the sort values after which to begin, its last one is that of ``LIMIT``.

    :param after: where the first piece begins.
    :param size: rows of a piece.
    :param first: rows of the first piece; the next ones are twice as large each, up to ``size``.
    :param limit: the maximum number of rows in all.
    """
    width = len(after)
    piece = size if first is None else min(first, size)
    while limit is None or limit > 0:
        wanted = piece if limit is None else min(limit, piece)
        piece = min(2 * piece, size)
        rows = read(sql, (*after, *parameters, wanted))
        for row in rows:
            yield row[:-width]
        if len(rows) < wanted:
            return
        after = rows[-1][-width:]
        if limit is not None:
            limit -= wanted


def merged_pieces(parts: Sequence[Iterator[list[_Row]]]) -> Iterator[list[_Row]]:
    """Merge sorted rows, which come in lists, by their first column.

    Of each part two lists are in memory. Sorting lists that are sorted in parts is much faster than comparing row with
    row.
    """
    held = [part for each in parts if (part := _Part(each)).rows]
    while held:
        # A part that continues has nothing more before the end of the current list.
        end = min((part.rows[-1][0] for part in held if part.following), default=math.inf)
        piece: list[_Row] = []
        for part in held:
            piece += part.up_to(end)
        piece.sort(key=_first)
        yield piece
        held = [part for part in held if part.rows]


class _Part(Generic[_Row]):
    """The list at hand of one part, and the one that follows it; empty if there is none."""

    def __init__(self, lists: Iterator[list[_Row]]) -> None:
        self._lists = lists
        self.rows = next(lists, [])
        self.following = next(lists, [])
        self._at = 0

    def up_to(self, end: float) -> list[_Row]:
        """Take the rows up to ``end`` out of the list at hand."""
        behind = bisect_right(self.rows, end, lo=self._at, key=_first)
        taken = self.rows[self._at : behind]
        self._at = behind
        if behind == len(self.rows):
            self.rows, self.following, self._at = self.following, next(self._lists, []), 0
        return taken
