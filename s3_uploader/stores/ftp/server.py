"""An FTP server of the configuration: its sessions, and the errors of a login."""

from __future__ import annotations

from collections.abc import Callable

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.file_servers import base as file_servers
from s3_uploader.stores.file_servers.server import FileServer
from s3_uploader.stores.ftp.errors import login_error
from s3_uploader.stores.ftp.learned import FtpLearned
from s3_uploader.stores.ftp.replies import Lost, Refused
from s3_uploader.stores.ftp.session import Session, Settings


class Server(FileServer[Session]):
    """An FTP server."""

    default_port = 21
    settings: Settings
    learned: FtpLearned

    def new_session(self, remaining: Callable[[], float]) -> Session:
        """A session that is not connected yet."""
        return Session(self.settings, remaining=remaining, learned=self.learned)

    def login_error(self, error: file_servers.Refused | Lost) -> StoreError:
        """The error for a failed login."""
        assert isinstance(error, (Refused, Lost))
        settings = self.settings
        return login_error(
            error,
            server=f"{settings.host}:{settings.port}",
            user=settings.user,
            path=settings.path,
            tls=settings.tls,
        )
