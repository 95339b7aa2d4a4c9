"""Removes recorded files in batches: take, check once more a moment later, dispose of, close."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeAlias, TypeVar

from s3_uploader.core.control import Clock
from s3_uploader.core.errors import StoreError
from s3_uploader.core.model import Left
from s3_uploader.spool.layouts.base import original_name
from s3_uploader.spool.open_file import Closing, OpenFile
from s3_uploader.spool.removal import Detached, MoveTarget, give_back, move_taken, remove_taken, take
from s3_uploader.spool.root import SpoolRoot

MOMENT_SECONDS = 0.01
"""Least seconds between the rename of a file and its last check. A process that was paused while it opened the file by
its old name has come by then."""

_What = TypeVar("_What")

Outcome: TypeAlias = Left | OSError | StoreError | None
"""The outcome of a file: why it was left, the error, or ``None`` if it was disposed of or is kept on purpose."""


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
    def has_disposed(self) -> bool:
        """Whether there are outcomes for :meth:`conclude`."""
        return bool(self._disposed)

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
                        give_back(file.home, file, outcome)
                    self._taken[index] = file, what, reason

    def dispose(self, *, changed: Callable[[_What], None] = lambda what: None) -> None:
        """Check the taken files once more, remove or move them, and start closing them.

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
            return error

    def _dispose(self, file: OpenFile, taken: Detached) -> Outcome:
        try:
            if self._move_to is None:
                return remove_taken(file.home, file, taken)
            return move_taken(file.home, file, taken, self._move_to)[0]
        except OSError as error:
            return error


def _has_changed(outcome: Detached | Outcome) -> bool:
    return isinstance(outcome, Left) and outcome is not Left.VANISHED
