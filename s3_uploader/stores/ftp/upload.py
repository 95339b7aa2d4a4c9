"""What is particular about an upload by FTP: how a file gets its name.

FTP has no conditional rename: RNTO replaces what is there on most servers, without a word. So the upload looks right
before it renames, and a second writer that comes between the two loses its file. That is what
``conditional_put=False`` of the store says.
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
        """What a refused rename means: one at RNFR, of a file that is there, would meet every file."""
        assert isinstance(refused, Refused)
        if refused.verb != "RNFR" or session.size(self.temporary_path, thoroughly=True) is None:
            return refused
        self._site.learned.refused("rename", self.temporary_path)
        return no_right_to_rename(session, refused, self._site.address(self._key))
