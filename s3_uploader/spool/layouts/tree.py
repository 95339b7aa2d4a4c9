"""The layout ``tree``: every regular file below the spool, its key is its relative path.

Paths have no time here, so a file's mtime is its data time: within a directory the oldest file comes first (within
each block, where a directory has more entries than are held in memory at once). Names of unfinished files are never
candidates, and neither is anything in a directory with such a name (``.rsync-partial``, for example).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING

from s3_uploader.core.model import Candidate, Left
from s3_uploader.spool.layouts.base import EmptyDirectory, Found, Globs, NoCandidate
from s3_uploader.spool.root import (
    DIRECTORY,
    FILE,
    Kind,
    Names,
    Skip,
    SpoolRoot,
    in_blocks,
    is_temporary,
    listed,
    looked_at,
    original_name,
    skip_entry,
)

if TYPE_CHECKING:
    from s3_uploader.spool.layouts.sharing import OwnFiles

_OLDEST_FIRST = operator.attrgetter("mtime_ns", "name")


class TreeLayout:
    """Reads any tree.

    :param settle_seconds: how long an empty directory must have been unchanged before it may be pruned.
    :param globs: which of the files are candidates; ``None`` for all.
    :param own: the files of a share, which alone are candidates; ``None`` for all.
    """

    def __init__(self, *, settle_seconds: float, globs: Globs | None, own: OwnFiles | None = None) -> None:
        self._settle_seconds = settle_seconds
        self._globs = globs
        self._own = own

    def scan(self, root: SpoolRoot, skip: Skip) -> Iterator[Found]:
        """See :class:`s3_uploader.spool.layouts.base.Layout`."""
        if self._own is not None:
            skip = self._own.skips(skip)
        waiting: list[Names] = [()]
        while waiting:
            names = waiting.pop()
            below: list[str] = []
            empty = True
            for block in in_blocks(listed(root, names, skip)):
                empty = False
                if self._own is not None:
                    block = self._own.entries(names, block)
                    if not block:
                        yield NoCandidate()
                files = []
                for name, kind in block:
                    if kind is DIRECTORY and not is_temporary(name):
                        below.append(name)
                    elif self._is_candidate(names, name, kind, skip):
                        files.append(name)
                yield from sorted(candidates(root, names, files, skip), key=_OLDEST_FIRST)
            waiting.extend((*names, name) for name in sorted(below, reverse=True))
            if empty and names:
                yield EmptyDirectory(names)

    def _is_candidate(self, names: Names, name: str, kind: Kind, skip: Skip) -> bool:
        original = original_name(name)
        if kind is not FILE:
            skip_entry(skip, names, name, kind, "a temporary name")
        elif is_temporary(original):
            skip(names, name, Left.UNMATCHED, "a temporary name")
        elif self._globs is not None and not self._globs.admits(names, original):
            skip(names, name, Left.EXCLUDED, "")
        else:
            return True
        return False

    def may_prune(self, names: Names, *, now: float, child: Names | None, mtime: float) -> bool:
        """A directory may be pruned when it has been unchanged for the settle time."""
        return mtime + self._settle_seconds <= now


def candidates(root: SpoolRoot, names: Names, files: list[str], skip: Skip) -> Iterator[Candidate]:
    """Convert the files of a directory to candidates whose keys are their relative paths.

    Vanished ones are reported.
    """
    for name in files:
        status = looked_at(root, names, name, skip)
        if status is None:
            continue
        yield Candidate(
            directory=names,
            name=name,
            key="/".join((*names, original_name(name))),
            period_begin=None,
            period_end=None,
            location=names[0] if names else "",
            mtime_ns=status.st_mtime_ns,
            size=status.st_size,
        )
