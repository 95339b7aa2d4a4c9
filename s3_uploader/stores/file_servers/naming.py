"""Locks that separate uploads whose names some servers treat as one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from s3_uploader.stores.workers import UploadTask

_LOOK_SECONDS = 0.05


class NamingLocks:
    """A lock for each name that is in use or that an upload waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()

    @contextlib.contextmanager
    def hold(self, task: UploadTask, key: str) -> Iterator[None]:
        """Hold the lock of a key during lookup and rename.

        :raises UploadCancelled: if the task is cancelled meanwhile.
        """
        # Servers that change names in other ways are recognised before a file gets its name.
        folded = key.casefold()
        with self._changed:
            while folded in self._held:
                task.check()
                self._changed.wait(_LOOK_SECONDS)
            self._held.add(folded)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(folded)
                self._changed.notify_all()
