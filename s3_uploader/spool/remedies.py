"""What to do about files of the spool that cannot be removed, moved or made."""

from __future__ import annotations

import errno

from s3_uploader.core.errors import FAILING_DISK, is_of_a_failing_disk


def remedy(error: OSError) -> str:
    """The remedy for a file that could not be removed."""
    return remedy_of(
        error,
        denied="Let the user that runs this program write to its directory, and remove `chattr +i` and foreign sticky "
        "bits.",
    )


def remedy_of(error: OSError, *, denied: str) -> str:
    """The remedy for an operation that failed in the spool; empty if there is none that is known.

    :param denied: that for missing rights.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        return denied
    if is_of_a_failing_disk(error):
        return FAILING_DISK
    if error.errno == errno.EROFS:
        return "Mount its file system writable."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make some room there."
    return ""
