"""Opens a file of the spool, and checks whether it is still the same."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterable

import msgspec

from s3_uploader.core.control import start_thread
from s3_uploader.core.files import close_quietly
from s3_uploader.core.model import Candidate, Fingerprint, Left
from s3_uploader.spool.readiness import is_being_written
from s3_uploader.spool.root import SpoolRoot, why_not_opened

_HELPERS = 3
_WORTH_A_HELPER = 16
_RANGE = 32
"""Most descriptors that are closed in one call, so that every helper has something to do."""
_ONE_TICK_NS = 10_000_000
"""The longest clock tick of a file system: times stamped by one system call differ by no more."""


class OpenFile(msgspec.Struct):
    """A file of the spool, open from before its upload until after its removal.

    It has one descriptor all the way: what was fingerprinted is what is sent, and what is sent is what is removed,
    whatever happens to the name in between.
    """

    candidate: Candidate
    descriptor: int
    fingerprint: Fingerprint
    home: SpoolRoot
    """The tree of its name: the spool, or the claim into which it was taken."""
    writers_are_seen: bool = True
    """Whether the kernel shows writers of the file, on this host at least."""
    on_close: Callable[[], None] | None = None
    """Called when the file is no longer needed: a claimed file that still exists is given back."""

    def why_changed(self) -> Left | None:
        """Say why the file is no longer what was opened: changed, or open for writing. ``None`` if it is unchanged.

        A file that cannot be examined counts as changed.
        """
        try:
            if is_being_written(self.descriptor):
                return Left.BUSY
            is_the_same = Fingerprint.of(os.fstat(self.descriptor)) == self.fingerprint
        except OSError:
            return Left.CHANGED
        return None if is_the_same else Left.CHANGED

    def has_new_content(self) -> bool:
        """Whether the content has changed since the file was opened, or a writer may be changing it.

        A file that was only renamed or removed, or whose mode changed, has changed too (:meth:`why_changed`), but its
        content has not. A file that cannot be examined counts as unchanged.
        """
        try:
            if is_being_written(self.descriptor):
                return True
            return not Fingerprint.of(os.fstat(self.descriptor)).same_content_as(self.fingerprint)
        except OSError:
            return False

    def was_replaced(self) -> bool:
        """Whether its producer has replaced the file by renaming another over its name.

        Another uploader of the same spool leaves no such trace: it removes a file under a private name, which is then
        its last name for this kernel, or at another time than the next file arrives. A rename over a name stamps both
        files at once. In doubt, and where a network file system keeps a replaced file under a name of its own, the
        answer is ``False``.
        """
        name = self.candidate.name
        try:
            gone = os.fstat(self.descriptor)
            if (
                gone.st_nlink
                or os.path.basename(os.readlink(f"/proc/self/fd/{self.descriptor}")) != f"{name} (deleted)"
            ):
                return False
            new = self.home.stat(self.candidate.directory, name)
        except OSError:
            return False
        # Where times are whole seconds they tell nothing.
        is_at_once = abs(new.st_ctime_ns - gone.st_ctime_ns) < _ONE_TICK_NS and not Fingerprint.of(gone).counts_seconds
        return stat.S_ISREG(new.st_mode) and is_at_once

    def look_again(self) -> bool:
        """Take the fingerprint again; returns whether it is still the same.

        :raises OSError: if the file system fails.
        """
        before, self.fingerprint = self.fingerprint, Fingerprint.of(os.fstat(self.descriptor))
        return before == self.fingerprint

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        Closing([self]).finish()


class Closing:
    """Closes many files together; skips those that are closed already.

    The last close of a file without a name frees its blocks, and a file system may wait for the disk each
    time (ext4 does, mounted with ``discard`` and without a journal). On a few threads these waits overlap, with each
    other and with whatever the caller does before :meth:`finish`.
    """

    def __init__(self, files: Iterable[OpenFile]) -> None:
        self._files = [file for file in files if file.descriptor >= 0]
        self._ranges = _ranges([file.descriptor for file in self._files])
        for file in self._files:
            file.descriptor = -1
        self._helpers: list[threading.Thread] = []
        for _ in range(min(_HELPERS, len(self._files) // _WORTH_A_HELPER)):
            helper = threading.Thread(target=self._work)
            # Where there may be no more threads, finish() does the work.
            with contextlib.suppress(RuntimeError):
                start_thread(helper)
                self._helpers.append(helper)

    def finish(self) -> None:
        """Wait until all are closed, and call their clean-up on this thread."""
        self._work()
        for helper in self._helpers:
            helper.join()
        files, self._files = self._files, []
        for file in files:
            if file.on_close is not None:
                file.on_close()

    def _work(self) -> None:
        while True:
            try:
                first, last = self._ranges.pop()
            except IndexError:
                return
            # It ignores errors: the descriptors are gone even then (close(2)), and whatever was to be read has been.
            os.closerange(first, last + 1)


def _ranges(descriptors: list[int]) -> list[tuple[int, int]]:
    """Descriptors as ranges, both ends included. New files get the lowest free numbers, so there are few ranges.

    One call closes a range without holding the interpreter lock.
    """
    ranges: list[tuple[int, int]] = []
    for descriptor in sorted(descriptors):
        if ranges and ranges[-1][1] == descriptor - 1 and descriptor - ranges[-1][0] < _RANGE:
            ranges[-1] = ranges[-1][0], descriptor
        else:
            ranges.append((descriptor, descriptor))
    return ranges


def open_candidate(root: SpoolRoot, candidate: Candidate) -> OpenFile | tuple[Left, str]:
    """Open a candidate that is old enough, or return the reason to leave it, with a detail.

    Writers are checked first and the fingerprint is taken second: a writer that comes and goes between the two has
    changed the file's ctime before the fingerprint, so the fingerprint describes what the reader will see.
    """
    try:
        descriptor = root.open_file(candidate.directory, candidate.name)
    except OSError as error:
        return why_not_opened(error)
    try:
        # For anything but a regular file the kernel cannot tell.
        is_busy = is_being_written(descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            close_quietly(descriptor)
            return Left.SPECIAL, "a FIFO, socket or device"
        if is_busy:
            close_quietly(descriptor)
            return Left.BUSY, "a writer has it open"
        return OpenFile(candidate, descriptor, Fingerprint.of(status), root, writers_are_seen=is_busy is False)
    except OSError as error:
        close_quietly(descriptor)
        return Left.UNREADABLE, error.strerror or str(error)
