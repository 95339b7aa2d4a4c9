"""What a disk may hold after a power cut: a recorded run is replayed, and what was not synced is there or is not.

Two kinds of disks:

* ``ordered``: names come to the disk in the order in which they were made, as with ext4's journal; the cut falls
  anywhere after the last ``fsync``. What was written into a file since it was synced is there as a whole, up to some
  point, or not at all (delayed allocation: a new name may come before the bytes).
* ``any``: only what was synced is certain: a name by an ``fsync`` of its directory, bytes by one of their file. Of all
  the rest any part may be there, in any order; but a rename happens as a whole or not at all, and not into a directory
  that is not there. This is less than any journal gives, and as much as POSIX promises.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?", re.DOTALL)
_TRACED = (
    "open,openat,creat,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,copy_file_range,sendfile,rename,"
    "renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,symlink,symlinkat,ioctl"
)
_NO_FILE = -1
_SECTOR = 512

Key = tuple[int, str]
"""A name: the number of its directory, and itself."""


def recording(log: Path) -> tuple[str, ...]:
    """What starts a program whose changes of the disk are recorded, each with the moment in which it was made."""
    shown = ("-y", "-qq", "-xx", "-ttt", "-s", "10000000", "-e", "signal=none")
    return ("strace", "--follow-forks", "--seccomp-bpf", *shown, "-e", f"trace={_TRACED}", "-o", str(log))


@dataclass(frozen=True)
class Change:
    """One step of the disk: of names (from one to another, either may be missing), of bytes, or a sync."""

    at: float
    kind: str
    node: int
    source: Key | None = None
    target: Key | None = None
    offset: int = 0
    data: bytes = b""


@dataclass
class Disk:
    """Directories and files by number; the directory 0 is the top. Numbers are given once, whatever becomes of them."""

    names: dict[Key, int] = field(default_factory=dict)
    directories: set[int] = field(default_factory=lambda: {0})
    bytes_of: dict[int, bytearray] = field(default_factory=dict)

    def copy(self) -> Disk:
        """Another one like it."""
        return Disk(dict(self.names), self.directories, {node: bytearray(data) for node, data in self.bytes_of.items()})

    def has_place_for(self, change: Change) -> bool:
        """Whether the directory of a new name is there: no file system keeps names in a directory that it has not."""
        directory = 0 if change.target is None else change.target[0]
        return directory == 0 or directory in self.names.values()

    def make(self, change: Change) -> None:
        """Take a step, as far as it is possible on this disk."""
        if change.kind == "names":
            if change.source is not None and self.names.get(change.source) != change.node:
                return
            if change.source is not None:
                del self.names[change.source]
            if change.target is not None:
                self.names[change.target] = change.node
        elif change.kind == "link":
            assert change.target is not None
            self.names[change.target] = change.node
        elif change.kind == "bytes":
            content = self.bytes_of.setdefault(change.node, bytearray())
            end = change.offset + len(change.data)
            content.extend(bytes(max(end - len(content), 0)))
            content[change.offset : end] = change.data
        elif change.kind == "size":
            content = self.bytes_of.setdefault(change.node, bytearray())
            del content[change.offset :]
            content.extend(bytes(change.offset - len(content)))

    def files(self) -> dict[str, bytes]:
        """Path and content of every file that can be reached."""
        found: dict[str, bytes] = {}
        below: dict[int, list[tuple[str, int]]] = {}
        for (directory, name), node in self.names.items():
            below.setdefault(directory, []).append((name, node))

        def walk(directory: int, path: str) -> None:
            for name, node in below.get(directory, ()):
                if node in self.directories:
                    walk(node, f"{path}{name}/")
                else:
                    found[path + name] = bytes(self.bytes_of.get(node, b""))

        walk(0, "")
        return found


class Recording:
    """The changes of a run below one directory, and the disk before it."""

    def __init__(self, place: Path) -> None:
        self._place = os.path.realpath(place)
        self.before = Disk()
        self.changes: list[Change] = []
        self._now = self.before
        self._count = 0
        self._positions: dict[tuple[str, str, str], int] = {}
        for directory, names, files in os.walk(self._place):
            number = self._number(directory)
            for name in names:
                self.before.names[number, name] = self._new(directory=True)
            for name in files:
                node = self._new(directory=False)
                self.before.names[number, name] = node
                self.before.bytes_of[node] = bytearray(Path(directory, name).read_bytes())
        self._now = self.before.copy()

    def _new(self, *, directory: bool) -> int:
        self._count += 1
        if directory:
            self.before.directories.add(self._count)
        else:
            self._now.bytes_of[self._count] = bytearray()
        return self._count

    def _number(self, path: str) -> int:
        """The number of what is at an absolute path now; -1 if there is nothing, or it is outside."""
        if path == self._place:
            return 0
        if not path.startswith(self._place + "/"):
            return _NO_FILE
        number = 0
        for name in path[len(self._place) + 1 :].split("/"):
            number = self._now.names.get((number, name), _NO_FILE)
            if number < 0:
                return _NO_FILE
        return number

    def _key(self, path: str) -> Key | None:
        directory, _, name = path.rpartition("/")
        number = self._number(directory)
        return None if number < 0 else (number, name)

    def read(self, log: Path) -> None:
        """Take in what strace has recorded."""
        pending: dict[str, str] = {}
        for line in log.read_text(errors="replace").splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            thread, at, text = match.groups()
            if text.endswith("<unfinished ...>"):
                pending[thread] = text.removesuffix("<unfinished ...>")
                continue
            resumed = re.match(r"<\.\.\. \w+ resumed>", text)
            if resumed:
                text = pending.pop(thread, "") + text[resumed.end() :]
            call = _CALL.match(text)
            if call is not None and int(call[3]) >= 0:
                self._take(float(at), call[1], _arguments(call[2]), int(call[3]), call[4] or "", thread)

    def _do(self, change: Change) -> None:
        self._now.make(change)
        self.changes.append(change)

    def _take(self, at: float, call: str, arguments: list[str], result: int, opened: str, thread: str) -> None:
        if call in ("open", "openat", "creat"):
            paths = _paths(arguments[:2] if call == "openat" else ["AT_FDCWD", arguments[0]])
            self._opened(at, paths, " ".join(arguments[1:]))
        elif call in ("mkdir", "mkdirat"):
            key = self._key(_paths(arguments if call == "mkdirat" else ["AT_FDCWD", arguments[0]]))
            if key is not None:
                self._do(Change(at, "names", self._new(directory=True), target=key))
        elif call in ("unlink", "unlinkat", "rmdir"):
            self._moved(at, _paths(arguments if call == "unlinkat" else ["AT_FDCWD", arguments[0]]), None)
        elif call.startswith("rename"):
            pairs = arguments if call != "rename" else ["AT_FDCWD", arguments[0], "AT_FDCWD", arguments[1]]
            self._moved(at, _paths(pairs[:2]), _paths(pairs[2:4]))
        elif call in ("link", "linkat"):
            pairs = arguments if call == "linkat" else ["AT_FDCWD", arguments[0], "AT_FDCWD", arguments[1]]
            source = _paths(pairs[:2])
            if not source.startswith(self._place) and "<" in pairs[0]:
                source = _described(pairs[0])
            node, key = self._number(source), self._key(_paths(pairs[2:4]))
            if node >= 0 and key is not None:
                self._do(Change(at, "link", node, target=key))
        elif call in ("fsync", "fdatasync"):
            node = self._number(_described(arguments[0]))
            if node >= 0:
                self._do(Change(at, call, node))
        else:
            self._written(at, call, arguments, result, thread)

    def _opened(self, at: float, path: str, flags: str) -> None:
        key = self._key(path)
        if key is None:
            return
        node = self._now.names.get(key, _NO_FILE)
        if node < 0 and "O_CREAT" in flags:
            self._do(Change(at, "names", self._new(directory=False), target=key))
        elif node >= 0 and "O_TRUNC" in flags and self._now.bytes_of.get(node):
            self._do(Change(at, "size", node, offset=0))
        for place in [place for place in self._positions if place[1] == path]:
            del self._positions[place]

    def _moved(self, at: float, source: str, target: str | None) -> None:
        key = self._key(source)
        node = _NO_FILE if key is None else self._now.names.get(key, _NO_FILE)
        if node >= 0:
            self._do(Change(at, "names", node, source=key, target=None if target is None else self._key(target)))

    def _written(self, at: float, call: str, arguments: list[str], result: int, thread: str) -> None:
        path = _described(arguments[2 if call == "copy_file_range" else 0])
        node = self._number(path)
        if node < 0 or node not in self._now.bytes_of:
            return
        place = (arguments[0], path, "")
        if call == "pwrite64":
            self._do(Change(at, "bytes", node, offset=int(arguments[3]), data=_bytes(arguments[1])[:result]))
        elif call == "write":
            offset = self._positions.get(place, 0)
            self._do(Change(at, "bytes", node, offset=offset, data=_bytes(arguments[1])[:result]))
            self._positions[place] = offset + result
        elif call in ("ftruncate", "truncate"):
            self._do(Change(at, "size", node, offset=int(arguments[1])))
        elif call in ("copy_file_range", "sendfile"):
            source = _described(arguments[0 if call == "copy_file_range" else 1])
            content = self._now.bytes_of.get(self._number(source), bytearray())
            place = (arguments[2 if call == "copy_file_range" else 0], path, "")
            offset = self._positions.get(place, 0)
            # Both are read and written in step.
            self._do(Change(at, "bytes", node, offset=offset, data=bytes(content[offset : offset + result])))
            self._positions[place] = offset + result
        elif call != "ioctl" and call != "fallocate":
            raise NotImplementedError(f"{call} is not replayed")

    # After a power cut

    def after(self, cut: int, disk: str, chance: random.Random | None, share: float) -> Disk:
        """A disk on which the power was cut before the change of that number.

        :param share: how much of what is uncertain is there: 0 for nothing, 1 for all, else by chance.
        """

        def there() -> bool:
            return share >= 1 or (share > 0 and chance is not None and chance.random() < share)

        state = self.before.copy()
        done = self.changes[:cut]
        certain = self._ordered(done, chance, share) if disk == "ordered" else self._synced(done)
        lost: set[int] = set()
        for number, change in enumerate(done):
            is_names = change.kind in ("names", "link")
            if number in certain:
                state.make(change)
            elif (disk == "ordered" and is_names) or (disk == "ordered" and change.node in lost):
                continue
            elif state.has_place_for(change) and there():
                state.make(self._torn(change, chance, share))
            else:
                lost.add(change.node)
        return state

    def _ordered(self, done: list[Change], chance: random.Random | None, share: float) -> set[int]:
        """What is certain where names come in order: bytes that were synced, and all names up to a moment."""
        last = max((number for number, change in enumerate(done) if change.kind == "fsync"), default=0)
        until = len(done) if share >= 1 else last
        if 0 < share < 1 and chance is not None:
            until = chance.randint(last, len(done))
        names = {number for number, change in enumerate(done[:until]) if change.kind in ("names", "link")}
        return names | {number for number in self._synced(done) if done[number].kind in ("bytes", "size")}

    def _synced(self, done: list[Change]) -> set[int]:
        """The changes that a later sync of what they are about has made certain."""
        certain: set[int] = set()
        later: set[int] = set()
        for number in range(len(done) - 1, -1, -1):
            change = done[number]
            if change.kind in ("fsync", "fdatasync"):
                later.add(change.node)
            elif change.kind in ("bytes", "size"):
                if change.node in later:
                    certain.add(number)
            elif all(key[0] in later for key in (change.source, change.target) if key is not None):
                certain.add(number)
        return certain

    def _torn(self, change: Change, chance: random.Random | None, share: float) -> Change:
        """A write of which only the first sectors may have come to the disk."""
        if chance is None or share >= 1 or change.kind != "bytes" or chance.random() < 0.7:
            return change
        kept = chance.randrange(0, len(change.data) + 1, _SECTOR) if change.data else 0
        return Change(change.at, "bytes", change.node, offset=change.offset, data=change.data[:kept])


def write_out(files: Mapping[str, bytes], place: Path) -> None:
    """Put files below a directory."""
    for path, content in files.items():
        full = place / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(content)


def _arguments(text: str) -> list[str]:
    """The arguments of a call; strings are in hexadecimal and hold no comma."""
    return [part.strip() for part in text.split(", ")]


def _bytes(text: str) -> bytes:
    quoted = text.partition('"')[2].rpartition('"')[0]
    return bytes.fromhex(quoted.replace("\\x", ""))


def _described(argument: str) -> str:
    """The path behind a descriptor: ``7</spool/file>``."""
    path = argument.partition("<")[2].rpartition(">")[0].removesuffix("(deleted)")
    return os.fsdecode(bytes.fromhex(path.replace("\\x", ""))) if path.startswith("\\x") else path


def _paths(arguments: list[str]) -> str:
    """The absolute path of a directory's descriptor and a name below it."""
    name = os.fsdecode(_bytes(arguments[1]))
    path = name if name.startswith("/") else f"{_described(arguments[0])}/{name}"
    return os.path.normpath(path)
