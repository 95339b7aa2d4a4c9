"""The SFTP part of an upload: how a file gets its name.

A file gets its name by a hard link (``hardlink@openssh.com``) if the server supports that: the kernel creates it only
if the name is free, even with other writers. Otherwise a plain rename is used. OpenSSH refuses it if the name exists,
other servers do not; then the look directly before it protects an existing file.
"""

from __future__ import annotations

from s3_uploader.core.errors import ConflictError, StoreError
from s3_uploader.stores.file_servers import base
from s3_uploader.stores.file_servers.upload import FileUpload, no_right_to_rename
from s3_uploader.stores.sftp.errors import NO_SPACE, UNSUPPORTED, Refused
from s3_uploader.stores.sftp.session import Session

_NO_LINKS = "hardlink"
"""Noted in ``Learned.lacks``."""
_NO_REPLACE = "posix-rename"


class SftpUpload(FileUpload[Session]):
    """The upload of one file."""

    def _give_name(self, session: Session, path: str, *, replaces: bool) -> None:
        if replaces:
            self._replace(session, path)
        elif not self._link(session, path):
            session.rename(self.temporary_path, path)

    def _replace(self, session: Session, path: str) -> None:
        lacks = self._site.learned.lacks
        if _NO_REPLACE not in lacks:
            try:
                session.replace(self.temporary_path, path)
            except Refused as refused:
                if refused.code != UNSUPPORTED:
                    raise
                lacks.add(_NO_REPLACE)
            else:
                return
        # For a moment neither file has the name, but the local file still exists.
        session.remove(path)
        session.rename(self.temporary_path, path)

    def _link(self, session: Session, path: str) -> bool:
        """Give the file its name by a hard link. Returns whether the server supports that here.

        :raises Refused: if the name is taken.
        """
        lacks = self._site.learned.lacks
        if _NO_LINKS in lacks:
            return False
        try:
            session.link(self.temporary_path, path)
        except Refused as refused:
            if session.size(path) is not None or session.is_dead_link(path):
                raise
            if refused.code == UNSUPPORTED:
                lacks.add(_NO_LINKS)
            # Otherwise it may be this directory only: vfat, for example, has no links.
            return False
        if not session.delete(self.temporary_path):
            # The temporary name is left over; the next run tries to remove it, too.
            self._site.parts.leave_behind(self.temporary_path)
        return True

    def _without_rename(self, session: Session, refused: base.Refused) -> base.Refused | StoreError:
        """The meaning of a refused rename. From an existing file to a free name, it would be refused for every file."""
        assert isinstance(refused, Refused)
        if session.is_dead_link(self._decision.path(session, self._key)):
            return ConflictError(
                f"{self._site.address(self._key)} is a symbolic link to a file that does not exist.",
                hint="Remove the link on the server.",
            )
        is_rename = refused.request in ("rename", "posix-rename")
        if not is_rename or refused.code == NO_SPACE:
            return refused
        return no_right_to_rename(session, refused, self._site.address(self._key))
