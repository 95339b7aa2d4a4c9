"""Writes the files where systemd or cron finds them, and never overwrites edited ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence

import msgspec

from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.files import insist_on_file, sync_directory
from s3_uploader.core.text import shown_name

_SEAL = "# Unchanged as long as this is right: "


class UnitFile(msgspec.Struct, frozen=True):
    """A file and its content."""

    path: str
    content: str


def sealed(text: str) -> str:
    """Append a line from which a later run of the command can tell whether the file was edited."""
    return f"{text}{_SEAL}{_digest(text)}\n"


def is_as_written(content: str) -> bool:
    """Whether a file is unedited output of this command, of this version or another."""
    text, seal, digest = content.rpartition(_SEAL)
    return bool(seal) and digest.rstrip("\n") == _digest(text)


def install(files: Sequence[UnitFile], *, force: bool) -> dict[str, str]:
    """Write all files or none; returns for each path ``written`` or ``unchanged``.

    :param force: also overwrite files that were edited or are not from this command.
    :raises UsageProblem: if something would be lost, or a file cannot be written.
    """
    try:
        outcomes = {file.path: _outcome(file, force=force) for file in files}
        for file in files:
            if outcomes[file.path] == "written":
                _write(file)
    except OSError as error:
        raise UsageProblem(
            f"{shown_name(error.filename or files[0].path)} cannot be written: {error.strerror}.",
            hint="Run this as root, or name another directory with --directory.",
        ) from error
    return outcomes


def _outcome(file: UnitFile, *, force: bool) -> str:
    if not os.path.lexists(file.path):
        return "written"
    there = ""
    # A masked unit is a link to /dev/null: a decision of the administrator, which stays.
    if os.path.isfile(file.path) and not os.path.islink(file.path):
        with open(file.path, encoding="utf-8", errors="replace") as existing:
            there = existing.read()
    if there == file.content:
        return "unchanged"
    if force or is_as_written(there):
        if not os.path.islink(file.path):
            insist_on_file(file.path)
        return "written"
    raise UsageProblem(
        f"{shown_name(file.path)} was edited, or is not from this command. Nothing was written.",
        hint="Put your changes into a drop-in (systemctl edit), or overwrite the file with --force.",
    )


def _write(file: UnitFile) -> None:
    directory, name = os.path.split(file.path)
    # cron reads no file with a dot in its name, and systemd none that ends in .tmp: neither reads a partial file.
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        error.filename = file.path  # a person knows this path, not that of the temporary file
        raise
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o644)
            stream.write(file.content)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, file.path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_directory(opened)
    finally:
        os.close(opened)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
