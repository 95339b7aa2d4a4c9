"""The lock file in the root of a spool, and the note that tells people who holds the lock.

Only the spool's owner can open the file, and it is locked by bytes.

NFSv4, SMB and those file systems in user space that forward locks carry a byte-range lock to the server, but never a
lock on a directory. The locked bytes begin at :data:`FIRST_BYTE`, after the content of the file: where locks are
mandatory (SMB), the note about the holder can still be read. There is one byte for each CRC-32, so that a share of the
files is locked by a part of the range. A run of all files locks the whole range (:class:`Extent`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core import files
from s3_uploader.core.errors import FAILING_DISK, SpoolError, StateError, is_of_a_failing_disk
from s3_uploader.core.model import NOT_JSON
from s3_uploader.core.text import shown_duration, shown_name, shown_text

if TYPE_CHECKING:
    from s3_uploader.core.shares import Share

LOCK_NAME = ".s3-uploader.lock"
"""No layout recognises it: it is not a directory, and its name is that of an unfinished file."""

FIRST_BYTE = 1 << 32
RANGE = 1 << 32
BY_PATH, BY_LOCATION = FIRST_BYTE + RANGE, FIRST_BYTE + RANGE + 1
"""Bytes behind the range that say by which rule shares own their files; see :class:`Extent`."""
locked_by_process: dict[int, tuple[int, int, Extent]] = {}
"""Descriptor, device, inode and extent of each lock that belongs to this process; see :mod:`.held_here`."""
NOTE_NAME = "holder.json"
"""The note in the state directory; the lock file holds another, for other hosts."""
MOST_NOTE_BYTES = 16 * 1024

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NAMES_SOMETHING_ELSE = (errno.ESTALE, errno.ENXIO, errno.ENODEV)
"""An old name in the cache of a network file system, and devices, whatever their disk does."""
_OUR_NAMES = ("s3-uploader", "s3_uploader")
_NOT_PLAIN = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.ENOTDIR)


def open_lock_file(base_fd: int, *, base_dir: str) -> int:
    """Open the lock file; creates it if it is missing.

    :raises SpoolError: if something else has its name, or the disk fails.
    :raises OSError: if it can neither be opened nor created.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            # Not even the opening of a device is without effect.
            _insist_on_plain(os.stat(LOCK_NAME, dir_fd=base_fd, follow_symlinks=False), base_dir)
        descriptor = os.open(LOCK_NAME, _FLAGS | os.O_CREAT, 0o600, dir_fd=base_fd)
    except OSError as error:
        if is_of_a_failing_disk(error) and error.errno not in _NAMES_SOMETHING_ELSE:
            raise SpoolError(
                f"The lock file {shown_name(base_dir)}/{LOCK_NAME} cannot be opened: {error.strerror}.",
                hint=FAILING_DISK,
            ) from error
        if error.errno in _NOT_PLAIN:
            raise _planted(base_dir) from None
        raise
    try:
        status = os.fstat(descriptor)
        _insist_on_plain(status, base_dir)
        _make_private(descriptor, status, base_fd)
    except BaseException:
        files.close_quietly(descriptor)
        raise
    return descriptor


def refuse_planted(base_fd: int, *, base_dir: str) -> None:
    """Make sure that nothing else has the name of the lock file. Opens and creates nothing.

    :raises SpoolError: if something else has it.
    """
    with contextlib.suppress(OSError):
        _insist_on_plain(os.stat(LOCK_NAME, dir_fd=base_fd, follow_symlinks=False), base_dir)


def lost(base_dir: str) -> StateError:
    """The error of a run whose lock file is no longer its own."""
    return StateError(
        f"The lock file {shown_name(base_dir)}/{LOCK_NAME} was removed or replaced; another run may have the spool.",
        hint="Do not remove it while runs are at work. The next run continues.",
    )


def look_at_lock_file(base_fd: int) -> int | None:
    """Open the lock file for reading; ``None`` if there is none, or if this user may not read it."""
    try:
        if not stat.S_ISREG(os.stat(LOCK_NAME, dir_fd=base_fd, follow_symlinks=False).st_mode):
            return None
        return os.open(LOCK_NAME, _FLAGS & ~os.O_RDWR, dir_fd=base_fd)
    except OSError:
        return None


def is_in_place(descriptor: int, base_fd: int) -> bool:
    """Whether the open lock file is still the one that has the name.

    :raises OSError: if that is unknown.
    """
    try:
        there = os.stat(LOCK_NAME, dir_fd=base_fd, follow_symlinks=False)
        own = os.fstat(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return own.st_nlink > 0 and os.path.samestat(there, own)


def try_lock(
    descriptor: int, *, shared: bool, by_process: bool, first: int = FIRST_BYTE, length: int = RANGE
) -> bool | None:
    """See :func:`s3_uploader.core.files.try_range`."""
    return files.try_range(descriptor, first=first, length=length, shared=shared, by_process=by_process)


def unlock(descriptor: int, *, by_process: bool) -> None:
    """See :func:`s3_uploader.core.files.release_range`."""
    locked_by_process.pop(descriptor, None)
    files.release_range(descriptor, first=FIRST_BYTE, length=RANGE + 2, by_process=by_process)


def close(descriptor: int) -> None:
    """Close a lock file, or what else is locked; what was locked with it is forgotten."""
    locked_by_process.pop(descriptor, None)
    files.close_quietly(descriptor)


def is_held(descriptor: int, *, by_process: bool) -> bool:
    """Whether any process holds a lock on the file; takes none itself."""
    return files.is_held(descriptor, first=FIRST_BYTE, length=RANGE, by_process=by_process)


def remove(base_fd: int) -> None:
    """Remove the lock file; the caller must hold its whole lock."""
    with contextlib.suppress(OSError):
        os.unlink(LOCK_NAME, dir_fd=base_fd)


def _insist_on_plain(status: os.stat_result, base_dir: str) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise _planted(base_dir)


def _planted(base_dir: str) -> SpoolError:
    return SpoolError(
        f"{base_dir}/{LOCK_NAME} is not the lock file that this program makes, but a link, a directory or something "
        "else.",
        hint="Find out who made it, and remove it. Nothing is shipped until then.",
    )


def _make_private(descriptor: int, status: os.stat_result, base_fd: int) -> None:
    """Allow only the spool's owner to open it: a user who can open it can keep every run out."""
    # A user who may not change the mode uses the file as it is.
    with contextlib.suppress(OSError):
        if stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        if os.geteuid() == 0:
            owner = os.fstat(base_fd)
            if owner.st_uid != status.st_uid:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)


class InTheWay(msgspec.Struct, frozen=True):
    """A lock that keeps a run from its own; of a share, or of all files if that is ``None``.

    :param by_other_rule: it belongs to a share whose files are chosen by another rule.
    """

    share: Share | None = None
    by_other_rule: bool = False

    @property
    def name(self) -> str:
        """The state directory of the share; empty if it is not a share."""
        return "" if self.share is None else self.share.name


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a spool that a run locks: all of it or a share, alone or together with uploaders that claim.

    A share by path owns the files whose paths have a hash in its range, a share by location the files of the locations
    that have one. Two shares of one rule have files in common exactly if their ranges overlap. Two shares of different
    rules may always have files in common, so they exclude each other: each locks the byte of its own rule, together
    with other shares of that rule, and then tests the byte of the other rule. Each locks before it tests, so of two
    that begin at the same time at least one notices the other.

    :param share: ``None`` for all files.
    :param by_location: the share owns locations, and not files by their paths.
    :param claims: uploaders that keep apart by claiming have it together.
    """

    share: Share | None = None
    by_location: bool = False
    claims: bool = False

    @property
    def shares_directory(self) -> bool:
        """Whether other processes may lock the directory at the same time."""
        return self.claims or self.share is not None

    def try_lock(self, descriptor: int, *, by_process: bool) -> bool | None:
        """Lock it: ``True`` if locked, ``False`` if another run is in the way, ``None`` if there are no locks here."""
        if by_process:
            from s3_uploader.spool.held_here import hold

            if not hold(locked_by_process, descriptor, self, self._excludes):
                return False
        locked = self._try_lock(descriptor, by_process=by_process)
        if not locked:
            locked_by_process.pop(descriptor, None)
        return locked

    def _excludes(self, other: Extent) -> bool:
        """Whether two runs may not be at work at the same time."""
        if self.claims and other.claims:
            return False
        if self.share is None or other.share is None or self.by_location != other.by_location:
            return True
        one, two = self.share, other.share
        return one.first < two.first + two.length and two.first < one.first + one.length

    def _try_lock(self, descriptor: int, *, by_process: bool) -> bool | None:
        first, length = _bytes_of(self.share)
        locked = try_lock(descriptor, first=first, length=length, shared=self.claims, by_process=by_process)
        if locked is not True or self.share is None:
            return locked
        own, _ = self._rules
        marked = try_lock(descriptor, first=own, length=1, shared=True, by_process=by_process)
        if marked and not self._other_rule(descriptor, by_process=by_process):
            return True
        unlock(descriptor, by_process=by_process)
        return False

    @property
    def _rules(self) -> tuple[int, int]:
        """The bytes of the own rule and of the other one."""
        rules = (BY_PATH, BY_LOCATION)
        return rules[::-1] if self.by_location else rules

    def _other_rule(self, descriptor: int, *, by_process: bool) -> bool:
        """Whether a share of the other rule is at work."""
        return files.is_held(descriptor, first=self._rules[1], length=1, by_process=by_process)

    def in_the_way(self, descriptor: int, *, by_process: bool) -> InTheWay | None:
        """Which lock keeps it out; ``None`` if none does any longer, or if that is unknown."""
        if self.share is not None and self._other_rule(descriptor, by_process=by_process):
            return InTheWay(by_other_rule=True)
        first, length = _bytes_of(self.share)
        found = files.in_the_way(descriptor, first=first, length=length, by_process=by_process)
        if found is None:
            return None
        from s3_uploader.core.shares import of_range

        return InTheWay(of_range(found[0] - FIRST_BYTE, found[1]))

    def is_refused_by(self, other: InTheWay | None) -> bool:
        """Whether the other lock belongs to a share of another division, so that only one of the two can be held."""
        if self.share is None or other is None:
            return False
        return other.by_other_rule or other.share not in (None, self.share)


def _bytes_of(share: Share | None) -> tuple[int, int]:
    """The first byte of a share's range of hashes, and the number of bytes."""
    if share is None:
        return FIRST_BYTE, RANGE
    return FIRST_BYTE + share.first, share.length


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The holder of a lock, as far as it can be found out.

    :param pid: 0 if unknown, for example a process of another container.
    :param uid: ``None`` if unknown.
    :param since: seconds since the epoch when it took the lock or, if only the kernel knows of it, when the process was
        started; ``None`` if unknown.
    :param share: the share of the files that it ships; empty for all.
    :param started: when the process was started, in the kernel's clock ticks since boot; distinguishes it from a later
        process with the same number.
    :param interval: of a watch: the longest time between two passes while all is well, in seconds; ``None`` if unknown.
    :param is_stranger: it does not look like a run of this program; not part of a note.
    """

    pid: int
    host: str = ""
    uid: int | None = None
    since: float | None = None
    command: str = ""
    started: int = 0
    share: str = ""
    interval: float | None = None
    is_stranger: bool = False

    def described(self, *, now: float) -> str:
        """Describe the holder for a message on one line."""
        if not self.pid:
            share = f" with the share {shown_text(self.share)}" if self.share else ""
            return "a process that cannot be seen from here" + share
        text = f"process {self.pid}"
        if self.uid is not None:
            text += f" of user {_user_name(self.uid)}"
        if self.host and self.host != os.uname().nodename:
            text += f" on {shown_text(self.host)}"
        if self.share:
            text += f" with the share {shown_text(self.share)}"
        if self.since is not None:
            text += f", for {shown_duration(now - self.since)}"
        if self.command:
            text += f": {shown_text(self.command)}"
        return text

    @property
    def has_our_name(self) -> bool:
        """Whether its command line looks like this program's."""
        return any(name in self.command for name in _OUR_NAMES)


def read_note(descriptor: int) -> Holder | None:
    """Read the note from the lock file; ``None`` if there is none, or it is damaged."""
    try:
        return _decoded(os.pread(descriptor, MOST_NOTE_BYTES, 0))
    except OSError:
        return None


def write_note(descriptor: int, holder: Holder | None) -> None:
    """Write the note into the lock file, or empty it when there is no holder any more."""
    note = b"" if holder is None else _encoded(holder)
    # A note that cannot be written is no reason to fail. A file with other content is not overwritten.
    with contextlib.suppress(OSError):
        before = os.pread(descriptor, MOST_NOTE_BYTES, 0)
        if before == note or (before and not before.startswith(b'{"pid":')):
            return
        os.pwrite(descriptor, note, 0)
        os.ftruncate(descriptor, len(note))


def read_note_at(path: str) -> Holder | None:
    """Read the note in the state directory, if there is one."""
    try:
        with files.open_at_once(path) as file:
            return _decoded(file.read(65536))
    except OSError:
        return None


def write_note_at(path: str, holder: Holder) -> None:
    """Write the note to the state directory. Only the holder of the lock does so."""
    # Always the same name, so that a killed run leaves one at most, which the next run overwrites.
    temporary = f"{path}.new"
    # A note that cannot be written is no reason to fail. If the directory is the cause, the ledger reports it better.
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            files.write_all(descriptor, _encoded(holder))
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
        finally:
            os.close(descriptor)


def _encoded(holder: Holder) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(holder, command=shown_text(holder.command)))


def _decoded(note: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(note, type=Holder)
    except NOT_JSON:
        return None


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
