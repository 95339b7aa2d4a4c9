"""What was learned of a server: what it lacks, what it refuses and what it makes of names, for all its sessions.

What costs something to find out is remembered from one run to the next. Whatever makes uploads worse is asked anew as
soon as there is a cheap way to: a right that was missing may have been given.
"""

from __future__ import annotations

import enum

from s3_uploader.stores.base import Memory

GRANTED = "granted"
"""Instead of a path, which begins with a slash: the right is there."""


class Names(enum.Enum):
    """What a server makes of plain names."""

    UNKNOWN = ""
    KEPT = "kept"
    """They are stored as they are, and two that differ are two."""
    FOLDED = "folded"
    """They are stored as they are, but upper and lower case are the same."""
    CHANGED = "changed"
    """Some are stored under other names."""


class Learned:
    """Any thread may use it.

    :param key: what tells this server, user and directory from others in ``memory``.
    :param protocol: what the server speaks, as names in ``memory`` begin.
    """

    def __init__(self, memory: Memory | None = None, *, key: str = "", protocol: str = "ftp") -> None:
        self._memory = memory
        self._protocol = protocol
        self._key = key
        self._known: dict[str, str] = {}
        self.lacks: set[str] = set()
        """Commands that this server does not know, or answers without sense; for this run."""
        self.sees = False
        """Whether the server has told of a file that is there, so that its silence means something; for this run."""

    @property
    def names(self) -> Names:
        """What becomes of plain names."""
        found = self.get("names")
        return Names(found) if found in {each.value for each in Names} else Names.UNKNOWN

    @names.setter
    def names(self, names: Names) -> None:
        self.put("names", names.value)

    @property
    def takes_no_hidden_names(self) -> bool:
        """Whether the server refused a name with a dot at its beginning and took the same name without."""
        return self.get("hidden-names") == "refused"

    @takes_no_hidden_names.setter
    def takes_no_hidden_names(self, refused: bool) -> None:
        self.put("hidden-names", "refused" if refused else "")

    def refusing(self, right: str) -> str:
        """The path of a file of ours at which ``rename`` or ``delete`` was refused; ``GRANTED`` if not; or empty."""
        return self.get(f"refuses-{right}")

    def refused(self, right: str, path: str) -> None:
        """Note that a right is missing, or with an empty path that it is not."""
        if self.refusing(right) != path:
            self.put(f"refuses-{right}", path)

    def get(self, name: str) -> str:
        """What is known under a name, empty if nothing is."""
        if name not in self._known:
            found = None if self._memory is None else self._memory.get(f"{self._protocol}-{name} {self._key}")
            self._known[name] = found or ""
        return self._known[name]

    def put(self, name: str, value: str) -> None:
        """Note it."""
        if self.get(name) != value:
            self._known[name] = value
            if self._memory is not None:
                self._memory.set(f"{self._protocol}-{name} {self._key}", value)
