"""What was learned about a server: what it lacks, what it refuses and how it stores names. All its sessions share it.

Results of expensive tests are remembered from one run to the next. A limitation is tested again as soon as that is
cheap, because a missing permission may have been granted.
"""

from __future__ import annotations

import enum

from s3_uploader.stores.base import Memory

GRANTED = "granted"
"""Stands for "not refused" instead of a path, which begins with a slash."""


class Names(enum.Enum):
    """How a server stores plain names."""

    UNKNOWN = ""
    KEPT = "kept"
    """Names are stored unchanged, and different names are different files."""
    FOLDED = "folded"
    """Names are stored unchanged, but case is ignored."""
    CHANGED = "changed"
    """Some names are changed."""


class Learned:
    """What is known about one server. Any thread may use it.

    :param key: distinguishes this server, user and directory from others in ``memory``.
    :param protocol: the prefix of names in ``memory``.
    """

    def __init__(self, memory: Memory | None = None, *, key: str = "", protocol: str = "ftp") -> None:
        self._memory = memory
        self._protocol = protocol
        self._key = key
        self._known: dict[str, str] = {}
        self.lacks: set[str] = set()
        """Commands that this server does not know or answers incorrectly; for this run."""
        self.sees = False
        """Whether the server has reported an existing file, so that "not found" can be trusted; for this run."""

    @property
    def names(self) -> Names:
        """How plain names are stored."""
        found = self.get("names")
        return Names(found) if found in {each.value for each in Names} else Names.UNKNOWN

    @names.setter
    def names(self, names: Names) -> None:
        if names is Names.CHANGED and not self.sees:
            # A server that shows nothing does not show its names either. The next run finds out anew.
            self._known["names"] = names.value
        else:
            self.put("names", names.value)

    @property
    def takes_no_hidden_names(self) -> bool:
        """Whether the server refused a name with a leading dot and accepted the same name without it."""
        return self.get("hidden-names") == "refused"

    @takes_no_hidden_names.setter
    def takes_no_hidden_names(self, refused: bool) -> None:
        self.put("hidden-names", "refused" if refused else "")

    @property
    def has_shown_files(self) -> bool:
        """Whether the server has shown a test file, in this run or an earlier one."""
        return self.get("shows-files") == "yes"

    @has_shown_files.setter
    def has_shown_files(self, shown: bool) -> None:
        self.put("shows-files", "yes" if shown else "")

    def refusing(self, permission: str) -> str:
        """The path of our file where a permission was refused; ``GRANTED`` if it was not refused; empty if unknown."""
        return self.get(f"refuses-{permission}")

    def refused(self, permission: str, path: str) -> None:
        """Note that a permission is missing, or with an empty path that it is granted."""
        if self.refusing(permission) != path:
            self.put(f"refuses-{permission}", path)

    def get(self, name: str) -> str:
        """The value of a name, empty if there is none."""
        if name not in self._known:
            found = None if self._memory is None else self._memory.get(f"{self._protocol}-{name} {self._key}")
            self._known[name] = found or ""
        return self._known[name]

    def put(self, name: str, value: str) -> None:
        """Note a value."""
        if self.get(name) != value:
            self._known[name] = value
            if self._memory is not None:
                self._memory.set(f"{self._protocol}-{name} {self._key}", value)
