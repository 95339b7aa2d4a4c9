"""The ``FileSession`` protocol: what uploads need from a file server, and how it fails.

Terms
-----
refused
    The server refused a request; the connection still works.
lost
    The connection no longer works: it was cut, silent for too long, or out of step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from s3_uploader.core.errors import OutOfResources
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted
from s3_uploader.stores.file_servers.learned import Learned

CHUNK = 1 << 16
"""How many bytes are passed to a session at once."""


class Refused(Exception):
    """The server refused a request.

    :ivar text: the server's text, safe to use in messages.
    :ivar step: how far the login got (:attr:`FileSession.step`).
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.step = ""
        super().__init__(text)

    @property
    def is_one_too_many(self) -> bool:
        """Whether it may mean that the server accepts no further connection."""
        return False

    @property
    def is_for_now(self) -> bool:
        """Whether the server is temporarily busy and would accept the request later."""
        return False

    @property
    def is_absence(self) -> bool:
        """Whether it may mean that the file does not exist."""
        return False

    @property
    def may_be_the_name(self) -> bool:
        """Whether it may be caused by the name, or by a directory in the path."""
        return False

    @property
    def may_be_of_all(self) -> bool:
        """Whether it may mean that this user has no permission to write, wherever a file goes."""
        return False

    @property
    def is_of_a_directory(self) -> bool:
        """Whether a directory could not be made."""
        return False

    @property
    def lists_nothing(self) -> bool:
        """Whether the server cannot list directories at all."""
        return False

    @property
    def error_code(self) -> str:
        """The code for a :class:`~s3_uploader.core.errors.StoreError`."""
        return ""

    @property
    def origin(self) -> Origin:
        """The origin of the error, if every file would meet it."""
        return Origin.UNREACHABLE


class Lost(Exception):
    """The connection is lost.

    :ivar data: whether a data connection could not be opened.
    :ivar is_for_now: whether a server may have silently turned away one connection too many.
    :ivar lacks_descriptors: whether this process has too many files open for another connection.
    """

    def __init__(
        self, reason: str, *, data: bool = False, is_for_now: bool = False, lacks_descriptors: bool = False
    ) -> None:
        self.reason = quoted(reason)
        self.data = data
        self.is_for_now = is_for_now
        self.lacks_descriptors = lacks_descriptors
        self.step = ""
        super().__init__(reason)


def insist_on_descriptors(count: int) -> None:
    """Make sure that a library which does not report their lack, or fails badly then, gets so many descriptors.

    :raises OSError: if there are fewer.
    """
    held: list[int] = []
    try:
        for _ in range(count):
            held.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    finally:
        for descriptor in held:
            os.close(descriptor)


def without_descriptors(server: str) -> OutOfResources:
    """The error of an upload for whose connection to ``server`` there was no descriptor."""
    return OutOfResources(
        f"This program has too many files open for another connection to {server}.",
        hint="Raise this user's limit of open files (ulimit -n), or lower max_concurrency.",
    )


class Listed(msgspec.Struct, frozen=True):
    """One line of a listing. ``name`` is in the form of :func:`os.fsdecode`; ``kind`` is ``file``, ``dir`` or other."""

    name: str
    kind: str
    size: int | None
    modified: float | None


class FileSession(Protocol):
    """One connection. One thread uses it at a time; only :meth:`interrupt` may be called from another one.

    Every request may raise :class:`Refused` or :class:`Lost`. Paths are ``str`` in the form of :func:`os.fsdecode`.

    :ivar protocol: the name in messages, for example ``FTP``.
    :ivar remaining: seconds that the current user of the session has left; no wait is longer.
    :ivar base: the absolute path of the directory that files are stored in.
    :ivar step: how far the login got: ``connect`` first, ``ready`` at the end.
    :ivar was_cut_off: the server says that its last listing is not complete.
    """

    protocol: str
    remaining: Callable[[], float]
    last_used: float
    base: str
    step: str
    was_cut_off: bool

    @property
    def usable(self) -> bool:
        """Whether the connection still works."""

    @property
    def learned(self) -> Learned:
        """What is known about the server, shared by all its sessions."""

    @property
    def algorithm(self) -> str:
        """The algorithm of :meth:`digest` as :mod:`hashlib` names it, or ``crc32``; empty if the server has none."""

    def connect(self) -> None:
        """Connect, log in and enter the directory."""

    def alive(self) -> bool:
        """Whether the server still answers after a pause, in which it may have closed the connection."""

    def interrupt(self) -> None:
        """Make every current and later blocking call of the session fail. May be called on any thread."""

    def quit(self, *, seconds: float = 1.0) -> None:
        """Log out and close."""

    def close(self) -> None:
        """Close without logging out."""

    def size(self, path: str, *, thoroughly: bool = False) -> int | None:
        """The size of the file at ``path``, ``None`` if it does not exist.

        :param thoroughly: do not trust a single command that says it does not exist.
        """

    def other_size(self, path: str) -> int | None:
        """The size by another command than :meth:`size` uses first, ``None`` if none reports it."""

    def modified(self, path: str) -> float | None:
        """The time of the last change by the server's clock, in seconds since the epoch, if the server reports it."""

    def digest(self, path: str, size: int) -> str:
        """The server's own digest by :attr:`algorithm`, in hexadecimal; empty if it reports none."""

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory that can be entered."""

    def make_directory(self, path: str) -> None:
        """Make one directory; its parent must exist."""

    def remove_directory(self, path: str) -> None:
        """Remove one directory, which must be empty."""

    def delete(self, path: str) -> bool:
        """Delete a file. Returns ``False`` if the server refuses, mostly because the file does not exist."""

    def remove(self, path: str) -> None:
        """Delete a file.

        :raises Refused: if the server refuses.
        """

    def rename(self, old: str, new: str) -> None:
        """Rename a file. Some servers silently overwrite an existing file."""

    def store(self, path: str, chunks: Iterable[bytes]) -> None:
        """Send a file. An error from ``chunks`` ends the transfer and is raised; the bytes already sent stay."""

    def retrieve(self, path: str, consume: Callable[[bytes], None], *, begin: int = 0, most: int | None = None) -> bool:
        """Read a file and pass the bytes to ``consume``.

        :param begin: bytes to skip at the beginning.
        :param most: bytes to stop after; the last piece may be a little longer.
        :returns: whether everything was read.
        """

    def listing(self, directory: str, consume: Callable[[Listed], None], *, most: int) -> bool:
        """Pass every entry of a directory to ``consume``.

        :param most: bytes of the listing to stop after.
        :returns: whether everything was read.
        :raises Refused: if the server lists nothing.
        """
