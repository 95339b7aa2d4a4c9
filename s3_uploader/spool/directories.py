"""Makes directories of a spool, or of a claim, that are needed for a file."""

from __future__ import annotations

import contextlib
import os
import stat

from s3_uploader.spool.root import Names, SpoolRoot


def make_directories(root: SpoolRoot, names: Names) -> None:
    """Make a directory and its parents below a root, through descriptors.

    It gets the permissions of its parent, and its owner if possible: the producer, who may be another user, must be
    able to write into a directory that was pruned before.
    """
    try:
        root.directory(names)
    except FileNotFoundError:
        make_directories(root, names[:-1])
        above = root.directory(names[:-1])
        try:
            os.mkdir(names[-1], 0o700, dir_fd=above)
        except FileExistsError:
            return
        status = os.fstat(above)
        made = root.directory(names)
        with contextlib.suppress(OSError):
            os.fchown(made, status.st_uid, status.st_gid)
        with contextlib.suppress(OSError):
            os.fchmod(made, stat.S_IMODE(status.st_mode))
