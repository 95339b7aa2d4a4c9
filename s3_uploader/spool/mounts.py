"""The file system of a directory: whether it is mounted, answers, is writable, and is written to by other hosts.

Disks that are not mounted are detected before anything on them is touched: the file system of a directory is compared
with the one when it was last used.

An empty mount point looks like an empty directory. Once a directory was seen on a file system other than the root's, it
is refused when it is on the root's, or on another disk.

A call about a dead mount of a network file system or FUSE may never return. Neither a time budget nor a signal ends it.
So each directory is asked for on a thread first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from s3_uploader.core import procfs
from s3_uploader.core.control import Latch, ask_aside
from s3_uploader.core.errors import DEAD_MOUNT, FAILING_DISK, NotMounted, SpoolError, StateError, is_of_a_failing_disk
from s3_uploader.core.files import open_at_once, replace_file
from s3_uploader.core.model import NOT_JSON
from s3_uploader.core.procfs import Mount, file_system_at, is_local, mount_of
from s3_uploader.core.text import shown_name
from s3_uploader.spool.root import SpoolRoot

FILE_NAME = "mounts.json"
UNKNOWN = "a file system whose type /proc does not show"
SILENCE_SECONDS = 30.0
"""How long a directory may take to answer. A sleeping disk wakes, and an automounter mounts, in less."""
_WAIT_SECONDS = 0.2
_MOMENT_SECONDS = 1.0
"""How long it may take if nobody wants to wait any more."""
_LAYERS = ("upperdir", "lowerdir")
_UUIDS = "/dev/disk/by-uuid"
_IDENTIFIED = ("ext2", "ext3", "ext4", "btrfs")
"""File systems whose ``f_fsid`` (``statfs(2)``) is made from the UUID; that of others (xfs, vfat) is the device
number."""
_NAMED = ("nfs", "cifs", "smb", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs", "virtiofs")
"""File systems that their source identifies; a disk may be ``/dev/sdb1`` today and ``/dev/sdc1`` tomorrow."""


class ReadOnlySpool(SpoolError):
    """The file system of the spool is mounted read-only."""


class FileSystem(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a file system.

    :param is_root: it is that of ``/``, also through a bind mount, as in the sandbox of a service.
    :param device: ``major:minor``, which may change at each boot.
    :param identity: a lasting unique name; empty if there is none.
    """

    type: str
    device: str
    source: str
    is_root: bool
    identity: str = ""

    @property
    def words(self) -> str:
        """Describe it for a person."""
        if self.is_root:
            return "the root file system"
        name = self.identity or self.source
        return f"a file system of its own ({self.type}{f', {name}' if name else ''})"


class Directory(msgspec.Struct, frozen=True):
    """A directory that must not be confused with its empty mount point.

    :param key: its key in the configuration.
    :param must_be_mount: as configured; ``None`` lets the past decide.
    :param is_made: a run makes it when it first needs it; until then, the nearest directory above it counts.
    """

    key: str
    path: str
    must_be_mount: bool | None
    is_made: bool = False


class KnownMounts:
    """The file systems of a spool's directories as last seen, in a small file of the state directory.

    :param state_dir: need not exist.
    :raises StateError: if the file cannot be read.
    """

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, FILE_NAME)
        self._known: dict[str, FileSystem] = {}
        try:
            with open_at_once(self._path) as file:
                self._known = msgspec.json.decode(file.read(1 << 20), type=dict[str, FileSystem])
        except (FileNotFoundError, NotADirectoryError, PermissionError, *NOT_JSON):
            pass
        except OSError as error:
            # Otherwise the earlier notes would be lost forever: this run would replace them by what it sees itself.
            is_dead = is_of_a_failing_disk(error)
            raise StateError(
                f"{shown_name(self._path)} cannot be read: {error.strerror}.",
                hint=f"{DEAD_MOUNT}. Until then no file is deleted."
                if is_dead
                else "It records the file systems of base_dir and a local destination. Delete it if it is damaged.",
            ) from error

    def verify(self, directories: list[Directory]) -> Mapping[str, FileSystem]:
        """Make sure that each directory is on its file system; changes nothing.

        A missing directory that no run makes is ignored here, unless it was on a disk of its own.

        :returns: the argument for :meth:`note`.
        :raises NotMounted: if one is not.
        """
        found = {}
        for directory in directories:
            before = self._known.get(_name(directory))
            now = file_system_of(_existing(directory.path) if directory.is_made else directory.path)
            if now is None:
                if before is not None and not before.is_root and directory.must_be_mount is not False:
                    fact = (
                        "is on a file system that fails, or that /proc/self/mountinfo does not show"
                        if os.path.isdir(directory.path)
                        else "is not there"
                    )
                    raise _refusal(directory, f"{fact}; it was on {before.words}")
                continue
            wrong = why_wrong(before, now, must_be_mount=directory.must_be_mount)
            if wrong:
                raise _refusal(directory, wrong)
            found[_name(directory)] = now
        return found

    def note(self, found: Mapping[str, FileSystem]) -> None:
        """Remember the file systems, if they are new. If that is impossible, they are seen again next time."""
        known = {**self._known, **found}
        if known != self._known:
            with contextlib.suppress(OSError):
                replace_file(self._path, msgspec.json.encode(known), mode=0o600)


_UNANSWERED: dict[tuple[str, ...], tuple[Latch, list[str]]] = {}
"""Questions that earlier passes of a `watch` gave up. They cannot be cancelled, and are not asked twice."""


def patience(budget: float | None) -> float:
    """The seconds in which a directory has to answer when all the work has a budget: a tiny one makes none silent."""
    return SILENCE_SECONDS if budget is None else min(max(budget, _MOMENT_SECONDS), SILENCE_SECONDS)


def refuse_silent(
    directories: Sequence[Directory], *, seconds: float = SILENCE_SECONDS, stopped: Callable[[], object] = bool
) -> None:
    """Make sure that each directory answers.

    :param stopped: whether somebody wants the wait to end, which it does a moment later.
    :raises NotMounted: if one does not.
    """
    paths = tuple(each.path for each in directories)
    ended, answered = _UNANSWERED.pop(paths, (None, []))
    if ended is None or ended.wait(0):
        answered = []
        ended = ask_aside(partial(_ask, paths, answered))
        if ended is None:
            return  # that there are no threads is reported by those who need them
        ends_at = time.monotonic() + seconds
        while not ended.wait(_WAIT_SECONDS) and (now := time.monotonic()) < ends_at:
            if stopped():
                ends_at = min(ends_at, now + _MOMENT_SECONDS)
    # The thread may be at work still and have all answers.
    count = len(answered)
    if count < len(directories):
        _UNANSWERED[paths] = ended, answered
        silent = directories[count]
        raise NotMounted(
            f"{silent.key} {shown_name(silent.path)} does not answer. Nothing was touched.",
            hint=f"{DEAD_MOUNT}.",
            is_spool=silent.key == "base_dir",
        )


def _ask(paths: Sequence[str], answered: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            os.stat(path)
        answered.append(path)


def why_wrong(before: FileSystem | None, now: FileSystem, *, must_be_mount: bool | None) -> str:
    """Why a directory may not be used on its present file system; empty if it may."""
    if must_be_mount is False:
        return ""
    if now.is_root:
        if before is not None and not before.is_root:
            return f"is on the root file system now; it was on {before.words}"
        return "is on the root file system" if must_be_mount else ""
    if before is None or before.is_root:
        return ""
    if before.type != now.type:
        return f"is on another file system now, {now.words}; it was on {before.words}"
    if before.identity and now.identity and before.identity != now.identity:
        return f"is on another disk now, {now.words}; it was on {before.words}"
    return ""


def file_system_of(path: str) -> FileSystem | None:
    """Find the file system of a directory; ``None`` if it does not exist or ``/proc`` does not show everything."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        mount = mount_of(descriptor)
        if mount is None:
            return None
        root = mount_of(os.open("/", os.O_PATH | os.O_CLOEXEC), close=True)
        if root is None:
            # It must not be taken for a disk of its own, which would be remembered, so that all later runs are refused.
            return None
        return FileSystem(
            type=mount.type,
            device=mount.device,
            source=shown_name(mount.source),
            is_root=root.device == mount.device,
            identity=_identity(mount, descriptor),
        )
    except OSError:
        return None  # a failing disk must not be remembered as one without a name
    finally:
        os.close(descriptor)


def _identity(mount: Mount, descriptor: int) -> str:
    if mount.type in _IDENTIFIED:
        return f"{os.fstatvfs(descriptor).f_fsid:016x}"
    if mount.type.startswith(_NAMED):
        return shown_name(mount.source)
    if not mount.source.startswith("/dev/"):
        return ""
    with contextlib.suppress(OSError):
        for entry in os.scandir(_UUIDS):
            number = os.stat(entry.path).st_rdev
            if f"{os.major(number)}:{os.minor(number)}" == mount.device:
                return entry.name
    return ""


def mounted_below(path: str) -> list[str]:
    """The directories below a path on which something else is mounted. Asks no file system."""
    beginning = os.path.join(os.path.realpath(path), "")
    try:
        with open(procfs.MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            points = {procfs.unescaped(line.split(" ")[4]) for line in mounts}
    except (OSError, IndexError):
        return []
    return sorted(point for point in points if point.startswith(beginning) and point != beginning)


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


def refuse_read_only(root: SpoolRoot) -> None:
    """Refuse a spool from which nothing at all can be removed.

    :raises ReadOnlySpool: if its file system is mounted read-only.
    :raises SpoolError: if its file system does not say so.
    """
    try:
        is_read_only = os.fstatvfs(root.descriptor).f_flag & os.ST_RDONLY
    except OSError as error:
        hint = FAILING_DISK if is_of_a_failing_disk(error) else ""
        raise SpoolError(f"base_dir {root.base_dir} does not answer: {error.strerror}.", hint=hint) from error
    if is_read_only:
        raise ReadOnlySpool(
            f"base_dir {root.base_dir} lies on a file system that is read-only, so nothing can be removed from it.",
            hint="Mount it writable (a disk with errors is made read-only: `dmesg` shows them), or set "
            "on_success to keep.",
        )


def takes_no_file(directory: int) -> bool:
    """Whether a part of a file system is read-only, which its flags do not say (a snapshot of btrfs)."""
    try:
        # A file that never has a name.
        os.close(os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=directory))
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def _name(directory: Directory) -> str:
    # With the path, because a note about another directory must not count.
    return f"{directory.key} {shown_name(os.path.abspath(directory.path))}"


def _existing(path: str) -> str:
    """The path itself if it exists, else the nearest directory above it that does."""
    path = os.path.abspath(path)
    while not os.path.lexists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def _refusal(directory: Directory, why: str) -> NotMounted:
    return NotMounted(
        f"{directory.key} {shown_name(directory.path)} {why}. Nothing was touched.",
        hint="Mount the file system that belongs there. If nothing is missing, run once with "
        "--set must_be_mount=false.",
        is_spool=directory.key == "base_dir",
    )
