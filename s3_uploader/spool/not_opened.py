"""Why the directory of a spool cannot be opened, and what to do about it."""

from __future__ import annotations

import errno
import os
import stat

from s3_uploader.core.errors import FAILING_DISK, SpoolDenied, SpoolError, is_of_a_failing_disk


def refusal(base_dir: str, error: OSError) -> SpoolError:
    """What a failure to open it means."""
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


def _where_it_is(base_dir: str) -> str:
    """What to do about a spool that is not found."""
    if "$" in base_dir:
        return "Environment variables are not expanded in it: write the path itself, or ~ for the home directory."
    if base_dir != base_dir.strip():
        return "There is a blank at its beginning or end: correct base_dir."
    if base_dir.startswith("~"):
        return f"There is no home directory of {base_dir.partition('/')[0]}: correct base_dir."
    if not os.path.isabs(base_dir):
        return (
            f"A relative path begins at the directory in which the program was started, {os.getcwd()}. Create it "
            "there, or write an absolute path."
        )
    return "Create it, or correct base_dir; if it is a mount, see that it is mounted."
