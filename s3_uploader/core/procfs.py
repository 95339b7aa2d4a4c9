"""Everything that is read from ``/proc``: processes and the files that they have open, locks, mounts, this boot.

Nothing here fails: if ``/proc`` is missing, or this user may not read the entry, the answer is empty.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence

import msgspec

from s3_uploader.core.text import without_passwords

_STATES = {
    "R": "running",
    "S": "waiting for something",
    "D": "waiting for a disk or a network file system, and cannot be ended until that answers",
    "T": "stopped by a signal (SIGCONT lets it go on)",
    "t": "stopped by a debugger",
    "Z": "dead, and not yet collected by the process that started it",
    "I": "idle",
}
MOUNTS = "/proc/self/mountinfo"
_WRITES = os.O_WRONLY | os.O_RDWR
_CAP_DAC_OVERRIDE = 1 << 1
_OF_ONE_HOST = frozenset(
    (
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "nilfs2",
        "ntfs3",
        "overlay",
        "ramfs",
        "reiserfs",
        "tmpfs",
        "ubifs",
        "vfat",
        "xfs",
        "zfs",
    )
)


class Credentials(msgspec.Struct, frozen=True):
    """The identity by which the kernel grants a process its permissions.

    :param uid: of the user who started it, also where it is installed set-user-ID.
    :param groups: of that user, the supplementary ones included.
    :param overrides: whether it has the capability to override the permissions of files.
    """

    uid: int
    groups: frozenset[int]
    overrides: bool


def is_alive(pid: int) -> bool | None:
    """Whether there is such a process; ``None`` if that cannot be seen."""
    if not os.path.isdir("/proc/self"):
        return None
    return os.path.isdir(f"/proc/{pid}")


def state_of(pid: int) -> str:
    """The state of a process, in words."""
    fields = _stat(pid)
    return _STATES.get(fields[0].decode("ascii", "replace"), "") if fields else ""


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and was not collected by its parent."""
    fields = _stat(pid)
    return bool(fields) and fields[0] == b"Z"


def descendants_of(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have started; not those whose parent is gone."""
    children: dict[bytes, list[int]] = {}
    for each in processes():
        fields = _stat(each)
        if len(fields) > 1:
            children.setdefault(fields[1], []).append(each)
    found: list[int] = []
    generation = [pid]
    while generation:
        generation = [child for parent in generation for child in children.pop(b"%d" % parent, ())]
        found += generation
    return found


def open_files_below(pid: int, directory: str) -> list[str]:
    """The files below a directory that a process has open, each once."""
    real = os.path.realpath(directory).rstrip("/") + "/"
    found: dict[str, None] = {}
    for link in _descriptors(pid):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(real) and os.path.isfile(target):
            found[target] = None
    return list(found)


def writers_of(path: str, *, seconds: float = 0.5) -> list[tuple[int, str]]:
    """The processes that have a file open for writing, with their command lines.

    :param seconds: the longest time to search.
    """
    try:
        wanted = os.stat(path)
    except OSError:
        return []
    until = time.monotonic() + seconds
    found = []
    for pid in processes():
        if time.monotonic() > until:
            break
        if any(_is_same(link, wanted) and _is_for_writing(pid, link) for link in _descriptors(pid)):
            found.append((pid, command_of(pid)))
    return found


def locks_of(pid: int) -> list[str]:
    """The lines of :func:`lock_table` about a process, also about locks that it has inherited (``proc_pid_fdinfo(5)``).

    Nothing is asked about the files themselves, which may lie on a disk that does not answer.
    """
    found: list[str] = []
    for link in _descriptors(pid):
        try:
            with open(f"/proc/{pid}/fdinfo/{os.path.basename(link)}", encoding="utf-8", errors="replace") as file:
                found += [line.removeprefix("lock:") for line in file if line.startswith("lock:")]
        except OSError:
            continue
    return found


def command_of(pid: int) -> str:
    """The command line of a process, without the secrets that it may hold; see :func:`command_line`."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    return command_line(list(map(os.fsdecode, words)))


def command_line(words: Sequence[str]) -> str:
    """A command line as it may be shown and recorded: without the values of ``--set`` and passwords in URLs.

    This program refuses secrets in ``--set``, but a run of an earlier version may have some there.
    """
    shown = []
    follows = False
    for word in words:
        given = word.removeprefix("--set=") if word.startswith("--set=") else word if follows else None
        follows = word == "--set"
        if given is not None and "=" in given:
            word = f"{word[: len(word) - len(given)]}{given.partition('=')[0]}=…"
        shown.append(without_passwords(word))
    return " ".join(shown)


def start_ticks(pid: int) -> int:
    """When a process was started, in clock ticks since boot (field 22 of ``stat``); 0 if it is not there."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 and fields[19].isdigit() else 0


def user_of(pid: int) -> int | None:
    """The effective user of a process.

    Not the owner of its directory: that is root for a program that has changed its user by itself.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[2]) for line in file if line.startswith(b"Uid:"))
    except (OSError, StopIteration):
        return None


def credentials_of(pid: int) -> Credentials | None:
    """The user and the groups of a process; ``None`` if that cannot be seen."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            found = dict(line.split(b":", 1) for line in file.read(65536).splitlines() if b":" in line)
        groups = {int(found[b"Gid"].split()[0]), *map(int, found[b"Groups"].split())}
        has_capability = bool(int(found[b"CapEff"], 16) & _CAP_DAC_OVERRIDE)
        real, effective = (int(number) for number in found[b"Uid"].split()[:2])
        # A program that is installed set-user-ID lends its capabilities. A process in a user namespace of its own
        # has all of them, but they mean nothing outside it.
        overrides = has_capability and real == effective and _user_namespace(pid) == _user_namespace(os.getpid()) != ""
        return Credentials(real, frozenset(groups), overrides)
    except (OSError, KeyError, IndexError, ValueError):
        return None


def has_capability(number: int) -> bool:
    """Whether this process has a capability (``capabilities(7)``); where that cannot be seen, whether it is root's."""
    try:
        with open("/proc/self/status", "rb") as file:
            return bool(next(int(line.split()[1], 16) for line in file if line.startswith(b"CapEff:")) >> number & 1)
    except (OSError, StopIteration, ValueError):
        return os.geteuid() == 0


def boot_time() -> float:
    """When the machine was started, in seconds since the epoch; 0 if that cannot be seen."""
    try:
        with open("/proc/stat", "rb") as file:
            return next(float(line.split()[1]) for line in file if line.startswith(b"btime "))
    except (OSError, StopIteration):
        return 0.0


def boot_id() -> str:
    """The identifier of this boot of this machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """The identifier of the namespace of our process numbers: another container has another one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def lock_table() -> list[str] | None:
    """The lines of ``/proc/locks`` (``proc_locks(5)``)."""
    try:
        with open("/proc/locks", encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return None


def file_system_of(device: int) -> str:
    """The type of the file system that has this ``st_dev`` (``mountinfo`` in ``proc(5)``), such as ``nfs4``."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                fields = line.split(" ")
                if fields[2] == number:
                    return fields[fields.index("-", 6) + 1]
    except (OSError, ValueError, IndexError):
        pass
    return ""


def file_system_at(descriptor: int) -> str:
    """The type of the file system that an open file or directory lies on, such as ``nfs4`` or ``fuse.sshfs``.

    The number of the mount tells it also where ``st_dev`` is not that of the mount (btrfs).
    """
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            mount = next(line.split()[1] for line in file if line.startswith(b"mnt_id:"))
        with open(MOUNTS, "rb") as mounts:
            fields = next(found for line in mounts if (found := line.split(b" "))[0] == mount)
            return os.fsdecode(fields[fields.index(b"-", 6) + 1])
    except (OSError, ValueError, IndexError, StopIteration):
        return ""


def is_local(file_system: str) -> bool:
    """Whether a file system of that type belongs to one host, with one cache; of an unknown one that is not assumed."""
    return file_system in _OF_ONE_HOST


def _user_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return ""


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``mountinfo``.

    :param device: ``major:minor``, the same for all mounts of one file system.
    :param root: the directory of the file system that is mounted, as a path from its own root.
    :param options: those of the file system itself.
    """

    device: str
    root: str
    point: str
    type: str
    source: str
    options: str


def mount_of(descriptor: int, *, close: bool = False) -> Mount | None:
    """The mount through which a descriptor was opened; ``None`` if that cannot be seen.

    :param close: close the descriptor afterwards.
    """
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="utf-8", errors="replace") as info:
            number = next(line.split()[1] for line in info if line.startswith("mnt_id:"))
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            line = next(line for line in mounts if line.startswith(f"{number} "))
        fields = line.rstrip("\n").split(" ")
        rest = fields[fields.index("-", 6) + 1 :]
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    finally:
        if close:
            os.close(descriptor)
    kind, source, options = (*rest, "", "", "")[:3]
    return Mount(
        device=fields[2],
        root=unescaped(fields[3]),
        point=unescaped(fields[4]),
        type=kind,
        source=unescaped(source),
        options=options,
    )


def unescaped(field: str) -> str:
    """A field of ``mountinfo`` as it was before spaces and the like were written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field) if "\\" in field else field


def _stat(pid: int) -> list[bytes]:
    """The fields of ``stat`` (``proc(5)``) from the third on; none if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name in brackets, and may hold both brackets and spaces.
            return file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return []


def processes() -> Iterator[int]:
    """The numbers of the processes that can be seen."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    yield from (int(name) for name in names if name.isdecimal())


def _descriptors(pid: int) -> list[str]:
    directory = f"/proc/{pid}/fd"
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]
    except OSError:
        return []


def _is_same(link: str, wanted: os.stat_result) -> bool:
    try:
        status = os.stat(link)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino)


def _is_for_writing(pid: int, link: str) -> bool:
    try:
        with open(f"/proc/{pid}/fdinfo/{os.path.basename(link)}", encoding="ascii") as file:
            flags = next(line.split()[1] for line in file if line.startswith("flags:"))
    except (OSError, StopIteration):
        return False
    return bool(int(flags, 8) & _WRITES)
