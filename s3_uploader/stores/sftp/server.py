"""An SFTP server as the configuration names it: its name in messages, sessions with it, and the errors of a login."""

from __future__ import annotations

from collections.abc import Callable

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.file_servers.base import Lost, Refused
from s3_uploader.stores.file_servers.learned import Learned
from s3_uploader.stores.sftp.errors import login_error
from s3_uploader.stores.sftp.login import Settings
from s3_uploader.stores.sftp.loop import LoopThread
from s3_uploader.stores.sftp.session import Session


class Server:
    """A server.

    :ivar learned: what is known of it, shared by all sessions.
    """

    def __init__(self, settings: Settings, learned: Learned) -> None:
        self.settings = settings
        self.learned = learned
        self._loop = LoopThread(name="sftp-loop")

    @property
    def name(self) -> str:
        """Host and path, as messages and the ledger have them."""
        settings = self.settings
        port = "" if settings.port == 22 else f":{settings.port}"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        path = settings.path.strip("/").removeprefix("./")
        return f"{host}{port}/{'' if path == '.' else path}".rstrip("/")

    @property
    def silence(self) -> float:
        """Longest silence of the server, in seconds."""
        return self.settings.timeout_seconds

    @property
    def opening(self) -> float:
        """Longest time until a first session has logged in, in seconds."""
        return self.settings.connect_timeout_seconds + 2 * self.settings.timeout_seconds

    def new_session(self, remaining: Callable[[], float]) -> Session:
        """A session that is not connected yet."""
        return Session(self.settings, loop=self._loop, remaining=remaining, learned=self.learned)

    def connect(self, remaining: Callable[[], float]) -> Session:
        """A session that has logged in.

        :raises Refused, Lost: if there is none to be had.
        """
        session = self.new_session(remaining)
        session.connect()
        return session

    def login_error(self, error: Refused | Lost) -> StoreError:
        """What a failure to log in means."""
        settings = self.settings
        return login_error(error, server=f"{settings.host}:{settings.port}", user=settings.user, path=settings.path)

    def stop(self) -> None:
        """End the thread on which the sessions live; a later session starts a new one."""
        self._loop.stop(timeout=0.5)
