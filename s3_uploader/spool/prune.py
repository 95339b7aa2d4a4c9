"""Removing directories that have become empty, from below upwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

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
