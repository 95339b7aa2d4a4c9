"""Renames a file without overwriting another, as far as the system can."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable

_RENAME_NOREPLACE = 1
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


def rename_without_replacing(from_directory: int, from_name: str, to_directory: int, to_name: str) -> None:
    """Rename a file, but never over an existing name.

    ``renameat2`` does it in one step, if system and file system support it (NFS does not). ``link`` refuses an existing
    name atomically too, but a process that is killed before the ``unlink`` leaves two names. It needs hard links, and
    permission to link another user's file (``protected_hardlinks`` in ``proc(5)``). Without that, the name is checked
    first. ``from_name`` must be a name that no other process knows.

    :raises FileExistsError: if ``to_name`` is taken.
    :raises OSError: ``EXDEV`` if the two are on different file systems.
    """
    if _renameat2(from_directory, from_name, to_directory, to_name):
        return
    try:
        os.link(from_name, to_name, src_dir_fd=from_directory, dst_dir_fd=to_directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(from_name, dir_fd=from_directory)
        return
    try:
        os.stat(to_name, dir_fd=to_directory, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(from_name, to_name, src_dir_fd=from_directory, dst_dir_fd=to_directory)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), to_name)


def _renameat2(from_directory: int, from_name: str, to_directory: int, to_name: str) -> bool:
    """``renameat2(2)`` with ``RENAME_NOREPLACE``; ``False`` if the system or the file system does not know it."""
    rename = _system_call()
    if rename is None:
        return False
    number = rename(from_directory, os.fsencode(from_name), to_directory, os.fsencode(to_name))
    # EPERM is what some sandboxes answer for a call that they do not know.
    if number in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
        return False
    if number:
        raise OSError(number, os.strerror(number), to_name)
    return True


@functools.lru_cache(maxsize=1)
def _system_call() -> Callable[[int, bytes, int, bytes], int] | None:
    """``renameat2`` as a function that returns the number of the error, ``None`` where there is none."""
    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, AttributeError, MemoryError, OSError):
        return None

    def rename(from_directory: int, from_name: bytes, to_directory: int, to_name: bytes) -> int:
        done = function(from_directory, from_name, to_directory, to_name, _RENAME_NOREPLACE) == 0
        return 0 if done else ctypes.get_errno()

    return rename
