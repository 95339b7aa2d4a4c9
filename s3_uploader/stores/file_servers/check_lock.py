"""``check`` of the lock file of a file server: it is made and removed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from s3_uploader.core.errors import DestinationBusy, StoreError
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.stores.file_servers.base import FileSession, Refused
from s3_uploader.stores.file_servers.lock import CANNOT_BE_MADE, Create, RemoteLock
from s3_uploader.stores.file_servers.parts import PartNames


def check_lock(server: str, session: FileSession, lock_file: str | None, create: Create) -> Iterator[Finding]:
    """Findings about the lock file."""
    if lock_file is None:
        return
    path = f"{session.base.rstrip('/')}/{lock_file}"
    if session.size(path) is not None:
        yield Finding(
            Severity.WARNING, server, f"the lock file {lock_file} exists", "A run would leave without uploading."
        )
        return
    parts = PartNames(secrets.token_hex(8))
    lock = RemoteLock(path=path, name=lock_file, server=server, stale_seconds=None, create=create, parts=parts)
    try:
        lock.acquire(session)
        lock.release(session)
    except Refused as refused:
        fact = f"the lock file {lock_file} cannot be made: {refused.text}"
        yield Finding(Severity.ERROR, server, fact, CANNOT_BE_MADE)
    except (DestinationBusy, StoreError) as error:
        yield Finding(Severity.ERROR, server, error.message, error.hint)
    else:
        yield Finding(Severity.OK, server, f"the lock file {lock_file} was made and removed")


def made_already(server: str, lock_file: str) -> Finding:
    """The finding about the lock file of an open store, which holds it."""
    return Finding(Severity.OK, server, f"the lock file {lock_file} was made")
