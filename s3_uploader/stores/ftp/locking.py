"""How the remote lock file comes to be by FTP, which has no way to create a file only if it is missing.

The next best is ``APPE``: everybody appends one unique line, and whoever finds its own line *first* in the file has the
lock. Among uploaders of this kind that is exact on every server whose ``APPE`` appends. Two limits remain:

* A program of another kind that creates the file with ``STOR`` between our look and our ``APPE`` destroys no data of
  ours, but both may believe that the lock is theirs.
* A server that refuses ``APPE`` or reading back gets a plain ``STOR`` after the look: two uploaders that look in the
  same moment both go on.
"""

from __future__ import annotations

from s3_uploader.stores.file_servers.base import FileSession
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.ftp.session import Session


def append_line(session: FileSession, path: str, content: bytes) -> None:
    """Append a line to the lock file; see :data:`s3_uploader.stores.file_servers.lock.Create`."""
    assert isinstance(session, Session)
    try:
        session.store(path, [content], command="APPE")
    except Refused:
        # Some servers refuse APPE as a whole, others only to a file that is there.
        if session.size(path) is not None:
            raise FileExistsError from None
        session.store(path, [content])
