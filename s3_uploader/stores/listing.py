"""What is at a destination: the ``Inventory`` protocol, beside ``Store``, for those who only read.

Terms
-----
entry
    One object, as far as the destination tells of it.
listing
    Many entries at once: cheap, with few details. Entries come in the order of the keys' bytes if the server sorts them
    so; callers that rely on the order check it.
look
    A question for one key. It may tell more than a listing: checksums, the version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

from s3_uploader.core.errors import StoreError


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One object.

    :param etag: as a receipt spells it, empty if it is not known.
    :param modified: seconds since the epoch by the destination's clock, ``None`` if it is not known.
    :param version_id: empty if it is not known or there are no versions.
    :param checksums: of the whole content, by algorithm, each as a receipt spells it.
    """

    key: str
    size: int
    etag: str = ""
    modified: float | None = None
    version_id: str = ""
    checksums: Mapping[str, str] = {}


class CannotList(StoreError):
    """The destination gives no listing, but may answer for one key at a time."""


class LookDenied(StoreError):
    """These credentials may not look at a key, and are told the same of a key that is not there."""


class Inventory(Protocol):
    """Reads a destination. One thread calls the methods, but :meth:`look`, which any thread may call.

    Errors: :class:`~s3_uploader.core.errors.StoreError`, with scope ``DESTINATION`` if nothing can be read at all.
    """

    @property
    def name(self) -> str:
        """How the store is called, in the ledger too."""

    @property
    def concurrency(self) -> int:
        """How many looks at once do good."""

    @property
    def looks_are_cheap(self) -> bool:
        """Whether a look at the content costs a question only, and not reading all of it."""

    @property
    def lists_in_order(self) -> bool:
        """Whether a listing may be expected in the order of the keys' bytes."""

    def open(self) -> None:
        """Get ready: credentials, connections. Takes no lock and writes nothing."""

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """The entries whose keys begin with ``prefix``.

        :param wanted: the first key that is still of interest; what comes before it may be left out.
        :raises CannotList: if there is no listing to be had, before the first entry.
        """

    def look(self, key: str, *, content: bool) -> Entry | None:
        """What is under a key, ``None`` if there is nothing.

        :param content: with everything that tells what its content is, even if it has to be read for that.
        :raises LookDenied: if that leaves open whether there is anything.
        """

    def address(self, key: str) -> str:
        """The key as a person writes it, e.g. ``bucket/key``."""

    def close(self) -> None:
        """Release everything. May be called twice."""


def key_order(key: str) -> bytes:
    """What keys are ordered by: their bytes."""
    try:
        return os.fsencode(key)
    except UnicodeEncodeError:
        return key.encode("utf-8", "surrogatepass")
