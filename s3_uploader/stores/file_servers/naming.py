"""Holds uploads off one another whose names some servers take for one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from s3_uploader.stores.workers import UploadTask

_LOOK_SECONDS = 0.05


class NamingLocks:
    """A lock for each name, as long as somebody has or wants it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()

    @contextlib.contextmanager
    def hold(self, task: UploadTask, key: str) -> Iterator[None]:
        """Hold the lock of a key while files are looked for and renamed.

        :raises UploadCancelled: if the task is cancelled meanwhile.
        """
        # Servers that write names in other ways than this are found out before a file gets its name.
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
