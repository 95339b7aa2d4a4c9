"""A file server as the configuration names it: the ``FileServer`` protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from s3_uploader.core.errors import StoreError
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.learned import Learned

_Made = TypeVar("_Made", bound=FileSession, covariant=True)


class FileServer(Protocol[_Made]):
    """A server as the configuration names it."""

    @property
    def name(self) -> str:
        """Host and path, as messages and the ledger have them."""

    @property
    def learned(self) -> Learned:
        """What is known of it, shared by all sessions."""

    @property
    def silence(self) -> float:
        """Longest silence of the server, in seconds."""

    @property
    def opening(self) -> float:
        """Longest time until a first session has logged in, in seconds."""

    def new_session(self, remaining: Callable[[], float]) -> _Made:
        """A session that is not connected yet."""

    def connect(self, remaining: Callable[[], float]) -> _Made:
        """A session that has logged in."""

    def login_error(self, error: Refused | Lost) -> StoreError:
        """What a failure to log in means."""
