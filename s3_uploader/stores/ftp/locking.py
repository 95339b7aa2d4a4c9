"""The creation of the remote lock file by FTP, which cannot create a file only if it does not exist.

``APPE`` replaces that: everybody appends one unique line, and whoever finds its own line *first* in the file holds the
lock. Among instances of this program that is exact on every server whose ``APPE`` appends. Two limits remain:

* Another program that creates the file with ``STOR`` between our look and our ``APPE`` destroys none of our data, but
  both may believe that they hold the lock.
* On a server that refuses ``APPE`` or reading back, the file is created with ``STOR`` after a look: two uploaders that
  look at the same moment both hold the lock.
"""

from __future__ import annotations

import contextlib

from s3_uploader.stores.file_servers.base import FileSession
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.ftp.session import Session


def append_line(session: FileSession, path: str, content: bytes, beside: str) -> None:
    """Append a line to the lock file; see :data:`s3_uploader.stores.file_servers.lock.Create`."""
    assert isinstance(session, Session)
    # If the server refuses the name, an empty lock of a killed run cannot be told from another program's.
    with contextlib.suppress(Refused):
        session.store(beside, [b"\n"])
        # Where SIZE is refused for every file, that is learned here, so that the next look sees a lock.
        session.size(beside, thoroughly=True)
    try:
        if session.size(path) is not None:
            raise FileExistsError
        _append(session, path, content)
    finally:
        if session.usable:
            session.delete(beside)


def _append(session: Session, path: str, content: bytes) -> None:
    try:
        session.store(path, [content], command="APPE")
    except Refused:
        # Some servers refuse APPE in general, others only for an existing file.
        if session.size(path) is not None:
            raise FileExistsError from None
        session.store(path, [content])
