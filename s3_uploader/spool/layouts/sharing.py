"""What a share sees of a spool: its own files, and all directories.

Foreign names are dropped before anything is asked of their files. An entry that the layout does not recognise belongs
to a share by its name too, so that it is told once and not by each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3_uploader.core.model import Left
from s3_uploader.core.shares import Share
from s3_uploader.spool.layouts.base import Skip, original_name
from s3_uploader.spool.root import Names


class OwnFiles:
    """Tells the files of a share from all others.

    A leftover belongs to whom its file belongs: only its owner may take it for abandoned.
    """

    def __init__(self, share: Share) -> None:
        self._share = share

    def entries(self, names: Names, entries: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Of the entries of a directory, each a name and its kind, the directories and those of the share."""
        picked = self._share.select(names, [original_name(name) for name, _ in entries])
        return [entry for entry, mine in zip(entries, picked, strict=True) if mine or entry[1] == "directory"]

    def keys(self, keys: Mapping[str, str]) -> dict[str, str]:
        """Of names and their keys those whose keys belong to the share: two names of one key have one owner."""
        picked = self._share.select((), keys.values())
        return {name: key for (name, key), mine in zip(keys.items(), picked, strict=True) if mine}

    def skips(self, skip: Skip) -> Skip:
        """``skip`` for the entries of the share. That a directory cannot be read concerns every share."""

        def skip_own(names: Names, name: str, reason: Left, detail: str) -> None:
            if reason is Left.UNREADABLE or self._share.owns("/".join((*names, original_name(name)))):
                skip(names, name, reason, detail)

        return skip_own
