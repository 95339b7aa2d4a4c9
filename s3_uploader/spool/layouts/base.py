"""The protocol of a layout, and what all layouts share: temporary names, globs, blocks, leftovers, fresh files.

Terms
-----
layout
    How a spool is read: which entries are candidates, which key each gets, which data time it carries.
leftover
    A file that a killed run had already renamed (:data:`TAKEN_SUFFIX`) in order to remove it.
    It is a candidate like any other, under the key of its original name: shipping it again is harmless.
"""

from __future__ import annotations

import enum
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from s3_uploader.core.model import Candidate, Fingerprint, Left
from s3_uploader.spool.lock_file import LOCK_NAME
from s3_uploader.spool.root import Names, SpoolRoot, why_not_opened

TAKEN_SUFFIX = ".s3u"
"""``.NAME.s3u`` is NAME while this program removes it (:mod:`s3_uploader.spool.removal`)."""

BLOCK = 10_000
"""Most entries of one directory that are held in memory, and sorted, at once."""

FUTURE_TOLERANCE = 300.0
"""Seconds by which an mtime may be in the future before it counts as wrong and no longer holds a file back."""

_NOT_LISTED = ("lost+found", LOCK_NAME)
_TEMPORARY = ("~", ".tmp", ".temp", ".part", ".partial", ".swp", ".crdownload", ".filepart")


class NoCandidate(msgspec.Struct, frozen=True):
    """Yielded after a block of names of other shares, so that the caller can do other work."""


class EmptyDirectory(NoCandidate, frozen=True):
    """A directory that had no entry when it was scanned."""

    names: Names


Found: TypeAlias = Candidate | NoCandidate
Skip: TypeAlias = Callable[[Names, str, Left, str], None]
"""Called with the directory, name, reason and detail of every entry that is not a candidate."""


class ScanStopped(Exception):
    """Raised by a :data:`Skip` to end a scan whose time is up: it may meet no candidate for long."""


_T = TypeVar("_T")


class Layout(Protocol):
    """How a spool is read.

    Both methods run on the thread that owns the spool. Entries that come and go during a scan are not errors. A
    directory that cannot be read is skipped.
    """

    def scan(self, root: SpoolRoot, skip: Skip) -> Iterator[Found]:
        """Yield candidates, oldest first as far as the layout knows, and empty directories, in bounded memory."""

    def may_prune(self, names: Names, *, now: float, child: Names | None, mtime: float) -> bool:
        """Whether the directory ``names`` may be removed when it is empty.

        :param child: the directory below it that was just removed, ``None`` if it was found empty.
        :param mtime: of the directory, seconds since the epoch.
        """


def taken_name(name: str) -> str | None:
    """The private name under which ``name`` is removed; ``None`` if it would be too long for a name."""
    private = f".{name}{TAKEN_SUFFIX}"
    return private if len(os.fsencode(private)) <= 255 else None


def taken_names(name: str) -> Iterator[str]:
    """:func:`taken_name`, then further names in case a leftover has that one."""
    for number in ("", *"23456789"):
        private = f".{name}{TAKEN_SUFFIX}{number}"
        if len(os.fsencode(private)) <= 255:
            yield private


def original_name(name: str) -> str:
    """The name that the producer gave to an entry, also if it is a leftover."""
    if name.startswith("."):
        body = name[1:-1] if name[-1] in "23456789" else name[1:]
        if body.endswith(TAKEN_SUFFIX) and body != TAKEN_SUFFIX:
            return body.removesuffix(TAKEN_SUFFIX)
    return name


def has_leftover(root: SpoolRoot, candidate: Candidate, *, is_done: Callable[[str, Fingerprint], bool]) -> bool:
    """Whether an older file of the same name lies beside a candidate under its private name and is not shipped yet.

    Where objects may be replaced it has to go first, or the older content would replace the newer. Only a regular file
    counts: anything else would be waited for in vain.

    :param is_done: whether the file with a path and fingerprint was shipped and is kept.
    """
    private = taken_name(candidate.name)
    if private is None or original_name(candidate.name) != candidate.name:
        return False
    try:
        status = root.stat(candidate.directory, private)
    except OSError:
        return False
    path = "/".join((*candidate.directory, private))
    return stat.S_ISREG(status.st_mode) and not is_done(path, Fingerprint.of(status))


def why_settling(candidate: Candidate, mtime_ns: int, now: float, settle_seconds: float) -> str:
    """Say why a candidate is too fresh; empty if it is not.

    A period in the path holds a file back only while it runs and until ``settle_seconds`` after its end. One in the
    future (a wrong clock, local time read as UTC) or none at all leaves the decision to the mtime; an mtime that lies
    more than :data:`FUTURE_TOLERANCE` in the future decides nothing either, so that no file is stranded.

    :param mtime_ns: when the file was last written, in nanoseconds since the epoch.
    :param now: seconds since the epoch.
    """
    begin, end = candidate.period_begin, candidate.period_end
    if begin is not None and end is not None and begin <= now < end + settle_seconds:
        return f"its minute ended less than {settle_seconds:g} s ago" if now >= end else "its minute is not over"
    age = now - mtime_ns / 1e9
    if age < settle_seconds and age >= -FUTURE_TOLERANCE:
        return f"written {max(age, 0.0):.0f} s ago, less than {settle_seconds:g} s"
    return ""


def is_hidden(name: str) -> bool:
    """Whether an entry is hidden, and so meant to stay. A leftover is not: it is a producer's file."""
    return original_name(name).startswith(".")


def is_temporary(name: str) -> bool:
    """Whether a name is one of an unfinished file: ``.x``, ``x.tmp``, ``x~`` and their like."""
    return name.startswith(".") or name.lower().endswith(_TEMPORARY)


def in_blocks(items: Iterable[_T], size: int = BLOCK) -> Iterator[list[_T]]:
    """Split ``items`` into lists of at most ``size``."""
    block: list[_T] = []
    for item in items:
        block.append(item)
        if len(block) >= size:
            yield block
            block = []
    if block:
        yield block


class Globs:
    """Include and exclude patterns on relative paths.

    A pattern without a slash is matched against the name, one with a slash against the whole relative path. ``*`` and
    ``?`` stop at a slash, and ``**`` does not.

    :ivar are_given: whether there is any pattern.
    """

    def __init__(self, *, include: list[str], exclude: list[str]) -> None:
        self._include = [_compile(pattern) for pattern in include]
        self._exclude = [_compile(pattern) for pattern in exclude]
        self.are_given = bool(include or exclude)

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


class EntryKind(enum.Enum):
    """The kind of an entry, links not followed."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    SPECIAL = "special"


FILE, DIRECTORY, LINK, SPECIAL = EntryKind
_WORDS = {LINK: "a symbolic link", SPECIAL: "a FIFO, socket or device"}


class Unreadable(msgspec.Struct, frozen=True):
    """Stands for the kind of an entry that cannot be examined; ``why`` is the system's message."""

    why: str


Kind: TypeAlias = EntryKind | Unreadable


def kind_of(entry: os.DirEntry[str]) -> Kind | None:
    """The kind of an entry; ``None`` if it has vanished."""
    # If a file system does not report the kind with the name, each of these questions is a system call that may fail.
    try:
        if entry.is_file(follow_symlinks=False):
            return FILE
        if entry.is_dir(follow_symlinks=False):
            return DIRECTORY
        if entry.is_symlink():
            return LINK
        entry.stat(follow_symlinks=False)
    except OSError as error:
        return None if why_not_opened(error)[0] is Left.VANISHED else Unreadable(error.strerror or str(error))
    return SPECIAL


def listed(root: SpoolRoot, names: Names, skip: Skip) -> Iterator[tuple[str, Kind]]:
    """List name and kind of the entries of a directory.

    A directory that cannot be read counts as one entry that was left. ``lost+found`` and the lock file at the top are
    ignored.
    """
    try:
        for entry in root.entries(names):
            kind = kind_of(entry)
            if kind is not None and (names or entry.name not in _NOT_LISTED):
                yield entry.name, kind
    except OSError as error:
        reason, detail = why_not_opened(error)
        if reason is not Left.VANISHED:
            skip(names[:-1], names[-1] if names else "", reason, detail)


def looked_at(root: SpoolRoot, names: Names, name: str, skip: Skip) -> os.stat_result | None:
    """``lstat`` an entry; a failure is reported."""
    try:
        return root.stat(names, name)
    except OSError as error:
        skip(names, name, *why_not_opened(error))
        return None


def skip_entry(skip: Skip, names: Names, name: str, kind: Kind, detail: str) -> None:
    """Report an entry that is not a candidate, with its kind if that is special, else with ``detail``."""
    if isinstance(kind, Unreadable):
        skip(names, name, Left.UNREADABLE, f"unreadable: {kind.why}")
    elif kind in (FILE, DIRECTORY):
        skip(names, name, Left.UNMATCHED, detail)
    else:
        skip(names, name, Left.SPECIAL, _WORDS[kind])
