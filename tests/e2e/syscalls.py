"""The system calls of a run, and runs in which one of them is the last one or fails: strace records and injects."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

KILL = "SIGKILL"
"""What happens at a point instead of an error."""

_FULL = ("ENOSPC", "EDQUOT", "EIO")
ERRORS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("open", "openat"), ("EACCES", "EMFILE", "EIO", "EINTR", "ENOMEM", "ENOSPC", "EDQUOT", "EROFS")),
    **dict.fromkeys(("read", "pread64", "readv"), ("EIO", "EINTR")),
    **dict.fromkeys(("write", "pwrite64", "writev"), (*_FULL, "EINTR")),
    **dict.fromkeys(("copy_file_range", "sendfile", "fallocate", "ftruncate"), (*_FULL, "EINTR")),
    **dict.fromkeys(("fsync", "fdatasync"), (*_FULL, "EINTR")),
    **dict.fromkeys(("rename", "renameat", "renameat2"), (*_FULL, "EACCES", "EROFS", "EXDEV")),
    **dict.fromkeys(("link", "linkat"), (*_FULL, "EPERM", "EMLINK")),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), (*_FULL, "EACCES", "EROFS", "EBUSY")),
    **dict.fromkeys(("mkdir", "mkdirat"), (*_FULL, "EACCES", "EROFS")),
    **dict.fromkeys(("stat", "lstat", "fstat", "newfstatat", "statx", "access", "faccessat2"), ("EACCES", "EIO")),
    **dict.fromkeys(("chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "utimensat"), ("EPERM", "EIO")),
    **dict.fromkeys(("statfs", "fstatfs", "readlink", "readlinkat"), ("EACCES", "EIO", "ENOSYS")),
    "getdents64": ("EIO", "ENOMEM"),
    "close": ("EIO", "EINTR", "ENOSPC"),
    "flock": ("EINTR", "ENOLCK", "EAGAIN"),
    "fcntl": (),
    "lseek": ("EINVAL",),
    "mmap": ("ENOMEM",),
    "ioctl": ("ENOTTY",),
    "socket": ("EMFILE", "ENOBUFS", "ENOMEM"),
    "socketpair": ("EMFILE", "ENOMEM"),
    "connect": ("ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "EINTR"),
    # A connection that is reset stays so; strace can only let one call fail on a connection that goes on to work.
    **dict.fromkeys(("sendto", "sendmsg"), ("EINTR", "EAGAIN")),
    **dict.fromkeys(("recvfrom", "recvmsg"), ("ECONNRESET", "ETIMEDOUT", "EINTR")),
    **dict.fromkeys(("setsockopt", "getsockopt", "getsockname", "getpeername"), ("ENOBUFS",)),
    **dict.fromkeys(("epoll_create1", "eventfd2", "pipe2"), ("EMFILE", "ENOMEM")),
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    **dict.fromkeys(("epoll_wait", "poll", "ppoll", "select", "pselect6"), ("EINTR",)),
    **dict.fromkeys(("clone", "clone3"), ("EAGAIN", "ENOMEM")),
}
"""The calls that are tried, and the errors that each can have (their manual pages)."""
_FCNTL = {
    "F_DUPFD": ("EMFILE",),
    "F_SETLEASE": ("EAGAIN", "EACCES", "EINVAL", "ENOLCK"),
    "F_SETLK": ("EAGAIN", "ENOLCK", "EIO"),
    "F_OFD_SETLK": ("EAGAIN", "ENOLCK", "EINVAL"),
}
"""What a call of ``fcntl`` does, and with it what can go wrong, stands in its second argument."""

_CHANGES = {
    *("write", "pwrite64", "writev", "copy_file_range", "sendfile", "fallocate", "ftruncate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("chown", "fchown", "fchownat", "chmod", "fchmod", "utimensat"),
    *("connect", "sendto", "sendmsg", "recvfrom", "recvmsg"),
}
"""Calls that change something outside of the process, or wait for a server that does: a run is killed where each of
them begins, and at its last call. A kill anywhere between them leaves the same: descriptors and locks end with the
process, and what was written is in the kernel, whether it was synced or not (that is what `power` is for).
"""
_WITHOUT_PLACE = {"clone", "clone3", "epoll_create1", "eventfd2", "pipe2", "poll", "epoll_wait"}
_OUTSIDE = re.compile('<socket:|<TCP|AF_INET|[<"]/(proc|etc)/')
"""What a call has to do with that asks something of the network or of the machine."""
_CONTENT = re.compile(r'"(?:[^"\\]|\\.)*?\\0(?:[^"\\]|\\.)*"')
"""A string with bytes that are no text: what stands in a file, not what it is called."""
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")


@dataclass(frozen=True)
class Point:
    """One system call of a run, and what happens there: a signal or an error.

    `turn`: it is the so-and-so-manieth call of that name in its thread. `role` is alike for calls that do the same to
    different files; `after` is the role of the call before it in its thread.
    """

    call: str
    turn: int
    happens: str
    role: str
    after: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Where in the program the call is made, as far as that can be seen from outside."""
        return self.after, self.role

    def strace(self, log: Path) -> tuple[str, ...]:
        """What lets it happen in a process, whose number is the last argument."""
        what = f"signal={self.happens}" if self.happens == KILL else f"error={self.happens}"
        return (
            *("strace", "--follow-forks", "-o", str(log), "-e", f"trace={self.call}"),
            *("-e", f"inject={self.call}:{what}:when={self.turn}"),
        )

    def __str__(self) -> str:
        return f"{self.call}, call {self.turn}: {self.happens} ({self.role})"


def recording(log: Path) -> tuple[str, ...]:
    """What records the calls of a process, whose number is the last argument."""
    return ("strace", "--follow-forks", "-y", "-s", "16", "-o", str(log))


def happened(log: Path) -> bool:
    """Whether the run came to its point: a run takes other ways from time to time, by its clock and its threads."""
    text = log.read_text(errors="replace")
    return "(INJECTED)" in text or "+++ killed by" in text


def points(log: Path, place: Path, begin: str) -> list[Point]:
    """What can happen in a recorded run: at each call that has to do with `place`, the network or the machine.

    What comes before the first call that names `begin` is the interpreter's start.
    """
    found: dict[tuple[str, int, str], Point] = {}
    turns: dict[tuple[str, str], int] = defaultdict(int)
    last: dict[str, str] = defaultdict(str)
    begun = False
    for line in log.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        thread, call, arguments = match.groups()
        turns[thread, call] += 1
        begun = begun or begin in arguments
        errors = _errors(call, arguments)
        # The directory that a path is not relative to is of no interest.
        arguments = re.sub("AT_FDCWD<[^>]*>", "AT_FDCWD", arguments)
        of_ours = str(place) in arguments or call in _WITHOUT_PLACE or _OUTSIDE.search(arguments)
        if not begun or errors is None or not of_ours:
            continue
        role = _role(call, arguments.replace(str(place), ""))
        for happens in (*([KILL] if call in _CHANGES or "O_CREAT" in arguments else []), *errors):
            point = Point(call, turns[thread, call], happens, role, after=last[thread])
            found.setdefault((call, point.turn, happens), point)
        last[thread] = role
    if found:
        end = next(reversed(found.values()))
        found.setdefault((end.call, end.turn, KILL), dataclasses.replace(end, happens=KILL))
    return list(found.values())


def _errors(call: str, arguments: str) -> tuple[str, ...] | None:
    """The errors that this call can have; ``None`` for calls that are not tried."""
    if call == "fcntl":
        return next((errors for command, errors in _FCNTL.items() if f", {command}" in arguments), ())
    if call in ("open", "openat") and "O_CREAT" not in arguments:
        return tuple(error for error in ERRORS[call] if error not in ("ENOSPC", "EDQUOT", "EROFS"))
    return ERRORS.get(call)


def _role(call: str, arguments: str) -> str:
    """The arguments without what tells one file from another."""
    arguments = re.sub(r"<(socket|TCP)[^>]*>", "<socket>", arguments.partition(") = ")[0])
    arguments = _CONTENT.sub('"..."', re.sub("0x[0-9a-f]+|[0-9a-f]{12,}|[0-9]+", "0", arguments))
    return f"{call}({arguments[:120]}"


def distinct(all_points: Iterable[Point]) -> list[Point]:
    """The points without those that only repeat others: which one of several files it is that meets an error.

    A run may die at every call that changes something, for what it leaves is another thing each time. What it does
    about an error is written where it makes the call; and calls are made in one place if they, and the calls before
    them, are alike but for names and numbers. The first call of a place fails in every way that there is, the others
    in one way each, in turn, so that no call is left out.
    """
    all_points = list(all_points)
    places: dict[tuple[str, str], dict[int, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in all_points:
        if point.happens != KILL:
            places[point.place][point.turn].append(point)
    kept: set[Point] = set()
    for calls in places.values():
        for number, failing in enumerate(calls.values()):
            kept.update([failing[number % len(failing)]] if number else failing)
    return [point for point in all_points if point.happens == KILL or point in kept]


def spread(all_points: Iterable[Point], chance: random.Random) -> Iterator[Point]:
    """The points in an order in which any beginning is a sample of the whole: of each role one, then the second."""
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in all_points:
        groups[point.role, point.happens].append(point)
    for group in groups.values():
        chance.shuffle(group)
    while groups:
        keys = list(groups)
        chance.shuffle(keys)
        for key in keys:
            yield groups[key].pop()
            if not groups[key]:
                del groups[key]
