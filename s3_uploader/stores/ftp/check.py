"""What ``check`` finds out about an FTP server, by doing it with small files of its own."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator

from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import Finding, Severity
from s3_uploader.stores.ftp.replies import Lost, Refused
from s3_uploader.stores.ftp.session import Session

_LIMIT_SECONDS = 60.0
_WORTH_A_NOTE_SECONDS = 60.0


def check_server(
    connect: Callable[[Callable[[], float]], Session],
    login_error: Callable[[Refused | Lost], StoreError],
    *,
    server: str,
    lock_file: str | None,
    now: float,
) -> list[Finding]:
    """Findings about an FTP server.

    :param connect: makes a session, given what says how many seconds are left.
    :param login_error: puts a failure to connect into words.
    :param now: wall-clock time in seconds since the epoch.
    """
    begun = time.monotonic()
    try:
        session = connect(lambda: begun + _LIMIT_SECONDS - time.monotonic())
    except (Refused, Lost) as error:
        problem = login_error(error)
        return [Finding(Severity.ERROR, server, problem.message, problem.hint or "Nothing can be shipped there.")]
    findings = [Finding(Severity.OK, server, f"logged in; the server says: {session.welcome[:200]}")]
    findings.append(_tls(server, session))
    try:
        findings += _round_trip(server, session, now - begun)
        findings += _lock(server, session, lock_file)
    except Lost as error:
        findings.append(Finding(Severity.ERROR, server, f"the connection was lost: {error.reason}"))
    finally:
        session.quit()
    return findings


def _tls(server: str, session: Session) -> Finding:
    if session.tls_version:
        return Finding(Severity.OK, server, f"commands and data are encrypted ({session.tls_version})")
    return Finding(
        Severity.WARNING,
        server,
        "nothing is encrypted",
        "Password and files can be read on the way; use tls if you can.",
    )


def _round_trip(server: str, session: Session, clock_offset: float) -> Iterator[Finding]:
    base = session.base.rstrip("/")
    name = f".s3-uploader-check-{secrets.token_hex(8)}"
    path, other = f"{base}/{name}", f"{base}/{name}-2"
    directory = f"{base}/{name}-directory"
    content = secrets.token_bytes(64)
    try:
        try:
            session.store(path, [content])
        except Refused as refused:
            yield Finding(
                Severity.ERROR, server, f"a file cannot be written: {refused.text}", "Nothing can be shipped."
            )
            return
        if session.size(path) != len(content):
            yield Finding(Severity.ERROR, server, "reports another size than was sent", "Nothing would be shipped.")
            return
        yield Finding(Severity.OK, server, "a file was written and its size confirmed")
        yield from _proof(server, session, path, content)
        yield from _clock(server, session, path, clock_offset)
        try:
            session.rename(path, other)
        except Refused as refused:
            yield Finding(
                Severity.ERROR, server, f"a file cannot be renamed: {refused.text}", "Nothing can be shipped."
            )
            return
        try:
            session.store(path, [content])
            session.rename(path, other)
        except Refused:
            yield Finding(Severity.OK, server, "a rename does not replace a file that is there")
        else:
            yield Finding(
                Severity.NOTE,
                server,
                "a rename replaces a file that is there",
                "The uploader looks first; let nobody else write the same names at the same time.",
            )
        try:
            session.make_directory(directory)
        except Refused as refused:
            yield Finding(
                Severity.WARNING,
                server,
                f"a directory cannot be made: {refused.text}",
                "Only files whose directory is there already can be shipped.",
            )
        else:
            with contextlib.suppress(Refused):
                session.command(f"RMD {directory}")
    finally:
        with contextlib.suppress(Lost):
            left = [one for one in (path, other) if session.size(one) is not None and not session.delete(one)]
            for one in left:
                yield Finding(
                    Severity.WARNING,
                    server,
                    f"the test file {one} cannot be deleted",
                    "Partial files of failed uploads would stay, and so would a lock file.",
                )


def _proof(server: str, session: Session, path: str, content: bytes) -> Iterator[Finding]:
    algorithm = session.features.algorithm
    theirs = session.digest(path, len(content))
    if theirs and algorithm != "crc32" and hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() != theirs:
        yield Finding(Severity.ERROR, server, f"computes a wrong {algorithm}", "No upload could be proven.")
    elif theirs:
        command = session.features.hash_command
        yield Finding(Severity.OK, server, f"computes checksums ({command})", "Uploads are proven by the content.")
    else:
        yield Finding(
            Severity.NOTE,
            server,
            "computes no checksums",
            "Only the length is confirmed, unless minimum_proof asks for more: then every file is read back.",
        )


def _clock(server: str, session: Session, path: str, clock_offset: float) -> Iterator[Finding]:
    modified = session.modified(path)
    if modified is None:
        return
    skew = modified - (clock_offset + time.monotonic())
    if abs(skew) > _WORTH_A_NOTE_SECONDS:
        yield Finding(Severity.NOTE, server, f"its clock differs from ours by {skew:+.0f} s", "Harmless.")


def _lock(server: str, session: Session, lock_file: str | None) -> Iterator[Finding]:
    if lock_file is not None and session.size(f"{session.base.rstrip('/')}/{lock_file}") is not None:
        yield Finding(
            Severity.WARNING, server, f"the lock file {lock_file} exists", "A run would leave without uploading."
        )
