"""What a share sees of a spool: its own files, and all directories in which such may be.

Files belong to a share by their paths, or by their locations: the first part of the path. Then all below it is the
share's, and other locations are not even read. Foreign names are dropped before anything is asked of their files. An
entry that the layout does not recognise belongs to a share by its name too, so that only one of them reports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3_uploader.core.model import Left
from s3_uploader.core.shares import Share
from s3_uploader.spool.root import DIRECTORY, Kind, Names, Skip, original_name


class OwnFiles:
    """Selects the files of a share, or of several.

    A leftover belongs to whom its file belongs: only its owner may take it for abandoned.

    :param by_location: by the first part of the path, and not by all of it.
    """

    def __init__(self, *shares: Share, by_location: bool = False) -> None:
        self._shares = shares
        self._by_location = by_location

    def _select(self, directory: Sequence[str], names: Sequence[str]) -> list[bool]:
        if len(self._shares) == 1:
            return self._shares[0].select(directory, names)
        return [any(each) for each in zip(*(share.select(directory, names) for share in self._shares), strict=True)]

    def locations(self, names: Sequence[str]) -> list[str]:
        """Of the directories at the top those in which files of the share may be."""
        picked = self._select((), names)
        return [name for name, mine in zip(names, picked, strict=True) if mine or not self._by_location]

    def entries(self, names: Names, entries: Sequence[tuple[str, Kind]]) -> list[tuple[str, Kind]]:
        """Of the entries of a directory, each a name and its kind, the directories and those of the share."""
        if self._by_location and names:
            return list(entries) if self._select((), names[:1])[0] else []
        picked = self._select(names, [original_name(name) for name, _ in entries])
        sees_all = not self._by_location
        return [
            entry for entry, mine in zip(entries, picked, strict=True) if mine or (sees_all and entry[1] is DIRECTORY)
        ]

    def keys(self, keys: Mapping[str, str]) -> dict[str, str]:
        """Of names and their keys those whose keys belong to the share: two names of one key have one owner."""
        owners = [key.split("/", 1)[0] for key in keys.values()] if self._by_location else list(keys.values())
        picked = self._select((), owners)
        return {name: key for (name, key), mine in zip(keys.items(), picked, strict=True) if mine}

    def skips(self, skip: Skip) -> Skip:
        """Wrap ``skip`` for the entries of the share. An unreadable directory concerns every share."""

        def skip_own(names: Names, name: str, reason: Left, detail: str) -> None:
            path = (*names, original_name(name))
            owner = path[0] if self._by_location else "/".join(path)
            if reason is Left.UNREADABLE or any(share.owns(owner) for share in self._shares):
                skip(names, name, reason, detail)

        return skip_own
