"""Whether an FTP server lets us rename our files, which every upload with a temporary name needs."""

from __future__ import annotations

from s3_uploader.stores.file_servers.upload import no_right_to_rename
from s3_uploader.stores.ftp.replies import Lost, Refused, wire
from s3_uploader.stores.ftp.server import Server
from s3_uploader.stores.ftp.session import Session


def make_sure_of_rename(session: Session, server: Server) -> None:
    """If an earlier run was refused a rename, try it again before anything is sent.

    :raises StoreError: if it is refused again.
    """
    path = server.learned.refusing("rename")
    if not path:
        return
    try:
        session.command(f"RNFR {wire(path)}")
    except Refused as refused:
        if session.size(path) is not None:
            raise no_right_to_rename(session, refused, server.name) from None
    except Lost as lost:
        raise server.login_error(lost) from None
    else:
        session.delete(path)
    server.learned.refused("rename", "")
