"""The meaning of the kernel's errors below the archive directory."""

from __future__ import annotations

import errno

from s3_uploader.core.errors import KeyRefused, NameTaken, Scope, StoreError, lacking
from s3_uploader.core.limits import RAISE_SIZE_LIMIT, is_of_the_size_limit
from s3_uploader.core.meanings import of_one_file
from s3_uploader.core.origins import Origin
from s3_uploader.stores.keys import is_directory

_OUT_OF_REACH = (
    *(errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EREMOTEIO),
)
"""The errors of mounts from other machines (NFS, SMB, FUSE) while the server does not answer."""
_OF_THIS_MACHINE = (errno.ENOBUFS, errno.EIO, errno.EINTR, errno.EBUSY)
"""A lack of memory in the kernel, or a failing disk: no file is at fault."""
_DESTINATION_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, *_OUT_OF_REACH}
_NO_RIGHT = (errno.EACCES, errno.EPERM)
_ORIGINS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), Origin.FULL),
    **dict.fromkeys((*_NO_RIGHT, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EROFS), Origin.DIRECTORY),
}
_KEY_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


def name_of_another(address: str) -> NameTaken:
    """The error of a name, be it that of a directory, that the file system takes for another one."""
    return NameTaken(
        f"{address} is another name to this file system: it folds case, "
        "takes both ways to write an accent for one, or drops the dots at the end.",
        hint="Rename the file, or the directory on its path, or archive to a file system that keeps the names.",
    )


def translated(error: OSError, address: str) -> StoreError:
    """Convert the error of an operation below the root."""
    fact = f"{address} cannot be written"
    message = f"{fact}: {reason_of(error)}."
    if out_of_resources := lacking(fact, error):
        return out_of_resources
    if error.errno in _KEY_ERRORS:
        # vfat and CIFS mounts refuse names with a colon, for example, with EINVAL.
        return KeyRefused(f"{address} is not a name that this file system accepts: {reason_of(error)}.")
    if error.errno == errno.EISDIR:
        return is_directory(address)
    hint = "Make room there." if error.errno in (errno.ENOSPC, errno.EDQUOT) else allowing(error)
    if error.errno in _DESTINATION_ERRORS:
        return StoreError(message, code=code_of(error), scope=Scope.DESTINATION, hint=hint, origin=origin_of(error))
    if is_of_the_size_limit(error):
        hint = RAISE_SIZE_LIMIT
    return StoreError(message, code=code_of(error), hint=hint, origin=_origin_of_one(error))


def allowing(error: OSError) -> str:
    """The remedy for a right that is missing in the archive; empty if none is."""
    if error.errno == errno.EPERM:
        # An append-only directory takes new files, but no file can be renamed or removed there.
        return "Let this program's user rename and remove files there (lsattr shows whether an attribute forbids it)."
    return "Let this program's user write there." if error.errno == errno.EACCES else ""


def _origin_of_one(error: OSError) -> Origin:
    """The origin of a kernel error for one file, while others are accepted."""
    if error.errno in _OF_THIS_MACHINE or is_of_the_size_limit(error):
        return Origin.OURS
    if error.errno in _NO_RIGHT:
        return Origin.FILE_RIGHT
    origin = origin_of(error)
    return Origin.FILE if origin is Origin.DIRECTORY else of_one_file(origin)


def origin_of(error: OSError) -> Origin:
    """The origin of a kernel error, if every file would meet it."""
    return _ORIGINS.get(error.errno or 0, Origin.UNREACHABLE)


def code_of(error: OSError) -> str:
    """The symbolic name of a kernel error, for example ``ENOSPC``."""
    return errno.errorcode.get(error.errno or 0, "OSError")


def reason_of(error: OSError) -> str:
    """The kernel's text of an error, as the end of a sentence."""
    return (error.strerror or str(error)).lower()
