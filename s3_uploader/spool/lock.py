"""One run per spool: the lock of a spool.

There are two locks, and a run takes both:

* ``flock(2)`` on the spool's directory, as in all versions of this program. It excludes other runs on the same host.
  Anybody who may read the directory can take it too, so a holder that cannot be an uploader of the spool is ignored
  with a warning.
* A byte-range lock on a file in the directory (:mod:`s3_uploader.spool.lock_file`), which only the spool's owner can
  open, and which network file systems carry from host to host. A run of a share locks its part of the bytes, and shares
  the lock on the directory: overlapping shares exclude each other, and a run of all files, of any version, each share.

If neither is possible, there is a lock in the state directory. The kernel releases all of them when their holder dies,
however it dies. A note describes the holder, in the state directory and, for other hosts, in the lock file. The note is
only for people: nothing depends on it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from s3_uploader.core.control import begins_anew_after_fork
from s3_uploader.core.errors import SpoolError, StateError
from s3_uploader.core.files import belongs_to_process, close_quietly, release_flock, try_flock
from s3_uploader.core.procfs import command_line, file_system_at, is_local, start_ticks
from s3_uploader.core.text import shown_name
from s3_uploader.spool import lock_file
from s3_uploader.spool.lock_file import NOTE_NAME, Extent, Holder

if TYPE_CHECKING:
    from s3_uploader.spool.blocked import Blocked

_SECOND_LOOK = 0.05
_LONGEST_SLEEP = 0.5
_LOOKS_AT_STRANGER = 3
"""How often a holder that is unknown, or does not look like a run, is examined again before it is reported."""
_REOPENED = 5
"""How many times in a row the lock file may be replaced while it is being locked."""
_NOT_OPENED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENAMETOOLONG,
}
# A name that was removed elsewhere a moment ago is still in the cache of a network file system.
_STALE = {errno.ENOENT, errno.ESTALE, errno.EEXIST}


class Lock:
    """A lock that is held until :meth:`release` or the end of the process. A context manager."""

    def __init__(self, locks: _Locks, note: str, holder: Holder) -> None:
        self._locks = locks
        self._note = note
        self.holder = holder

    @property
    def lock_file(self) -> int:
        """Descriptor of the spool's lock file, -1 without one."""
        return self._locks.lock_file

    def descriptors(self) -> list[int] | None:
        """The locked descriptors; a process that inherits them shares the lock.

        ``None`` if the lock belongs to this process alone and ends with it.
        """
        return self._locks.descriptors()

    def confirm(self) -> None:
        """Make sure that the lock is still held; if its file was removed, it is taken again.

        :raises StateError: if another run may have the spool by now.
        """
        self._locks.confirm()

    def release(self) -> None:
        """Release the lock; may be called twice."""
        if self._locks.are_released:
            return
        # The note is cleared first: after the release it would be the note of the next holder.
        with contextlib.suppress(OSError):
            os.unlink(self._note)
        self._locks.release()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class _Locks:
    """The locks of a spool, which are taken and released together."""

    def __init__(self, base_fd: int, *, base_dir: str, state_dir: str, extent: Extent) -> None:
        self._base_dir = base_dir
        self._state_dir = state_dir
        self._extent = extent
        # An open file description of our own: a duplicate would stay locked as long as any copy of it is open.
        self._directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base_fd)
        self._file = self._state = -1
        self._is_local = self._by_process = False
        self.strangers: list[Holder] = []
        self.why_no_file = ""
        self._has_directory = False
        # Otherwise a child that the calling program has forked would hold the locks when this process is killed.
        begins_anew_after_fork(self, _Locks.forked)

    @property
    def are_released(self) -> bool:
        """Whether :meth:`release` was called."""
        return self._directory < 0

    @property
    def lock_file(self) -> int:
        """See :attr:`Lock.lock_file`."""
        return self._file

    def descriptors(self) -> list[int] | None:
        """See :meth:`Lock.descriptors`."""
        return None if self._by_process else [each for each in (self._directory, self._file, self._state) if each >= 0]

    def take(self) -> Blocked | None:
        """Take all locks, or none. Returns what is in the way, ``None`` if they were taken.

        :raises SpoolError: if something else has the name of the lock file.
        :raises StateError: if nothing can be locked.
        """
        try:
            blocked = self._take()
        except BaseException:
            self._let_go()
            raise
        if blocked is not None:
            self._let_go()
        return blocked

    def _take(self) -> Blocked | None:
        self.strangers, self.why_no_file = [], ""
        # A user who may not write to the spool removes nothing from it, and must not lock out those who do.
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=self._directory, effective_ids=True):
            return self._take_in_state_directory()
        blocked = self._take_directory()
        if blocked is not None:
            return blocked
        blocked = self._take_file()
        if blocked is not None or self._file >= 0:
            return blocked
        if self._has_directory and self._extent.share is not None and not self._extent.claims:
            # Without byte ranges shares cannot be distinguished, so they take turns.
            return self._take_directory(alone=True)
        return None if self._has_directory else self._take_in_state_directory()

    def _take_directory(self, *, alone: bool = False) -> Blocked | None:
        locked = try_flock(self._directory, shared=self._extent.shares_directory and not alone)
        self._has_directory = locked is True
        if locked is not False:
            return None
        # Imported only now: most runs get the lock at once.
        from s3_uploader.spool.blocked import by_directory_lock

        blocked, self.strangers = by_directory_lock(self._directory, self._state_dir, by_process=self._by_process)
        return blocked

    def _take_file(self) -> Blocked | None:
        file_system = file_system_at(self._directory)
        self._is_local = is_local(file_system)
        self._by_process = belongs_to_process(file_system)
        for _ in range(_REOPENED):
            try:
                descriptor = lock_file.open_lock_file(self._directory, base_dir=self._base_dir)
            except OSError as error:
                if error.errno in _STALE:
                    return _blocked_by_unknown()
                if error.errno not in _NOT_OPENED:
                    raise
                self.why_no_file = error.strerror or str(error)
                return None
            try:
                locked = self._extent.try_lock(descriptor, by_process=self._by_process)
                if locked and lock_file.is_in_place(descriptor, self._directory):
                    self._file, descriptor = descriptor, -1
                    return None
                if locked is None:
                    self.why_no_file = "its file system has no locks"
                    return None
                if locked is False:
                    return self._blocked_by_range(descriptor)
            finally:
                if descriptor >= 0:
                    lock_file.close(descriptor)
        return _blocked_by_unknown()

    def _blocked_by_range(self, descriptor: int) -> Blocked:
        from s3_uploader.spool.blocked import by_range_lock

        return by_range_lock(
            descriptor, self._extent, self._state_dir, by_process=self._by_process, is_local=self._is_local
        )

    def _take_in_state_directory(self) -> Blocked | None:
        from s3_uploader.spool.state_lock import try_state_lock

        if self._extent.claims:
            return None  # Nobody has to be excluded as long as all uploaders claim their files.
        self._state, is_locked, self._by_process = try_state_lock(
            self._state_dir, self._extent, base_dir=self._base_dir
        )
        if is_locked:
            return None
        from s3_uploader.spool.blocked import by_state_lock

        return by_state_lock(self._state, self._extent, self._state_dir, by_process=self._by_process)

    def notices(self, *, now: float) -> list[str]:
        """The warnings about the locks that were taken, one sentence each."""
        said = [
            f"The directory {shown_name(self._base_dir)} is locked by {stranger.described(now=now)}, which may not "
            "write in it, so it is not a run of this program. The lock is ignored. End that process, because older "
            "versions of this program wait for it."
            for stranger in self.strangers
        ]
        if self._state >= 0 and not self._is_reader():
            said.append(
                "Nothing in base_dir can be locked, so the lock is a file in the state directory: "
                "uploaders with another state directory do not see it."
            )
        elif self.why_no_file and self._has_directory and not self._is_local:
            said.append(
                f"The lock file {shown_name(self._base_dir)}/{lock_file.LOCK_NAME} cannot be used "
                f"({self.why_no_file}): uploaders on other hosts are not kept out. Let one user run all uploads of "
                "this spool."
            )
        return said

    def note(self, holder: Holder | None) -> None:
        """Write a note about the holder into the lock file, for uploaders on other hosts."""
        if self._file >= 0 and not self._is_local:
            lock_file.write_note(self._file, holder)

    def confirm(self) -> None:
        """See :meth:`Lock.confirm`."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            if lock_file.is_in_place(self._file, self._directory) and (
                # A process loses its lock when it closes any descriptor of the file.
                not self._by_process or self._extent.try_lock(self._file, by_process=True)
            ):
                return
        old, self._file = self._file, -1
        try:
            blocked = self._take_file()
        except SpoolError as error:
            raise StateError(error.message, hint=error.hint) from error
        except OSError:
            blocked = None
        finally:
            lock_file.close(old)
        if blocked is not None or self._file < 0:
            raise lock_file.lost(self._base_dir)

    def release(self) -> None:
        """Release all locks.

        The lock file is deleted with the last one, unless another host may be about to take it.
        """
        if self.are_released:
            return
        if self._file >= 0:
            if self._extent.claims:
                lock_file.unlock(self._file, by_process=self._by_process)
            with contextlib.suppress(OSError):
                if (
                    self._is_local
                    and lock_file.try_lock(self._file, shared=False, by_process=self._by_process)
                    and lock_file.is_in_place(self._file, self._directory)
                ):
                    lock_file.remove(self._directory)
            if not self._extent.shares_directory:
                self.note(None)
        self.close()

    def close(self) -> None:
        """Release all locks without cleaning up."""
        self._let_go()
        directory, self._directory = self._directory, -1
        close_quietly(directory)

    def forked(self) -> None:
        """Close the copies of a forked child. The locks are those of its parent, and stay."""
        copies = self._directory, self._file, self._state
        self._directory = self._file = self._state = -1
        for each in copies:
            lock_file.close(each)

    def _let_go(self) -> None:
        if self._file >= 0:
            lock_file.unlock(self._file, by_process=self._by_process)
        if self._has_directory:
            release_flock(self._directory)
        self._has_directory = False
        copies = self._file, self._state
        self._file = self._state = -1
        for each in copies:
            lock_file.close(each)

    def _is_reader(self) -> bool:
        return not os.access(".", os.W_OK | os.X_OK, dir_fd=self._directory, effective_ids=True)


def acquire(
    base_fd: int,
    *,
    base_dir: str,
    state_dir: str,
    wait_seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    now: Callable[[], float],
    notice: Callable[[str], None] = lambda sentence: None,
    command: Sequence[str] | None = None,
    extent: Extent | None = None,
    note_dir: str | None = None,
) -> Lock:
    """Take the lock of a spool.

    :param base_fd: descriptor of the spool's directory; may be closed afterwards.
    :param base_dir: its path, for messages.
    :param state_dir: for the note about the holder and, where nothing in the spool can be locked, for a lock file.
    :param wait_seconds: timeout for another holder, at least a moment: ``status`` may hold the lock that long.
    :param clock: monotonic seconds.
    :param now: wall-clock time in seconds since the epoch.
    :param notice: called with a warning if the lock protects less than it should, or another program has it.
    :param extent: the extent to lock; by default the whole spool, exclusively.
    :param note_dir: another directory for the note.
    :raises LockHeld: if another process has it.
    :raises SpoolError: if something else has the name of the lock file.
    :raises StateError: if neither the spool nor a file in the state directory can be locked.
    """
    extent = extent or Extent()
    locks = _Locks(base_fd, base_dir=base_dir, state_dir=state_dir, extent=extent)
    try:
        blocked = _take_in_time(locks, max(wait_seconds, _SECOND_LOOK), clock=clock, sleep=sleep)
        if blocked is not None:
            raise blocked.error(extent, base_dir, now=now())
        for sentence in locks.notices(now=now()):
            notice(sentence)
    except BaseException:
        locks.close()
        raise
    holder = Holder(
        pid=os.getpid(),
        host=os.uname().nodename,
        uid=os.geteuid(),
        since=now(),
        command=command_line(sys.argv if command is None else command),
        started=start_ticks(os.getpid()),
        share="" if extent.share is None else str(extent.share),
    )
    note = os.path.join(note_dir or state_dir, NOTE_NAME)
    if not extent.claims:
        lock_file.write_note_at(note, holder)
    locks.note(None if extent.shares_directory else holder)
    return Lock(locks, note, holder)


def _take_in_time(
    locks: _Locks, seconds: float, *, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Blocked | None:
    """Take the locks as soon as they are free. Returns what is still in the way when the time is over."""
    timeout_at = clock() + seconds
    pause = _SECOND_LOOK
    looks = _LOOKS_AT_STRANGER
    while (blocked := locks.take()) is not None:
        left = timeout_at - clock()
        if left <= 0:
            # A run that begins or ends looks like nobody's. With claims or a share it has the whole file at its end.
            if not looks or (blocked.holder.pid and not blocked.is_stranger):
                break
            looks -= 1
            left = _SECOND_LOOK
        sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_SLEEP)
    return blocked


def _blocked_by_unknown() -> Blocked:
    from s3_uploader.spool.blocked import Blocked

    return Blocked(Holder(pid=0))
