"""What the kernel's errors below the archive directory mean, in the words of the program."""

from __future__ import annotations

import errno

from s3_uploader.core.errors import ConflictError, KeyRefused, Scope, StoreError

_DESTINATION_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENOTCONN}
_KEY_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


def translated(error: OSError, address: str) -> StoreError:
    """The error of an operation below the root, in the words of the program."""
    message = f"{address} cannot be written: {reason_of(error)}."
    if error.errno in _KEY_ERRORS:
        # vfat and CIFS mounts refuse names that hold a colon, say, with EINVAL.
        return KeyRefused(f"{address} is no name that this file system takes: {reason_of(error)}.")
    if error.errno == errno.EISDIR:
        return ConflictError(f"{address} is a directory.")
    hint = "Make room there." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    scope = Scope.DESTINATION if error.errno in _DESTINATION_ERRORS else Scope.FILE
    return StoreError(message, code=code_of(error), scope=scope, hint=hint)


def code_of(error: OSError) -> str:
    """The kernel's name of an error, ``ENOSPC`` for example."""
    return errno.errorcode.get(error.errno or 0, "OSError")


def reason_of(error: OSError) -> str:
    """The kernel's words for an error, as the end of a sentence."""
    return (error.strerror or str(error)).lower()
