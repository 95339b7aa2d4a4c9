"""Finds the holder of a spool's lock, from a run's note and from the kernel."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Sequence

import msgspec

from s3_uploader.core.files import belongs_to_process, try_flock
from s3_uploader.core.procfs import (
    Credentials,
    boot_time,
    command_of,
    credentials_of,
    file_system_at,
    file_system_of,
    is_local,
    lock_table,
    locks_of,
    processes,
    start_ticks,
    user_of,
)
from s3_uploader.spool import lock_file
from s3_uploader.spool.lock_file import NOTE_NAME, Holder, read_note_at

LOCK_FILE_NAME = "lock"

_WORKER = "s3_uploader.run.worker"
_ORPHAN = "a worker of a run of s3_uploader that was killed"
_ACL = "system.posix_acl_access"
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP = 0x02, 0x08


def identify(pids: Sequence[int] | None, note: Holder | None) -> Holder:
    """Find the holder, from the note if that is about one of ``pids`` (or if they are unknown), else from ``/proc``."""
    if note is not None and is_current(note) and (not pids or note.pid in pids):
        return note
    for pid in pids or ():
        found = from_proc(pid)
        if found is not None:
            return found
    return Holder(pid=0)


def is_current(note: Holder) -> bool:
    """Whether a note is about a process that still exists, as far as that can be known."""
    if note.host != os.uname().nodename:
        return True  # cannot be known from here
    return start_ticks(note.pid) == note.started


def from_proc(pid: int) -> Holder | None:
    """The holder as the kernel knows it; ``None`` if the process cannot be seen."""
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


def locker_of(descriptor: int, *, kind: str = "OFDLCK", first: int = lock_file.FIRST_BYTE) -> Holder | None:
    """The run with a lock for which neither a note nor the kernel's table has a process that still exists.

    Workers share the lock of their run, and have it until their uploads in flight are done, also if the run is killed.
    """

    def has_it(pid: int) -> bool:
        lines = [line for line in locks_of(pid) if line.split()[6:7] == [str(first)]]
        return pid != os.getpid() and bool(pids_in_kernel_table(descriptor, kind=kind, lines=lines))

    runs = [run for run in map(from_proc, processes()) if run and run.has_our_name and has_it(run.pid)]
    if not runs:
        return None
    leaders = [run for run in runs if _WORKER not in run.command]
    return leaders[0] if leaders else msgspec.structs.replace(runs[0], command=_ORPHAN)


def orphan_of(directory: int) -> Holder | None:
    """The worker that a killed run has left with the lock on the directory of a spool."""
    found = locker_of(directory, kind="FLOCK", first=0)
    return found if found is not None and may_be_a_run(found.pid, directory) else None


def note_about(pids: Sequence[int] | None, state_dir: str) -> Holder | None:
    """The note of one of these processes, or else that of the last run of the whole spool."""
    note = read_note_at(os.path.join(state_dir, NOTE_NAME))
    if note is not None and is_current(note) and (not pids or note.pid in pids):
        return note
    of_shares = (read_note_at(os.path.join(directory, NOTE_NAME)) for directory in share_directories(state_dir))
    found = (each for each in of_shares if each is not None and is_current(each) and (not pids or each.pid in pids))
    return next(found, note)


def share_directories(state_dir: str) -> list[str]:
    """The directories of shares in the state directory of a spool."""
    try:
        names = [name for name in os.listdir(state_dir) if name.startswith("share-")]
    except OSError:
        return []
    return [os.path.join(state_dir, name) for name in sorted(names)]


def holder_of(base_fd: int, state_dir: str) -> Holder | None:
    """Find the holder of a spool's lock; ``None`` if nobody has it.

    Does not wait, and does not disturb a run that starts.

    The kernel's table of locks is asked, which names the process, and then the lock file. The lock on the directory is
    tried for an instant only if the table is unreadable.
    """
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base_fd)
    try:
        pids = pids_in_kernel_table(directory)
        if pids is None and try_flock(directory, shared=True) is False:
            return identify(None, note_about(None, state_dir))
        respected = [pid for pid in pids or () if may_be_a_run(pid, directory)]
        if respected:
            note = note_about(respected, state_dir)
            holder = identify(respected, note)
            # Over FUSE, looking at the lock file may drop the lock of a run on this host.
            may_be_ours = not holder.pid or belongs_to_process(file_system_at(directory))
            if may_be_ours or looks_like_ours(holder, note) or lock_file_is_held(directory, by_process=False):
                return holder
            return msgspec.structs.replace(holder, is_stranger=True)
        orphan = orphan_of(directory) if pids else None
        if orphan is not None:
            return orphan
        note = note_about(None, state_dir)
        # Only now: over FUSE, closing the file may drop the lock of a run on this host.
        found = _holder_of_lock_file(directory, note)
        if found is not None:
            return found
    finally:
        os.close(directory)
    return _holder_in_state_directory(state_dir, note)


def looks_like_ours(holder: Holder, note: Holder | None) -> bool:
    """Whether a holder is the run that the note describes, or has the name of this program."""
    return holder == note or holder.has_our_name


def stranger_in(descriptor: int) -> Holder | None:
    """The process that holds a lock on the lock file that cannot be a run's. Only for local file systems.

    There a run's lock belongs to the open file, and the kernel's table names no process for it.
    """
    pids = pids_in_kernel_table(descriptor, kind="POSIX") or ()
    found = next(filter(None, map(from_proc, filter(None, pids))), None)
    return None if found is None else msgspec.structs.replace(found, is_stranger=True)


def lock_file_is_held(directory: int, by_process: bool) -> bool:
    """Whether any process has locked the lock file of a spool."""
    descriptor = lock_file.look_at_lock_file(directory)
    if descriptor is None:
        return False
    try:
        return lock_file.is_held(descriptor, by_process=by_process)
    finally:
        os.close(descriptor)


def _holder_of_lock_file(directory: int, note: Holder | None) -> Holder | None:
    descriptor = lock_file.look_at_lock_file(directory)
    if descriptor is None:
        return None
    try:
        file_system = file_system_at(directory)
        if not lock_file.is_held(descriptor, by_process=belongs_to_process(file_system)):
            return None
        stranger = stranger_in(descriptor) if is_local(file_system) else None
        holder = stranger or identify(None, lock_file.read_note(descriptor) or note)
        return holder if holder.pid else locker_of(descriptor) or holder
    finally:
        os.close(descriptor)


def _holder_in_state_directory(state_dir: str, note: Holder | None) -> Holder | None:
    try:
        descriptor = os.open(os.path.join(state_dir, LOCK_FILE_NAME), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        pids = pids_in_kernel_table(descriptor)
        if pids is None and try_flock(descriptor, shared=True) is not False:
            return None
    finally:
        os.close(descriptor)
    return identify(pids, note) if pids is None or pids else None


def pids_in_kernel_table(
    descriptor: int, *, kind: str = "FLOCK", lines: Sequence[str] | None = None
) -> list[int] | None:
    """The processes that hold a lock of that kind on a file; ``None`` without ``/proc``. 0 is one that cannot be seen.

    The lines of ``/proc/locks`` are ``1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`` (proc_locks(5)). Some file
    systems (btrfs, overlayfs) show another device number to ``stat`` than the kernel knows. There only the inode is
    compared if no line has both.

    :param lines: the lines to look at; all of them by default.
    """
    lines = lock_table() if lines is None else lines
    if lines is None:
        return None
    status = os.fstat(descriptor)
    found = pids_of_lock(lines, device=status.st_dev, inode=status.st_ino, kind=kind)
    if found or file_system_of(status.st_dev):
        return found
    return pids_of_lock(lines, device=None, inode=status.st_ino, kind=kind)


def pids_of_lock(lines: Sequence[str], *, device: int | None, inode: int, kind: str = "FLOCK") -> list[int]:
    """The processes that hold a lock on a file, from the lines of ``/proc/locks``.

    :param device: ``None`` for any.
    """
    pids: list[int] = []
    for line in lines:
        fields = line.split()
        # A line with "->" is a process that waits for the lock.
        if len(fields) < 8 or fields[1] != kind or not fields[5].endswith(f":{inode}"):
            continue
        major, minor, _ = fields[5].split(":")
        if device is None or (int(major, 16), int(minor, 16)) == (os.major(device), os.minor(device)):
            pids.append(max(int(fields[4]), 0))
    return pids


def may_be_a_run(pid: int, directory: int) -> bool:
    """Whether a process that has locked a spool's directory may be an uploader of it; ``True`` in doubt.

    Anybody who may read a directory can lock it, but only a user who may write to it can remove files from it. The real
    user decides, because a set-user-ID program keeps the locks of the user who started it. A process that has ended
    has left its lock to a child process, which an uploader never does.
    """
    if not pid:
        return True
    if not _exists(pid):
        return False
    credentials = credentials_of(pid)
    return credentials is None or may_write(credentials, os.fstat(directory), _acl_of(directory))


def may_write(user: Credentials, status: os.stat_result, acl: bytes = b"") -> bool:
    """Whether a user may write to a directory, or may change its mode to that end."""
    if user.overrides or user.uid in (0, status.st_uid):
        return True
    if status.st_gid in user.groups and status.st_mode & stat.S_IWGRP:
        return True
    if status.st_mode & stat.S_IWOTH:
        return True
    # The first four bytes are the version; then come the entries (acl(5), linux/posix_acl_xattr.h).
    for tag, allowed, number in _ACL_ENTRY.iter_unpack(acl[4 : 4 + (len(acl) - 4) // 8 * 8] if len(acl) > 4 else b""):
        named = (tag == _ACL_USER and number == user.uid) or (tag == _ACL_GROUP and number in user.groups)
        if named and allowed & 2:
            return True
    return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _acl_of(directory: int) -> bytes:
    try:
        return os.getxattr(directory, _ACL)
    except (OSError, AttributeError):
        return b""
