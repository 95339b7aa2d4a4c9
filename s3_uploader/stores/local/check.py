"""``check`` for a local directory: it performs each step of an upload with a small test file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence

from s3_uploader.core.errors import KeyRefused
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.stores.base import ignore
from s3_uploader.stores.keys import UNLESS_BELOW, path_segments
from s3_uploader.stores.local import files as local_files
from s3_uploader.stores.local.errors import allowing

_WORTH_A_NOTE_BYTES = 1 << 30
_WORTH_A_NOTE_SECONDS = 60.0


def check_directory(
    path: str, *, now: float, stored: Callable[[str], None] = ignore, key_prefixes: Sequence[str] = ()
) -> list[Finding]:
    """Findings about the directory at ``path``. ``now`` is wall-clock time in seconds since the epoch.

    :param stored: called with the name of a test file while it exists.
    :param key_prefixes: what keys begin with. The directories in these may be another user's.
    """
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return [_problem(path, f"cannot be opened: {error.strerror}", "Nothing can be shipped there.")]
    try:
        findings = [Finding(Severity.OK, path, "is a directory that can be opened"), _mount(path)]
        findings += _round_trip(path, root, now, stored)
        if all(finding.severity is not Severity.ERROR for finding in findings):
            findings += _below(path, root, now, key_prefixes)
        findings.append(_space(path, root))
        return findings
    finally:
        os.close(root)


def _mount(path: str) -> Finding:
    current = os.path.realpath(path)
    while not os.path.ismount(current):
        current = os.path.dirname(current)
    if current == "/":
        return Finding(
            Severity.NOTE,
            path,
            "lies on the root file system",
            "If an archive belongs there, it is not mounted, and files would be moved onto this disk.",
        )
    return Finding(Severity.OK, path, f"lies on the file system mounted at {current}")


def _round_trip(path: str, root: int, now: float, stored: Callable[[str], None]) -> list[Finding]:
    name = f".s3-uploader-check-{secrets.token_hex(8)}"
    other = f"{name}-2"
    content = secrets.token_bytes(64)
    findings: list[Finding] = []
    made: list[str] = []
    try:
        for file_name in (name, other):
            descriptor = os.open(file_name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=root)
            made.append(file_name)
            try:
                os.write(descriptor, content)
                os.fsync(descriptor)
                skew = os.fstat(descriptor).st_mtime - now
            finally:
                os.close(descriptor)
        stored(name)
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        try:
            same = os.pread(descriptor, len(content) + 1, 0) == content
        finally:
            os.close(descriptor)
        if not same:
            return [_problem(path, "returns other bytes than were written", "It must not be used.")]
        findings.append(Finding(Severity.OK, path, "a file was written and read back", "The proof is a checksum."))
        if local_files.move_without_replacing(root, other, name):
            findings.append(_problem(path, "a file was replaced by a rename", "Two uploaders could lose a file there."))
        else:
            findings.append(Finding(Severity.OK, path, "a file that is there cannot be replaced by accident"))
        if abs(skew) > _WORTH_A_NOTE_SECONDS:
            findings.append(
                Finding(Severity.NOTE, path, f"its clock differs from this machine's by {skew:+.0f} s", "Harmless.")
            )
    except OSError as error:
        findings.append(_problem(path, f"a file cannot be written: {error.strerror}", "Nothing can be shipped there."))
    finally:
        for file_name in made:
            try:
                os.unlink(file_name, dir_fd=root)
            except FileNotFoundError:
                continue
            except OSError as error:
                fact = f"the test file {file_name} cannot be removed: {error.strerror}"
                findings.append(
                    _problem(path, fact, f"No file could get its final name there. {allowing(error)}".rstrip())
                )
    return findings


def _below(path: str, root: int, now: float, key_prefixes: Sequence[str]) -> Iterator[Finding]:
    """What is wrong with the directories of prefixes, as far as they exist."""
    tried = {""}
    for prefix in key_prefixes:
        try:
            names = path_segments(f"{prefix}NAME")[:-1]
        except KeyRefused:
            continue  # that is another finding
        while names and not os.access("/".join(names), os.F_OK, dir_fd=root, follow_symlinks=False):
            names.pop()  # a run makes it
        name = "/".join(names)
        if name in tried:
            continue
        tried.add(name)
        shown = f"{path.rstrip('/')}/{name}"
        try:
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        except OSError as error:
            yield _problem(shown, f"cannot be opened: {error.strerror}", "No file of this key_prefix can be shipped.")
            continue
        try:
            found = _round_trip(shown, directory, now, ignore)
        finally:
            os.close(directory)
        for finding in found:
            if finding.severity is Severity.ERROR:
                yield Finding(Severity.WARNING, shown, finding.fact, UNLESS_BELOW)


def _space(path: str, root: int) -> Finding:
    status = os.fstatvfs(root)
    free = status.f_bavail * status.f_frsize
    # Some network file systems report no sizes.
    if status.f_blocks and free < _WORTH_A_NOTE_BYTES:
        return Finding(Severity.WARNING, path, f"only {free / 2**20:.0f} MiB are free", "Make room there soon.")
    return Finding(
        Severity.OK, path, f"{free / 2**30:.1f} GiB are free" if status.f_blocks else "free space is unknown"
    )


def _problem(path: str, fact: str, meaning: str) -> Finding:
    return Finding(Severity.ERROR, path, fact, meaning)
