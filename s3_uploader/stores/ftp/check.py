"""The findings of ``check`` about a login to an FTP server: the server's identity and the encryption."""

from __future__ import annotations

from collections.abc import Iterator

from s3_uploader.core.findings import Finding, Severity
from s3_uploader.stores.ftp.session import Session


def of_the_login(server: str, session: Session) -> Iterator[Finding]:
    """Findings about a logged-in session."""
    yield Finding(Severity.OK, server, f"logged in; the server says: {session.welcome}")
    if session.tls_version:
        yield Finding(Severity.OK, server, f"commands and data are encrypted ({session.tls_version})")
    else:
        yield Finding(
            Severity.WARNING,
            server,
            "nothing is encrypted",
            "Password and files can be read on the network. Use tls if you can.",
        )
