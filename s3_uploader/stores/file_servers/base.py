"""What uploads ask of a file server, whatever it speaks: the ``FileSession`` protocol, and how it fails.

Terms
-----
refused
    The server said no to a request; the connection is fine.
lost
    The connection is of no use any more: cut, silent for too long, or out of step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted
from s3_uploader.stores.file_servers.learned import Learned

CHUNK = 1 << 16
"""So many bytes are handed to a session at once."""


class Refused(Exception):
    """The server said no.

    :ivar text: what it said, as it may stand in a message of ours.
    :ivar step: how far the login came (:attr:`FileSession.step`).
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.step = ""
        super().__init__(text)

    @property
    def is_one_too_many(self) -> bool:
        """Whether it may mean that the server wants no further connection."""
        return False

    @property
    def is_for_now(self) -> bool:
        """Whether the server says that it is busy, to somebody whom it would take at another time."""
        return False

    @property
    def is_absence(self) -> bool:
        """Whether it may mean that there is nothing of that name."""
        return False

    @property
    def may_be_the_name(self) -> bool:
        """Whether it may be about the name, or about a directory on the way to it."""
        return False

    @property
    def lists_nothing(self) -> bool:
        """Whether the server has no way to list directories."""
        return False

    @property
    def error_code(self) -> str:
        """What a :class:`~s3_uploader.core.errors.StoreError` has as its code."""
        return ""

    @property
    def origin(self) -> Origin:
        """What it comes from, where every file would meet it."""
        return Origin.UNREACHABLE


class Lost(Exception):
    """The connection is lost.

    :ivar data: whether it was a data connection that could not be opened.
    :ivar is_for_now: whether it is how a server turns away one connection too many without a word.
    """

    def __init__(self, reason: str, *, data: bool = False, is_for_now: bool = False) -> None:
        self.reason = quoted(reason)
        self.data = data
        self.is_for_now = is_for_now
        self.step = ""
        super().__init__(reason)


class Listed(msgspec.Struct, frozen=True):
    """One line of a listing: the name in the form of :func:`os.fsdecode`; ``kind`` is ``file`` or ``dir`` or other."""

    name: str
    kind: str
    size: int | None
    modified: float | None


class FileSession(Protocol):
    """One connection, used by one thread at a time; only :meth:`interrupt` may come from another one.

    Every request may raise :class:`Refused` or :class:`Lost`. Paths are ``str`` in the form of :func:`os.fsdecode`.

    :ivar protocol: ``FTP``, for example, for messages.
    :ivar remaining: seconds that the current user of the session has left; no wait is longer.
    :ivar base: the directory under which files are stored, absolute.
    :ivar step: how far the login came: ``connect`` first, ``ready`` in the end.
    """

    protocol: str
    remaining: Callable[[], float]
    last_used: float
    base: str
    step: str

    @property
    def usable(self) -> bool:
        """Whether the connection is still of use."""

    @property
    def learned(self) -> Learned:
        """What is known of the server, shared by all its sessions."""

    @property
    def algorithm(self) -> str:
        """What :meth:`digest` computes, in :mod:`hashlib`'s words, or ``crc32``; empty if the server has none."""

    def connect(self) -> None:
        """Connect, log in and enter the directory."""

    def alive(self) -> bool:
        """Whether the server still answers, after a pause in which it may have hung up."""

    def interrupt(self) -> None:
        """Make every blocking call of the session fail now, and every later one; from any thread."""

    def quit(self, *, seconds: float = 1.0) -> None:
        """Take leave and close."""

    def close(self) -> None:
        """Close without a word."""

    def size(self, path: str, *, thoroughly: bool = False) -> int | None:
        """Size of the file at ``path``, ``None`` if there is none.

        :param thoroughly: do not believe one command alone that there is none.
        """

    def other_size(self, path: str) -> int | None:
        """Size of the file at ``path`` by another way than :meth:`size` asks first, ``None`` if none tells."""

    def modified(self, path: str) -> float | None:
        """Time of the last change by the server's clock, in seconds since the epoch, if it tells."""

    def digest(self, path: str, size: int) -> str:
        """The server's own digest in :attr:`algorithm`, in hexadecimal; empty if it gives none."""

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory that can be entered."""

    def make_directory(self, path: str) -> None:
        """Make one directory; its parent must exist."""

    def remove_directory(self, path: str) -> None:
        """Remove one directory, which must be empty."""

    def delete(self, path: str) -> bool:
        """Delete a file; ``False`` if the server refuses, mostly because there is none."""

    def remove(self, path: str) -> None:
        """Delete a file.

        :raises Refused: if the server refuses.
        """

    def rename(self, old: str, new: str) -> None:
        """Rename a file; some servers replace a file that is there already, without a word."""

    def store(self, path: str, chunks: Iterable[bytes]) -> None:
        """Send a file. An error raised by ``chunks`` ends the transfer and comes out; what was sent stays there."""

    def retrieve(self, path: str, consume: Callable[[bytes], None], *, begin: int = 0, most: int | None = None) -> bool:
        """Read a file and hand the bytes to ``consume``.

        :param begin: bytes to pass over at the beginning.
        :param most: bytes after which to stop; the last piece may be a little longer.
        :returns: whether all was read.
        """

    def listing(self, directory: str, consume: Callable[[Listed], None], *, most: int) -> bool:
        """Hand every entry of a directory to ``consume``.

        :param most: bytes of the listing after which to stop.
        :returns: whether all was read.
        :raises Refused: if the server lists nothing.
        """
