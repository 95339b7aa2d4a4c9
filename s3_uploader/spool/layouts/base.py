"""The protocol of a layout, and what all layouts share: globs and leftovers.

Terms
-----
layout
    How a spool is read: which entries are candidates, which key each gets, which data time it carries.
leftover
    A file that a killed run had already renamed (:data:`~s3_uploader.spool.root.TAKEN_SUFFIX`) in order to remove it.
    It is a candidate like any other, under the key of its original name: shipping it again is harmless.
"""

from __future__ import annotations

import functools
import re
import stat
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

import msgspec

from s3_uploader.core.model import Candidate, Fingerprint
from s3_uploader.spool.root import FURTHER, Names, Skip, SpoolRoot, original_name, taken_name, taken_names

_MOST_DIRECTORIES = 1000


class NoCandidate(msgspec.Struct, frozen=True):
    """Yielded after a block of names of other shares, so that the caller can do other work."""


class EmptyDirectory(NoCandidate, frozen=True):
    """A directory that had no entry when it was scanned."""

    names: Names


Found: TypeAlias = Candidate | NoCandidate


class ScanStopped(Exception):
    """Raised by a :data:`Skip` to end a scan whose time is up: it may meet no candidate for long."""


class Layout(Protocol):
    """How a spool is read.

    Both methods run on the thread that owns the spool. Entries that come and go during a scan are not errors. A
    directory that cannot be read is skipped.
    """

    def scan(self, root: SpoolRoot, skip: Skip) -> Iterator[Found]:
        """Yield candidates, oldest first as far as the layout knows, and empty directories, in bounded memory."""

    def may_prune(self, names: Names, *, now: float, child: Names | None, mtime: float) -> bool:
        """Whether the directory ``names`` may be removed when it is empty.

        :param child: an entry of it that was just removed, ``None`` if it was found empty.
        :param mtime: of the directory, seconds since the epoch.
        """


class OlderFiles:
    """Finds the older files of the same name that lie beside a candidate under private names and are not shipped yet.

    Where objects may be replaced they have to go first, or the older content would replace the newer. Of several
    leftovers the one that was written first is the oldest. Only a regular file counts: anything else would be waited
    for in vain.

    :param is_done: whether the file with a path and fingerprint was shipped and is kept.
    """

    def __init__(self, root: SpoolRoot, *, is_done: Callable[[str, Fingerprint], bool]) -> None:
        self._root = root
        self._is_done = is_done
        self._further_names = functools.lru_cache(_MOST_DIRECTORIES)(self._list_further_names)

    def exist(self, candidate: Candidate) -> bool:
        """Whether there is one."""
        original, directory = original_name(candidate.name), candidate.directory
        first = taken_name(original)
        if first is None:
            return False
        try:
            further = self._further_names(directory)
        except OSError:
            return True  # without a descriptor nobody can tell
        names = [first, *(name for name in taken_names(original) if name in further)] if further else [first]
        if original == candidate.name:
            return any(self._waits(directory, name) for name in names)
        own = candidate.mtime_ns, candidate.name
        return any(self._waits(directory, name, before=own) for name in names if name != candidate.name)

    def _waits(self, directory: Names, name: str, *, before: tuple[int, str] | None = None) -> bool:
        try:
            status = self._root.stat(directory, name)
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or (before is not None and (status.st_mtime_ns, name) > before):
            return False
        return not self._is_done("/".join((*directory, name)), Fingerprint.of(status))

    def _list_further_names(self, directory: Names) -> frozenset[str]:
        """The private names in a directory other than the usual one of each file.

        Only killed runs leave them, so one look is enough, and hardly any is there: to ask for each of a file's eight
        would cost a tenth of its upload.
        """
        try:
            names = (entry.name for entry in self._root.entries(directory))
            return frozenset(name for name in names if name[-1] in FURTHER and original_name(name) != name)
        except FileNotFoundError:
            return frozenset()


class Globs:
    """Include and exclude patterns on relative paths.

    A pattern without a slash is matched against the name, one with a slash against the whole relative path. ``*`` and
    ``?`` stop at a slash, and ``**`` does not.
    """

    def __init__(self, *, include: list[str], exclude: list[str]) -> None:
        self._include = [_compile(pattern) for pattern in include]
        self._exclude = [_compile(pattern) for pattern in exclude]

    def admits(self, names: Names, name: str) -> bool:
        """Whether the patterns admit the entry."""
        path = "/".join((*names, name))
        if any(pattern.fullmatch(path if whole else name) for whole, pattern in self._exclude):
            return False
        return not self._include or any(pattern.fullmatch(path if whole else name) for whole, pattern in self._include)


def _compile(glob: str) -> tuple[bool, re.Pattern[str]]:
    """Whether the pattern is for the whole path, and the normalised pattern.

    A trailing slash means everything below.
    """
    whole = "/" in glob
    text, position = "", 0
    glob = glob.lstrip("/")
    if glob.endswith("/"):
        glob += "**"
    while position < len(glob):
        character = glob[position]
        if glob.startswith("**/", position):
            text, position = text + "(?:.*/)?", position + 3
            continue
        if glob.startswith("**", position):
            text, position = text + ".*", position + 2
            continue
        position += 1
        if character == "*":
            text += "[^/]*"
        elif character == "?":
            text += "[^/]"
        elif character == "[" and (end := _end_of_set(glob, position)) > 0:
            text += _set(glob[position:end])
            position = end + 1
        else:
            text += re.escape(character)
    return whole, re.compile(text, re.DOTALL)


def _end_of_set(glob: str, begin: int) -> int:
    """Find the bracket that closes a set, or -1. A bracket in the first place belongs to the set."""
    return glob.find("]", begin + (2 if glob[begin : begin + 1] in ("!", "^") else 1))


def _set(body: str) -> str:
    """Convert a set of characters to a regular expression. Like every wildcard it does not match a slash."""
    negated = body[0] in "!^"
    if negated:
        body = body[1:]
    parts, position = "", 0
    while position < len(body):
        first = body[position]
        if body[position + 1 : position + 2] == "-" and position + 2 < len(body):
            last = body[position + 2]
            position += 3
            if first > last:
                continue
            parts += f"{re.escape(first)}-{re.escape(last)}"
        else:
            position += 1
            parts += re.escape(first)
    if not parts:
        return "[^/]" if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{parts}]"
