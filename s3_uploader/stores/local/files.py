"""File operations of the local store: exclusive temporary files, renames that never overwrite, durable directories."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from s3_uploader.core.renaming import rename_without_replacing


@contextlib.contextmanager
def exclusive_file(directory: int, name: str, *, pause: Callable[[float], None]) -> Iterator[int]:
    """Make a new file ``name`` that only this call writes. It is removed afterwards if it still has that name.

    The leftover of a killed process is removed. While another uploader, thread or process, works on the file, this
    waits. A kernel lock (``flock(2)``) tells the two cases apart, because it ends with its process.

    :param pause: sleeps for some seconds; raises when no time is left.
    """
    wait = 0.005
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o666, dir_fd=directory)
        except FileExistsError:
            if not remove_abandoned(directory, name):
                pause(wait)
                wait = min(wait * 2, 0.5)
            continue
        # Between our open and our flock another uploader may have taken the file for a leftover and removed it.
        if _lock(descriptor) and is_named(descriptor, directory, name):
            break
        os.close(descriptor)
    try:
        yield descriptor
    finally:
        try:
            if is_named(descriptor, directory, name):
                os.unlink(name, dir_fd=directory)
        finally:
            os.close(descriptor)


def remove_abandoned(directory: int, name: str) -> bool:
    """Remove the temporary file ``name`` unless another process works on it. Returns whether the name is free now."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return True
    try:
        if not _lock(descriptor):
            return False
        if is_named(descriptor, directory, name):
            os.unlink(name, dir_fd=directory)
        return True
    finally:
        os.close(descriptor)


def move_without_replacing(directory: int, old: str, new: str) -> bool:
    """Rename ``old`` to ``new`` within a directory. Returns ``False``, with nothing done, if ``new`` is taken."""
    try:
        rename_without_replacing(directory, old, directory, new)
    except FileExistsError:
        return False
    return True


def has_another_name(directory: int, name: str, *, temporary: str) -> bool:
    """Whether the file found under ``name`` really has another name.

    The file system may fold case (FAT, SMB), or take the two ways to write an accent for one (ZFS, HFS+).

    :param temporary: the name of an existing file, with lower-case letters. A lookup of it in capitals shows whether
        the file system folds case at all; only then is the directory read.
    """
    is_folded = _is_also(directory, temporary, temporary.swapcase()) or _is_in_other_accents(directory, name)
    return is_folded and name not in os.listdir(directory)


def is_found_only(directory: int, name: str, *, accents: bool = False) -> bool:
    """Whether what is found under a name, such as the caller has just made, has another name in truth.

    FAT and SMB fold case and drop dots and spaces at the end, and FAT finds a file by its short name (``NAME~1``) too.
    The directory is read only where one of these is possible.

    :param accents: another way to write accents counts, too. HFS+ changes every such name, also of a single file.
    """
    is_folded = name[-1] in ". " or "~" in name or _is_also(directory, name, name.swapcase())
    is_folded = is_folded or (accents and _is_in_other_accents(directory, name))
    return is_folded and name not in os.listdir(directory)


def _is_in_other_accents(directory: int, name: str) -> bool:
    if name.isascii():
        return False
    import unicodedata  # rarely needed

    return any(_is_also(directory, name, unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))


def _is_also(directory: int, name: str, other: str) -> bool:
    if other == name:
        return False
    try:
        found, same = (os.stat(each, dir_fd=directory, follow_symlinks=False) for each in (name, other))
    except OSError:
        return False
    return os.path.samestat(found, same)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # On a file system without locks (some FUSE, NFS without its lock daemon) only one uploader is assumed.
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def is_named(descriptor: int, directory: int, name: str) -> bool:
    """Whether an open file has that name."""
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))
