"""Temporary names on the server, and the removal of what killed runs left under such names."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import secrets
import time
from collections.abc import Callable

from s3_uploader.core import procfs
from s3_uploader.stores.file_servers.base import FileSession, Listed, Lost, Refused
from s3_uploader.stores.file_servers.holder import machine_id, start_of

PART = ".s3-uploader-part"
NAMES = ".s3-uploader-names"
INTENT = ".s3-uploader-lock"
"""Of a file that exists while its maker makes the lock file; see :mod:`s3_uploader.stores.file_servers.lock`."""
_OURS = re.compile(
    r"\.?[0-9a-f]{8}-([0-9a-f]{8})-([0-9a-f]{4})([0-9a-f]{4})-([0-9a-f]{1,8})-([0-9a-f]{1,16})"
    rf"({re.escape(PART)}|{re.escape(NAMES)}|{re.escape(INTENT)})"
)
_MOST_LISTED_BYTES = 1 << 20
_MOST_REMOVED = 1000
_OLD_SECONDS = 2 * 86400.0
"""A file that has not changed for so long is not in flight. Few servers' clocks are wrong by as much, those of boards
without a battery for example; so it does not count where the process can be seen."""

_CLOCKS_DIFFER_SECONDS = 60


class PartNames:
    """Makes a new name for each upload. The next run can tell from it who made it, and whether that process still runs.

    A name is never used twice, so the file has the length of what this upload sent. Otherwise a server might store a
    file beside an existing one, for example a killed run's, and report the size of that one.

    :param identity: distinguishes this uploader from others that write to the same directory, e.g. its spool.
    """

    def __init__(self, identity: str, *, now: Callable[[], float] = time.time) -> None:
        self.leftovers: set[str] = set()
        """Files and directories whose removal failed because the connection was lost; the next connection removes
        them."""
        self._now = now
        self._knows_machine = bool(machine_id())
        self._owner = _digest(f"{os.uname().nodename} {machine_id()} {identity}", 8)
        self._boot = _digest(procfs.boot_id(), 4)
        self._booted_at = procfs.boot_time() or math.inf
        self._namespace = _digest(procfs.pid_namespace(), 4)
        self._process = f"{os.getpid():x}-{procfs.start_ticks(os.getpid()):x}"

    def new(self, *, hidden: bool, kind: str = PART) -> str:
        """A name that was never used before. Apart from the dot that hides it, it is plain."""
        dot = "." if hidden else ""
        nonce = secrets.token_hex(4)
        return f"{dot}{nonce}-{self._owner}-{self._boot}{self._namespace}-{self._process}{kind}"

    def leave_behind(self, path: str) -> None:
        """Remember what could not be removed."""
        # Bounded. The next run finds the rest.
        if len(self.leftovers) < _MOST_REMOVED:
            self.leftovers.add(path)

    def remove_leftovers(self, session: FileSession) -> None:
        """Remove what could not be removed before."""
        while self.leftovers and session.usable:
            try:
                path = self.leftovers.pop()
            except KeyError:
                return  # another thread removes them
            try:
                remove(session, path)
            except Refused:
                pass
            except Lost:
                self.leave_behind(path)
                return

    def is_left_over(self, name: str, *, modified: float | None = None) -> bool:
        """Whether ``name`` was made by a run of the same spool on this machine that has ended."""
        found = _OURS.fullmatch(name)
        if found is None or found[1] != self._owner:
            return False
        if (found[2], found[3]) == (self._boot, self._namespace):
            # A pid is reused, but not together with the start time.
            return start_of(int(found[4], 16)) != str(int(found[5], 16))
        if modified is not None and modified < self._now() - _OLD_SECONDS:
            return True
        if found[2] == self._boot:
            return False  # another container, whose processes are not visible here
        # Rebooted since then; without an identifier it may be another machine. A clone has the same one, but what it
        # has in flight changes after this machine was booted.
        return self._knows_machine and (modified is None or modified <= self._booted_at + _CLOCKS_DIFFER_SECONDS)

    def is_of_another_boot(self, name: str) -> bool:
        """Whether ``name`` was made for the same spool before the last boot, or by a clone of this machine."""
        found = _OURS.fullmatch(name)
        return found is not None and found[1] == self._owner and found[2] != self._boot

    def is_of_this_process(self, name: str) -> bool:
        """Whether ``name`` was made by the current process for the same spool."""
        return name.lstrip(".")[9:].startswith(f"{self._owner}-{self._boot}{self._namespace}-{self._process}.")

    def sweep(self, session: FileSession, directory: str) -> None:
        """Remove the files that killed runs of this uploader left in a directory.

        This comes before any upload there: a server may still be about to rename an old part to its final name.
        """
        found: list[str] = []

        def collect(listed: Listed) -> None:
            if len(found) < _MOST_REMOVED and self.is_left_over(listed.name, modified=listed.modified):
                found.append(f"{directory.rstrip('/')}/{listed.name}")

        with contextlib.suppress(Refused):
            session.listing(directory, collect, most=_MOST_LISTED_BYTES)
        for path in found:
            remove(session, path)


def remove(session: FileSession, path: str) -> None:
    """Remove a temporary file of ours, or a directory in which a name was tried."""
    if not path.endswith(NAMES):
        session.delete(path)
        return
    names: list[str] = []

    def collect(listed: Listed) -> None:
        if len(names) < 10 and listed.name not in (".", "..") and "/" not in listed.name:
            names.append(listed.name)

    with contextlib.suppress(Refused):
        session.listing(path, collect, most=_MOST_LISTED_BYTES)
    with contextlib.suppress(Refused):
        for name in names:
            if not session.delete(f"{path}/{name}"):
                with contextlib.suppress(Refused):
                    session.remove_directory(f"{path}/{name}")
        session.remove_directory(path)


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:digits]
