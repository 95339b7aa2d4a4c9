"""A file server of the configuration: its name in messages, its timeouts, and its sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

import msgspec

from s3_uploader.core.errors import StoreError
from s3_uploader.core.text import file_server_name
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.learned import Learned

_Made = TypeVar("_Made", bound=FileSession, covariant=True)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a server with any protocol."""

    host: str
    port: int
    user: str
    password: str
    path: str
    timeout_seconds: float
    connect_timeout_seconds: float = 30

    def __repr__(self) -> str:
        return f"Settings({self.user}@{self.host}:{self.port} {self.path})"


class FileServer(ABC, Generic[_Made]):
    """A server.

    :cvar default_port: the protocol's port; the server's name omits it.
    :ivar learned: what is known about it, shared by all sessions.
    """

    default_port: ClassVar[int]

    def __init__(self, settings: Settings, learned: Learned) -> None:
        self.settings = settings
        self.learned = learned

    @property
    def name(self) -> str:
        """Host and path for messages and the ledger."""
        settings = self.settings
        return file_server_name(settings.host, settings.port, settings.path, default_port=self.default_port)

    @property
    def silence(self) -> float:
        """Longest silence of the server, in seconds."""
        return self.settings.timeout_seconds

    @property
    def opening(self) -> float:
        """Longest time until the first session is logged in, in seconds."""
        return self.settings.connect_timeout_seconds + 2 * self.settings.timeout_seconds

    def connect(self, remaining: Callable[[], float]) -> _Made:
        """A logged-in session.

        :raises Refused, Lost: if there is none.
        """
        session = self.new_session(remaining)
        session.connect()
        return session

    @abstractmethod
    def new_session(self, remaining: Callable[[], float]) -> _Made:
        """A session that is not connected yet."""

    @abstractmethod
    def login_error(self, error: Refused | Lost) -> StoreError:
        """The error for a failed login."""
