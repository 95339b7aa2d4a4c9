"""The FTP part of an upload: how a file gets its name.

FTP has no conditional rename: on most servers RNTO silently overwrites an existing file. So the upload looks directly
before the rename. A file that another writer stores between the two is lost. That is the meaning of
``conditional_put=False`` of the store.
"""

from __future__ import annotations

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.file_servers import base
from s3_uploader.stores.file_servers.upload import FileUpload, no_right_to_rename
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.ftp.session import Session


class FtpUpload(FileUpload[Session]):
    """The upload of one file."""

    def _give_name(self, session: Session, path: str, *, replaces: bool) -> None:
        session.rename(self.temporary_path, path)

    def _without_rename(self, session: Session, refused: base.Refused) -> base.Refused | StoreError:
        """The meaning of a refused rename. If RNFR of an existing file is refused for good, so it is for all files."""
        assert isinstance(refused, Refused)
        # 450 is a file that is busy, for example because a virus scanner reads it.
        if refused.verb != "RNFR" or refused.is_for_now or not session.learned.sees:
            return refused
        self._site.learned.refused("rename", self.temporary_path)
        return no_right_to_rename(session, refused, self._site.address(self._key))
