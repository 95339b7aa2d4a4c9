"""Queries that are read in pieces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pytest

from s3_uploader.ledger.pages import merged_pieces, pages

SQL = "SELECT name, number FROM things WHERE number > ? AND name <> ? ORDER BY number LIMIT ?"


class Things:
    """A table, and the queries that were made."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("CREATE TABLE things (number INTEGER PRIMARY KEY, name TEXT)")
        self.connection.executemany("INSERT INTO things (name) VALUES (?)", [(name,) for name in "abcxdefg"])
        self.asked: list[tuple[Any, ...]] = []

    def read(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """One query."""
        self.asked.append(tuple(parameters))
        return self.connection.execute(sql, parameters).fetchall()


@pytest.fixture
def things() -> Iterator[Things]:
    """Eight of them."""
    made = Things()
    yield made
    made.connection.close()


def test_all_rows_come_in_their_order_and_without_what_orders_them(things: Things) -> None:
    """Each piece begins after the last row of the one before."""
    assert list(pages(things.read, SQL, after=(0,), parameters=("x",), size=3)) == [(name,) for name in "abcdefg"]
    assert [asked[0] for asked in things.asked] == [0, 3, 7]


@pytest.mark.parametrize(("limit", "queries"), [(0, 0), (2, 1), (3, 1), (4, 2)])
def test_a_limit_ends_it(things: Things, limit: int, queries: int) -> None:
    """Nothing is read beyond what is wanted."""
    rows = list(pages(things.read, SQL, after=(0,), parameters=("x",), size=3, limit=limit))
    assert (len(rows), len(things.asked)) == (limit, queries)


def test_pieces_that_grow(things: Things) -> None:
    """Who wants a few rows of many reads a few, and who wants all of them does not read them one by one."""
    rows = list(pages(things.read, SQL, after=(0,), parameters=("x",), size=3, first=1))
    assert rows == [(name,) for name in "abcdefg"]
    assert [asked[-1] for asked in things.asked] == [1, 2, 3, 3]


def test_rows_that_are_written_meanwhile_are_seen(things: Things) -> None:
    """No query is open between two pieces, so that writers wait for nobody."""
    rows = pages(things.read, SQL, after=(0,), parameters=("x",), size=3)
    first = next(rows)
    things.connection.execute("INSERT INTO things (name) VALUES ('h')")
    assert (first, list(rows)[-1]) == (("a",), ("h",))


def test_pieces_of_several_parts_are_merged() -> None:
    """Rows of several parts come in one order, whatever the sizes of their pieces; rows of one moment all come."""
    parts = [
        [[(1, "a"), (5, "b"), (5, "c")], [(5, "d"), (9, "e")]],
        [[(2, "f"), (5, "g")], [(5, "h")], [(7, "i"), (8, "j"), (11, "k")]],
        [],
        [[(0, "l")]],
    ]
    found = list(chain.from_iterable(merged_pieces([iter(part) for part in parts])))
    assert [row[0] for row in found] == [0, 1, 2, 5, 5, 5, 5, 5, 7, 8, 9, 11]
    assert sorted(row[1] for row in found) == list("abcdefghijkl")


def test_pieces_of_several_parts_are_read_as_they_are_needed() -> None:
    """However long the parts are, only two pieces of each are in memory."""
    read = [0, 0]

    def lists(number: int) -> Iterator[list[tuple[int, int]]]:
        for begin in range(0, 1000, 10):
            read[number] += 1
            yield [(moment, number) for moment in range(begin, begin + 10)]

    merged = merged_pieces([lists(0), lists(1)])
    for given in range(1, 50):
        assert len(next(merged)) <= 40
        assert max(read) <= given + 3
