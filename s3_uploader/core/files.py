"""Steps on files that Python lacks: durable replacing, writing without failing, locks; how many may be open.

A lock of the kernel is taken without waiting: ``flock(2)`` on a directory or a file, or a byte range of a file. A lock
on a byte range belongs to the open file (``F_OFD_SETLK`` in ``fcntl(2)``), so that closing another descriptor of the
file does not drop it, or to the process, where the kernel or the file system has no other kind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import BinaryIO, TextIO

_RESERVE = 48
"""Reserved for the ledger, the spool's directories, the streams and libraries."""
_ENOUGH = 65536
_USUAL = 1024
"""The soft limit nearly everywhere, where it cannot be asked for."""
_FEWEST = 6
_CHUNK = 65536
_PIPE_BUF = 4096
_PATIENCE_SECONDS = 30.0
"""How long a reader may take nothing: one that does something slow with each line is given its lines."""
_PAUSE_SECONDS = 0.05
_MOST_LINKS = 40
"""How many links the kernel follows in one path (``path_resolution(7)``)."""

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
# ``struct flock`` of Linux with 64-bit offsets: type, whence, start, length, process.
_FLOCK = struct.Struct("@hhqqi4x")
_OF_OPEN_FILE = getattr(fcntl, "F_OFD_SETLK", None)
_WHOSE_OF_OPEN_FILE = getattr(fcntl, "F_OFD_GETLK", None)
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
# What flock answers on a directory where it is emulated by locks that need a descriptor open for writing (NFS: EBADF),
# or where there are no locks.
_NO_FLOCK = {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EISDIR}


def open_at_once(path: str) -> BinaryIO:
    """Open a file for reading, but not a named pipe: opening that would wait until somebody writes to it.

    :raises OSError: also if it is a named pipe.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Is a named pipe", path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def refuse_pipe(path: str) -> None:
    """Raise ``OSError`` for a named pipe, for whose writer a library would wait, and for what cannot be opened."""
    open_at_once(path).close()


def read_pipe(descriptor: int, most: int, *, patience_seconds: float) -> bytes:
    """Read a pipe that was opened with ``O_NONBLOCK`` up to its end, or a number of bytes.

    Opened without it a named pipe waits for a writer, also after a signal whose handler only takes note of it.

    :param patience_seconds: longest silence.
    :raises OSError: if nobody writes for so long.
    """
    import select  # hardly anything is a pipe

    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    data = b""
    while len(data) < most:
        if not waiting.poll(patience_seconds * 1000):
            raise TimeoutError(errno.ETIMEDOUT, f"Nobody wrote to this pipe for {patience_seconds:g} s")
        piece = os.read(descriptor, _CHUNK)
        if not piece:
            break
        data += piece
    return data[:most]


def is_missing(path: str) -> bool:
    """Whether nothing is there. A path that cannot be examined, as on a dead mount, counts as existing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; one ``write`` may take less.

    :raises OSError: if not all of it could be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def stream_writer(stream: TextIO | None, *, encoding: str | None = None) -> Callable[[str], None]:
    """Make a function that writes text to a stream and never fails, in the given encoding or the stream's own.

    It writes to the descriptor: Python's own buffer would keep what could not be written, retry when the program ends,
    and then change its exit code.
    """
    if stream is None:
        return lambda text: None
    try:
        write = _Writer(stream.fileno()).write
        stream.flush()
    except (OSError, ValueError):  # io.UnsupportedOperation is both: a stream that is not a file
        return lambda text: _write_to_object(stream, text)
    chosen = encoding or stream.encoding or "utf-8"
    return lambda text: write(text.encode(chosen, "backslashreplace"))


def _write_to_object(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        pass


class _Writer:
    """Writes to a descriptor, and never fails or waits long: a reader that hangs must not hang its writer, too.

    Into a pipe it writes so few bytes at once that the call does not wait if there is room for any. Once the reader
    has taken nothing for too long, everything is dropped until it goes on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at_once = sys.maxsize if stat.S_ISREG(os.fstat(descriptor).st_mode) else _PIPE_BUF
        self._patience = _PATIENCE_SECONDS
        self._within_line = False

    def write(self, data: bytes) -> None:
        """Write what can be written."""
        view = memoryview(b"\n" + data if self._within_line else data)
        until = time.monotonic() + self._patience
        while view:
            left = max(0.0, until - time.monotonic())
            if not _becomes_writable(self._descriptor, left):
                self._patience = 0.0
                return
            try:
                written = os.write(self._descriptor, view[: self._at_once])
            except BlockingIOError:  # another process was quicker, or the kernel cannot say when there is room
                if left == 0:
                    self._patience = 0.0
                    return
                time.sleep(min(_PAUSE_SECONDS, left))
                continue
            except OSError:  # closed, a full disk, a lost terminal
                return
            self._patience = _PATIENCE_SECONDS
            until = time.monotonic() + self._patience
            self._within_line = written < len(view) and view[written - 1] != ord("\n")
            view = view[written:]


def _becomes_writable(descriptor: int, seconds: float) -> bool:
    try:
        import select

        wanted = select.poll()
    except ImportError:  # no descriptor is left to load it
        return True
    wanted.register(descriptor, select.POLLOUT)
    return bool(wanted.poll(seconds * 1000))


def unnamed_file(data: bytes) -> BinaryIO:
    """Return an open file without a name that holds ``data``, for the caller to close.

    It is in memory, so that no directory has to be writable: a container may have none for temporary files.

    :raises OSError: if there is neither memory nor such a directory.
    """
    file: BinaryIO
    if hasattr(os, "memfd_create"):  # Some builds of Python are made for systems without it.
        file = os.fdopen(os.memfd_create("s3-uploader"), "w+b")
    else:
        import tempfile

        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it.
    try:
        file.write(data)
        file.flush()
    except OSError:
        file.close()
        raise
    return file


def sync_directory(directory: int) -> None:
    """Make the names in a directory durable, if its file system can (CIFS and some FUSE file systems cannot).

    :raises OSError: if the disk fails.
    """
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF):
            raise


def is_stream(path: str) -> bool:
    """Whether a path names an open file of a process, as ``/dev/stdout`` and ``/dev/fd/3`` do."""
    for _ in range(_MOST_LINKS):
        if not os.path.islink(path):
            break
        directory = os.path.realpath(os.path.dirname(path))
        if directory.startswith("/proc/"):
            return True
        path = os.path.join(directory, os.readlink(path))
    return False


def insist_on_file(path: str) -> None:
    """Refuse what must not give way to a file: root would take ``/dev/null`` or ``/dev/stdout`` from all programs.

    :raises OSError: if it is a device or a link to one, or an open file of a process.
    """
    with contextlib.suppress(FileNotFoundError):
        if is_stream(path) or stat.S_IFMT(os.stat(path).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
            raise OSError(errno.EINVAL, "Is not a regular file", path)


def replace_file(path: str, data: bytes, *, durable: bool = True, mode: int | None) -> None:
    """Replace a file in one step: readers see either the old content or the new one.

    :param mode: permissions of the file. ``None``: owner, group and permissions are those of the file that it replaces;
        a new one can be written by its owner only, even if the umask would let others.
    :raises OSError: if that is not possible; the old file remains then. Also if it is a device.
    """
    insist_on_file(path)
    before = None
    with contextlib.suppress(FileNotFoundError):
        before = os.stat(path, follow_symlinks=False)
    if before is not None and not stat.S_ISREG(before.st_mode):
        before = None
    directory, name = os.path.split(path)
    # The collector reads *.prom only, so it never takes this one. The name is always the same, so that killed runs
    # leave at most one.
    temporary = os.path.join(directory, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    allowed = 0o644 if mode is None and before is None else 0o600
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, allowed)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is None and before is not None:
                from s3_uploader.core.attributes import keep_owner

                keep_owner(descriptor, before)
                mode = before.st_mode & 0o777
            if mode is not None and stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
                from s3_uploader.core.attributes import keep_mode

                keep_mode(descriptor, mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def close_quietly(descriptor: int) -> None:
    """Close a descriptor and ignore errors, because nothing more depends on it.

    It is closed even after an error (``close(2)``). File systems in user space report one if their program has died.
    """
    with contextlib.suppress(OSError):
        os.close(descriptor)


def raise_limit() -> None:
    """Raise the soft limit of descriptors to the hard limit: the usual soft limit is for programs that use select().

    Only for the command line, never inside a program that embeds this package.
    """
    import resource

    # A sandbox may forbid to ask for limits, too.
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_descriptors() -> int:
    """The number of descriptors that a run may use besides the open ones, at least a few."""
    import resource

    try:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:
        soft = _USUAL
    if soft == resource.RLIM_INFINITY:
        soft = _ENOUGH
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = 0  # no /proc
    return max(_FEWEST, soft - used - _RESERVE)


def try_flock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Try to lock: ``True`` if locked, ``False`` if another process holds it, ``None`` if there are no locks here."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_FLOCK:
            return None
        raise
    return True


def release_flock(descriptor: int) -> None:
    """Release the lock; closing the last copy of the descriptor does the same."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def belongs_to_process(file_system: str) -> bool:
    """Whether locks on a file system of that type should belong to the process.

    The kernel tells a file system in user space of the end of a process, but not of the end of an open file that has a
    lock (``fuse_setlk`` in Linux): the lock of a killed run would stay.
    """
    return file_system.startswith("fuse")


def try_range(descriptor: int, *, first: int, length: int, shared: bool, by_process: bool) -> bool | None:
    """``True``: locked; ``False``: another one holds it; ``None``: there are no such locks here.

    :param by_process: the lock is to belong to the process, not to the open file.
    :raises OSError: for anything else.
    """
    return _set_range(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, first, length, by_process)


def release_range(descriptor: int, *, first: int, length: int, by_process: bool) -> None:
    """Release the lock. Otherwise a copy of the descriptor in a forked process would keep it."""
    with contextlib.suppress(OSError):
        _set_range(descriptor, fcntl.F_UNLCK, first, length, by_process)


def is_held(descriptor: int, *, first: int, length: int, by_process: bool) -> bool:
    """Whether anybody holds a lock in the range; takes none. It does not see locks that belong to this process."""
    return in_the_way(descriptor, first=first, length=length, by_process=by_process) is not None


def in_the_way(descriptor: int, *, first: int, length: int, by_process: bool) -> tuple[int, int] | None:
    """First byte and length of a lock that somebody holds in the range; ``None`` if there is none. Takes none."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, first, length, 0)
    command = fcntl.F_GETLK if by_process or _WHOSE_OF_OPEN_FILE is None else _WHOSE_OF_OPEN_FILE
    try:
        answer = fcntl.fcntl(descriptor, command, asked)
    except OSError:
        return None
    kind, _, start, size, _ = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else (start, size)


def _set_range(descriptor: int, kind: int, first: int, length: int, by_process: bool) -> bool | None:
    wanted = _FLOCK.pack(kind, os.SEEK_SET, first, length, 0)
    command = fcntl.F_SETLK if by_process or _OF_OPEN_FILE is None else _OF_OPEN_FILE
    try:
        fcntl.fcntl(descriptor, command, wanted)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
