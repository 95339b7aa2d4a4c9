"""One logged-in session with an SFTP server: file properties and file operations."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import asyncssh

from s3_uploader.stores.file_servers.base import Listed, Lost
from s3_uploader.stores.sftp import hashes
from s3_uploader.stores.sftp.connection import SftpConnection
from s3_uploader.stores.sftp.errors import EXISTS, FAILURE, NO_SPACE, UNSUPPORTED, Refused
from s3_uploader.stores.sftp.transfers import Sender, pull

_BLOCK = 256 * 1024
_DIRECTORY, _REGULAR = asyncssh.FILEXFER_TYPE_DIRECTORY, asyncssh.FILEXFER_TYPE_REGULAR
_KINDS = {_DIRECTORY: "dir", _REGULAR: "file", asyncssh.FILEXFER_TYPE_UNKNOWN: "file"}
_ATTRIBUTES_BYTES = 40
"""Approximate size of a name's attributes in an answer."""
_HASHES = "check-file"
_ASKED, _NONE = "asked", "none"

_FEW_INODES = 64
_LITTLE = 1 << 20
"""What may be free for a moment on a disk that was full: inodes and bytes."""


class Session(SftpConnection):
    """One session. One thread uses it at a time; only :meth:`interrupt` may be called from another one."""

    @property
    def algorithm(self) -> str:
        """The algorithm of :meth:`digest`. Whether the server supports it is asked once, and remembered."""
        return hashes.ALGORITHM if self._has_hashes() else ""

    # ------------------------------------------------------------------------------------------ names

    def size(self, path: str, *, thoroughly: bool = False) -> int | None:
        """The size of the file at ``path``, ``None`` if it does not exist."""
        found = self.attributes(path)
        if found is None or found.type == _DIRECTORY or found.size is None:
            return None
        if found.type not in _KINDS:
            # Opening a FIFO would block the server's process forever.
            raise Refused(EXISTS, "that name is not a regular file", "stat")
        self.learned.sees = True
        return int(found.size)

    def other_size(self, path: str) -> int | None:
        """Return ``None``: SFTP has no other way to ask."""
        return None

    def modified(self, path: str) -> float | None:
        """The time of the last change by the server's clock, in seconds since the epoch, if the server reports it."""
        found = self.attributes(path)
        return None if found is None or found.mtime is None else float(found.mtime)

    def digest(self, path: str, size: int) -> str:
        """The server's own SHA-256 of a file in hexadecimal; empty if it reports none."""
        if not self._has_hashes():
            return ""
        # The server reads the whole file before it answers; 10 MB/s is a slow disk.
        try:
            return self.run(hashes.check_file(self.sftp, os.fsencode(path)), "check-file", extra_seconds=size / 10e6)
        except Refused as refused:
            if refused.code == UNSUPPORTED:
                self.learned.put(_HASHES, _NONE)
            return ""

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory."""
        found = self.attributes(path)
        if found is None or found.type != asyncssh.FILEXFER_TYPE_UNKNOWN:
            return found is not None and found.type == _DIRECTORY
        # The server reports nothing but a size.
        try:
            self.listing(path, lambda _: None, most=0)
        except Refused:
            return False
        return True

    def is_dead_link(self, path: str) -> bool:
        """Whether ``path``, where no file was found, is a symbolic link. Some servers replace it by a rename."""
        try:
            found = self.run(self.sftp.lstat(os.fsencode(path)), "lstat")
        except Refused:
            return False
        return bool(found.type == asyncssh.FILEXFER_TYPE_SYMLINK)

    def make_directory(self, path: str) -> None:
        """Make one directory; its parent must exist."""
        try:
            with self._telling_full():
                self.run(self.sftp.mkdir(os.fsencode(path)), "mkdir")
        except Refused as refused:
            if refused.code == FAILURE and self.is_dead_link(path):
                raise Refused(EXISTS, refused.reason, "mkdir") from None
            raise

    def remove_directory(self, path: str) -> None:
        """Remove one directory, which must be empty."""
        self.run(self.sftp.rmdir(os.fsencode(path)), "rmdir")

    def delete(self, path: str) -> bool:
        """Delete a file. Returns ``False`` if the server refuses, mostly because the file does not exist."""
        try:
            self.remove(path)
        except Refused:
            return False
        return True

    def remove(self, path: str) -> None:
        """Delete a file.

        :raises Refused: if the server refuses.
        """
        self.run(self.sftp.remove(os.fsencode(path)), "remove")

    def rename(self, old: str, new: str) -> None:
        """Rename a file. OpenSSH does not overwrite an existing file; other servers do."""
        with self._telling_full():
            self.run(self.sftp.rename(os.fsencode(old), os.fsencode(new)), "rename")

    def replace(self, old: str, new: str) -> None:
        """Rename a file and overwrite an existing one (``posix-rename@openssh.com``)."""
        self.run(self.sftp.posix_rename(os.fsencode(old), os.fsencode(new)), "posix-rename")

    def link(self, old: str, new: str) -> None:
        """Give a file a second, free name (``hardlink@openssh.com``)."""
        self.run(self.sftp.link(os.fsencode(old), os.fsencode(new)), "hardlink")

    def free_bytes(self, *, inodes: int = 1) -> int | None:
        """The free space for this user (``statvfs@openssh.com``), if the server reports it; 0 with fewer inodes."""
        try:
            found = self.run(self.sftp.statvfs(os.fsencode(self.base)), "statvfs")
        except Refused:
            return None
        has_inodes = not found.files or found.favail >= inodes
        # Some file systems report no sizes.
        return None if not found.blocks else int(found.bavail) * int(found.frsize) if has_inodes else 0

    def listing(self, directory: str, consume: Callable[[Listed], None], *, most: int) -> bool:
        """Pass every entry of a directory to ``consume``.

        :param most: bytes of the listing to stop after.
        :returns: whether everything was read.
        :raises Refused: if the server lists nothing.
        """
        return self.run(self._list(os.fsencode(directory), consume, most), "opendir")

    # ------------------------------------------------------------------------------------------ content

    def store(self, path: str, chunks: Iterable[bytes]) -> None:
        """Send a new file. An error from ``chunks`` ends the transfer and is raised; the bytes already sent stay.

        :raises Refused: for example, if the name exists already.
        """
        with self._telling_full():
            self._store(path, chunks)

    def _store(self, path: str, chunks: Iterable[bytes]) -> None:
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL
        handle = self.run(self._open(path, flags), "open")
        sender = Sender(handle, self.tick)
        try:
            for block in _gathered(chunks):
                self.insist_on_time()
                self.run(sender.push(block), "write")
            self.run(sender.drain(), "write")
            with _unless_unsupported():
                self.run(handle.fsync(), "fsync")
        except BaseException:
            with contextlib.suppress(Refused, Lost):
                self.run(sender.abandon(), "write")
                self.run(handle.close(), "close")
            raise
        self.run(handle.close(), "close")

    def retrieve(self, path: str, consume: Callable[[bytes], None], *, begin: int = 0, most: int | None = None) -> bool:
        """Read a file and pass the bytes to ``consume``.

        :param begin: bytes to skip at the beginning.
        :param most: bytes to stop after; the last piece may be a little longer.
        :returns: whether everything was read.
        """
        handle = self.run(self._open(path, asyncssh.FXF_READ), "open")
        offset = begin
        try:
            while True:
                self.insist_on_time()
                pieces, is_end = self.run(pull(handle, offset, self.tick), "read")
                for piece in pieces:
                    offset += len(piece)
                    consume(piece)
                    if most is not None and offset - begin > most:
                        return False
                if is_end:
                    return True
        finally:
            with contextlib.suppress(Refused, Lost):
                self.run(handle.close(), "close")

    # ------------------------------------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _telling_full(self) -> Iterator[None]:
        """Turn a failure without a reason into "no space" if the disk is full, for which version 3 has no status.

        Other uploads may have freed a little since, with their temporary files.
        """
        try:
            yield
        except Refused as refused:
            if refused.code == FAILURE and self.usable:
                free = self.free_bytes(inodes=_FEW_INODES)
                if free is not None and free < _LITTLE:
                    raise Refused(NO_SPACE, f"{refused.reason} (nothing is free there)", refused.request) from None
            raise

    def _has_hashes(self) -> bool:
        known = self.learned.get(_HASHES)
        if not known:
            # If the connection breaks over the question, it is not asked again.
            self.learned.put(_HASHES, _ASKED)
            known = _NONE
            try:
                self.run(hashes.check_file(self.sftp, os.fsencode(self.base)), "check-file")
            except Refused as refused:
                # A directory has no hash, so a server that supports the extension answers with another error.
                known = _NONE if refused.code == UNSUPPORTED else hashes.ALGORITHM
            self.learned.put(_HASHES, known)
        return known == hashes.ALGORITHM

    async def _open(self, path: str, flags: int) -> Any:
        return await self.sftp.open(os.fsencode(path), flags, encoding=None)

    async def _list(self, directory: bytes, consume: Callable[[Listed], None], most: int) -> bool:
        received = 0
        async with contextlib.aclosing(self.sftp.scandir(directory)) as entries:
            async for entry in entries:
                self.tick()
                name, attributes = bytes(entry.filename), entry.attrs
                received += len(name) + len(entry.longname or b"") + _ATTRIBUTES_BYTES
                consume(
                    Listed(
                        os.fsdecode(name),
                        _KINDS.get(attributes.type, "other"),
                        None if attributes.size is None else int(attributes.size),
                        None if attributes.mtime is None else float(attributes.mtime),
                    )
                )
                if received > most:
                    return False
        return True


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces, because each piece is passed to another thread."""
    block = bytearray()
    for chunk in chunks:
        block += chunk
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


@contextlib.contextmanager
def _unless_unsupported() -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        if refused.code != UNSUPPORTED:
            raise
