"""What the kernel tells of other processes: what they do, and which files they have open.

Nothing here fails: where ``/proc`` does not tell, for want of rights or because it is not there, the answer is empty.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

_STATES = {
    "R": "running",
    "S": "waiting for something",
    "D": "waiting for a disk or a network file system, and cannot be ended until that answers",
    "T": "stopped by a signal (SIGCONT lets it go on)",
    "t": "stopped by a debugger",
    "Z": "dead, and not yet collected by the process that started it",
    "I": "idle",
}
_WRITES = os.O_WRONLY | os.O_RDWR


def is_alive(pid: int) -> bool | None:
    """Whether there is such a process; ``None`` where that cannot be seen."""
    if not os.path.isdir("/proc/self"):
        return None
    return os.path.isdir(f"/proc/{pid}")


def state_of(pid: int) -> str:
    """What a process does, in words."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name in brackets, and may hold both brackets and spaces.
            letter = file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""
    return _STATES.get(letter, "")


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

    :param seconds: how long to look at the most.
    """
    try:
        wanted = os.stat(path)
    except OSError:
        return []
    until = time.monotonic() + seconds
    found = []
    for pid in _pids():
        if time.monotonic() > until:
            break
        if any(_is_same(link, wanted) and _is_for_writing(pid, link) for link in _descriptors(pid)):
            found.append((pid, command_of(pid)))
    return found


def command_of(pid: int) -> str:
    """The command line of a process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    return " ".join(map(os.fsdecode, words))


def _pids() -> Iterator[int]:
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
