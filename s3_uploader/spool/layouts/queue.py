"""The layout ``queue``: one flat directory, the name of a file is its URL-encoded key.

``2012-06-14%2F01.txt`` is the key ``2012-06-14/01.txt``. A name that does not decode to a valid key (a percent sign
without an escape, bytes that are not UTF-8) is reported and kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.model import Left
from s3_uploader.spool.layouts.base import Found, Globs, NoCandidate
from s3_uploader.spool.layouts.tree import candidates
from s3_uploader.spool.root import (
    FILE,
    Kind,
    Names,
    Skip,
    SpoolRoot,
    in_blocks,
    is_temporary,
    listed,
    original_name,
    skip_entry,
)

if TYPE_CHECKING:
    from s3_uploader.spool.layouts.sharing import OwnFiles

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class QueueLayout:
    """Reads a flat directory of URL-encoded names, oldest mtime first. Directories in it are ignored.

    :param globs: which of the files are candidates; ``None`` for all.
    :param own: the keys of a share, which alone are candidates; ``None`` for all.
    """

    def __init__(self, *, globs: Globs | None, own: OwnFiles | None = None) -> None:
        self._globs = globs
        self._own = own

    def scan(self, root: SpoolRoot, skip: Skip) -> Iterator[Found]:
        """See :class:`s3_uploader.spool.layouts.base.Layout`."""
        if self._own is not None:
            skip = self._own.skips(skip)
        for block in in_blocks(listed(root, (), skip)):
            keys: dict[str, str] = {}
            for name, kind in block:
                key = self._key_of(name, kind, skip)
                if key is not None:
                    keys[name] = key
            if self._own is not None:
                keys = self._own.keys(keys)
                if not keys:
                    yield NoCandidate()
            found = sorted(candidates(root, (), list(keys), skip), key=lambda found: (found.mtime_ns, found.name))
            for candidate in found:
                yield msgspec.structs.replace(candidate, key=keys[candidate.name])

    def _key_of(self, name: str, kind: Kind, skip: Skip) -> str | None:
        original = original_name(name)
        if kind is not FILE:
            skip_entry(skip, (), name, kind, "a directory; the queue is flat")
        elif is_temporary(original):
            skip((), name, Left.UNMATCHED, "a temporary name")
        elif self._globs is not None and not self._globs.admits((), original):
            skip((), name, Left.EXCLUDED, "")
        else:
            key = decode_key(original)
            if key is None:
                skip((), name, Left.UNDECODABLE, "its name is not a URL-encoded key")
            return key
        return None

    def may_prune(self, names: Names, *, now: float, child: Names | None, mtime: float) -> bool:
        """A queue has no directories to prune."""
        return False


def decode_key(name: str) -> str | None:
    """Decode a name to its key; ``None`` if it encodes none."""
    raw = os.fsencode(name)
    if _STRAY_PERCENT.search(raw):
        return None
    decoded = _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), raw)
    try:
        return decoded.decode("utf-8") or None
    except UnicodeDecodeError:
        return None
