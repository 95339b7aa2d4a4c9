"""One run per spool: the lock on the spool's directory, and who holds it.

The lock is ``flock(2)`` on the directory itself. The kernel releases it when its holder dies, however it dies; it needs
no file in the spool; and it holds between users and configurations that have nothing else in common. Beside it, in the
state directory, lies a note that describes the holder. The note is only for people: nothing depends on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Sequence

import msgspec

from s3_uploader.core.errors import LockHeld, StateError
from s3_uploader.core.procfs import boot_time, command_of, lock_table, start_ticks, user_of
from s3_uploader.core.text import shown_duration, shown_name, shown_text

NOTE_NAME = "holder.json"
LOCK_FILE_NAME = "lock"

_SECOND_LOOK = 0.05
_LONGEST_SLEEP = 0.5
# What flock answers on a directory where it is emulated by locks that need a descriptor open for writing (NFS: EBADF),
# or where there are no locks.
_NO_FLOCK = {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EISDIR}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lock, as far as it can be found out.

    :param pid: 0 if unknown, for example a process of another container.
    :param uid: ``None`` if unknown.
    :param since: seconds since the epoch at which it took the lock or, where only the kernel knows of it, at which the
        process was started; ``None`` if unknown.
    :param started: when the process was started, in the kernel's clock ticks since boot; tells it from a later one with
        the same number.
    """

    pid: int
    host: str = ""
    uid: int | None = None
    since: float | None = None
    command: str = ""
    started: int = 0

    def described(self, *, now: float) -> str:
        """The holder in words, for a message on one line."""
        if not self.pid:
            return "a process that cannot be seen from here"
        text = f"process {self.pid}"
        if self.uid is not None:
            text += f" of user {_user_name(self.uid)}"
        if self.host and self.host != os.uname().nodename:
            text += f" on {shown_text(self.host)}"
        if self.since is not None:
            text += f", for {shown_duration(now - self.since)}"
        if self.command:
            text += f": {shown_text(self.command)}"
        return text


class Lock:
    """A lock that is held, until :meth:`release` or the end of the process. A context manager."""

    def __init__(self, descriptor: int, note: str, holder: Holder) -> None:
        self._descriptor = descriptor
        self._note = note
        self.holder = holder

    def release(self) -> None:
        """Let go; may be called twice."""
        if self._descriptor < 0:
            return
        # The note first: after the release it would be that of the next holder.
        with contextlib.suppress(OSError):
            os.unlink(self._note)
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


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
    shared: bool = False,
) -> Lock:
    """Take the lock of a spool.

    :param base_fd: descriptor of the spool's directory; may be closed afterwards.
    :param base_dir: its path, for messages.
    :param state_dir: for the note about the holder and, where the file system cannot lock a directory, for a lock file.
    :param wait_seconds: how long to wait for another holder, at least a moment: ``status`` may hold it that long.
    :param clock: monotonic seconds.
    :param now: wall-clock time in seconds since the epoch.
    :param notice: told in one sentence if the lock holds less than it should.
    :param shared: for uploaders that keep apart by themselves: they have the spool together, and others keep out.
    :raises LockHeld: if another process has it.
    :raises StateError: if neither the directory nor a file in the state directory can be locked.
    """
    # An open file description of our own: a duplicate would stay locked as long as any copy of it is open.
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base_fd)
    try:
        locked = _try_lock(descriptor, shared=shared)
        if locked is None and shared:
            locked = True  # There is nothing to keep apart, as long as all of them claim.
        if locked is None:
            lock_file = _open_lock_file(state_dir)
            os.close(descriptor)
            descriptor = lock_file
            notice(
                "The file system of base_dir cannot lock a directory, so the lock is a file in the state directory: "
                "uploaders with another state directory do not see it."
            )
            locked = _try_lock(descriptor, shared=shared)
            if locked is None:
                lock_path = os.path.join(state_dir, LOCK_FILE_NAME)
                raise StateError(
                    f"Neither {shown_name(base_dir)} nor {shown_name(lock_path)} can be locked.",
                    hint="Put the state directory (state_dir) on a local file system.",
                )
        timeout_at = clock() + max(wait_seconds, _SECOND_LOOK)
        pause = _SECOND_LOOK
        while not locked:
            left = timeout_at - clock()
            if left <= 0:
                raise _held(descriptor, base_dir, state_dir, now())
            sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_SLEEP)
            locked = bool(_try_lock(descriptor, shared=shared))
    except BaseException:
        os.close(descriptor)
        raise
    holder = Holder(
        pid=os.getpid(),
        host=os.uname().nodename,
        uid=os.geteuid(),
        since=now(),
        command=" ".join(sys.argv if command is None else command),
        started=start_ticks(os.getpid()),
    )
    note = os.path.join(state_dir, NOTE_NAME)
    if not shared:
        _write_note(note, holder)
    return Lock(descriptor, note, holder)


def holder_of(base_fd: int, state_dir: str) -> Holder | None:
    """Who holds the lock of a spool, ``None`` if nobody does. Waits for nothing and does not disturb a start.

    The kernel's table of locks is asked, which names the process. Only where that is not readable the lock is tried,
    for an instant.
    """
    for descriptor in _lock_descriptors(base_fd, state_dir):
        try:
            pids = _pids_in_kernel_table(descriptor)
            if pids is None and _try_lock(descriptor, shared=True) is not False:
                continue
        finally:
            os.close(descriptor)
        if pids is None or pids:
            return _identify(pids, state_dir)
    return None


def _lock_descriptors(base_fd: int, state_dir: str) -> list[int]:
    found = [os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base_fd)]
    with contextlib.suppress(OSError):
        found.append(os.open(os.path.join(state_dir, LOCK_FILE_NAME), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    return found


def _try_lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """``True``: locked; ``False``: another one holds it; ``None``: there are no locks here."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_FLOCK:
            return None
        raise
    return True


def _open_lock_file(state_dir: str) -> int:
    path = os.path.join(state_dir, LOCK_FILE_NAME)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateError(
            f"The lock file {shown_name(path)} cannot be opened: {error.strerror}.",
            hint="Make the state directory writable for this user, or name another one with state_dir.",
            code="DiskFull" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Denied",
        ) from error


def _held(descriptor: int, base_dir: str, state_dir: str, now: float) -> LockHeld:
    holder = _identify(_pids_in_kernel_table(descriptor), state_dir)
    words = holder.described(now=now)
    return LockHeld(
        f"Another run has the spool {shown_name(base_dir)}: {words}.",
        holder=words,
        pid=holder.pid,
        held_since=holder.since,
    )


def _identify(pids: list[int] | None, state_dir: str) -> Holder:
    """The holder, from the note if that is about one of ``pids`` (or there is no telling), else from ``/proc``."""
    note = _read_note(os.path.join(state_dir, NOTE_NAME))
    if note is not None and _is_current(note) and (not pids or note.pid in pids):
        return note
    for pid in pids or ():
        found = _from_proc(pid)
        if found is not None:
            return found
    return Holder(pid=0)


def _is_current(note: Holder) -> bool:
    if note.host != os.uname().nodename:
        return True  # cannot be known from here
    return start_ticks(note.pid) == note.started


def _write_note(path: str, holder: Holder) -> None:
    temporary = f"{path}.{os.getpid()}"
    # What cannot be noted is not worth a failure: the ledger in the same directory says so in better words.
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.write(
                descriptor, msgspec.json.encode(msgspec.structs.replace(holder, command=shown_text(holder.command)))
            )
        finally:
            os.close(descriptor)
        os.rename(temporary, path)


def _read_note(path: str) -> Holder | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(65536), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def _pids_in_kernel_table(descriptor: int) -> list[int] | None:
    """Processes that hold a ``flock`` on the file; 0 stands for one that is out of sight. ``None`` without ``/proc``.

    The lines of ``/proc/locks`` are ``1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`` (proc_locks(5)). Some file
    systems (btrfs, overlayfs) show another device number to ``stat`` than the kernel knows, so that only the inode is
    compared if no line has both.
    """
    lines = lock_table()
    if lines is None:
        return None
    status = os.fstat(descriptor)
    return pids_of_lock(lines, device=status.st_dev, inode=status.st_ino)


def pids_of_lock(lines: Sequence[str], *, device: int, inode: int) -> list[int]:
    """The processes that hold a ``flock`` on a file, from the lines of ``/proc/locks``."""
    exact: list[int] = []
    loose: list[int] = []
    for line in lines:
        fields = line.split()
        # A line with "->" is a process that waits for the lock.
        if len(fields) < 8 or fields[1] != "FLOCK" or not fields[5].endswith(f":{inode}"):
            continue
        pid = max(int(fields[4]), 0)
        major, minor, _ = fields[5].split(":")
        if (int(major, 16), int(minor, 16)) == (os.major(device), os.minor(device)):
            exact.append(pid)
        else:
            loose.append(pid)
    return exact or loose


def _from_proc(pid: int) -> Holder | None:
    uid = user_of(pid)
    if uid is None:
        return None
    started = start_ticks(pid)
    return Holder(
        pid=pid,
        host=os.uname().nodename,
        uid=uid,
        since=boot_time() + started / os.sysconf("SC_CLK_TCK") if started else None,
        command=command_of(pid),
        started=started,
    )


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
