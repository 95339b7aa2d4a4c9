"""Merges the sorted rows of a ledger and the sorted entries of a destination into pairs, in bounded memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from s3_uploader.ledger import ShippedRow
from s3_uploader.stores.listing import Entry, key_order


class Unordered(Exception):
    """A listing is not sorted by the bytes of its keys."""


class Wanted:
    """The key that is needed next; a callable for the listing."""

    def __init__(self, key: str = "") -> None:
        self.key = key

    def __call__(self) -> str:
        """Return the first key that is still needed."""
        return self.key


def pairs(
    rows: Iterable[ShippedRow], entries: Iterator[Entry], wanted: Wanted
) -> Iterator[tuple[ShippedRow, Entry | None]]:
    """Pair each row with the entry of its key, or with ``None``.

    :raises Unordered: if an entry comes out of order; the current row is in no pair yet.
    """
    entry: Entry | None = None
    at = b""
    ended = False
    for row in rows:
        wanted.key = row.key
        order = key_order(row.key)
        while not ended and (entry is None or at < order):
            entry = next(entries, None)
            if entry is None:
                ended = True
                break
            before, at = at, key_order(entry.key)
            if at < before:
                raise Unordered
        yield row, entry if not ended and at == order else None


def common_directory(first: str, last: str) -> str:
    """The longest common directory of both keys, with its slash.

    Every key that sorts between them begins with it too.
    """
    length = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        length += 1
    return first[: first.rfind("/", 0, length) + 1]


def sorted_on_disk(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Sort the entries by the bytes of their keys, in a temporary file."""
    connection = sqlite3.connect("", isolation_level=None)
    try:
        connection.execute("CREATE TABLE entries (key BLOB PRIMARY KEY, size, etag, modified) WITHOUT ROWID")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)",
            ((key_order(entry.key), entry.size, entry.etag, entry.modified) for entry in entries),
        )
        connection.execute("COMMIT")
        for key, size, etag, modified in connection.execute(
            "SELECT key, size, etag, modified FROM entries ORDER BY key"
        ):
            yield Entry(key=key.decode("utf-8", "surrogateescape"), size=size, etag=etag, modified=modified)
    finally:
        connection.close()
