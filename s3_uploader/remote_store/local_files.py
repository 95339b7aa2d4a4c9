"""Local files that get their name only when complete, and downloads that are not durable yet."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeAlias

from s3_uploader.core.attributes import keep_mode, keep_owner
from s3_uploader.core.files import sync_directory, write_all

LocalName: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
"""The path of a local file, as ``open()`` takes it."""


class Readable(Protocol):
    """A file object that is read."""

    def read(self, size: int, /) -> bytes:
        """Return at most this many bytes; none at the end."""


class Writable(Protocol):
    """A file object that is written to."""

    def write(self, data: bytes, /) -> object:
        """Take all the bytes."""


def writing_all(file: Writable) -> Callable[[bytes], object]:
    """The ``write`` of a file object, repeated where it takes only a part: an unbuffered one may, on a full disk too.

    :raises BlockingIOError: from the returned function, if the file takes nothing now.
    """

    def write(data: bytes) -> None:
        rest = memoryview(data)
        taken = file.write(data)
        while isinstance(file, io.RawIOBase) and taken != len(rest):
            if not isinstance(taken, int) or taken <= 0:
                raise BlockingIOError(errno.EAGAIN, "the file takes no more bytes without waiting")
            rest = rest[taken:]
            taken = file.write(rest)

    return write


_MOST_NOTED = 4096


class MadeFile(NamedTuple):
    """A file at the time when it got its name."""

    path: str
    device: int
    inode: int


class Downloads:
    """Downloads that may not be on the disk yet.

    Waiting for the disk takes several times as long as the download itself. It only matters when the object is deleted
    or replaced, because then the file is the only copy. So the wait comes then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[tuple[str, str], MadeFile] = {}
        self._names: dict[str, tuple[str, str]] = {}
        """By path: the object that the file was last downloaded from. An earlier download has lost its name to it."""

    def note(self, bucket: str, key: str, file: MadeFile) -> None:
        """Note a file that has just been downloaded.

        :raises OSError: if the oldest noted file had to be written to the disk to make room, and that failed.
        """
        path, oldest = file.path, None
        with self._lock:
            self._forget((bucket, key))
            self._forget(self._names.get(path))
            if len(self._noted) >= _MOST_NOTED:
                oldest = self._forget(next(iter(self._noted)))
            self._noted[bucket, key] = file
            self._names[path] = (bucket, key)
        if oldest is not None:
            _sync(oldest)

    def secure(self, bucket: str, key: str) -> None:
        """Write the download of an object to the disk, because the object is about to be deleted or replaced.

        :raises OSError: if that fails.
        """
        if not self._noted:
            return
        with self._lock:
            noted = self._noted.get((bucket, key))
        if noted is not None:
            _sync(noted)
            with self._lock:
                if self._noted.get((bucket, key)) == noted:
                    self._forget((bucket, key))

    def forked(self) -> None:
        """Start anew in a forked child, which may delete the objects that its parent has downloaded."""
        self._lock = threading.Lock()
        # The fork may have come between the two.
        self._names = {file.path: which for which, file in self._noted.items()}

    def _forget(self, which: tuple[str, str] | None) -> MadeFile | None:
        noted = None if which is None else self._noted.pop(which, None)
        if noted is not None:
            del self._names[noted.path]
        return noted


def _sync(file: MadeFile) -> None:
    """Write a file and its name to the disk, unless another file has its name by now."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return  # moved, removed or replaced by the user, so there is nothing to protect
        raise
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (file.device, file.inode):
            return
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    directory = os.open(os.path.dirname(file.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_directory(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def written_whole(
    local_name: LocalName, *, made: Callable[[MadeFile], None] | None = None
) -> Iterator[Callable[[bytes], object]]:
    """Write a file that gets its name only when it is complete. On failure nothing is left.

    An existing file is replaced; its permissions are kept, and its owner if this user may give files away. A link is
    followed, as ``open()`` does. A name that is not a regular file (``/dev/stdout``, a pipe) is written to directly.

    :param made: called with the file when it has its name.
    """
    path = os.path.realpath(os.fsdecode(local_name))
    try:
        status: os.stat_result | None = os.stat(path)
    except FileNotFoundError:
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        with open(local_name, "wb") as file:
            yield file.write
        return
    directory, name = os.path.split(path)
    # Cut so that it fits into a name of 255 bytes.
    temporary = os.path.join(directory, f".{os.fsdecode(os.fsencode(name)[:200])}.{secrets.token_hex(6)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o666)
    except OSError as error:
        error.filename = path  # the caller knows no other
        raise
    with open(descriptor, "wb", buffering=0) as file:
        try:
            if status is not None:
                keep_owner(file.fileno(), status)
                keep_mode(file.fileno(), stat.S_IMODE(status.st_mode))
            yield functools.partial(write_all, file.fileno())
            status = os.fstat(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    if made is not None:
        made(MadeFile(path, status.st_dev, status.st_ino))
