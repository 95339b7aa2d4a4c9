"""What is known of an endpoint: does it honour conditional writes, does it answer with checksums.

Amazon does both. Of others it is found out once, by the first upload, and remembered: nothing else tells a server that
overwrites in spite of ``If-None-Match`` (``rclone serve s3``) from one that does not.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Literal, TypeAlias

from s3_uploader.stores.base import Memory

Conditional: TypeAlias = Literal["yes", "ignored", "refused", ""]
"""Of ``If-None-Match: *``: honoured; overwritten in spite of it; answered with 501; not known."""


_KNOWN: dict[str, Conditional] = {"yes": "yes", "ignored": "ignored", "refused": "refused"}


class NoMemory:
    """A :class:`~s3_uploader.stores.base.Memory` that keeps what it is told for as long as it lives."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """What is known under the key."""
        return self._known.get(key)

    def set(self, key: str, value: str) -> None:
        """Remember it."""
        self._known[key] = value


class Capabilities:
    """What one endpoint can do.

    :param key: what it is remembered under.
    :param trusted: it is Amazon's own, which needs no finding out.
    """

    def __init__(
        self, *, memory: Memory, key: str, trusted: bool, notice: Callable[[str, str], None], name: str
    ) -> None:
        self._memory = memory
        self._key = key
        self._notice = notice
        self._name = name
        self._lock = threading.Lock()
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._finding_out = False
        known = "yes" if trusted else memory.get(f"conditional-put {key}")
        self.conditional: Conditional = _KNOWN.get(known or "", "")
        self.trusted = trusted
        self._checksums_trusted = memory.get(f"checksum-answers {key}") == "yes"
        if self.conditional in ("ignored", "refused"):
            self._warn()

    @property
    def checksums_trusted(self) -> bool:
        """The endpoint has answered with the right checksum and the right MD5 before, so one of them will do."""
        return self._checksums_trusted

    def saw_both_proofs(self) -> None:
        """An answer carried the right checksum, and the right MD5 too."""
        if not self._checksums_trusted:
            self._checksums_trusted = True
            self._memory.set(f"checksum-answers {self._key}", "yes")

    def admit(self, go: Callable[[], None]) -> bool | None:
        """Ask to go ahead with a conditional write.

        :returns: ``None``: it is known, go ahead; ``True``: it is yours to find out, and :meth:`found` must
            be called; ``False``: somebody is about to find out, and ``go`` will be called.
        """
        if self.conditional:
            return None
        with self._lock:
            if self.conditional:
                return None
            if self._finding_out:
                self._waiting.append(go)
                return False
            self._finding_out = True
            return True

    def found(self, conditional: Conditional) -> None:
        """The upload that was to find out is over; an empty value leaves it to the next one."""
        with self._lock:
            self._finding_out = False
            if conditional:
                self.conditional = conditional
            ready = list(self._waiting)
            self._waiting.clear()
        if conditional:
            self._memory.set(f"conditional-put {self._key}", conditional)
            if conditional != "yes":
                self._warn()
        for go in ready:
            go()

    def refuses(self) -> None:
        """The endpoint answered a conditional write with 501."""
        with self._lock:
            known = self.conditional
            self.conditional = "refused"
        if known != "refused":
            self._memory.set(f"conditional-put {self._key}", "refused")
            self._warn()

    def _warn(self) -> None:
        self._notice(
            "warning",
            f"{self._name} does not know conditional writes: before it writes, the program looks whether the "
            "key is taken, but if two writers use the same key at the same time, one can replace the other's object.",
        )
