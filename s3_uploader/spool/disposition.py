"""What becomes of a local file once it has been shipped, or cannot be: delete, move.

Removing a name is where data can be lost: between the last look at a file and the ``unlink`` of its name, a producer
may replace the file by rename, or open it and write more. POSIX has no "remove this name if it is still that file". So
the file is taken first and looked at second:

1. ``rename`` it to a private name, :func:`~s3_uploader.spool.layout.taken_name`. Whoever opens the old name from now
   on gets a new file.
2. Is what was taken the file that was shipped? If not, a producer replaced it: give it back.
3. Does anybody still have it open for writing, or has anybody written meanwhile? Then give it back.
4. Only now remove it, or move it to where it is wanted.

A run that is killed in between leaves the private name behind, which every layout knows as a candidate. What remains is
described in ``docs/guarantees.md``.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from s3_uploader.model import Fingerprint, Left
from s3_uploader.spool.layout import original_name, taken_name
from s3_uploader.spool.readiness import is_being_written
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.spool.source import OpenFile

_COPY_CHUNK = 1 << 20
_TEMPORARY_SUFFIX = ".tmp"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


def remove(root: SpoolRoot, file: OpenFile) -> Left | None:
    """Remove the file's name if it is still the file that was opened, unchanged and unwatched by any writer.

    :returns: ``None`` when it is gone, else why it was left.
    :raises OSError: if it may not be removed (a read-only directory, for one); it is where it was.
    """
    directory = root.directory(file.candidate.directory)
    return _with_taken(directory, file, lambda name: os.unlink(name, dir_fd=directory))


def move(root: SpoolRoot, file: OpenFile, target: MoveTarget) -> tuple[Left | None, str]:
    """Move the file below ``target`` under its path relative to the spool, never over something that lies there.

    :returns: why it was left, or ``None`` and the path at which it is now.
    :raises OSError: if it cannot be moved; it is where it was.
    """
    directory = root.directory(file.candidate.directory)
    moved_to = ""

    def put_there(name: str) -> None:
        nonlocal moved_to
        moved_to = target.receive(directory, name, file)

    return _with_taken(directory, file, put_there), moved_to


def _with_taken(directory: int, file: OpenFile, act: Callable[[str], None]) -> Left | None:
    """Take the file, make sure of it, and ``act`` on the private name; give the file back if that fails."""
    name = file.candidate.name
    if Fingerprint.of(os.fstat(file.descriptor)) != file.fingerprint:
        return Left.CHANGED
    private = name if original_name(name) != name else taken_name(name)
    if private is None:
        # No room for a longer name: what is left is a look immediately before the act.
        if not _is_same(directory, name, file.fingerprint):
            return Left.CHANGED
        act(name)
        return None
    if private != name:
        try:
            os.rename(name, private, src_dir_fd=directory, dst_dir_fd=directory)
        except FileNotFoundError:
            return Left.VANISHED
    reason = _why_not(directory, private, file)
    if reason is None:
        try:
            act(private)
        except BaseException:
            _give_back(directory, private, name)
            raise
        return None
    _give_back(directory, private, name)
    return reason


def _why_not(directory: int, private: str, file: OpenFile) -> Left | None:
    if not _is_same(directory, private, file.fingerprint):
        return Left.CHANGED
    if is_being_written(file.descriptor):
        return Left.BUSY
    # The rename has changed the ctime; a writer that came and went since the first look has changed the mtime too.
    if not Fingerprint.of(os.fstat(file.descriptor)).same_content_as(file.fingerprint):
        return Left.CHANGED
    return None


def _is_same(directory: int, name: str, fingerprint: Fingerprint) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == (fingerprint.device, fingerprint.inode)


def _give_back(directory: int, private: str, name: str) -> None:
    """Put a taken file back under its name, unless its producer has made a new one meanwhile.

    Where that fails the file stays under its private name, as a candidate of the next run.
    """
    if private == name:
        return
    with contextlib.suppress(OSError):
        rename_without_replacing(directory, private, directory, name)


def rename_without_replacing(from_directory: int, from_name: str, to_directory: int, to_name: str) -> None:
    """Rename a file, but never over an existing name.

    ``link`` refuses an existing name atomically. Where a file system has no hard links (FAT), a look comes first.

    :raises FileExistsError: if ``to_name`` is taken.
    :raises OSError: ``EXDEV`` if the two are on different file systems.
    """
    try:
        os.link(from_name, to_name, src_dir_fd=from_directory, dst_dir_fd=to_directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            os.stat(to_name, dir_fd=to_directory, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(from_name, to_name, src_dir_fd=from_directory, dst_dir_fd=to_directory)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), to_name) from None
    os.unlink(from_name, dir_fd=from_directory)


class MoveTarget:
    """A directory that receives files under their paths relative to the spool.

    :param path: the directory; it is made if it is missing.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def receive(self, directory: int, name: str, file: OpenFile) -> str:
        """Move ``name`` of ``directory`` here. Returns the path at which it now is.

        A name that is taken gets ``~1``, ``~2`` … appended. On another file system: copy, fsync, rename, unlink.
        """
        below = "/".join((self.path, *file.candidate.directory))
        os.makedirs(below, exist_ok=True)
        wanted = original_name(file.candidate.name)
        target = os.open(below, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return f"{below}/{self._place(directory, name, target, wanted, file)}"
        finally:
            os.close(target)

    def _place(self, directory: int, name: str, target: int, wanted: str, file: OpenFile) -> str:
        number = 0
        copied = ""
        try:
            while True:
                placed = wanted if number == 0 else f"{wanted}~{number}"
                try:
                    if copied:
                        rename_without_replacing(target, copied, target, placed)
                        os.fsync(target)
                        os.unlink(name, dir_fd=directory)
                    else:
                        rename_without_replacing(directory, name, target, placed)
                    return placed
                except FileExistsError:
                    number += 1
                except OSError as error:
                    if error.errno != errno.EXDEV or copied:
                        raise
                    copied = _copy_into(file, target)
        except BaseException:
            if copied:
                with contextlib.suppress(OSError):
                    os.unlink(copied, dir_fd=target)
            raise


def _copy_into(file: OpenFile, target: int) -> str:
    """Copy an open file to a temporary name in a directory of another file system; it is on disk when this returns."""
    temporary = f".{file.fingerprint.inode:x}-{os.getpid()}{_TEMPORARY_SUFFIX}"
    status = os.fstat(file.descriptor)
    copy = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, status.st_mode & 0o777, dir_fd=target
    )
    try:
        offset = 0
        while chunk := os.pread(file.descriptor, _COPY_CHUNK, offset):
            offset += len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(copy, view) :]
        if offset != file.fingerprint.size:
            raise OSError(errno.EIO, "it changed while it was copied")
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(copy)
    except BaseException:
        os.unlink(temporary, dir_fd=target)
        raise
    finally:
        os.close(copy)
    return temporary
