"""Decides when a file is ready: two clocks, the probe for a writer, and whether it could be removed afterwards.

:func:`why_settling` is a function of values. :func:`is_being_written` asks the kernel.

On FUSE and network file systems a lease shows only writers on this host. So a file there is shipped when an earlier
look, at least ``settle_seconds`` ago, saw it as it is now (:class:`Sightings`). A file that has been unchanged for much
longer by the file system's own clock needs no earlier look.

A file that cannot be removed would be sent again and again, so its directory is examined first (:class:`Removable`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import signal
import stat
from collections.abc import Mapping

import msgspec

from s3_uploader.core.model import Candidate, Fingerprint
from s3_uploader.core.procfs import Mount, file_system_at, file_system_of, has_capability, is_local, mount_of
from s3_uploader.spool.root import Names, SpoolRoot

FUTURE_TOLERANCE = 300.0
"""Seconds by which an mtime may be in the future before it counts as wrong and no longer holds a file back."""

LONG_AGO_SECONDS = 60.0
"""Seconds beyond ``settle_seconds`` after which an unchanged file is shipped at the first look."""
TICK = 0.02
"""Seconds; file systems stamp changes with a clock that ticks every 1 to 10 ms (``CONFIG_HZ``; until Linux 6.13)."""
LONGEST_TICK = 2.0
"""The same where only whole seconds are stored (ext2, ext3, ext4 with small inodes), or every other second (FAT)."""
UNKNOWN = "a file system of unknown type"
_MOST_SIGHTINGS = 5000
_LAYERS = ("upperdir", "lowerdir")

_GET_FLAGS = 0x80086601
"""``FS_IOC_GETFLAGS``, see ``ioctl_iflags(2)``."""
_FLAGS = {0x10: "immutable (chattr +i)", 0x20: "append-only (chattr +a)"}
_CAP_FOWNER = 3
_MOST_DIRECTORIES = 1000

Reason = tuple[str, str]
"""Why nothing can be removed from a directory, and what to do about it."""
_Seen = tuple[list[int], float]

_DELEGATING = ("nfs", "cifs", "smb")
_NO_LEASE_HERE = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)


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
        # A writer that tried to open the file in this moment may continue now, like one that comes a moment later.
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
    # If another process waits to open the file, this is the type to which the lease has to change.
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


def foreign_file_system(descriptor: int) -> str:
    """The type of the file system of an open file if other hosts may write there unseen, else empty.

    If ``/proc`` does not show it, the worst is assumed.
    """
    found = file_system_at(descriptor) or UNKNOWN
    if found == "overlay":
        mount = mount_of(descriptor)
        return UNKNOWN if mount is None else _foreign_layer(mount)
    return "" if is_local(found) else found


def _foreign_layer(mount: Mount) -> str:
    """The type of a layer of an overlay that is not a disk of this host; empty if unknown."""
    for option in mount.options.split(","):
        name, _, value = option.partition("=")
        for path in value.split(":") if name in _LAYERS else ():
            with contextlib.suppress(OSError):
                layer = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    found = file_system_at(layer)
                finally:
                    os.close(layer)
                if found and not is_local(found):
                    return f"overlay of {found}"
    return ""


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


def _obstacle_in(directory: int) -> tuple[Reason | None, bool]:
    """Find out why nothing can be removed from a directory, and whether at least this user's own files can be."""
    # Asks for the effective user, and knows of read-only mounts and of what chattr has made immutable.
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
        if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
            return ("its file system is read-only", "Mount it writable."), False
        by_mode = ("this user may not write to its directory", "Let the user that runs this program write to it.")
        return why_sealed(directory) or by_mode, False
    status = os.fstat(directory)
    is_sticky = status.st_mode & stat.S_ISVTX and status.st_uid != os.geteuid()
    return why_sealed(directory), bool(is_sticky) and not has_capability(_CAP_FOWNER)


def why_sealed(directory: int) -> Reason | None:
    """What chattr has set that keeps every name in a directory, also for root; ``None`` without such an attribute."""
    try:
        flags = int.from_bytes(fcntl.ioctl(directory, _GET_FLAGS, bytes(8))[:4], "little")
    except OSError:
        return None  # a file system without such flags
    found = next((words for bit, words in _FLAGS.items() if flags & bit), None)
    return None if found is None else (f"its directory is {found}", "Remove that attribute.")


class Sightings:
    """What was seen of the files of a spool whose writers may be on other hosts.

    :param known: what earlier runs have seen (:meth:`dump`).
    :ivar unseen: reasons why writers of ready files cannot be seen, each with the first such path.
    """

    def __init__(self, root: SpoolRoot, *, settle_seconds: float, known: str | None = None) -> None:
        self._root = root
        self._settle_seconds = settle_seconds
        self._before = _sightings_in(known)
        self._now: dict[str, _Seen] = {}
        self._types: dict[int, str] = {}
        self._behind: float | None = None
        self.unseen: dict[str, str] = {}

    def file_system(self, device: int, descriptor: int) -> str:
        """See :func:`foreign_file_system`; each device is examined once."""
        found = self._types.get(device)
        if found is None:
            found = self._types[device] = foreign_file_system(descriptor)
        return found

    def why_wait(self, path: str, fingerprint: Fingerprint, descriptor: int, *, now: float) -> str:
        """Say why a file that looks ready has to be seen once more; empty if it has not."""
        found = self.file_system(fingerprint.device, descriptor)
        if not found:
            return ""
        state = [fingerprint.inode, fingerprint.size, fingerprint.mtime_ns, fingerprint.ctime_ns]
        # As text that JSON can hold, whatever bytes the name has.
        path = os.fsencode(path).decode("latin-1")
        before = self._now.get(path) or self._before.get(path)
        if before is not None and before[0] == state and now - before[1] >= 0 and self._is_over(now - before[1]):
            return ""
        # Every write sets the mtime by that clock. A program that sets it back has finished writing.
        written_at = fingerprint.mtime_ns / 1e9
        if now - self._clock_behind(now) - written_at >= self._settle_seconds + LONG_AGO_SECONDS:
            return ""
        since = before[1] if before is not None and before[0] == state and before[1] <= now else now
        if len(self._now) < _MOST_SIGHTINGS:
            self._now[path] = state, since
        return (
            f"{found} does not show writers on other hosts: the file has to be seen unchanged for "
            f"{self._settle_seconds:g} s, by one run and by another"
        )

    def absorb(self, dumped: str, unseen: Mapping[str, str]) -> None:
        """Add what another process has seen in the same run."""
        self._now.update(_sightings_in(dumped))
        for reason, path in unseen.items():
            self.unseen.setdefault(reason, path)

    def dump(self) -> str:
        """Serialise for the next run what was seen and is not shipped yet."""
        return msgspec.json.encode(self._now).decode() if self._now or self._before else ""

    def _is_over(self, seconds: float) -> bool:
        return seconds >= self._settle_seconds and seconds > 0

    def _clock_behind(self, now: float) -> float:
        """The seconds by which the clock of the file system, perhaps another host's, is behind ours."""
        if self._behind is None:
            from s3_uploader.spool.probe import probe_in  # rarely needed

            self._behind = 0.0
            with contextlib.suppress(OSError), probe_in(lambda: self._root.descriptor) as name:
                self._behind = max(0.0, now - self._root.stat((), name).st_ctime)
        return self._behind


def unseen_in_words(reason: str, path: str) -> str:
    """The warning about files that are shipped although their writers cannot be seen.

    :param reason: the type of the file system, or empty if this user may not see them.
    """
    if reason:
        return (
            f"The spool lies on {reason}, where open files of other hosts cannot be seen. Files wait until two runs "
            "have seen them unchanged. If a producer pauses longer within a file, it is shipped too early. Let it "
            "write elsewhere and rename into the spool."
        )
    return (
        f"This user cannot see whether somebody writes to files of other users, such as {path}. Run as the user that "
        "writes them, or give the service CAP_LEASE. Until then settle_seconds must be longer than the longest pause "
        "of a writer."
    )


def _sightings_in(text: str | None) -> dict[str, _Seen]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, _Seen])
    except msgspec.DecodeError:
        return {}  # a note of another version
