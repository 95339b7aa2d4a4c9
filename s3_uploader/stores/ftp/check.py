"""What ``check`` says of a session with an FTP server before anything is tried: who answers, and is it encrypted."""

from __future__ import annotations

from collections.abc import Iterator

from s3_uploader.core.findings import Finding, Severity
from s3_uploader.stores.ftp.session import Session


def of_the_login(server: str, session: Session) -> Iterator[Finding]:
    """Findings about a session that has logged in."""
    yield Finding(Severity.OK, server, f"logged in; the server says: {session.welcome}")
    if session.tls_version:
        yield Finding(Severity.OK, server, f"commands and data are encrypted ({session.tls_version})")
    else:
        yield Finding(
            Severity.WARNING,
            server,
            "nothing is encrypted",
            "Password and files can be read on the way; use tls if you can.",
        )
