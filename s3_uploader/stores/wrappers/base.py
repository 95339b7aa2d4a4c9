"""Stores that wrap another one: to keep it open, or as a base for other wrappers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from s3_uploader.core.model import Receipt
from s3_uploader.stores.base import (
    USUAL_LIMITS,
    CheckLimits,
    Loop,
    Memory,
    PendingReceipt,
    PutOptions,
    Source,
    Store,
    ignore,
)

if TYPE_CHECKING:
    from s3_uploader.core.findings import Finding


class PassingStore:
    """Passes every call to another store. A wrapper overrides what it changes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """See :class:`Store`."""
        return self._store.name

    @property
    def loop(self) -> Loop | None:
        """See :class:`Store`."""
        return self._store.loop

    @property
    def keeps_writers_apart(self) -> bool:
        """See :class:`Store`."""
        return self._store.keeps_writers_apart

    def open(self) -> None:
        """See :meth:`Store.open`."""
        self._store.open()

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """See :meth:`Store.put`."""
        return self._store.put(key, source, options=options, deadline=deadline, replaces=replaces)

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """See :meth:`Store.confirm`."""
        return self._store.confirm(receipt, deadline=deadline)

    def cancel(self) -> None:
        """See :meth:`Store.cancel`."""
        self._store.cancel()

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """See :meth:`Store.check`."""
        return self._store.check(now=now, stored=stored, limits=limits)

    def address(self, key: str) -> str:
        """See :meth:`Store.address`."""
        return self._store.address(key)

    def close(self, *, timeout: float) -> None:
        """See :meth:`Store.close`."""
        self._store.close(timeout=timeout)


class KeptStore(PassingStore):
    """Passes every call to ``store`` but keeps it open: ``open`` opens it once, ``close`` does nothing.

    :param store: not open yet.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._is_open = False
        self._opening = threading.Lock()

    def open(self) -> None:
        """Open the store, unless it is open.

        A pass that was cut short may still be opening the store on another thread; the next pass waits for that.
        """
        with self._opening:
            if not self._is_open:
                self._store.open()
                self._is_open = True

    def close(self, *, timeout: float) -> None:
        """Do nothing; :meth:`really_close` closes the store."""

    def really_close(self, *, timeout: float) -> None:
        """Close the store itself. It cannot be used afterwards."""
        self._store.close(timeout=timeout)


class PassedOnMemory:
    """What is known about an endpoint, for a store that outlives the ledger of its first run.

    :ivar current: the memory of the ledger that is open now.
    """

    def __init__(self) -> None:
        self.current: Memory | None = None

    def get(self, key: str) -> str | None:
        """The value of ``key``."""
        return None if self.current is None else self.current.get(key)

    def set(self, key: str, value: str) -> None:
        """Note ``value`` under ``key``."""
        if self.current is not None:
            self.current.set(key, value)
