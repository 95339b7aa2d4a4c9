"""What ``check`` finds out about this machine: the spool's file system and rights."""

from __future__ import annotations

import os

from s3_uploader.core.model import Finding, Severity
from s3_uploader.spool.readiness import is_being_written
from s3_uploader.spool.root import SpoolRoot

_PROBE = ".s3-uploader-check"


def check_spool(root: SpoolRoot, *, layout: str) -> list[Finding]:
    """Whether files can be removed from the spool, and whether writers can be noticed there."""
    name = f"{_PROBE}-{os.getpid()}"
    try:
        writer = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=root.descriptor
        )
    except OSError as error:
        return [
            Finding(
                Severity.ERROR,
                "spool",
                f"nothing can be made in {root.base_dir}, so nothing can be removed from it: {error.strerror}.",
                "Let the user that runs this program write to the spool and to the directories in it.",
            )
        ]
    findings = [Finding(Severity.OK, "spool", f"{root.base_dir} can be read and written (layout {layout}).")]
    try:
        reader = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root.descriptor)
        try:
            while_open = is_being_written(reader)
            os.close(writer)
            writer = -1
            after = is_being_written(reader)
        finally:
            os.close(reader)
    finally:
        if writer >= 0:
            os.close(writer)
        os.unlink(name, dir_fd=root.descriptor)
    if while_open is True and after is False:
        findings.append(Finding(Severity.OK, "writers", "a file that somebody still has open for writing is noticed."))
    else:
        findings.append(
            Finding(
                Severity.WARNING,
                "writers",
                "this file system does not tell whether somebody has a file open for writing.",
                "Files are still held back by their age and compared before and after the upload; a producer that "
                "pauses longer than settle_seconds in the middle of a file may have it shipped in two versions. Raise "
                "settle_seconds above its longest pause, or let it write elsewhere and rename into the spool.",
            )
        )
    foreign = _first_foreign(root)
    if foreign is not None:
        findings.append(
            Finding(
                Severity.NOTE,
                "writers",
                f"of files of other users (such as {foreign}) it cannot be known whether somebody writes to them.",
                "Run as the producer's user, or give the service CAP_LEASE, to have writers noticed.",
            )
        )
    return findings


def _first_foreign(root: SpoolRoot) -> str | None:
    """An entry at the top of the spool that belongs to another user, if we are not root and there is one."""
    if os.geteuid() == 0:
        return None
    for entry in root.entries(()):
        if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
            return entry.name
    return None
