"""Two sorted streams, the ledger's rows and the destination's entries, become pairs; neither is ever held whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from s3_uploader.ledger import ShippedRow
from s3_uploader.stores.listing import Entry, key_order


class Unordered(Exception):
    """A listing is not in the order of its keys' bytes."""


class Wanted:
    """The key that is looked for now; callable, as a listing wants it."""

    def __init__(self, key: str = "") -> None:
        self.key = key

    def __call__(self) -> str:
        """The first key that is still of interest."""
        return self.key


def pairs(
    rows: Iterable[ShippedRow], entries: Iterator[Entry], wanted: Wanted
) -> Iterator[tuple[ShippedRow, Entry | None]]:
    """Each row with the entry of its key, or ``None``.

    :raises Unordered: as soon as an entry comes that should have come before; the row then at hand is in no pair yet.
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
    """The longest directory, with its slash, that both keys begin with; so does every key that sorts between them."""
    length = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        length += 1
    return first[: first.rfind("/", 0, length) + 1]


def sorted_on_disk(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same entries in the order of their keys' bytes, through a temporary file."""
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
