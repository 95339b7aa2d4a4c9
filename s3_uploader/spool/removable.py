"""Checks whether files can be removed from a directory, before anything is sent from there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from s3_uploader.core.errors import FAILING_DISK, is_of_a_failing_disk
from s3_uploader.core.procfs import has_capability
from s3_uploader.spool.root import Names, SpoolRoot

_GET_FLAGS = 0x80086601
"""``FS_IOC_GETFLAGS``, see ``ioctl_iflags(2)``."""
_FLAGS = {0x10: "immutable (chattr +i)", 0x20: "append-only (chattr +a)"}
_CAP_FOWNER = 3
_MOST_DIRECTORIES = 1000


Reason = tuple[str, str]
"""Why nothing can be removed from a directory, and what to do about it."""


class Removable:
    """Remembers the directories of a spool; each is examined once in a run."""

    def __init__(self, root: SpoolRoot) -> None:
        self._root = root
        self._known: dict[Names, tuple[Reason | None, bool]] = {}

    def why_not(self, names: Names, *, owner: int) -> Reason | None:
        """Why a file of this owner cannot be removed from the directory; ``None`` if no obstacle is known."""
        known = self._known.get(names)
        if known is None:
            if len(self._known) >= _MOST_DIRECTORIES:
                self._known.clear()
            try:
                known = _obstacle_in(self._root.directory(names))
            except OSError:
                return None  # whoever opens the file finds out
            self._known[names] = known
        reason, only_our_own = known
        if reason is None and only_our_own and owner != os.geteuid():
            return (
                "its directory is sticky, so that only its owner may remove it",
                "Run as the user that writes the files, or remove the sticky bit (chmod -t).",
            )
        return reason


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


def _obstacle_in(directory: int) -> tuple[Reason | None, bool]:
    """Find out why nothing can be removed from a directory, and whether at least this user's own files can be."""
    # Asks for the effective user, and knows of read-only mounts and of what chattr has made immutable.
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
        if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
            return ("its file system is read-only", "Mount it writable."), False
        by_rights = ("this user may not write to its directory", "Let the user that runs this program write to it.")
        return _by_flags(directory) or by_rights, False
    status = os.fstat(directory)
    is_sticky = status.st_mode & stat.S_ISVTX and status.st_uid != os.geteuid()
    return _by_flags(directory), bool(is_sticky) and not has_capability(_CAP_FOWNER)


def _by_flags(directory: int) -> Reason | None:
    try:
        flags = int.from_bytes(fcntl.ioctl(directory, _GET_FLAGS, bytes(8))[:4], "little")
    except OSError:
        return None  # a file system without such flags
    found = next((words for bit, words in _FLAGS.items() if flags & bit), None)
    return None if found is None else (f"its directory is {found}", "Remove that attribute.")
