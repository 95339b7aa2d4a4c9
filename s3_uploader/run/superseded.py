"""Objects that we put there ourselves and that are out of date, because their file changed while it was uploaded.

Such an object, and no other, may be replaced by the next upload of its key whatever ``on_conflict`` says. It is known
by its ETag, and forgotten as soon as it is up to date again: from then on it is the only copy of what it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from s3_uploader.core.errors import ConflictError
from s3_uploader.core.model import Receipt


class FactMemory(Protocol):
    """Where small facts are kept for later runs. Both methods raise ``StateError``."""

    def remember(self, name: str, value: str, *, now: float) -> None:
        """Keep a small fact for later runs."""

    def recall(self, name: str, *, now: float, max_age: float) -> str | None:
        """A fact that an earlier run kept."""


class Superseded:
    """The outdated objects of one destination.

    :param address: the key as the destination writes it in full, which tells destinations apart.
    :param now: wall-clock time in seconds since the epoch.
    """

    def __init__(self, facts: FactMemory, *, address: Callable[[str], str], now: Callable[[], float]) -> None:
        self._facts = facts
        self._address = address
        self._now = now

    def add(self, receipt: Receipt) -> None:
        """The file has changed since this receipt was given for it."""
        if receipt.etag:
            self._facts.remember(self._name(receipt.key), receipt.etag, now=self._now())

    def forget(self, key: str) -> None:
        """The object under the key is what its file holds."""
        if self._etag(key):
            self._facts.remember(self._name(key), "", now=self._now())

    def has(self, key: str, conflict: ConflictError) -> bool:
        """Whether the object that is in the way is one of these."""
        return bool(conflict.existing) and self._etag(key) == conflict.existing

    def _etag(self, key: str) -> str:
        return self._facts.recall(self._name(key), now=self._now(), max_age=float("inf")) or ""

    def _name(self, key: str) -> str:
        return f"superseded:{self._address(key)}"
