"""A store that is made, with everything that its kind imports, only when there is something to ship."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from s3_uploader.core.model import Finding, Proof, Receipt
from s3_uploader.stores.base import Loop, PutOptions, Source, Store, StoreProperties

if TYPE_CHECKING:
    from concurrent.futures import Future


class LazyStore:
    """Stands for another store until that is opened.

    :param name: what the other store will be called.
    :param make: makes it; called at most once.
    """

    def __init__(self, *, name: str, scheme: str, make: Callable[[], Store]) -> None:
        self._name = name
        self._scheme = scheme
        self._make = make
        self._store: Store | None = None

    @property
    def properties(self) -> StoreProperties:
        """Of the store itself once there is one."""
        if self._store is None:
            return StoreProperties(
                name=self._name, scheme=self._scheme, strongest_proof=Proof.NONE, conditional_put=None
            )
        return self._store.properties

    @property
    def loop(self) -> Loop | None:
        """See :class:`Store`."""
        return None if self._store is None else self._store.loop

    def open(self) -> None:
        """Make the store and open it."""
        self._made().open()

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> Future[Receipt]:
        """See :meth:`Store.put`."""
        return self._made().put(key, source, options=options, deadline=deadline, replaces=replaces)

    def cancel(self) -> None:
        """See :meth:`Store.cancel`."""
        if self._store is not None:
            self._store.cancel()

    def check(self, *, now: float) -> list[Finding]:
        """See :meth:`Store.check`."""
        return self._made().check(now=now)

    def address(self, key: str) -> str:
        """See :meth:`Store.address`."""
        return f"{self._name}/{key}" if self._store is None else self._store.address(key)

    def close(self, *, timeout: float) -> None:
        """Close the store if it was ever made."""
        if self._store is not None:
            self._store.close(timeout=timeout)

    def _made(self) -> Store:
        if self._store is None:
            self._store = self._make()
        return self._store
