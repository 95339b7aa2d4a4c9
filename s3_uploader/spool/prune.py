"""Directories that have become empty: counts their files in flight, and removes them from below upwards."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable

from s3_uploader.core.control import Clock
from s3_uploader.core.counters import RunCounters
from s3_uploader.core.events import DirectoryPruned, Emit, LocalTrouble
from s3_uploader.spool.layouts.base import Layout
from s3_uploader.spool.root import Names, SpoolRoot

_NOT_EMPTY = (
    errno.ENOTEMPTY,
    errno.EEXIST,
    errno.ENOENT,
    errno.ESTALE,
    errno.EBUSY,
    errno.ENOTDIR,
    errno.ELOOP,
)


def prune_upwards(
    root: SpoolRoot, layout: Layout, names: Names, *, now: float, pruned: Callable[[Names], None]
) -> OSError | None:
    """Remove ``names`` if it is empty and may go, then the directory above it, and so on; never the spool itself.

    ``rmdir`` decides what is empty, so a file that a producer creates meanwhile is safe.

    :param pruned: called for each directory that was removed.
    :returns: the error that stopped it where that was not simply a directory that is not empty.
    """
    child: Names | None = None
    while names:
        try:
            parent = root.directory(names[:-1])
            mtime = os.stat(names[-1], dir_fd=parent, follow_symlinks=False).st_mtime
            if not layout.may_prune(names, now=now, child=child, mtime=mtime):
                return None
            os.rmdir(names[-1], dir_fd=parent)
        except OSError as error:
            return None if error.errno in _NOT_EMPTY else error
        root.forget(names)
        pruned(names)
        child, names = names, names[:-1]
    return None


class Directories:
    """Counts the files in flight in each directory, and prunes empty directories.

    :param prune: whether directories are removed at all.
    """

    def __init__(
        self, root: SpoolRoot, layout: Layout, *, counters: RunCounters, emit: Emit, clock: Clock, prune: bool
    ) -> None:
        self._root = root
        self._layout = layout
        self._counters = counters
        self._emit = emit
        self._clock = clock
        self._prune = prune
        self._files_in: Counter[Names] = Counter()

    def begin(self, names: Names) -> None:
        """Count a file of the directory as in flight."""
        self._files_in[names] += 1

    def settle(self, names: Names, *, removed: bool) -> None:
        """Count a file of the directory as no longer in flight."""
        self._files_in[names] -= 1
        if self._files_in[names] <= 0:
            del self._files_in[names]
            if removed:
                self.prune_upwards(names)

    def prune_upwards(self, names: Names) -> None:
        """Remove a directory if it is empty and may be pruned, and then its empty parents."""
        if not self._prune or names in self._files_in:
            return
        error = prune_upwards(self._root, self._layout, names, now=self._clock.now(), pruned=self._pruned)
        if error is not None:
            self._emit(LocalTrouble(self._root.shown(names), "prune", error.strerror or str(error)))

    def _pruned(self, names: Names) -> None:
        self._counters.pruned += 1
        self._emit(DirectoryPruned(self._root.shown(names)))
