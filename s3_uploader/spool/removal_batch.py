"""Recorded files on their way out of the spool: taken, a moment later looked at once more, disposed of, closed."""

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
"""For so long at least a file has had no name that its producer knows when it is looked at for the last time. Who was
stopped in the middle of opening it by that name, by the scheduler or the machine below, has come by then."""

_What = TypeVar("_What")

Outcome: TypeAlias = Left | OSError | StoreError | None
"""What became of a file: why it was left, what kept it there, or ``None`` if it was disposed of or is kept."""


class RemovalBatch(Generic[_What]):
    """One batch after the other leaves: :meth:`take`, a moment later :meth:`dispose`, then :meth:`conclude`.

    Belongs to the thread that owns the spool. With each file goes whatever the caller wants to have back with its
    outcome: ``None`` if it was disposed of or is kept, else why it was left, or the error that kept it there.

    :param keep: files stay where they are.
    :param move_to: where they go instead of being removed.
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
        """Whether there are files that :meth:`dispose` has to turn to."""
        return bool(self._taken)

    @property
    def has_disposed(self) -> bool:
        """Whether there are outcomes that :meth:`conclude` has to tell."""
        return bool(self._disposed)

    def is_taken(self, path: str) -> bool:
        """Whether that is the private name of a file that is about to be removed, which a scan may come across."""
        return path in self._private

    def take(self, files: Iterable[tuple[OpenFile, _What]]) -> list[_What]:
        """Take the files of a batch from the names that their producers know.

        After an exception the files up to it are taken, and those from it on are the caller's still.

        :returns: what goes with those that turned out to have changed.
        """
        # Paths are resolved anew from here on: nothing is removed through a directory that was moved away.
        self._root.refresh()
        for file, what in files:
            outcome = self._take(file)
            self._taken.append((file, what, outcome))
            if isinstance(outcome, Detached):
                self._private.add("/".join((*file.candidate.directory, outcome.private)))
        self._taken_at = self._clock.monotonic()
        return [what for _, what, outcome in self._taken if _has_changed(outcome)]

    def identities(self) -> set[int]:
        """``id()`` of each file of the last batch: these are closed here."""
        return {id(file) for file, _, _ in self._taken}

    def detached(self) -> Iterator[tuple[OpenFile, _What, bool]]:
        """The files of the last batch that are to go, and whether each has lost the name that its producer knows."""
        for file, what, outcome in self._taken:
            if isinstance(outcome, Detached):
                yield file, what, original_name(outcome.private) != outcome.private

    def withhold(self, why_not: Callable[[OpenFile, _What], StoreError | None]) -> None:
        """Give those files of the last batch back, of which ``why_not`` says so before they are disposed of."""
        for index, (file, what, outcome) in enumerate(self._taken):
            if isinstance(outcome, Detached):
                reason = why_not(file, what)
                if reason is not None:
                    with contextlib.suppress(OSError):
                        give_back(file.home, file, outcome)
                    self._taken[index] = file, what, reason

    def dispose(self, *, changed: Callable[[_What], None] = lambda what: None) -> None:
        """Look once more at what was taken, remove it or move it away, and begin to close the files.

        Called again after an exception it goes on where that was.

        :param changed: called with what goes with a file that turned out to have changed, while that is still open.
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
                if _has_changed(then):
                    changed(what)
        taken, self._taken = self._taken, []
        self._private.clear()
        self._disposed.extend((what, outcome) for _, what, outcome in taken if not isinstance(outcome, Detached))
        self._closing = Closing(file for file, _, _ in taken)

    def conclude(self) -> Iterator[tuple[_What, Outcome]]:
        """What became of each file that was disposed of, once all of them are closed."""
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
