"""``check`` of what a file server says about a stored file: its digest, its time, its bytes, and where it may be."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence

from s3_uploader.core.errors import KeyRefused
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.text import shown_name
from s3_uploader.stores.file_servers.base import FileSession, Refused
from s3_uploader.stores.file_servers.check_limits import hurried
from s3_uploader.stores.keys import UNLESS_BELOW, path_segments

COMPUTES = "computes checksums"
_WORTH_A_NOTE_SECONDS = 60.0


def check_proof(server: str, session: FileSession, path: str, content: bytes) -> Iterator[Finding]:
    """Whether the server computes a right digest of a file."""
    algorithm = session.algorithm
    theirs = session.digest(path, len(content))
    if theirs and algorithm != "crc32" and hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() != theirs:
        yield Finding(Severity.ERROR, server, f"computes a wrong {algorithm}", "No upload could be proven.")
    elif theirs:
        yield Finding(Severity.OK, server, f"{COMPUTES} ({algorithm})", "Uploads are proven by the content.")
    else:
        yield Finding(
            Severity.NOTE,
            server,
            "computes no checksums",
            "Only the length is confirmed, unless minimum_proof asks for more: then every file is read back.",
        )


def check_clock(server: str, session: FileSession, path: str, clock_offset: float) -> Iterator[Finding]:
    """Whether the server's clock is right."""
    modified = session.modified(path)
    if modified is None:
        return
    skew = modified - (clock_offset + time.monotonic())
    if abs(skew) > _WORTH_A_NOTE_SECONDS:
        yield Finding(Severity.NOTE, server, f"its clock differs from ours by {skew:+.0f} s", "Harmless.")


def check_reading(server: str, session: FileSession, *, is_proof: bool) -> Iterator[Finding]:
    """Whether a stored file can be read back.

    :param is_proof: whether nothing else proves enough.
    """
    path = f"{session.base.rstrip('/')}/s3-uploader-check-{secrets.token_hex(8)}"
    content = secrets.token_bytes(64)
    received = bytearray()
    try:
        session.store(path, [content])
    except Refused:
        session.delete(path)  # a full disk leaves an empty file
        return  # an earlier finding reports that
    try:
        with hurried(session):
            session.retrieve(path, received.extend, most=len(content))
    except Refused as refused:
        if is_proof:
            fact = "a file cannot be read back, and no checksum is computed"
            advice = "Give the user permission to read, or set minimum_proof to size if the length is proof enough."
        else:
            fact = "a file cannot be read back"
            advice = (
                "Existing files with the same content count as conflicts, and the audit cannot compare. To avoid "
                "that, give the user permission to read."
            )
        yield Finding(Severity.ERROR if is_proof else Severity.NOTE, server, f"{fact}: {refused.text}", advice)
    else:
        if received != content:
            yield Finding(
                Severity.ERROR, server, "returns other bytes than were stored", "No upload can be proven there."
            )
    finally:
        if session.usable:
            session.delete(path)


def check_prefixes(
    server: str, session: FileSession, key_prefixes: Sequence[str], *, begin: Callable[[], None]
) -> Iterator[Finding]:
    """Whether files can be written to the directories of prefixes, as far as they exist: they may be another user's.

    :param begin: called before each of them.
    """
    tried = set()
    for prefix in key_prefixes:
        try:
            names = path_segments(f"{prefix}NAME")[:-1]
        except KeyRefused:
            continue  # that is another finding
        begin()
        base = session.base.rstrip("/")
        while names and not session.is_directory(f"{base}/{'/'.join(names)}"):
            names.pop()  # a run makes it
        directory = "/".join(names)
        if not directory or directory in tried:
            continue
        tried.add(directory)
        path = f"{base}/{directory}/s3-uploader-check-{secrets.token_hex(8)}"
        try:
            session.store(path, [b"\n"])
        except Refused as refused:
            fact = f"no file can be written to {shown_name(directory)}: {refused.text}"
            yield Finding(Severity.WARNING, server, fact, f"{UNLESS_BELOW} Give the user permission to write there.")
        finally:
            if session.usable:
                with hurried(session):
                    session.delete(path)
