"""Removes or moves a local file that was shipped, or that cannot be shipped.

Removing a name is where data can be lost: between the last look at a file and the ``unlink`` of its name, a producer
may replace the file by rename, or open it and write more. POSIX has no "remove this name if it is still that file". So
the file is renamed first and checked second:

1. Take a read lease: nobody has the file open for writing, and nobody can open it unnoticed. Is it as it was shipped?
2. ``rename`` it to a private name, :func:`~s3_uploader.spool.layouts.base.taken_names`. A process that opens the old
   name from now on gets a new file.
3. Is the renamed file the one that was shipped, and unchanged? If not, a producer replaced it: give it back.
4. Release the lease. Did a writer come meanwhile? Then give the file back too.
5. A moment later, check once more. A writer may have resolved the old name before the rename, and been paused by the
   scheduler before its ``open`` was complete. By now that is complete. Then give the file back, too.
6. Only now remove it, or move it to its target.

The first four are :func:`take`; the caller decides how long the moment is. Without leases only times and size
decide. A run that is killed in between leaves the private name behind, which every layout recognises as a candidate. A
private name that exists already may be the only copy of something, so it is never overwritten. The remaining risk is
described in ``docs/guarantees.md``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable

import msgspec

from s3_uploader.core.files import rename_without_replacing, sync_directory, write_all
from s3_uploader.core.model import Fingerprint, Left
from s3_uploader.spool.layouts.base import original_name, taken_name, taken_names
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.readiness import is_being_written, release_lease, take_lease
from s3_uploader.spool.root import Names, SpoolRoot

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_COPY_CHUNK = 1 << 20
_TEMPORARY_SUFFIX = ".tmp"


class Detached(msgspec.Struct, frozen=True):
    """A file that was renamed to a private name and was unchanged then.

    :param fingerprint: as it was after the rename, which changes the ctime.
    """

    private: str
    fingerprint: Fingerprint


def take(root: SpoolRoot, file: OpenFile) -> Detached | Left:
    """Rename the file to a private name if it is still the file that was opened, unchanged and without a writer.

    :returns: the argument of :func:`remove_taken` and :func:`move_taken`, or why the file was left.
    :raises OSError: if it may not be renamed, as in a read-only directory; it stays where it was.
    """
    try:
        directory = root.directory(file.candidate.directory)
    except FileNotFoundError:
        return Left.VANISHED
    name = file.candidate.name
    lease = take_lease(file.descriptor)
    if lease is False:
        return Left.BUSY
    try:
        if Fingerprint.of(os.fstat(file.descriptor)) != file.fingerprint:
            return Left.CHANGED
        try:
            private = _take(directory, name)
        except FileNotFoundError:
            # Some file systems in user space say so of every rename: then it would be sent anew by each run.
            if _is_same(directory, name, file.fingerprint):
                raise
            return Left.VANISHED
        try:
            found = _fingerprint_of_taken(directory, private, file)
            disturbed = False
            if lease:
                lease = None
                disturbed = not release_lease(file.descriptor)
            if found is not None and not disturbed:
                return Detached(private, found)
        except BaseException:
            _give_back(directory, private, name)
            raise
    finally:
        if lease:
            release_lease(file.descriptor)
    _give_back(directory, private, name)
    return Left.CHANGED if found is None else Left.BUSY


def remove_taken(root: SpoolRoot, file: OpenFile, taken: Detached) -> Left | None:
    """Remove a taken file, if no writer has come since.

    :returns: ``None`` when it is removed, else why it was given back.
    :raises OSError: if it may not be removed; it has its old name again.
    """

    def unlink(directory: int, name: str) -> None:
        # Over NFS an answer may be lost, and the repetition finds the work done.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)

    return _after_a_last_look(root, file, taken, unlink)


def move_taken(root: SpoolRoot, file: OpenFile, taken: Detached, target: MoveTarget) -> tuple[Left | None, str]:
    """Move a taken file below ``target`` under its path relative to the spool; never overwrites anything.

    :returns: why it was given back, or ``None`` and its new path.
    :raises OSError: if it cannot be moved; it has its old name again.
    """
    moved_to = ""

    def put_there(directory: int, name: str) -> None:
        nonlocal moved_to
        moved_to = target.receive(directory, name, file)

    return _after_a_last_look(root, file, taken, put_there), moved_to


def give_back(root: SpoolRoot, file: OpenFile, taken: Detached) -> None:
    """Give a taken file its old name again, unless its producer has made a new one meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        _give_back(root.directory(file.candidate.directory), taken.private, original_name(file.candidate.name))


def remove(root: SpoolRoot, file: OpenFile) -> Left | None:
    """:func:`take` and at once :func:`remove_taken`."""
    taken = take(root, file)
    return taken if isinstance(taken, Left) else remove_taken(root, file, taken)


def move(root: SpoolRoot, file: OpenFile, target: MoveTarget) -> tuple[Left | None, str]:
    """:func:`take` and at once :func:`move_taken`."""
    taken = take(root, file)
    return (taken, "") if isinstance(taken, Left) else move_taken(root, file, taken, target)


def _after_a_last_look(
    root: SpoolRoot, file: OpenFile, taken: Detached, act: Callable[[int, str], None]
) -> Left | None:
    """Call ``act`` on the private name if the file is unchanged; otherwise, or if that fails, give the file back."""
    try:
        directory = root.directory(file.candidate.directory)
    except FileNotFoundError:
        return Left.VANISHED
    try:
        reason = _why_not(directory, file, taken)
        if reason is None:
            act(directory, taken.private)
            return None
    except BaseException:
        _give_back(directory, taken.private, file.candidate.name)
        raise
    if reason is not Left.VANISHED:
        _give_back(directory, taken.private, file.candidate.name)
    return reason


def _why_not(directory: int, file: OpenFile, taken: Detached) -> Left | None:
    if is_being_written(file.descriptor):
        return Left.BUSY
    if Fingerprint.of(os.fstat(file.descriptor)) != taken.fingerprint:
        return Left.CHANGED
    return None if _is_same(directory, taken.private, file.fingerprint) else Left.VANISHED


def _fingerprint_of_taken(directory: int, private: str, file: OpenFile) -> Fingerprint | None:
    """Take the fingerprint after the rename; ``None`` if it is another file, or has changed since it was shipped."""
    if not _is_same(directory, private, file.fingerprint):
        return None
    # The rename has changed the ctime; what was written since the look before it has changed the mtime too.
    found = Fingerprint.of(os.fstat(file.descriptor))
    return found if found.same_content_as(file.fingerprint) else None


def _take(directory: int, name: str) -> str:
    """Rename a file to a private name and return it. A leftover has one already, and a very long name cannot get one.

    :raises OSError: if it may not be renamed.
    """
    first = taken_name(name)
    if first is None or original_name(name) != name:
        return name
    for private in itertools.chain((first,), taken_names(name)):
        try:
            # Only this program makes such names, and only one run has the spool: a name that is free now stays free.
            os.stat(private, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            # Inside this block, so that an error of the rename is raised: then the file stays where it is.
            try:
                os.rename(name, private, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError as error:
                # A new name needs room in the directory, and on btrfs in its trees too; a removal makes some.
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                return name
            return private
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return name
    raise FileExistsError(errno.EEXIST, "leftovers have all its private names", name)


def _is_same(directory: int, name: str, fingerprint: Fingerprint) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == (fingerprint.device, fingerprint.inode)


def _give_back(directory: int, private: str, name: str) -> None:
    """Give a taken file its old name again, unless its producer has made a new one meanwhile.

    Where that fails the file stays under its private name, as a candidate of the next run.
    """
    if private == name:
        return
    with contextlib.suppress(OSError):
        rename_without_replacing(directory, private, directory, name)


class MoveTarget:
    """A directory that receives files under their paths relative to the spool.

    :param path: the directory, which is created if it is missing. Links in this path are followed, links below it are
        not.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def receive(self, directory: int, name: str, file: OpenFile) -> str:
        """Move ``name`` of ``directory`` here; returns its new path.

        A name that is taken gets ``~1``, ``~2`` … appended. On another file system: copy, fsync, rename, unlink.

        :raises OSError: if it cannot be moved.
        """
        target = self._directory_for(file.candidate.directory)
        try:
            placed = self._place(directory, name, target, original_name(file.candidate.name), file)
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

    def _place(self, directory: int, name: str, target: int, wanted: str, file: OpenFile) -> str:
        number = 0
        copied = ""
        try:
            while True:
                placed = wanted if number == 0 else f"{wanted}~{number}"
                try:
                    if copied:
                        rename_without_replacing(target, copied, target, placed)
                        copied = ""
                        sync_directory(target)
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
        finally:
            if copied:
                with contextlib.suppress(OSError):
                    os.unlink(copied, dir_fd=target)


def _copy_into(file: OpenFile, target: int) -> str:
    """Copy an open file to a temporary name on another file system; it is on disk when this returns."""
    temporary = f".{file.fingerprint.device:x}-{file.fingerprint.inode:x}{_TEMPORARY_SUFFIX}"
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
            raise OSError(errno.EIO, "it changed while it was copied")
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(copy)
    except BaseException:
        os.unlink(temporary, dir_fd=target)
        raise
    finally:
        os.close(copy)
    return temporary
