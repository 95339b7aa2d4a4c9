"""Another look at a file that was found in the directory, by reading its last byte."""

from __future__ import annotations

import errno
import os
import stat

from s3_uploader.core.errors import ObjectGone
from s3_uploader.core.model import Receipt
from s3_uploader.stores.keys import path_segments

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EISDIR)


def confirm(root: int, receipt: Receipt, *, address: str) -> Receipt:
    """Open the file below an open directory, ask for its size, and read its last byte.

    A look at the name alone is not enough, because FUSE and NFS cache names for seconds after their removal.

    :raises ObjectGone: if it does not exist, has another size, or cannot be read.
    :raises OSError: if the file system fails.
    """
    *names, name = path_segments(receipt.key)
    size = receipt.size if receipt.stored_size is None else receipt.stored_size
    directory = os.dup(root)
    try:
        for each in names:
            below = os.open(each, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        descriptor = os.open(name, _FILE, dir_fd=directory)
        try:
            status = os.fstat(descriptor)
            is_there = stat.S_ISREG(status.st_mode) and status.st_size == size
            is_there = is_there and (not size or len(os.pread(descriptor, 1, size - 1)) == 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _GONE:
            raise ObjectGone(f"{address} no longer exists.") from None
        raise
    finally:
        os.close(directory)
    if not is_there:
        raise ObjectGone(f"{address} has another size now, or cannot be read.")
    return receipt
