"""Whether something leads back to the spool: a directory through a mount, a destination whose objects appear there."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Iterator

from s3_uploader.core.procfs import mount_of
from s3_uploader.spool.root import Names, SpoolRoot

_MOST_ENTRIES = 20_000
_MOST_DIRECTORIES = 2000
_FIND_SECONDS = 1.0


def find(root: SpoolRoot, key: str, *, seconds: float) -> str | None:
    """Find the path in the spool of an object with a unique name; ``None`` if it does not appear in time."""
    for names, name in root.likely_places(key, one_deeper=True):
        try:
            root.stat(names, name)
        except (OSError, ValueError):
            continue
        return "/".join((*names, name))
    wanted = key.rpartition("/")[2]
    until = time.monotonic() + seconds
    directories: deque[Names] = deque([()])
    while directories:
        names = directories.popleft()
        try:
            for entry in root.entries(names):
                if entry.name == wanted:
                    return "/".join((*names, wanted))
                if entry.is_dir(follow_symlinks=False):
                    directories.append((*names, entry.name))
                if time.monotonic() > until:
                    return None
        except OSError:
            continue
    return None


def leads_into(path: str, root: SpoolRoot) -> bool:
    """Whether a directory is the spool or below it through a mount, though its path does not show that.

    Bind mounts are found in the table of mounts, and FUSE mounts by a file that is made there for a moment.
    """
    ours = _within_file_system(root.base_dir)
    theirs = _within_file_system(path)
    if ours is None or theirs is None:
        return False
    if ours[0] == theirs[0]:
        return theirs[1] == ours[1] or theirs[1].startswith(ours[1].rstrip("/") + "/")
    return "fuse" in (ours[2][:4], theirs[2][:4]) and _appears(path, root)


def _within_file_system(path: str) -> tuple[str, str, str] | None:
    """Device, path below the root of the file system, and its type; also of a path that does not exist yet."""
    real = os.path.realpath(path)
    there = real
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    try:
        mount = mount_of(os.open(there, os.O_PATH | os.O_CLOEXEC), close=True)
    except OSError:
        return None
    point = "" if mount is None else mount.point.rstrip("/")
    if mount is None or (real != point and not real.startswith(f"{point}/")):
        return None
    return mount.device, (mount.root.rstrip("/") + real[len(point) :]) or "/", mount.type


def _appears(path: str, root: SpoolRoot) -> bool:
    from s3_uploader.spool.probe import probe_in

    appears = False
    # Whoever writes there will find out why nothing can be made or removed.
    with contextlib.suppress(OSError):
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with probe_in(lambda: directory) as name:
                appears = find(root, name, seconds=_FIND_SECONDS) is not None
        finally:
            os.close(directory)
    return appears


class DeepPlaces:
    """The places in a spool two or more directories down that keys may lead to, if the destination is there.

    The spool is walked once, level by level, and not beyond some thousand entries.
    """

    def __init__(self, root: SpoolRoot) -> None:
        self._root = root
        self._directories: list[Names] = []
        self._holding: dict[str, list[Names]] = {}
        """The directories that hold an entry of a name."""
        self._is_walked = False

    def taken(self, path: str) -> Iterator[tuple[Names, str]]:
        """Where ``path`` may exist below a directory: only its first step is known to be there."""
        names = tuple(path.split("/"))
        self._walk()
        if all(names):
            for directory in self._holding.get(names[0], ()):
                yield (*directory, *names[:-1]), names[-1]

    def all(self, path: str) -> Iterator[tuple[Names, str]]:
        """Where ``path`` may have been written since, below every directory."""
        names = tuple(path.split("/"))
        self._walk()
        if all(names):
            for directory in self._directories:
                yield (*directory, *names[:-1]), names[-1]

    def _walk(self) -> None:
        if self._is_walked:
            return
        self._is_walked = True
        room = _MOST_ENTRIES
        directories: deque[Names] = deque([()])
        while directories and room > 0:
            names = directories.popleft()
            is_deep = len(names) > 1
            if is_deep and len(self._directories) < _MOST_DIRECTORIES:
                self._directories.append(names)
            try:
                for entry in itertools.islice(self._root.entries(names), room):
                    room -= 1
                    if is_deep:
                        self._holding.setdefault(entry.name, []).append(names)
                    if entry.is_dir(follow_symlinks=False):
                        directories.append((*names, entry.name))
            except OSError:
                continue
