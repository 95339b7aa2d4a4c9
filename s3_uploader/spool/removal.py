"""Removes or moves local files that were shipped, in batches, or single ones that cannot be shipped.

Removing a name is where data can be lost: between the last look at a file and the ``unlink`` of its name, a producer
may replace the file by rename, or open it and write more. POSIX has no "remove this name if it is still that file". So
the file is renamed first and checked second:

1. Take a read lease: nobody has the file open for writing, and nobody can open it unnoticed. Is it as it was shipped?
2. ``rename`` it to a private name, :func:`~s3_uploader.spool.root.taken_names`. A process that opens the old
   name from now on gets a new file.
3. Is the renamed file the one that was shipped, and unchanged? If not, a producer replaced it: give it back.
4. Release the lease. Did a writer come meanwhile? Then give the file back too.
5. A moment later, check once more. A writer may have resolved the old name before the rename, and been paused by the
   scheduler before its ``open`` was complete. By now that is complete. Then give the file back, too.
6. Only now remove it, or move it to its target.

The first four are :func:`take`. :class:`RemovalBatch` waits the moment once for all files of a batch. Without leases
only times and size decide. A run that is killed in between leaves the private name behind, which every layout
recognises as a candidate. A private name that exists already may be the only copy of something, so it is never
overwritten. The remaining risk is described in ``docs/guarantees.md``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec

from s3_uploader.core.control import Clock
from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import Fingerprint, Left
from s3_uploader.core.renaming import rename_without_replacing
from s3_uploader.spool.open_file import Closing, OpenFile, is_being_written, release_lease, take_lease
from s3_uploader.spool.root import SpoolRoot, original_name, taken_name, taken_names

if TYPE_CHECKING:
    from s3_uploader.spool.move_target import MoveTarget

MOMENT_SECONDS = 0.01
"""Minimum seconds between the rename of a file and its last check. A process that was paused while it opened the file
by its old name has finished by then."""

_What = TypeVar("_What")


class Detached(msgspec.Struct, frozen=True):
    """A file that was renamed to a private name and was unchanged then.

    :param fingerprint: as it was after the rename, which changes the ctime.
    """

    private: str
    fingerprint: Fingerprint


Outcome: TypeAlias = Left | OSError | StoreError | None
"""The outcome of a file: why it was left, the error, or ``None`` if it was disposed of or is kept on purpose."""


def take(root: SpoolRoot, file: OpenFile) -> Detached | Left:
    """Rename the file to a private name if it is still the file that was opened, unchanged and without a writer.

    :returns: the argument of :func:`remove_taken` and :func:`move_taken`, or why the file was left.
    :raises OSError: if it may not be renamed, as in a read-only directory; it stays where it was.
    """
    try:
        directory = root.directory(file.candidate.directory)
    except FileNotFoundError:
        return Left.VANISHED
    name = file.candidate.name
    lease = take_lease(file.descriptor)
    if lease is False:
        return Left.BUSY
    try:
        if Fingerprint.of(os.fstat(file.descriptor)) != file.fingerprint:
            return Left.CHANGED
        try:
            private = _take(directory, name)
        except FileNotFoundError:
            # Some file systems in user space say so after every rename: then each run would send the file again.
            if _is_same(_found(directory, name), file):
                raise
            return Left.VANISHED
        try:
            # The rename has changed the ctime; what was written since the look before it has changed the mtime too.
            found = _found(directory, private)
            if found is not None and not found.same_content_as(file.fingerprint):
                found = None
            disturbed = False
            if lease:
                lease = None
                disturbed = not release_lease(file.descriptor)
            if found is not None and not disturbed:
                return Detached(private, found)
        except BaseException:
            _give_back(directory, private, name)
            raise
    finally:
        if lease:
            release_lease(file.descriptor)
    _give_back(directory, private, name)
    return Left.CHANGED if found is None else Left.BUSY


def remove_taken(root: SpoolRoot, file: OpenFile, taken: Detached) -> Left | None:
    """Remove a taken file, if no writer has come since.

    :returns: ``None`` when it is removed, else why it was given back.
    :raises OSError: if it may not be removed; it has its old name again.
    """

    def unlink(directory: int, name: str) -> Left | None:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            return None  # Over NFS an answer may be lost, and the repetition finds the work done.
        return None

    return _after_a_last_look(root, file, taken, unlink)


def move_taken(root: SpoolRoot, file: OpenFile, taken: Detached, target: MoveTarget) -> tuple[Left | None, str]:
    """Move a taken file below ``target`` under its path relative to the spool; never overwrites anything.

    :returns: why it was given back, or ``None`` and its new path.
    :raises OSError: if it cannot be moved; it has its old name again.
    """
    moved_to = ""

    def put_there(directory: int, name: str) -> Left | None:
        from s3_uploader.spool.move_target import ChangedWhileCopied

        nonlocal moved_to
        try:
            moved_to = target.receive(directory, name, file, why_not=lambda: _why_not(directory, file, taken))
        except ChangedWhileCopied as changed:
            return changed.reason
        return None

    return _after_a_last_look(root, file, taken, put_there), moved_to


def give_back(spool: SpoolRoot, file: OpenFile, taken: Detached) -> None:
    """Give a taken file its old name again, unless its producer has made a new one meanwhile.

    A leftover stays one while a newer one of its name is in the spool: with that name it would count as the newest.
    """
    name = original_name(file.candidate.name)
    with contextlib.suppress(FileNotFoundError):
        if name == file.candidate.name or not _has_newer_leftover(spool, file):
            _give_back(file.home.directory(file.candidate.directory), taken.private, name)


def remove(root: SpoolRoot, file: OpenFile) -> Left | None:
    """:func:`take` and at once :func:`remove_taken`."""
    taken = take(root, file)
    return taken if isinstance(taken, Left) else remove_taken(root, file, taken)


def move(root: SpoolRoot, file: OpenFile, target: MoveTarget) -> tuple[Left | None, str]:
    """:func:`take` and at once :func:`move_taken`."""
    taken = take(root, file)
    return (taken, "") if isinstance(taken, Left) else move_taken(root, file, taken, target)


def _after_a_last_look(
    root: SpoolRoot, file: OpenFile, taken: Detached, act: Callable[[int, str], Left | None]
) -> Left | None:
    """Call ``act`` on the private name if the file is unchanged; otherwise, or if that fails, give the file back.

    :param act: returns why the file is left all the same.
    """
    try:
        directory = root.directory(file.candidate.directory)
    except FileNotFoundError:
        return Left.VANISHED
    try:
        reason = _why_not(directory, file, taken)
        if reason is None:
            reason = act(directory, taken.private)
    except BaseException:
        _give_back(directory, taken.private, file.candidate.name)
        raise
    if reason not in (None, Left.VANISHED):
        _give_back(directory, taken.private, file.candidate.name)
    return reason


def _why_not(directory: int, file: OpenFile, taken: Detached) -> Left | None:
    if is_being_written(file.descriptor, again=True):
        return Left.BUSY
    if (found := _found(directory, taken.private)) == taken.fingerprint:
        return None
    if Fingerprint.of(os.fstat(file.descriptor)) != taken.fingerprint:
        return Left.CHANGED
    return None if _is_same(found, file) else Left.VANISHED


def _take(directory: int, name: str) -> str:
    """Rename a file to a private name and return it. A leftover has one already, and a very long name cannot get one.

    :raises OSError: if it may not be renamed.
    """
    first = taken_name(name)
    if first is None or original_name(name) != name:
        return name
    for private in itertools.chain((first,), taken_names(name)):
        try:
            # Only this program makes such names, and only one run has the spool: a name that is free now stays free.
            os.stat(private, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            # Inside this block, so that an error of the rename is raised: then the file stays where it is.
            try:
                os.rename(name, private, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError as error:
                # A new name needs room, on btrfs in its trees too; a removal frees some. Encrypted names are shorter.
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG):
                    raise
                return name
            return private
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return name
    raise FileExistsError(errno.EEXIST, "leftovers have all its private names", name)


def _has_newer_leftover(spool: SpoolRoot, file: OpenFile) -> bool:
    candidate = file.candidate
    for name in taken_names(original_name(candidate.name)):
        with contextlib.suppress(FileNotFoundError):
            if (spool.stat(candidate.directory, name).st_mtime_ns, name) > (candidate.mtime_ns, candidate.name):
                return True
    return False


def _found(directory: int, name: str) -> Fingerprint | None:
    """The fingerprint of what has a name now; ``None`` if nothing has it."""
    try:
        return Fingerprint.of(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _is_same(found: Fingerprint | None, file: OpenFile) -> bool:
    return found is not None and (found.device, found.inode) == (file.fingerprint.device, file.fingerprint.inode)


def _give_back(directory: int, private: str, name: str) -> None:
    """Rename a taken file back where that is possible; otherwise the next run takes it up under its private name."""
    if private == name:
        return
    with contextlib.suppress(OSError):
        rename_without_replacing(directory, private, directory, name)


class RemovalBatch(Generic[_What]):
    """Removes one batch after the other: :meth:`take`, a moment later :meth:`dispose`, then :meth:`conclude`.

    Belongs to the thread that owns the spool. Each file carries a value that the caller gets back with its outcome.

    :param keep: files stay where they are.
    :param move_to: the directory to move them to instead of removing them.
    """

    def __init__(self, root: SpoolRoot, *, clock: Clock, keep: bool, move_to: MoveTarget | None) -> None:
        self._root = root
        self._clock = clock
        self._keep = keep
        self._move_to = move_to
        self._taken: list[tuple[OpenFile, _What, Detached | Outcome]] = []
        self._taken_at = 0.0
        self._private: set[str] = set()
        self._disposed: deque[tuple[_What, Outcome]] = deque()
        self._closing: Closing | None = None

    @property
    def has_taken(self) -> bool:
        """Whether there are files for :meth:`dispose`."""
        return bool(self._taken)

    @property
    def disposed(self) -> int:
        """The number of outcomes that :meth:`conclude` has."""
        return len(self._disposed)

    def is_taken(self, path: str) -> bool:
        """Whether this is the private name of a file that is about to be removed, which a scan may meet."""
        return path in self._private

    def take(self, files: Iterable[tuple[OpenFile, _What]]) -> list[_What]:
        """Rename the files of a batch to private names.

        After an exception the files before it are taken, and the others still belong to the caller.

        :returns: the values of the files that have changed.
        """
        # Paths are resolved anew from here on: nothing is removed through a directory that was moved away.
        self._root.refresh()
        changed = []
        for file, what in files:
            outcome = self._take(file)
            self._taken.append((file, what, outcome))
            if isinstance(outcome, Detached):
                self._private.add("/".join((*file.candidate.directory, outcome.private)))
            elif _has_changed(outcome):
                changed.append(what)
        self._taken_at = self._clock.monotonic()
        return changed

    def identities(self) -> set[int]:
        """The ``id()`` of each file of the last batch, which are closed here."""
        return {id(file) for file, _, _ in self._taken}

    def detached(self) -> Iterator[tuple[OpenFile, _What, bool]]:
        """The files of the last batch that are to be removed, and whether each was renamed."""
        for file, what, outcome in self._taken:
            if isinstance(outcome, Detached):
                name = file.candidate.name
                # A leftover of a killed run has lost it already.
                yield file, what, outcome.private != name or original_name(name) != name

    def withhold(self, why_not: Callable[[OpenFile, _What], StoreError | None]) -> None:
        """Give back the files of the last batch for which ``why_not`` returns a reason."""
        for index, (file, what, outcome) in enumerate(self._taken):
            if isinstance(outcome, Detached):
                reason = why_not(file, what)
                if reason is not None:
                    with contextlib.suppress(OSError):
                        give_back(self._root, file, outcome)
                    self._taken[index] = file, what, reason

    def dispose(self, *, changed: Callable[[_What], None] = lambda what: None) -> None:
        """Check the taken files once more, remove or move them, and start closing them, after :meth:`conclude`.

        Called again after an exception it continues there.

        :param changed: called with the value of a file that has changed, while the file is still open.
        """
        if not self._taken:
            return
        pause = self._taken_at + MOMENT_SECONDS - self._clock.monotonic()
        if pause > 0 and self._private:
            self._clock.sleep(pause)
        self._root.refresh()
        for index, (file, what, outcome) in enumerate(self._taken):
            if isinstance(outcome, Detached):
                then = self._dispose(file, outcome)
                self._taken[index] = file, what, then
                if then is not None and _has_changed(then):
                    changed(what)
        taken, self._taken = self._taken, []
        self._private.clear()
        self._disposed.extend([(what, outcome) for _, what, outcome in taken if not isinstance(outcome, Detached)])
        self._closing = Closing([file for file, _, _ in taken])

    def conclude(self) -> Iterator[tuple[_What, Outcome]]:
        """The outcome of each file that was disposed of, once all are closed."""
        closing, self._closing = self._closing, None
        if closing is not None:
            # Over NFS a file that is open keeps a name, and so its directory.
            closing.finish()
        while self._disposed:
            yield self._disposed.popleft()

    def _take(self, file: OpenFile) -> Detached | Outcome:
        try:
            return None if self._keep else take(file.home, file)
        except OSError as error:
            return Left.CHANGED if _is_stale(file, error) else error

    def _dispose(self, file: OpenFile, taken: Detached) -> Outcome:
        try:
            if self._move_to is None:
                return remove_taken(file.home, file, taken)
            return move_taken(file.home, file, taken, self._move_to)[0]
        except OSError as error:
            return Left.CHANGED if _is_stale(file, error) else error


def _is_stale(file: OpenFile, error: OSError) -> bool:
    """Whether the server no longer knows an open file: it was removed or replaced on another host (NFS)."""
    if error.errno != errno.ESTALE:
        return False
    try:
        os.fstat(file.descriptor)
    except OSError as now:
        return now.errno == errno.ESTALE
    return False


def _has_changed(outcome: Detached | Outcome) -> bool:
    return isinstance(outcome, Left) and outcome is not Left.VANISHED
