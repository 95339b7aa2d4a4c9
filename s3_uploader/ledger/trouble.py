"""What SQLite's errors mean for a ledger: in plain words, and whether its file is damaged."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import shown_name, shown_size
from s3_uploader.ledger.schema import VERSION, ForeignFile

FILES_ARE_KEPT = "Until then no file is deleted."
_FILES = 4
"""How many files a ledger has open: itself, its write-ahead log, the index of that, and for moments its directory."""
_A_LITTLE = 256 * 1024
"""Bytes to write for a test: more than a transaction needs."""


def explained(error: Exception, path: str, *, reading: bool = False) -> StateError:
    """SQLite's error as a sentence: which file, what is wrong with it, what to do."""
    from s3_uploader.core.limits import RAISE_SIZE_LIMIT  # only where a ledger makes trouble

    # By text: sqlite_errorcode exists only since Python 3.11. The texts are those of sqlite3_errstr().
    text = str(error)
    directory = os.path.dirname(path) or "."
    place = shown_name(directory)
    code = ""
    # Where there is no room for the WAL or its index, SQLite says that it cannot open it, or speaks of an I/O error.
    is_vague = "unable to open" in text or "disk I/O error" in text
    if "disk is full" in text or (is_vague and _has_no_room(directory)):
        fact, remedy, code = "the file system is full", f"Free space for {place}.", "DiskFull"
        if _has_no_inodes(directory):
            # `df` shows free space there, `df -i` does not.
            fact, remedy = "the file system takes no more files", f"Remove files beside {place}: it has no free inodes."
    elif is_vague and not reading and _is_over_quota(directory):
        fact, remedy, code = "the quota is used up", f"Free space for {place}, or raise the quota.", "DiskFull"
    elif is_vague and (limit := _size_limit(path)) is not None:
        # A reader writes the index of the write-ahead log.
        fact, remedy = f"this process may write no files of more than {shown_size(limit)}", RAISE_SIZE_LIMIT
    elif "readonly database" in text:
        fact, remedy, code = "it is read-only for this user", f"Make {place} and the files in it writable.", "Denied"
    elif is_vague and not _may_be_file(path):
        fact, remedy = "it is not a regular file", "Move it away. The next run starts a new one."
    elif "unable to open" in text and _is_no_directory(directory):
        fact, remedy = f"{place} is not a directory", "Create it, or correct state_dir."
    elif "unable to open" in text and _has_no_descriptors():
        fact, remedy = "this program has too many files open", f"Raise the limit (ulimit -n): a ledger takes {_FILES}."
    elif "unable to open" in text:
        wanted = "readable" if reading else "writable"
        fact, remedy = "it cannot be opened", f"Make {place} and the files in it {wanted} for this user."
        code = "Denied"
    elif "locked" in text:
        fact, remedy = "another process keeps it locked", "Find the process that has it open and end it."
    elif "disk I/O error" in text:
        fact, remedy = (
            "the disk answered with an I/O error",
            f"Read what the kernel's log says about the disk of {place}.",
        )
    elif is_damage(error):
        fact, remedy, code = f"it is damaged ({text})", "The next run sets it aside and starts a new one.", "Damaged"
        if _is_of_share(directory):
            remedy = (
                "The next run of this share sets it aside and starts a new one. If the share is not run any more, move "
                "the ledger away."
            )
    else:
        fact, remedy = text, ""
    action = "read" if reading else "written"
    hint = remedy if reading else f"{remedy} {FILES_ARE_KEPT}".strip()
    return StateError(f"The ledger {shown_name(path)} cannot be {action}: {fact}.", hint=hint, code=code)


def _is_of_share(directory: str) -> bool:
    from s3_uploader.core.shares import of_directory

    return of_directory(os.path.basename(directory)) is not None


def refuse_special(path: str, *, reading: bool = True) -> None:
    """Make sure that neither a ledger nor its journal is a pipe, whose opening would wait for a writer.

    :raises StateError: if it is something else than a file.
    """
    if not _may_be_file(path):
        raise explained(sqlite3.OperationalError("unable to open database file"), path, reading=reading)


def _may_be_file(path: str) -> bool:
    """Whether a regular file is there, or nothing. A link that leads nowhere is something else."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return not os.path.islink(path)


def _is_no_directory(path: str) -> bool:
    """Whether nothing is there, or something else. What this user cannot reach is unknown."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError:
        return False
    except OSError:
        return True


def has_changes_beside_it(path: str) -> StateError:
    """The error of a ledger whose write-ahead log this user may not move into it."""
    return StateError(
        f"The ledger {shown_name(path)} has a write-ahead log that this user cannot apply.",
        hint="Run this as the user that runs its uploads, or copy it, with the files beside it, to a directory "
        "that this user may write to.",
    )


def not_converted(path: str) -> StateError:
    """The error of a ledger that cannot get the journal that its file system needs."""
    return StateError(
        f"The ledger {shown_name(path)} has a write-ahead log, which is not safe on its file system, and "
        "cannot be switched to another journal, because another process has it open.",
        hint="End that process (an older version of this program, perhaps on another host), or name a state_dir on "
        f"a local file system. {FILES_ARE_KEPT}",
    )


def of_newer_version(path: str, version: int) -> StateError:
    """The error of a ledger with a schema that this version of the program does not know."""
    return StateError(
        f"The ledger {shown_name(path)} was written by a newer version of this program "
        f"(schema {version}, this one knows {VERSION}).",
        hint="Install that version again, or move the ledger away. Without it no file is lost, only the history.",
    )


def not_begun(path: str) -> StateError:
    """The error for a ledger that was never written to: a run was killed, or met a full disk, while it began it."""
    return StateError(
        f"No run has written to the ledger {shown_name(path)} yet.", hint="The next run does so.", code="NotBegun"
    )


def of_copy(error: StateError) -> StateError:
    """The error of a ledger that may be a copy: no run sets it aside."""
    if not error.is_damaged:
        return error
    return StateError(
        error.message,
        hint="If it is a copy, copy it once more, with the files beside it (-wal, -journal) and while no run is at "
        'work, or as a single file: sqlite3 ledger.sqlite3 ".backup copy.sqlite3".',
        code=error.code,
    )


def is_damage(error: Exception) -> bool:
    """Whether the file can no longer be used as a ledger."""
    if isinstance(error, ForeignFile):
        return True
    # The sqlite3 module raises the class DatabaseError itself for SQLITE_CORRUPT and SQLITE_NOTADB, and subclasses of
    # it for everything else that happens here.
    return type(error) is sqlite3.DatabaseError or str(error).startswith(("no such table", "no such column"))


def _is_over_quota(directory: str) -> bool:
    """Whether a little more in the directory is too much for a quota. SQLite calls that an I/O error (os_unix.c)."""
    name = os.path.join(directory, f".room.{os.getpid()}")
    try:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.unlink(name)
            os.write(file, bytes(_A_LITTLE))
            # A network file system may refuse what was written only now.
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        return error.errno == errno.EDQUOT
    return False


def _size_limit(path: str) -> int | None:
    """The limit of the size of files, if a file of the ledger has reached it. SQLite calls that an I/O error, too."""
    from s3_uploader.core.limits import size_limit

    limit = size_limit()
    if limit is None:
        return None
    largest = 0
    for suffix in ("", "-wal", "-journal"):
        with contextlib.suppress(OSError):
            largest = max(largest, os.stat(path + suffix).st_size)
    return limit if largest + _A_LITTLE > limit else None


def _has_no_descriptors() -> bool:
    """Whether this process may not open the files of another ledger."""
    held: list[int] = []
    try:
        for _ in range(_FILES):
            held.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in held:
            os.close(descriptor)
    return False


def _has_no_room(directory: str) -> bool:
    try:
        status = os.statvfs(directory)
    except OSError:
        return False
    return bool(status.f_blocks and not status.f_bavail) or _has_no_inodes(directory)


def _has_no_inodes(directory: str) -> bool:
    try:
        status = os.statvfs(directory)
    except OSError:
        return False
    return bool(status.f_files and not status.f_favail)
