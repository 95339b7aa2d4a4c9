"""What is particular about an upload by SFTP: how a file gets its name.

A file gets its name by a hard link (``hardlink@openssh.com``) where the server can do that: the kernel makes it only if
the name is free, whoever comes between. Without it a plain rename has to do, which OpenSSH refuses where something is
there and others do not; then the look right before it is what protects an older file.
"""

from __future__ import annotations

from collections.abc import Iterator

from s3_uploader.core.errors import ConflictError, StoreError
from s3_uploader.stores.file_servers import base
from s3_uploader.stores.file_servers.upload import FileUpload, no_right_to_rename
from s3_uploader.stores.sftp.errors import UNSUPPORTED, Refused
from s3_uploader.stores.sftp.session import Session

_NO_LINKS = "hardlink"
"""Among what a server lacks."""
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
        # For a moment there is neither; the local file is still there.
        session.remove(path)
        session.rename(self.temporary_path, path)

    def _link(self, session: Session, path: str) -> bool:
        """Whether the file has its name by a hard link.

        :raises Refused: if something has that name.
        """
        lacks = self._site.learned.lacks
        if _NO_LINKS in lacks:
            return False
        try:
            session.link(self.temporary_path, path)
        except Refused as refused:
            if session.size(path) is not None:
                raise
            if refused.code == UNSUPPORTED:
                lacks.add(_NO_LINKS)
            # Else it may be this directory only: vfat, for example, has no links.
            return False
        if not session.delete(self.temporary_path):
            # Only the name is too many; the next run tries to remove it too.
            self._site.parts.leave_behind(self.temporary_path)
        return True

    def _without_rename(self, session: Session, refused: base.Refused) -> base.Refused | StoreError:
        """What a refused rename means: of a file that is there to a name that is free, it would meet every file."""
        assert isinstance(refused, Refused)
        if session.is_directory(self._decision.path(session, self._key)):
            return ConflictError(f"{self._site.address(self._key)} is a directory.")
        is_rename = refused.request in ("rename", "posix-rename")
        if not is_rename or session.size(self.temporary_path) is None:
            return refused
        return no_right_to_rename(session, refused, self._site.address(self._key))

    def _store_directly(self, session: Session, path: str) -> None:
        # Not before the file is ours: what another has put there meanwhile is not to be removed.
        def chunks() -> Iterator[bytes]:
            self.temporary_path = path
            yield from self._content.chunks(session.algorithm)

        session.store(path, chunks())
