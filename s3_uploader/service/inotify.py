"""File-system events: hints that something has appeared in the spool, from ``inotify(7)``.

The system calls are used directly. Libraries for them follow symbolic links, and so watch whatever a link in the spool
leads to. They also wake up many times a second to look for news. Where there are no events (another system, no watches
left, a file system whose changes are made elsewhere) the scan finds everything too, only later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from s3_uploader.core.control import start_thread
from s3_uploader.core.events import Emit, Notice
from s3_uploader.spool.root import is_temporary

_CLOSE_WRITE = 0x8
_MOVED_TO = 0x80
_CREATE = 0x100
_OVERFLOW = 0x4000
_IGNORED = 0x8000
_ONLY_DIRECTORY = 0x1000000
_DO_NOT_FOLLOW = 0x2000000
_IS_DIRECTORY = 0x40000000
# Not IN_MODIFY: a file that is still being written is not ready, and its end is a close.
_WANTED = _CLOSE_WRITE | _MOVED_TO | _CREATE | _ONLY_DIRECTORY | _DO_NOT_FOLLOW
_HEADER = struct.Struct("iIII")
_MOST_BYTES = 1 << 16

Event = tuple[int, int, bytes]
"""Watch, mask and name."""


def file_system_events(directory: str, wake: Callable[[], None], emit: Emit) -> Callable[[], None]:
    """Call ``wake`` whenever something appears below ``directory``; returns a function that ends this.

    ``wake`` is called on a thread of its own, and once when everything is watched, because earlier files may have been
    missed. If there are no events, or not everywhere, a warning says so.
    """
    try:
        inotify = Inotify()
        try:
            ended, end_of_it = os.pipe2(os.O_CLOEXEC)
        except OSError:
            inotify.close()
            raise
    except OSError as error:
        emit(_only_polling(error.strerror or str(error)))
        return lambda: None
    follower = Follower(directory, inotify, wake, emit)
    thread = threading.Thread(
        target=_follow_until, args=(follower, inotify.descriptor, ended), name="s3_uploader-events", daemon=True
    )
    try:
        start_thread(thread)
    except RuntimeError as error:
        # If the thread begins after all, it ends at once. So its descriptors stay open: no number may be reused.
        os.close(end_of_it)
        emit(_only_polling(str(error)))
        return lambda: None

    def end() -> None:
        os.close(end_of_it)
        thread.join()
        os.close(ended)
        inotify.close()

    return end


def _only_polling(reason: str) -> Notice:
    return Notice("warning", f"There are no file-system events. New files are found only by polling: {reason}.")


def _follow_until(follower: Follower, descriptor: int, ended: int) -> None:
    follower.start(go_on=lambda: not _is_readable(ended))
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while all(number != ended for number, _ in poll.poll()):
        with contextlib.suppress(BlockingIOError):
            follower.take(os.read(descriptor, _MOST_BYTES))


def _is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


class Inotify:
    """The system calls.

    :raises OSError: if there is no inotify (``ENOSYS``), or no instance left (``EMFILE``).
    """

    def __init__(self) -> None:
        try:
            import ctypes

            library = ctypes.CDLL(None, use_errno=True)
            self._add_watch: Any = library.inotify_add_watch
            self._last_error: Callable[[], int] = ctypes.get_errno
            self.descriptor: int = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        except (ImportError, AttributeError, MemoryError) as error:
            raise OSError(errno.ENOSYS, "this system has no inotify") from error
        if self.descriptor < 0:
            number = self._last_error()
            if number == errno.EMFILE:
                raise OSError(number, "the limit of inotify instances (fs.inotify.max_user_instances) is reached")
            raise OSError(number, os.strerror(number))

    def add(self, path: bytes) -> int:
        """Watch a directory, but not through a link; returns the number of the watch.

        :raises OSError: ``ENOSPC`` if there is no watch left.
        """
        watch: int = self._add_watch(self.descriptor, path, _WANTED)
        if watch < 0:
            number = self._last_error()
            raise OSError(number, os.strerror(number))
        return watch

    def close(self) -> None:
        """Remove all watches."""
        os.close(self.descriptor)


class Follower:
    """Watches every directory of a tree, and reports what appears there. Belongs to one thread.

    :param inotify: the inotify instance.
    """

    def __init__(self, directory: str, inotify: Inotify, wake: Callable[[], None], emit: Emit) -> None:
        self._directory = os.fsencode(directory)
        self._inotify = inotify
        self._wake = wake
        self._emit = emit
        self._paths: dict[int, bytes] = {}
        self._has_complained = False

    def start(self, *, go_on: Callable[[], bool] = lambda: True) -> None:
        """Watch the whole tree."""
        self._add_tree(self._directory, go_on)
        self._wake()

    def take(self, data: bytes) -> None:
        """Handle data that was read from inotify."""
        is_news = False
        for watch, mask, name in events(data):
            if mask & _OVERFLOW:
                # Directories may have appeared unseen.
                self._add_tree(self._directory)
                is_news = True
            elif mask & _IGNORED:
                self._paths.pop(watch, None)
                # If it was the spool itself, the loop should notice soon.
                is_news = is_news or not self._paths
            elif mask & _IS_DIRECTORY:
                if watch in self._paths:
                    self._add_tree(os.path.join(self._paths[watch], name))
                is_news = True
            elif not is_temporary(os.fsdecode(name)):
                # Our own private names are temporary ones too.
                is_news = True
        if is_news:
            self._wake()

    def _add_tree(self, top: bytes, go_on: Callable[[], bool] = lambda: True) -> None:
        """Watch a directory and all below it. Directories that vanish or cannot be read are ignored."""
        waiting = [top]
        while waiting and go_on():
            path = waiting.pop()
            try:
                # Watch first, then scan: whatever is created in between is found by one of the two.
                self._paths[self._inotify.add(path)] = path
                with os.scandir(path) as entries:
                    waiting.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self._complain()
                    return

    def _complain(self) -> None:
        if not self._has_complained:
            self._has_complained = True
            self._emit(
                Notice(
                    "warning",
                    "The limit of inotify watches (fs.inotify.max_user_watches) is reached: "
                    "in some directories new files are found by polling alone.",
                )
            )


def events(data: bytes) -> Iterator[Event]:
    """Parse the kernel's events: a header, and a name that is padded with zeros."""
    offset = 0
    while offset < len(data):
        watch, mask, _, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        yield watch, mask, data[offset : offset + length].rstrip(b"\0")
        offset += length
