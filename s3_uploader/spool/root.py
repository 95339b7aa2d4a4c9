"""The spool's root: every access to the spool starts from its descriptor.

Paths are resolved one name at a time with ``openat(O_NOFOLLOW | O_DIRECTORY)``, so that no link, wherever it appears
and whenever it was put there, leads out of the spool. Descriptors of directories are cached only for moments: a
directory that was replaced by a link is noticed at the next :meth:`SpoolRoot.refresh`.

A file that cannot be removed would be sent again and again, so its directory is examined first (:class:`Removable`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

from s3_uploader.core.errors import FAILING_DISK, SpoolDenied, SpoolError, is_of_a_failing_disk
from s3_uploader.core.files import OUT_OF_DESCRIPTORS
from s3_uploader.core.model import Left
from s3_uploader.core.procfs import has_capability

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CACHED_DIRECTORIES = 64
_TOP_DIRECTORIES = 300
_MOST_EXAMINED = 1000
_GET_FLAGS = 0x80086601
"""``FS_IOC_GETFLAGS``, see ``ioctl_iflags(2)``."""
_FLAGS = {0x10: "immutable (chattr +i)", 0x20: "append-only (chattr +a)"}
_CAP_FOWNER = 3

Names = tuple[str, ...]
Reason = tuple[str, str]
"""Why nothing can be removed from a directory, and what to do about it."""
_Listing: TypeAlias = "os._ScandirIterator[str]"
_Result = TypeVar("_Result")


class ReadOnlySpool(SpoolError):
    """The file system of the spool is mounted read-only."""


class StillStale(OSError):
    """A handle is stale although its path was resolved anew: something is wrong with the file system."""


class SpoolRoot:
    """An open spool. Belongs to one thread.

    :param base_dir: the directory as the user wrote it; used to show paths.
    :ivar most_cached: how many directories may stay open.
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
        self._cache[names] = descriptor
        while len(self._cache) > self.most_cached:
            os.close(self._cache.popitem(last=False)[1])
        return descriptor

    def _walk(self, names: Names) -> int:
        parent = self._cache.get(names[:-1]) if len(names) > 1 else self._descriptor
        if parent is not None:
            return os.open(names[-1], _DIRECTORY, dir_fd=parent)
        descriptor = self._descriptor
        for name in names:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            finally:
                if descriptor != self._descriptor:
                    os.close(descriptor)
            descriptor = below
        return descriptor

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


def refuse_read_only(root: SpoolRoot) -> None:
    """Refuse a spool from which nothing at all can be removed.

    :raises ReadOnlySpool: if its file system is mounted read-only.
    """
    if os.fstatvfs(root.descriptor).f_flag & os.ST_RDONLY:
        raise ReadOnlySpool(
            f"base_dir {root.base_dir} lies on a file system that is read-only, so nothing can be removed from it.",
            hint="Mount it writable (a disk with errors is made read-only: `dmesg` shows them), or set "
            "on_success to keep.",
        )


class Removable:
    """Remembers the directories of a spool; each is examined once in a run."""

    def __init__(self, root: SpoolRoot) -> None:
        self._root = root
        self._known: dict[Names, tuple[Reason | None, bool]] = {}

    def why_not(self, names: Names, *, owner: int) -> Reason | None:
        """Why a file of this owner cannot be removed from the directory; ``None`` if no obstacle is known."""
        known = self._known.get(names)
        if known is None:
            if len(self._known) >= _MOST_EXAMINED:
                self._known.clear()
            try:
                known = _obstacle_in(self._root.directory(names))
            except OSError:
                return None  # whoever opens the file finds out
            self._known[names] = known
        reason, only_our_own = known
        if reason is None and only_our_own and owner != os.geteuid():
            return (
                "its directory is sticky, so that only its owner may remove it",
                "Run as the user that writes the files, or remove the sticky bit (chmod -t).",
            )
        return reason


def _obstacle_in(directory: int) -> tuple[Reason | None, bool]:
    """Find out why nothing can be removed from a directory, and whether at least this user's own files can be."""
    # Asks for the effective user, and knows of read-only mounts and of what chattr has made immutable.
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
        if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
            return ("its file system is read-only", "Mount it writable."), False
        by_mode = ("this user may not write to its directory", "Let the user that runs this program write to it.")
        return why_sealed(directory) or by_mode, False
    status = os.fstat(directory)
    is_sticky = status.st_mode & stat.S_ISVTX and status.st_uid != os.geteuid()
    return why_sealed(directory), bool(is_sticky) and not has_capability(_CAP_FOWNER)


def why_sealed(directory: int) -> Reason | None:
    """What chattr has set that keeps every name in a directory, also for root; ``None`` without such an attribute."""
    try:
        flags = int.from_bytes(fcntl.ioctl(directory, _GET_FLAGS, bytes(8))[:4], "little")
    except OSError:
        return None  # a file system without such flags
    found = next((words for bit, words in _FLAGS.items() if flags & bit), None)
    return None if found is None else (f"its directory is {found}", "Remove that attribute.")


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
    if error.errno in (errno.EWOULDBLOCK, errno.ETXTBSY):
        return Left.BUSY, error.strerror or ""
    return Left.UNREADABLE, error.strerror or str(error)


def _open_root(base_dir: str) -> int:
    try:
        descriptor = os.open(base_dir, _DIRECTORY)
    except OSError as error:
        raise _refusal(base_dir, error) from None
    try:
        # Not fstat: a directory that this user may list but not search can be opened, but nothing in it be reached.
        status = os.stat(".", dir_fd=descriptor)
        filesystem_root = os.stat("/")
    except OSError as error:
        os.close(descriptor)
        raise _refusal(base_dir, error) from None
    if (status.st_dev, status.st_ino) == (filesystem_root.st_dev, filesystem_root.st_ino):
        os.close(descriptor)
        raise SpoolError(
            f"base_dir {base_dir} is the root of the file system.", hint="Name the directory that the producer fills."
        )
    return descriptor


def _where_it_is(base_dir: str) -> str:
    """What to do about a spool that is not found."""
    if "$" in base_dir:
        return "Environment variables are not expanded in it: write the path itself, or ~ for the home directory."
    if base_dir != base_dir.strip():
        return "There is a blank at its beginning or end: correct base_dir."
    if not os.path.isabs(base_dir):
        return (
            f"A relative path begins at the directory in which the program was started, {os.getcwd()}. Create it "
            "there, or write an absolute path."
        )
    return "Create it, or correct base_dir; if it is a mount, see that it is mounted."


def _refusal(base_dir: str, error: OSError) -> SpoolError:
    if error.errno == errno.ENOENT:
        return SpoolError(f"base_dir {base_dir} does not exist.", hint=_where_it_is(base_dir))
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        try:
            is_link = stat.S_ISLNK(os.lstat(base_dir).st_mode)
        except OSError:
            is_link = False
        if is_link:
            return SpoolError(
                f"base_dir {base_dir} is a symbolic link.",
                hint=f"Give the directory itself: {os.path.realpath(base_dir)}.",
            )
        return SpoolError(
            f"base_dir {base_dir} is not a directory.", hint="Name the directory that the producer fills."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return SpoolDenied(
            f"base_dir {base_dir} cannot be read: {error.strerror}.",
            hint="Let the user that runs this program read and write it.",
        )
    hint = FAILING_DISK if is_of_a_failing_disk(error) else ""
    return SpoolError(f"base_dir {base_dir} cannot be opened: {error.strerror}.", hint=hint)
