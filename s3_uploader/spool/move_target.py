"""A directory that receives files of the spool instead of their removal, on the same file system or another."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable

from s3_uploader.core.attributes import keep_mode, keep_owner, keep_times
from s3_uploader.core.files import sync_directory, write_all
from s3_uploader.core.model import Left
from s3_uploader.core.renaming import rename_without_replacing
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.root import Names, original_name

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_COPY_CHUNK = 1 << 20
_LONGEST_NAME = 255
_TEMPORARY_SUFFIX = ".tmp"


class ChangedWhileCopied(Exception):
    """A file has changed, or may be changing, since it was copied; the copy was removed again.

    :ivar reason: why the file is left.
    """

    def __init__(self, reason: Left) -> None:
        super().__init__(reason)
        self.reason = reason


class MoveTarget:
    """A directory that receives files under their paths relative to the spool.

    :param path: the directory, which is created if it is missing. Links in this path are followed, links below it are
        not.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def receive(
        self, directory: int, name: str, file: OpenFile, *, why_not: Callable[[], Left | None] = lambda: None
    ) -> str:
        """Move ``name`` of ``directory`` here; returns its new path.

        A name that is taken gets ``~1``, ``~2`` … appended, and is cut if it is too long for that. On another file
        system: copy, fsync, rename, a last look, unlink.

        :param why_not: the last look; says why the file must not be removed although it was copied.
        :raises ChangedWhileCopied: if that says so.
        :raises OSError: if it cannot be moved.
        """
        target = self._directory_for(file.candidate.directory)
        try:
            placed = self._place(directory, name, target, original_name(file.candidate.name), file, why_not)
        finally:
            os.close(target)
        return "/".join((self.path, *file.candidate.directory, placed))

    def try_out(self, file: OpenFile) -> None:
        """Check that a file could be moved here: its directory can be created and written to, and there is room.

        :raises OSError: if not.
        """
        target = self._directory_for(file.candidate.directory)
        try:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=target, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            disk = os.fstatvfs(target)
            is_elsewhere = os.fstat(target).st_dev != file.fingerprint.device
            # Some network file systems report no sizes at all.
            if is_elsewhere and disk.f_blocks and disk.f_bavail * disk.f_frsize < file.fingerprint.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(target)

    def _directory_for(self, names: Names) -> int:
        """Open the directory below the target; creates it if needed."""
        os.makedirs(self.path, exist_ok=True)
        descriptor = os.open(self.path, _DIRECTORY)
        for name in names:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
                    # A file that is copied here and then removed there must not be lost with its directory.
                    sync_directory(descriptor)
                below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _place(
        self, directory: int, name: str, target: int, wanted: str, file: OpenFile, why_not: Callable[[], Left | None]
    ) -> str:
        number = 0
        copied = ""
        try:
            while True:
                placed = wanted if number == 0 else _numbered(wanted, number)
                try:
                    if copied:
                        rename_without_replacing(target, copied, target, placed)
                        copied = ""
                        sync_directory(target)
                        # A large copy takes minutes, and where no lease is granted a writer may have come.
                        reason = why_not()
                        if reason is not None and reason is not Left.VANISHED:
                            os.unlink(placed, dir_fd=target)
                            raise ChangedWhileCopied(reason)
                        if reason is None:
                            # Over NFS an answer may be lost, and the repetition finds the work done.
                            with contextlib.suppress(FileNotFoundError):
                                os.unlink(name, dir_fd=directory)
                    else:
                        rename_without_replacing(directory, name, target, placed)
                    return placed
                except FileExistsError:
                    number += 1
                except OSError as error:
                    if error.errno != errno.EXDEV or copied:
                        raise
                    copied = _copy_into(file, target, why_not)
        finally:
            if copied:
                with contextlib.suppress(OSError):
                    os.unlink(copied, dir_fd=target)


def _numbered(name: str, number: int) -> str:
    """The name with a number, cut so that it fits into 255 bytes."""
    mark = f"~{number}"
    while len(os.fsencode(name)) + len(mark) > _LONGEST_NAME:
        name = name[:-1]
    return name + mark


def _temporary_name(file: OpenFile) -> str:
    """The name of an unfinished copy: the next run finds it, and no other machine has the same one at the same time.

    Clones of a machine that share the target have the same numbers of inodes. The number of the device may be another
    one after a power cut (btrfs, network mounts, FUSE).
    """
    of_file, name = file.fingerprint, original_name(file.candidate.name)
    what = (os.uname().nodename, name, of_file.inode, of_file.size, of_file.mtime_ns)
    return f".{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}{_TEMPORARY_SUFFIX}"


def _copy_into(file: OpenFile, target: int, why_not: Callable[[], Left | None]) -> str:
    """Copy an open file to a temporary name on another file system; it is on disk when this returns."""
    temporary = _temporary_name(file)
    # A copy of that name was left by a killed run.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=target)
    status = os.fstat(file.descriptor)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    copy = os.open(temporary, flags, status.st_mode & 0o777, dir_fd=target)
    try:
        offset = 0
        while chunk := os.pread(file.descriptor, _COPY_CHUNK, offset):
            offset += len(chunk)
            write_all(copy, chunk)
        if offset != file.fingerprint.size:
            reason = why_not()
            if reason in (Left.BUSY, Left.CHANGED):
                raise ChangedWhileCopied(reason)
            raise OSError(errno.EIO, "it changed while it was copied")
        keep_owner(copy, status)
        keep_mode(copy, status.st_mode & 0o777)  # the umask has taken some
        keep_times(copy, status)
        os.fsync(copy)
    except BaseException:
        os.unlink(temporary, dir_fd=target)
        raise
    finally:
        os.close(copy)
    return temporary
