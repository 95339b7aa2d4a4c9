"""The spool's root, from whose descriptor every access to the spool starts, and the kinds and names of its entries.

Paths are resolved one name at a time with ``openat(O_NOFOLLOW | O_DIRECTORY)``, so that no link, wherever it appears
and whenever it was put there, leads out of the spool. Descriptors of directories are cached only for moments: a
directory that was replaced by a link is noticed at the next :meth:`SpoolRoot.refresh`.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

import msgspec

from s3_uploader.core.errors import SpoolError
from s3_uploader.core.files import OUT_OF_DESCRIPTORS
from s3_uploader.core.model import Left
from s3_uploader.spool.lock_file import LOCK_NAME

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CACHED_DIRECTORIES = 64
_TOP_DIRECTORIES = 300

TAKEN_SUFFIX = ".s3u"
"""``.NAME.s3u`` is NAME while this program removes it (:mod:`s3_uploader.spool.removal`)."""
FURTHER = "23456789"
"""What follows the suffix if leftovers have that name already."""

BLOCK = 10_000
"""Most entries of one directory that are held in memory, and sorted, at once."""

_NOT_LISTED = ("lost+found", LOCK_NAME)
_TEMPORARY = ("~", ".tmp", ".temp", ".part", ".partial", ".swp", ".crdownload", ".filepart")

Names = tuple[str, ...]
Skip: TypeAlias = Callable[[Names, str, Left, str], None]
"""Called with the directory, name, reason and detail of every entry that is not a candidate."""
_Listing: TypeAlias = "os._ScandirIterator[str]"
_Result = TypeVar("_Result")
_T = TypeVar("_T")


class StillStale(OSError):
    """A handle is stale although its path was resolved anew: something is wrong with the file system."""


class SpoolRoot:
    """An open spool. Belongs to one thread.

    :param base_dir: the directory as the user wrote it; used to show paths.
    :ivar most_cached: how many directories may stay open; one, once there was no descriptor left.
    :raises SpoolError: if it is missing, unreadable, no directory, a link, or ``/``.
    """

    def __init__(self, base_dir: str) -> None:
        self.base_dir = base_dir.rstrip("/") or "/"
        # A last "." would make the system follow a link before it.
        while self.base_dir.endswith("/."):
            self.base_dir = self.base_dir[:-2].rstrip("/") or "/"
        self._descriptor = _open_root(self.base_dir)
        self.most_cached = _CACHED_DIRECTORIES
        self._cache: OrderedDict[Names, int] = OrderedDict()

    @property
    def descriptor(self) -> int:
        """Descriptor of the root directory."""
        return self._descriptor

    def shown(self, names: Names, name: str | None = None) -> str:
        """The absolute path of an entry, for messages."""
        parts = names if name is None else (*names, name)
        return "/".join((self.base_dir, *parts))

    def directory(self, names: Names) -> int:
        """Descriptor of a directory below the root. It stays valid until the next call of a method of this object.

        :raises OSError: ``ENOENT`` if it has vanished, ``ELOOP`` or ``ENOTDIR`` if a link or a file is in the way.
        """
        if not names:
            return self._descriptor
        found = self._cache.get(names)
        if found is not None:
            self._cache.move_to_end(names)
            return found
        try:
            descriptor = self._walk(names)
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            descriptor = self._once_more(error, lambda: self._walk(names))
        self._keep(names, descriptor)
        return descriptor

    def _walk(self, names: Names) -> int:
        *above, name = names
        if not above:
            return os.open(name, _DIRECTORY, dir_fd=self._descriptor)
        parent = self._cache.get(names[:-1])
        if parent is not None:
            try:
                return os.open(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                # Its parent may have been removed and made anew.
                self.forget(names[:-1])
        parent = self._descriptor
        for each in above:
            try:
                below = os.open(each, _DIRECTORY, dir_fd=parent)
            finally:
                if parent != self._descriptor:
                    os.close(parent)
            parent = below
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        finally:
            # The other directories in it are likely to come next.
            self._keep(names[:-1], parent)

    def _keep(self, names: Names, descriptor: int) -> None:
        self._cache[names] = descriptor
        while len(self._cache) > self.most_cached:
            os.close(self._cache.popitem(last=False)[1])

    def refresh(self) -> None:
        """Forget the cached directories, so that every path is resolved again from the root."""
        while self._cache:
            os.close(self._cache.popitem()[1])

    def forget(self, names: Names) -> None:
        """Forget one directory, because it is about to be removed."""
        descriptor = self._cache.pop(names, None)
        if descriptor is not None:
            os.close(descriptor)

    def entries(self, names: Names) -> Iterator[os.DirEntry[str]]:
        """Iterate over the entries of a directory, in the order of the file system.

        An entry is valid only until the next one: it may need a descriptor that is closed with the last entry. That
        descriptor is not a cached one, which might be closed while the caller pauses.

        :raises OSError: if the directory cannot be opened or read.
        """
        try:
            descriptor, found, first = self._begun(names)
        except OSError as error:
            descriptor, found, first = self._once_more(error, lambda: self._begun(names))
        try:
            with found:
                if first is not None:
                    yield first
                    yield from found
        finally:
            os.close(descriptor)

    def _begun(self, names: Names) -> tuple[int, _Listing, os.DirEntry[str] | None]:
        """A listing up to its first entry: only when that is read the file system is asked."""
        descriptor = os.open(".", _DIRECTORY, dir_fd=self.directory(names))
        try:
            found = os.scandir(descriptor)
            return descriptor, found, next(found, None)
        except BaseException:
            os.close(descriptor)
            raise

    def stat(self, names: Names, name: str) -> os.stat_result:
        """``lstat`` an entry."""
        try:
            return os.stat(name, dir_fd=self.directory(names), follow_symlinks=False)
        except OSError as error:
            return self._once_more(error, lambda: os.stat(name, dir_fd=self.directory(names), follow_symlinks=False))

    def open_file(self, names: Names, name: str) -> int:
        """Open an entry for reading, without following a link and without waiting for a FIFO's writer.

        :raises OSError: ``ELOOP`` for a link.
        """
        try:
            return os.open(name, _FILE, dir_fd=self.directory(names))
        except OSError as error:
            return self._once_more(error, lambda: os.open(name, _FILE, dir_fd=self.directory(names)))

    def likely_places(self, key: str, *, one_deeper: bool) -> Iterator[tuple[Names, str]]:
        """Where an object appears if its destination leads back to the spool: at its key, or at the end of it.

        :param one_deeper: also look below each directory of the spool, where the destination may be.
        """
        names = tuple(key.split("/"))
        for begin in range(len(names)):
            if all(names[begin:]):
                yield names[begin:-1], names[-1]
        if not one_deeper or not all(names):
            return
        try:
            entries = itertools.islice(self.entries(()), _TOP_DIRECTORIES)
            tops = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return
        for top in tops:
            yield (top, *names[:-1]), names[-1]

    def _once_more(self, error: OSError, act: Callable[[], _Result]) -> _Result:
        """Repeat what has failed, if a network file system has called the handle of a directory stale.

        The directory may have been removed, or another one may have its name now, which a new look-up shows. Where
        there are no descriptors left, those of the cached directories are given up, too.

        :raises StillStale: if it is stale all the same.
        :raises OSError: what has failed, for any other reason.
        """
        if error.errno in OUT_OF_DESCRIPTORS and self._cache:
            self.refresh()
            self.most_cached = 1
            return act()
        if error.errno != errno.ESTALE:
            raise error
        self.refresh()
        try:
            return act()
        except OSError as again:
            if again.errno != errno.ESTALE:
                raise
            raise StillStale(again.errno, again.strerror) from again

    def close(self) -> None:
        """Close every descriptor. May be called twice."""
        self.refresh()
        if self._descriptor >= 0:
            # A directory that was only read has no unwritten data, and the descriptor is closed even after an error.
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


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


def in_blocks(items: Iterable[_T], size: int = BLOCK) -> Iterator[list[_T]]:
    """Split ``items`` into lists of at most ``size``."""
    rest = iter(items)
    while block := list(itertools.islice(rest, size)):
        yield block


def taken_name(name: str) -> str | None:
    """The private name under which ``name`` is removed; ``None`` if it would be too long for a name."""
    private = f".{name}{TAKEN_SUFFIX}"
    return private if len(private) < 64 or len(os.fsencode(private)) <= 255 else None  # 64 * 4 bytes


def taken_names(name: str) -> Iterator[str]:
    """:func:`taken_name`, then further names in case a leftover has that one."""
    for number in ("", *FURTHER):
        private = f".{name}{TAKEN_SUFFIX}{number}"
        if len(os.fsencode(private)) <= 255:
            yield private


def original_name(name: str) -> str:
    """The name that the producer gave to an entry, also if it is a leftover."""
    if name.startswith("."):
        body = name[1:-1] if name[-1] in FURTHER else name[1:]
        if body.endswith(TAKEN_SUFFIX) and body != TAKEN_SUFFIX:
            return body.removesuffix(TAKEN_SUFFIX)
    return name


def is_hidden(name: str) -> bool:
    """Whether an entry is hidden, and so meant to stay. A leftover is not: it is a producer's file."""
    return original_name(name).startswith(".")


def is_temporary(name: str) -> bool:
    """Whether a name is one of an unfinished file: ``.x``, ``x.tmp``, ``x~`` and their like."""
    return name.startswith(".") or name.lower().endswith(_TEMPORARY)


def why_not_opened(error: OSError) -> tuple[Left, str]:
    """What a failure to open an entry means for it.

    :raises OSError: that very error, if it says nothing about the file: this process has too many open.
    """
    if error.errno in OUT_OF_DESCRIPTORS:
        raise error
    if error.errno == errno.ENOENT or (error.errno == errno.ESTALE and not isinstance(error, StillStale)):
        return Left.VANISHED, "it is gone"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return Left.SPECIAL, "a symbolic link, or below one"
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return Left.SPECIAL, "a FIFO, socket or device"
    # EBUSY: over SMB another program has it open and shares it with nobody.
    if error.errno in (errno.EWOULDBLOCK, errno.ETXTBSY, errno.EBUSY):
        return Left.BUSY, error.strerror or ""
    return Left.UNREADABLE, error.strerror or str(error)


def _open_root(base_dir: str) -> int:
    try:
        descriptor = os.open(base_dir, _DIRECTORY)
    except OSError as error:
        raise _refused(base_dir, error) from None
    try:
        # Not fstat: a directory that this user may list but not search can be opened, but nothing in it be reached.
        status = os.stat(".", dir_fd=descriptor)
        filesystem_root = os.stat("/")
    except OSError as error:
        os.close(descriptor)
        raise _refused(base_dir, error) from None
    if (status.st_dev, status.st_ino) == (filesystem_root.st_dev, filesystem_root.st_ino):
        os.close(descriptor)
        raise SpoolError(
            f"base_dir {base_dir} is the root of the file system.", hint="Name the directory that the producer fills."
        )
    return descriptor


def _refused(base_dir: str, error: OSError) -> SpoolError:
    if error.errno in OUT_OF_DESCRIPTORS:
        # Then no module can be opened, either.
        return SpoolError(f"base_dir {base_dir} cannot be opened: {error.strerror}.")
    from s3_uploader.spool.not_opened import refusal

    return refusal(base_dir, error)
