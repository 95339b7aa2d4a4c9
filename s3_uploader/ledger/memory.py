"""What a store learned about its endpoint, remembered from one run to the next."""

from __future__ import annotations

MAX_AGE = 7 * 86400.0
"""Seconds after which what was learned about an endpoint has to be learned anew: servers are upgraded."""


class EndpointMemory:
    """A small mapping of text to text. Any thread may use it.

    Nothing in it touches the ledger: it is filled when it is made, and the ledger writes what is new with its next
    transaction, so that a store's threads never meet SQLite.
    """

    def __init__(self, known: dict[str, str], *, prefix: str = "") -> None:
        self.prefix = prefix
        self._known = known
        self._new: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """What is known under ``key``, ``None`` if nothing is or it is too old."""
        return self._known.get(key)

    def all(self) -> dict[str, str]:
        """All that is known."""
        return self._known.copy()

    def set(self, key: str, value: str) -> None:
        """Remember ``value`` under ``key``."""
        self._known[key] = value
        self._new[key] = value

    def unwritten(self) -> dict[str, str]:
        """What is to be written. It stays so until :meth:`written` is told that it is durable."""
        return self._new.copy()  # one step for the interpreter, so that no other thread can come in between

    def written(self, values: dict[str, str]) -> None:
        """``values`` are in the ledger now."""
        for key, value in values.items():
            if self._new.get(key) == value:
                self._new.pop(key, None)
