"""Finds an object in the spool if its destination leads back to the spool."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator

from s3_uploader.spool.root import Names, SpoolRoot

_TOP_DIRECTORIES = 300


def likely_places(root: SpoolRoot, key: str, *, one_deeper: bool) -> Iterator[tuple[Names, str]]:
    """The directories and names under which an object may appear: its key, or the end of it if the spool is deeper.

    :param one_deeper: also look below each directory of the spool, where the destination may be.
    """
    names = tuple(key.split("/"))
    for begin in range(len(names)):
        if all(names[begin:]):
            yield names[begin:-1], names[-1]
    if not one_deeper or not all(names):
        return
    try:
        entries = itertools.islice(root.entries(()), _TOP_DIRECTORIES)
        tops = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for top in tops:
        yield (top, *names[:-1]), names[-1]


def find(root: SpoolRoot, key: str, *, seconds: float) -> str | None:
    """Find the path in the spool of an object with a unique name; ``None`` if it does not appear in time."""
    for names, name in likely_places(root, key, one_deeper=True):
        try:
            root.stat(names, name)
        except (OSError, ValueError):
            continue
        return "/".join((*names, name))
    wanted = key.rpartition("/")[2]
    until = time.monotonic() + seconds
    directories: deque[Names] = deque([()])
    while directories:
        names = directories.popleft()
        try:
            for entry in root.entries(names):
                if entry.name == wanted:
                    return "/".join((*names, wanted))
                if entry.is_dir(follow_symlinks=False):
                    directories.append((*names, entry.name))
                if time.monotonic() > until:
                    return None
        except OSError:
            continue
    return None
