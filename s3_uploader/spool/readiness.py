"""Decides when a file is ready: two clocks, the probe for a writer, and whether it can be removed afterwards.

:func:`why_settling` is a function of values. :func:`is_being_written` and :class:`Removable` ask the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import signal
import stat

from s3_uploader.core.errors import FAILING_DISK, is_of_a_failing_disk
from s3_uploader.core.model import Candidate
from s3_uploader.core.procfs import file_system_of, has_capability
from s3_uploader.spool.root import Names, SpoolRoot

FUTURE_TOLERANCE = 300.0
"""Seconds by which an mtime may be in the future before it counts as wrong and no longer holds a file back."""

_DELEGATING = ("nfs", "cifs", "smb")
_NO_LEASE_HERE = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)


_GET_FLAGS = 0x80086601
"""``FS_IOC_GETFLAGS``, see ``ioctl_iflags(2)``."""
_FLAGS = {0x10: "immutable (chattr +i)", 0x20: "append-only (chattr +a)"}
_CAP_FOWNER = 3
_MOST_DIRECTORIES = 1000


Reason = tuple[str, str]
"""Why nothing can be removed from a directory, and what to do about it."""


def why_settling(candidate: Candidate, mtime_ns: int, now: float, settle_seconds: float) -> str:
    """Say why a candidate is too fresh; empty if it is not.

    A period in the path holds a file back only while it runs and until ``settle_seconds`` after its end. One in the
    future (a wrong clock, local time read as UTC) or none at all leaves the decision to the mtime; an mtime that lies
    more than :data:`FUTURE_TOLERANCE` in the future decides nothing either, so that no file is stranded.

    :param mtime_ns: when the file was last written, in nanoseconds since the epoch.
    :param now: seconds since the epoch.
    """
    begin, end = candidate.period_begin, candidate.period_end
    if begin is not None and end is not None and begin <= now < end + settle_seconds:
        return f"its minute ended less than {settle_seconds:g} s ago" if now >= end else "its minute is not over"
    age = now - mtime_ns / 1e9
    if age < settle_seconds and age >= -FUTURE_TOLERANCE:
        return f"written {max(age, 0.0):.0f} s ago, less than {settle_seconds:g} s"
    return ""


def is_being_written(descriptor: int) -> bool | None:
    """Whether any process has the file open for writing, also through a shared mapping; ``None`` if unknown.

    A read lease is granted only while there is no writer (``fcntl(2)``, ``F_SETLEASE``). It is released at once. The
    answer is unknown on network file systems, and for a user who neither owns the file nor has ``CAP_LEASE``.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        # Who came in this moment is let in by it, and is no different from one who comes in the next.
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return None if _not_granted(error, descriptor) is None else True
    return False


def take_lease(descriptor: int) -> bool | None:
    """Take a read lease: ``True`` if it was granted, ``False`` if there is a writer, ``None`` if unknown.

    Until :func:`release_lease` the next writer's ``open`` waits for us, or fails if it asked not to wait: a matter of
    microseconds. If one arrives, the kernel sends a signal. The default, ``SIGIO``, would kill the process, so another
    one is chosen that is ignored by default.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return _not_granted(error, descriptor)
    return True


def _not_granted(error: OSError, descriptor: int) -> bool | None:
    """Why there is no lease: ``False`` if there is a writer, ``None`` if that is unknown."""
    if error.errno == errno.EAGAIN:
        return None if _is_remote(os.fstat(descriptor).st_dev) else False
    if error.errno in _NO_LEASE_HERE:
        return None
    raise error


def release_lease(descriptor: int) -> bool:
    """Release a lease; returns whether no process tried to open the file for writing meanwhile."""
    # Of a lease that somebody wants broken this tells what it is to become.
    undisturbed = fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # A process that was stopped for longer than lease-break-time (proc(5), 45 s) has lost its lease.
        if error.errno == errno.EAGAIN:
            return False
        raise
    return undisturbed


@functools.lru_cache(maxsize=64)
def _is_remote(device: int) -> bool:
    """Whether files of a device are on a server that must delegate them before it can show writers.

    NFSv4 and SMB refuse a lease with the same ``EAGAIN`` as for a writer where the server has delegated nothing
    (``nfs4_setlease`` and ``cifs_setlease`` in Linux).
    """
    return file_system_of(device).startswith(_DELEGATING)


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
