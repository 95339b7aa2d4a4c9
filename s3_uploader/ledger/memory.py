"""What a store learned about its endpoint, remembered from one run to the next."""

from __future__ import annotations

MAX_AGE = 7 * 86400.0
"""Seconds after which knowledge about an endpoint expires: servers are upgraded."""


class EndpointMemory:
    """A small mapping of text to text. Any thread may use it.

    It does not touch the ledger: it is filled when it is made, and the ledger writes new values with its next
    transaction, so that a store's threads never use SQLite.
    """

    def __init__(self, known: dict[str, str], *, prefix: str = "") -> None:
        self.prefix = prefix
        self._known = known
        self._new: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """The value of ``key``; ``None`` if there is none or it is too old."""
        return self._known.get(key)

    def all(self) -> dict[str, str]:
        """All values."""
        return self._known.copy()

    def set(self, key: str, value: str) -> None:
        """Remember ``value`` under ``key``."""
        self._known[key] = value
        self._new[key] = value

    def unwritten(self) -> dict[str, str]:
        """The values to be written. They stay pending until :meth:`written` is called."""
        return self._new.copy()  # one step for the interpreter, so that no other thread can come in between

    def written(self, values: dict[str, str]) -> None:
        """Take note that ``values`` are durable in the ledger."""
        for key, value in values.items():
            if self._new.get(key) == value:
                self._new.pop(key, None)
