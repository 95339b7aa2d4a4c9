"""A store that stays open between runs, for a program that runs all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3_uploader.core.model import Finding, Receipt
from s3_uploader.stores.base import Loop, Memory, PutOptions, Source, Store, StoreProperties

if TYPE_CHECKING:
    from concurrent.futures import Future


class KeptStore:
    """Passes everything on to ``store`` but keeps it open: ``open`` opens it once, ``close`` does nothing.

    :param store: not open yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_open = False

    @property
    def properties(self) -> StoreProperties:
        """See :class:`Store`."""
        return self._store.properties

    @property
    def loop(self) -> Loop | None:
        """See :class:`Store`."""
        return self._store.loop

    def open(self) -> None:
        """Open the store, unless it is open."""
        if not self._is_open:
            self._store.open()
            self._is_open = True

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> Future[Receipt]:
        """See :meth:`Store.put`."""
        return self._store.put(key, source, options=options, deadline=deadline, replaces=replaces)

    def cancel(self) -> None:
        """See :meth:`Store.cancel`."""
        self._store.cancel()

    def check(self, *, now: float) -> list[Finding]:
        """See :meth:`Store.check`."""
        return self._store.check(now=now)

    def address(self, key: str) -> str:
        """See :meth:`Store.address`."""
        return self._store.address(key)

    def close(self, *, timeout: float) -> None:
        """Leave it open; :meth:`really_close` closes it."""

    def really_close(self, *, timeout: float) -> None:
        """Close the store itself. It is not used afterwards."""
        self._store.close(timeout=timeout)


class PassedOnMemory:
    """What is known of an endpoint, for a store that outlives the ledger it was made with.

    :ivar current: the memory of the ledger that is open now.
    """

    def __init__(self) -> None:
        self.current: Memory | None = None

    def get(self, key: str) -> str | None:
        """What is known under ``key``."""
        return None if self.current is None else self.current.get(key)

    def set(self, key: str, value: str) -> None:
        """Note ``value`` under ``key``."""
        if self.current is not None:
            self.current.set(key, value)
