"""The inventory of a local directory: walked in the order of the keys' bytes, without following links."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.stores.keys import path_segments
from s3_uploader.stores.listing import OUT_OF_TIME, Entry
from s3_uploader.stores.local.errors import code_of, reason_of

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR)
_OUT_OF_SIGHT = (*_ABSENT, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of one part of the tree. The rest is listed anyway, and expected files in that part are looked up singly."""


class LocalInventory:
    """A directory as :class:`~s3_uploader.stores.listing.Inventory`.

    Memory is bounded by the largest directory.

    :param until: the end of the reading of files, by the monotonic clock.
    """

    looks_are_cheap = False
    lists_in_order = True

    def __init__(self, *, path: str, max_concurrency: int = 8, until: float = math.inf) -> None:
        self._path = path
        self._max_concurrency = max_concurrency
        self._until = until
        self._root = -1

    @property
    def name(self) -> str:
        """The directory of the configuration."""
        return self._path

    @property
    def concurrency(self) -> int:
        """As many lookups at once as copies."""
        return self._max_concurrency

    def open(self) -> None:
        """Open the root.

        :raises StoreError: if that fails.
        """
        try:
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            hint = "Mount the file system that belongs there." if error.errno == errno.ENOENT else ""
            raise self._failed(error, self._path, Scope.DESTINATION, hint) from error

    def close(self) -> None:
        """Close the root."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def address(self, key: str) -> str:
        """The path of the file."""
        return f"{self._path.rstrip('/')}/{key}"

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """Walk the tree from the directory that ``prefix`` names."""
        names = [name for name in prefix.split("/")[:-1] if name]
        try:
            top = self._directory(names)
        except OSError as error:
            if error.errno in _OUT_OF_SIGHT:
                return
            raise self._failed(error, self.address(prefix), Scope.DESTINATION) from error
        yield from self._walk(top, "".join(f"{name}/" for name in names), wanted)

    def look(self, key: str, *, content: bool) -> Entry | None:
        """The file's size and time, and with ``content`` the SHA-256 of its current bytes."""
        try:
            *names, name = path_segments(key)
            directory = self._directory(names)
        except KeyRefused:
            return None
        except OSError as error:
            self._raise_unless_absent(error, key)
            return None
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            self._raise_unless_absent(error, key)
            return None
        finally:
            os.close(directory)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            digest = self._digest(descriptor, key) if content else ""
        except OSError as error:
            raise self._failed(error, self.address(key), Scope.FILE) from error
        finally:
            os.close(descriptor)
        return Entry(
            key=key,
            size=status.st_size,
            etag=digest,
            modified=status.st_mtime,
            checksums={"sha256": digest} if digest else {},
        )

    def _walk(self, directory: int, path: str, wanted: Callable[[], str]) -> Iterator[Entry]:
        """The files below an open directory, which is closed at the end."""
        try:
            with os.scandir(directory) as found:
                # Sort a directory by its name with a slash: "a.b" comes before "a/b".
                names = sorted(
                    os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"") for entry in found
                )
            for encoded in names:
                name = os.fsdecode(encoded.rstrip(b"/"))
                if encoded.endswith(b"/"):
                    if not self._may_hold(f"{path}{name}/", wanted()):
                        continue
                    try:
                        below = os.open(name, _DIRECTORY, dir_fd=directory)
                    except OSError as error:
                        if error.errno not in _OUT_OF_SIGHT:
                            raise
                        continue
                    yield from self._walk(below, f"{path}{name}/", wanted)
                    continue
                try:
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except OSError as error:
                    if error.errno not in _OUT_OF_SIGHT:
                        raise
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Entry(key=path + name, size=status.st_size, modified=status.st_mtime)
        except OSError as error:
            raise self._failed(error, self.address(path), Scope.DESTINATION) from error
        finally:
            os.close(directory)

    @staticmethod
    def _may_hold(directory: str, wanted: str) -> bool:
        """Whether keys at or after ``wanted`` can begin with this directory."""
        return os.fsencode(directory) >= os.fsencode(wanted)[: len(os.fsencode(directory))]

    def _directory(self, names: list[str]) -> int:
        current = os.dup(self._root)
        for name in names:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=current)
            finally:
                os.close(current)
            current = below
        return current

    def _raise_unless_absent(self, error: OSError, key: str) -> None:
        if error.errno not in _ABSENT:
            raise self._failed(error, self.address(key), Scope.FILE) from error

    @staticmethod
    def _failed(error: OSError, what: str, scope: Scope, hint: str = "") -> StoreError:
        return StoreError(f"{what} cannot be read: {reason_of(error)}.", code=code_of(error), scope=scope, hint=hint)

    def _digest(self, descriptor: int, key: str) -> str:
        digest = hashlib.sha256()
        while chunk := os.read(descriptor, _CHUNK):
            digest.update(chunk)
            if time.monotonic() >= self._until:
                raise StoreError(
                    f"{self.address(key)} was not read to its end {OUT_OF_TIME}.",
                    code="Timeout",
                    scope=Scope.DESTINATION,
                )
        return digest.hexdigest()
