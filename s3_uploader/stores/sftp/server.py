"""An SFTP server of the configuration: its sessions, their loop, and the errors of a login."""

from __future__ import annotations

from collections.abc import Callable

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.file_servers.base import Lost, Refused
from s3_uploader.stores.file_servers.learned import Learned
from s3_uploader.stores.file_servers.server import FileServer
from s3_uploader.stores.sftp.errors import login_error
from s3_uploader.stores.sftp.login import Settings
from s3_uploader.stores.sftp.loop import LoopThread
from s3_uploader.stores.sftp.session import Session


class Server(FileServer[Session]):
    """An SFTP server, and the loop of its sessions."""

    default_port = 22
    settings: Settings

    def __init__(self, settings: Settings, learned: Learned) -> None:
        super().__init__(settings, learned)
        self._loop = LoopThread(name="sftp-loop")

    def new_session(self, remaining: Callable[[], float]) -> Session:
        """A session that is not connected yet."""
        return Session(self.settings, loop=self._loop, remaining=remaining, learned=self.learned)

    def login_error(self, error: Refused | Lost) -> StoreError:
        """The error for a failed login."""
        settings = self.settings
        return login_error(error, server=f"{settings.host}:{settings.port}", user=settings.user, path=settings.path)

    def stop(self) -> None:
        """End the thread of the loop. A later session starts a new one."""
        self._loop.stop(timeout=0.5)
