"""One logged-in session with an SFTP server: its requests, its time limits, and what its answers mean."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

import asyncssh

from s3_uploader.core.errors import StoreError
from s3_uploader.core.text import quoted
from s3_uploader.stores.file_servers.base import Listed, Lost
from s3_uploader.stores.file_servers.learned import Learned
from s3_uploader.stores.sftp import hashes
from s3_uploader.stores.sftp.errors import FAILURE, NO_SPACE, NO_SUCH_FILE, UNSUPPORTED, LoginRefused, Refused
from s3_uploader.stores.sftp.login import (
    Client,
    Settings,
    load_keys,
    log_in,
    open_socket,
    reason_of,
    refusal,
    trust_for,
)
from s3_uploader.stores.sftp.loop import LoopThread
from s3_uploader.stores.sftp.transfers import Sender, TooMuch, pull

_BLOCK = 256 * 1024
_DIRECTORY, _REGULAR = asyncssh.FILEXFER_TYPE_DIRECTORY, asyncssh.FILEXFER_TYPE_REGULAR
_KINDS = {_DIRECTORY: "dir", _REGULAR: "file", asyncssh.FILEXFER_TYPE_UNKNOWN: "file"}
_ATTRIBUTES_BYTES = 40
"""What the attributes of a name take in an answer, about."""
_HASHES = "check-file"
_ASKED, _NONE = "asked", "none"

_Result = TypeVar("_Result")


class Session:
    """One session, used by one thread at a time; only :meth:`interrupt` may come from another one.

    :param loop: where the connection lives.
    :param remaining: seconds that the current user of the session has left; no single wait is longer than that, nor
        than ``settings.timeout_seconds``.
    :param learned: what is known of the server, shared by all its sessions.
    """

    protocol = "SFTP"

    def __init__(
        self, settings: Settings, *, loop: LoopThread, remaining: Callable[[], float], learned: Learned | None = None
    ) -> None:
        self.remaining = remaining
        self.learned = Learned(protocol="sftp") if learned is None else learned
        self.last_used = time.monotonic()
        self.step = "connect"
        """How far the login came: ``connect``, ``sftp``, ``path`` or ``ready``."""
        self.welcome = ""
        """What the server says that it is."""
        self.host_key = ""
        """The key by which it was known, and its fingerprint."""
        self.base = "/"
        self._settings = settings
        self._loop = loop
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: Any = None
        self._client: Client | None = None
        self._current: concurrent.futures.Future[Any] | None = None
        self._interrupted = False
        self._answers = 0

    # ------------------------------------------------------------------------------------------ the connection

    def connect(self) -> None:
        """Connect, log in and enter the directory.

        :raises Refused, LoginRefused: if the server refuses the login or the path, or is not the one that is known.
        :raises Lost: if there is no connection to be had.
        """
        given = self.remaining
        ends_at = time.monotonic() + self._settings.connect_timeout_seconds
        self.remaining = lambda: min(given(), ends_at - time.monotonic())
        try:
            self._log_in()
            self.step = "sftp"
            connection = self._connection
            assert connection is not None
            self._sftp = self._run(_start(connection), "sftp")
            self.step = "path"
            self.base = self._entered(self._settings.path)
            self.step = "ready"
        except Refused as refused:
            refused.step = self.step
            self.close()
            if self.step == "sftp":
                lost = Lost(refused.text)
                lost.step = "sftp"
                raise lost from None
            raise
        except (LoginRefused, Lost) as error:
            error.step = self.step
            self.close()
            raise
        except BaseException:
            self.close()
            raise
        self.remaining = given

    @property
    def usable(self) -> bool:
        """Whether the connection is still of use."""
        client = self._client
        return self._connection is not None and client is not None and not (client.is_lost or self._interrupted)

    @property
    def algorithm(self) -> str:
        """What :meth:`digest` computes; whether the server can is asked once, and remembered."""
        return hashes.ALGORITHM if self._has_hashes() else ""

    def alive(self) -> bool:
        """Whether the server still answers, after a pause in which it may have hung up."""
        try:
            self._run(self._sftp.realpath(b"."), "realpath")
        except Refused:
            return True
        except Lost:
            return False
        return True

    def interrupt(self) -> None:
        """Make every blocking call of the session fail now, and every later one; from any thread."""
        self._interrupted = True
        current, connection = self._current, self._connection
        if connection is not None:
            self._loop.call(connection.abort)
        if current is not None:
            current.cancel()

    def quit(self, *, seconds: float = 1.0) -> None:
        """Take leave and close."""
        connection = self._connection
        if connection is not None and self.usable:
            self.remaining = lambda: seconds
            with contextlib.suppress(Refused, Lost):
                self._run(_farewell(connection), "close")
        self.close()

    def close(self) -> None:
        """Close without a word."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.call(connection.abort)

    # ------------------------------------------------------------------------------------------ names

    def size(self, path: str, *, thoroughly: bool = False) -> int | None:
        """Size of the file at ``path``, ``None`` if there is none."""
        found = self._attributes(path)
        if found is None or found.type == _DIRECTORY or found.size is None:
            return None
        if found.type not in _KINDS:
            # To open a FIFO would hold up the server's process for ever.
            raise Refused(FAILURE, "what has that name is no file", "stat")
        self.learned.sees = True
        return int(found.size)

    def other_size(self, path: str) -> int | None:
        """There is no other way to ask."""
        return None

    def modified(self, path: str) -> float | None:
        """Time of the last change by the server's clock, in seconds since the epoch, if it tells."""
        found = self._attributes(path)
        return None if found is None or found.mtime is None else float(found.mtime)

    def digest(self, path: str, size: int) -> str:
        """The server's own SHA-256 of a file in hexadecimal; empty if it gives none."""
        if not self._has_hashes():
            return ""
        # The server reads the whole file before it answers; 10 MB/s is a slow disk.
        try:
            return self._run(hashes.check_file(self._sftp, os.fsencode(path)), "check-file", extra_seconds=size / 10e6)
        except Refused as refused:
            if refused.code == UNSUPPORTED:
                self.learned.put(_HASHES, _NONE)
            return ""

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory."""
        found = self._attributes(path)
        return found is not None and found.type == _DIRECTORY

    def make_directory(self, path: str) -> None:
        """Make one directory; its parent must exist."""
        with self._telling_full():
            self._run(self._sftp.mkdir(os.fsencode(path)), "mkdir")

    def remove_directory(self, path: str) -> None:
        """Remove one directory, which must be empty."""
        self._run(self._sftp.rmdir(os.fsencode(path)), "rmdir")

    def delete(self, path: str) -> bool:
        """Delete a file; ``False`` if the server refuses, mostly because there is none."""
        try:
            self.remove(path)
        except Refused:
            return False
        return True

    def remove(self, path: str) -> None:
        """Delete a file.

        :raises Refused: if the server refuses.
        """
        self._run(self._sftp.remove(os.fsencode(path)), "remove")

    def rename(self, old: str, new: str) -> None:
        """Rename a file. OpenSSH does not replace one that is there; others do."""
        self._run(self._sftp.rename(os.fsencode(old), os.fsencode(new)), "rename")

    def replace(self, old: str, new: str) -> None:
        """Rename a file, in the place of one that is there (``posix-rename@openssh.com``)."""
        self._run(self._sftp.posix_rename(os.fsencode(old), os.fsencode(new)), "posix-rename")

    def link(self, old: str, new: str) -> None:
        """Give a file a second name, which must be free (``hardlink@openssh.com``)."""
        self._run(self._sftp.link(os.fsencode(old), os.fsencode(new)), "hardlink")

    def free_bytes(self) -> int | None:
        """How much room a user has there (``statvfs@openssh.com``), if the server tells; 0 without inodes."""
        try:
            found = self._run(self._sftp.statvfs(os.fsencode(self.base)), "statvfs")
        except Refused:
            return None
        has_inodes = not found.files or found.favail
        # Some file systems report no sizes at all.
        return None if not found.blocks else int(found.bavail) * int(found.frsize) if has_inodes else 0

    def listing(self, directory: str, consume: Callable[[Listed], None], *, most: int) -> bool:
        """Hand every entry of a directory to ``consume``.

        :param most: bytes of the listing after which to stop.
        :returns: whether all was read.
        :raises Refused: if the server lists nothing.
        """
        return self._run(self._list(os.fsencode(directory), consume, most), "opendir")

    # ------------------------------------------------------------------------------------------ content

    def store(self, path: str, chunks: Iterable[bytes]) -> None:
        """Send a new file. An error raised by ``chunks`` ends the transfer and comes out; what was sent stays there.

        :raises Refused: if there is something of that name already, among other reasons.
        """
        with self._telling_full():
            self._store(path, chunks)

    def _store(self, path: str, chunks: Iterable[bytes]) -> None:
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL
        handle = self._run(self._open(path, flags), "open")
        sender = Sender(handle, self._tick)
        try:
            for block in _gathered(chunks):
                self._run(sender.push(block), "write")
            self._run(sender.drain(), "write")
            with _unless_unsupported():
                self._run(handle.fsync(), "fsync")
        except BaseException:
            with contextlib.suppress(Refused, Lost):
                self._run(sender.abandon(), "write")
                self._run(handle.close(), "close")
            raise
        self._run(handle.close(), "close")

    def retrieve(self, path: str, consume: Callable[[bytes], None], *, begin: int = 0, most: int | None = None) -> bool:
        """Read a file and hand the bytes to ``consume``.

        :param begin: bytes to pass over at the beginning.
        :param most: bytes after which to stop; the last piece may be a little longer.
        :returns: whether all was read.
        """
        handle = self._run(self._open(path, asyncssh.FXF_READ), "open")
        offset = begin
        try:
            while True:
                pieces, is_end = self._run(pull(handle, offset, self._tick), "read")
                for piece in pieces:
                    offset += len(piece)
                    consume(piece)
                    if most is not None and offset - begin > most:
                        return False
                if is_end:
                    return True
        finally:
            with contextlib.suppress(Refused, Lost):
                self._run(handle.close(), "close")

    # ------------------------------------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _telling_full(self) -> Iterator[None]:
        """Version 3 has no status for a full disk: what failed without a reason is asked for one."""
        try:
            yield
        except Refused as refused:
            if refused.code == FAILURE and self.usable and self.free_bytes() == 0:
                raise Refused(NO_SPACE, f"{refused.reason} (nothing is free there)", refused.request) from None
            raise

    def _log_in(self) -> None:
        settings = self._settings
        keys = load_keys(settings)
        peer = open_socket(settings, seconds=self._limit())
        try:
            trusted = trust_for(settings, peer)
            client = self._client = Client(trusted)
        except BaseException:
            peer.close()
            raise
        try:
            self._connection = self._wait(log_in(settings, client, trusted, keys, peer))
        except (asyncssh.Error, OSError, ValueError, EOFError) as error:
            peer.close()
            refused = refusal(error, settings, client, trusted)
            if refused is not None:
                raise refused from None
            # So many servers (`MaxStartups` of OpenSSH) part with one login too many.
            hung_up = isinstance(error, (asyncssh.ConnectionLost, ConnectionResetError))
            raise Lost(reason_of(error), is_for_now=hung_up) from None
        except BaseException:
            peer.close()
            raise
        self.welcome = quoted(str(self._connection.get_extra_info("server_version", "")))
        key = self._connection.get_server_host_key()
        if key is not None:
            self.host_key = f"{key.get_algorithm()} {key.get_fingerprint()}"

    def _entered(self, path: str) -> str:
        """The directory under which files are stored, absolute."""
        if path.startswith("/"):
            base = "/" + path.strip("/")
        else:
            login = os.fsdecode(bytes(self._run(self._sftp.realpath(b"."), "realpath")))
            base = "/" + "/".join(step for step in (login.strip("/"), path.strip("/")) if step not in ("", "."))
        found = self._attributes(base)
        if found is None or found.type not in (_DIRECTORY, asyncssh.FILEXFER_TYPE_UNKNOWN):
            reason = "there is no such directory" if found is None else "it is no directory"
            raise Refused(NO_SUCH_FILE, reason, "stat")
        return base

    def _attributes(self, path: str) -> asyncssh.SFTPAttrs | None:
        try:
            found: asyncssh.SFTPAttrs = self._run(self._sftp.stat(os.fsencode(path)), "stat")
        except Refused as refused:
            if refused.is_absence:
                return None
            raise
        return found

    def _has_hashes(self) -> bool:
        known = self.learned.get(_HASHES)
        if not known:
            # Should the connection not survive the question, it is not asked again.
            self.learned.put(_HASHES, _ASKED)
            known = _NONE
            try:
                self._run(hashes.check_file(self._sftp, os.fsencode(self.base)), "check-file")
            except Refused as refused:
                # A directory has no hash, so a server that knows the question says something else.
                known = _NONE if refused.code == UNSUPPORTED else hashes.ALGORITHM
            self.learned.put(_HASHES, known)
        return known == hashes.ALGORITHM

    async def _open(self, path: str, flags: int) -> Any:
        return await self._sftp.open(os.fsencode(path), flags, encoding=None)

    async def _list(self, directory: bytes, consume: Callable[[Listed], None], most: int) -> bool:
        received = 0
        async with contextlib.aclosing(self._sftp.scandir(directory)) as entries:
            async for entry in entries:
                self._tick()
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

    def _tick(self) -> None:
        self._answers += 1

    def _run(self, work: Coroutine[Any, Any, _Result], request: str, *, extra_seconds: float = 0.0) -> _Result:
        """Wait for a request, and put its failure into one of two.

        :raises Refused: if the server says no.
        :raises Lost: if it says nothing, or nothing that makes sense, or the connection has ended.
        """
        if not self.usable:
            work.close()
            raise Lost("it was closed")
        try:
            return self._wait(work, extra_seconds=extra_seconds)
        except asyncssh.SFTPError as error:
            if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
                is_closed = "bytes read on a total of" in error.reason  # the words of asyncio
                raise self._gone("the server closed it" if is_closed else str(error.reason)) from None
            raise Refused(error.code, error.reason, request) from None
        except Lost:
            # Who is silent now may answer later, and then to another question.
            self.close()
            raise
        except TooMuch:
            raise self._gone("the server sends more than it was asked for") from None
        except StoreError:
            raise
        except Exception as error:
            # Whatever the library makes of nonsense: it costs this connection, and no more.
            raise self._gone(reason_of(error)) from None

    def _gone(self, reason: str) -> Lost:
        self.close()
        return Lost(reason)

    def _wait(self, work: Coroutine[Any, Any, _Result], *, extra_seconds: float = 0.0) -> _Result:
        future = self._loop.begin(self._watched(work, extra_seconds))
        self._current = future
        if self._interrupted:
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise self._gone("it was closed") from None
        finally:
            self._current = None
            self.last_used = time.monotonic()

    async def _watched(self, work: Coroutine[Any, Any, _Result], extra_seconds: float) -> _Result:
        """Let ``work`` go on as long as answers come."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                seen = self._answers
                limit = self._limit(extra_seconds)
                done, _ = await asyncio.wait({task}, timeout=limit)
                if done:
                    return task.result()
                if self._answers == seen or self.remaining() <= 0:
                    raise Lost(f"no answer for {limit:.0f} s")
        finally:
            task.cancel()

    def _limit(self, extra_seconds: float = 0.0) -> float:
        return max(0.05, min(self._settings.timeout_seconds + extra_seconds, self.remaining()))


async def _start(connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
    # Names are bytes, and so are paths.
    return await connection.start_sftp_client(path_encoding=None, sftp_version=3)


async def _farewell(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    await connection.wait_closed()


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: each of them is handed to another thread."""
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
