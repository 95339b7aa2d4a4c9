"""The ``Inventory`` protocol for reading a destination, beside ``Store``.

Terms
-----
entry
    One object, as the destination reports it.
listing
    Many entries at once: cheap, with few details. Entries come in the order of the keys' bytes if the server sorts them
    so; callers that rely on the order check it.
look
    A request for one key. It may report more than a listing: checksums, the version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

from s3_uploader.core.errors import StoreError


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One object.

    :param etag: as a receipt spells it, empty if unknown.
    :param modified: seconds since the epoch by the destination's clock, ``None`` if unknown.
    :param version_id: empty if unknown or without versions.
    :param checksums: of the whole content, by algorithm, each as a receipt spells it.
    """

    key: str
    size: int
    etag: str = ""
    modified: float | None = None
    version_id: str = ""
    checksums: Mapping[str, str] = {}


class CannotList(StoreError):
    """The destination refuses to list, but may answer for single keys."""


class LookDenied(StoreError):
    """These credentials may not look at a key, and get the same answer for a missing key."""


class Inventory(Protocol):
    """Reads a destination. One thread calls the methods, except :meth:`look`, which any thread may call.

    Errors: :class:`~s3_uploader.core.errors.StoreError`, with scope ``DESTINATION`` if nothing can be read at all.
    """

    @property
    def name(self) -> str:
        """The store's name, as in the ledger."""

    @property
    def concurrency(self) -> int:
        """The useful number of concurrent lookups."""

    @property
    def looks_are_cheap(self) -> bool:
        """Whether a lookup of the content is only a request, without reading the content."""

    @property
    def lists_in_order(self) -> bool:
        """Whether listings should be in the order of the keys' bytes."""

    def open(self) -> None:
        """Get ready: credentials, connections. Takes no lock and writes nothing."""

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """The entries whose keys begin with ``prefix``.

        :param wanted: the first key that is still needed; earlier ones may be omitted.
        :raises CannotList: if the destination refuses to list; raised before the first entry.
        """

    def look(self, key: str, *, content: bool) -> Entry | None:
        """The object of a key, ``None`` if it does not exist.

        :param content: with everything that identifies its content, even if the content has to be read.
        :raises LookDenied: if it is unknown whether the object exists.
        """

    def address(self, key: str) -> str:
        """The key in the form for messages, e.g. ``bucket/key``."""

    def close(self) -> None:
        """Release everything. May be called twice."""


OUT_OF_TIME = "before the time of the whole audit was over (max_runtime_seconds)"
"""The end of a sentence about a question that was cut short."""


def key_order(key: str) -> bytes:
    """The sort key of keys: their bytes."""
    if key.isascii():
        return key.encode()  # most keys: an audit asks for each of millions twice
    try:
        return os.fsencode(key)
    except UnicodeEncodeError:
        return key.encode("utf-8", "surrogatepass")
