"""An S3 store whose loop is run by somebody else, as the coordinator does it: for the suites that any store passes."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from s3_uploader.stores.s3.store import S3Store

LENT = "native, lent"
"""Beside the names of the engines: the native one, with its loop on a thread of the test."""


class LentStore(S3Store):
    """Behaves as its base class does; from ``open`` to ``close`` a thread of the test's runs its loop."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._enough = threading.Event()
        self._turner: threading.Thread | None = None

    def open(self) -> None:
        """Open the store and take its loop over."""
        super().open()
        taken = threading.Event()

        def turn() -> None:
            loop = self.loop
            assert loop is not None
            loop.take_over()
            taken.set()
            while not self._enough.is_set() and loop.turn(0.2):
                pass
            loop.hand_back()

        self._turner = threading.Thread(target=turn, name="turner", daemon=True)
        self._turner.start()
        assert taken.wait(10)

    def close(self, *, timeout: float) -> None:
        """Hand the loop back, as a run does at its end, and close the store."""
        self._enough.set()
        with contextlib.suppress(AttributeError):
            self.loop.wake()  # type: ignore[union-attr]  # Never opened, it has none.
        if self._turner is not None:
            self._turner.join(10)
            assert not self._turner.is_alive()
        super().close(timeout=timeout)


def make_store(**settings: Any) -> S3Store:
    """A store with the engine of that name, :data:`LENT` among them."""
    if settings["engine"] == LENT:
        return LentStore.of(**{**settings, "engine": "native"})
    return S3Store.of(**settings)
