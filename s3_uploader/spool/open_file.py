"""Opens a file of the spool when it is ready, and checks whether it is still the same.

Of a file that is old enough the kernel is asked whether anybody writes to it (:func:`is_being_written`).

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
import threading
from collections.abc import Callable, Iterable, Mapping

import msgspec

from s3_uploader.core.control import start_thread
from s3_uploader.core.files import close_quietly
from s3_uploader.core.model import NOT_JSON, Candidate, Fingerprint, Left
from s3_uploader.core.procfs import file_system_of, has_capability
from s3_uploader.spool.mounts import foreign_file_system, takes_no_file
from s3_uploader.spool.root import Names, SpoolRoot, why_not_opened

LONG_AGO_SECONDS = 60.0
"""Seconds beyond ``settle_seconds`` after which an unchanged file is shipped at the first look."""
TICK = 0.02
"""Seconds; file systems stamp changes with a clock that ticks every 1 to 10 ms (``CONFIG_HZ``; until Linux 6.13)."""
LONGEST_TICK = 2.0
"""The same where only whole seconds are stored (ext2, ext3, ext4 with small inodes), or every other second (FAT)."""
_MOST_SIGHTINGS = 5000
_MOST_EXAMINED = 1000
_GET_FLAGS = 0x80086601
"""``FS_IOC_GETFLAGS``, see ``ioctl_iflags(2)``."""
_FLAGS = {0x10: "immutable (chattr +i)", 0x20: "append-only (chattr +a)"}
_CAP_FOWNER = 3

Reason = tuple[str, str]
"""Why nothing can be removed from a directory, and what to do about it."""
_Seen = tuple[list[int], float]

_DELEGATING = ("nfs", "cifs", "smb")
_NO_LEASE_HERE = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)

# A read lease is what the kernel grants for the argument 0, and no argument stands for 0. Before Python 3.14 every
# number that is given as an argument is first refused as a string, with an exception that costs more than the call.
_SIGNAL = int(signal.SIGURG)
assert fcntl.F_RDLCK == 0  # on Linux, which alone has leases

_HELPERS = 3
_WORTH_A_HELPER = 16
_BYTES_LIKE_A_FILE = 2**20
_RANGE = 32
"""Most descriptors that are closed in one call, so that every helper has something to do."""


def is_being_written(descriptor: int, *, again: bool = False) -> bool | None:
    """Whether any process has the file open for writing, also through a shared mapping; ``None`` if unknown.

    A read lease is granted only while there is no writer (``fcntl(2)``, ``F_SETLEASE``). It is released at once. The
    answer is unknown on network file systems, and for a user who neither owns the file nor has ``CAP_LEASE``.
    ``again`` spares the choice of the signal (:func:`take_lease`): this descriptor had a lease before.
    """
    try:
        if not again:
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, _SIGNAL)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE)
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
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, _SIGNAL)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE)
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


class OpenFile(msgspec.Struct):
    """A file of the spool, open from before its upload until after its removal.

    It has one descriptor all the way: what was fingerprinted is what is sent, and what is sent is what is removed,
    whatever happens to the name in between.
    """

    candidate: Candidate
    descriptor: int
    fingerprint: Fingerprint
    home: SpoolRoot
    """The tree of its name: the spool, or the claim into which it was taken."""
    owner: int
    """Its user's number, when it was opened."""
    writers_are_seen: bool = True
    """Whether the kernel shows writers of the file, on this host at least."""
    on_close: Callable[[], None] | None = None
    """Called when the file is no longer needed: a claimed file that still exists is given back."""

    def why_changed(self) -> Left | None:
        """Say why the file is no longer what was opened: changed, or open for writing. ``None`` if it is unchanged.

        A file that cannot be examined counts as changed.
        """
        try:
            if is_being_written(self.descriptor):
                return Left.BUSY
            is_the_same = Fingerprint.of(os.fstat(self.descriptor)) == self.fingerprint
        except OSError:
            return Left.CHANGED
        return None if is_the_same else Left.CHANGED

    def has_new_content(self) -> bool:
        """Whether the content has changed since the file was opened, or a writer may be changing it.

        A file that was only renamed or removed, or whose mode changed, has changed too (:meth:`why_changed`), but its
        content has not. A file that cannot be examined counts as unchanged.
        """
        try:
            if is_being_written(self.descriptor):
                return True
            return not Fingerprint.of(os.fstat(self.descriptor)).same_content_as(self.fingerprint)
        except OSError:
            return False

    def look_again(self) -> bool:
        """Take the fingerprint again; returns whether it is still the same.

        :raises OSError: if the file system fails.
        """
        before, self.fingerprint = self.fingerprint, Fingerprint.of(os.fstat(self.descriptor))
        return before == self.fingerprint

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        Closing([self]).finish()


def open_candidate(root: SpoolRoot, candidate: Candidate) -> OpenFile | tuple[Left, str]:
    """Open a candidate that is old enough, or return the reason to leave it, with a detail.

    Writers are checked first and the fingerprint is taken second: a writer that comes and goes between the two has
    changed the file's ctime before the fingerprint, so the fingerprint describes what the reader will see.
    """
    try:
        descriptor = root.open_file(candidate.directory, candidate.name)
    except OSError as error:
        return why_not_opened(error)
    try:
        # For anything but a regular file the kernel cannot tell.
        is_busy = is_being_written(descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            close_quietly(descriptor)
            return Left.SPECIAL, "a FIFO, socket or device"
        if is_busy:
            close_quietly(descriptor)
            return Left.BUSY, "a writer has it open"
        return OpenFile(
            candidate, descriptor, Fingerprint.of(status), root, status.st_uid, writers_are_seen=is_busy is False
        )
    except OSError as error:
        close_quietly(descriptor)
        return Left.UNREADABLE, error.strerror or str(error)


class Closing:
    """Closes many files together; skips those that are closed already.

    The last close of a file without a name frees its blocks, and a file system may wait for the disk each
    time (ext4 does, mounted with ``discard`` and without a journal). On a few threads these waits overlap, with each
    other and with whatever the caller does before :meth:`finish`.
    """

    def __init__(self, files: Iterable[OpenFile]) -> None:
        self._files = [file for file in files if file.descriptor >= 0]
        self._ranges = _ranges([file.descriptor for file in self._files])
        for file in self._files:
            file.descriptor = -1
        self._helpers: list[threading.Thread] = []
        work = len(self._files) + sum([file.fingerprint.size for file in self._files]) // _BYTES_LIKE_A_FILE
        for _ in range(min(_HELPERS, len(self._ranges), work // _WORTH_A_HELPER)):
            helper = threading.Thread(target=self._work)
            # Where there may be no more threads, finish() does the work.
            with contextlib.suppress(RuntimeError):
                start_thread(helper)
                self._helpers.append(helper)

    def finish(self) -> None:
        """Wait until all are closed, and call their clean-up on this thread."""
        self._work()
        for helper in self._helpers:
            helper.join()
        files, self._files = self._files, []
        for file in files:
            if file.on_close is not None:
                file.on_close()

    def _work(self) -> None:
        while True:
            try:
                first, last = self._ranges.pop()
            except IndexError:
                return
            # It ignores errors: the descriptors are gone even then (close(2)), and whatever was to be read has been.
            os.closerange(first, last + 1)


def _ranges(descriptors: list[int]) -> list[tuple[int, int]]:
    """Descriptors as ranges, both ends included. New files get the lowest free numbers, so there are few ranges.

    One call closes a range without holding the interpreter lock.
    """
    ranges: list[tuple[int, int]] = []
    for descriptor in sorted(descriptors):
        if ranges and ranges[-1][1] == descriptor - 1 and descriptor - ranges[-1][0] < _RANGE:
            ranges[-1] = ranges[-1][0], descriptor
        else:
            ranges.append((descriptor, descriptor))
    return ranges


class Removable:
    """Remembers the directories of a spool; each is examined once in a run."""

    def __init__(self, root: SpoolRoot) -> None:
        self._root = root
        self._known: dict[Names, tuple[Reason | None, bool]] = {}

    def why_not(self, names: Names, *, owner: int) -> Reason | None:
        """Why a file of this owner cannot be removed from the directory; ``None`` if no obstacle is known."""
        known = self._known.get(names)
        if known is None:
            if len(self._known) >= _MOST_EXAMINED:
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
        if os.fstatvfs(directory).f_flag & os.ST_RDONLY or takes_no_file(directory):
            return ("its file system is read-only", "Mount it writable."), False
        by_mode = ("this user may not write to its directory", "Let the user that runs this program write to it.")
        return why_sealed(directory) or by_mode, False
    status = os.fstat(directory)
    is_sticky = status.st_mode & stat.S_ISVTX and status.st_uid != os.geteuid()
    return why_sealed(directory), bool(is_sticky) and not has_capability(_CAP_FOWNER)


def why_sealed(descriptor: int, what: str = "its directory") -> Reason | None:
    """What chattr has set that keeps a file, or every name in a directory, also for root; ``None`` without that.

    :param what: what it is to the file that cannot be removed.
    """
    try:
        flags = int.from_bytes(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))[:4], "little")
    except OSError:
        return None  # a file system without such flags
    found = next((words for bit, words in _FLAGS.items() if flags & bit), None)
    return None if found is None else (f"{what} is {found}", "Remove that attribute.")


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


def _sightings_in(text: str | None) -> dict[str, _Seen]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, _Seen])
    except NOT_JSON:
        return {}  # a note of another version
