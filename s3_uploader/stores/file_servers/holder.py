"""The identity of the process that made a file at the server, so that a later process can tell whether it exists."""

from __future__ import annotations

import contextlib
import os
import socket

import msgspec

from s3_uploader.core import procfs
from s3_uploader.core.files import open_at_once, replace_file

NOTES_NAME = "remote-locks"
"""The name of the file of :class:`LockNotes` in the state directory."""
_UNKNOWN = "-"
_MOST_NOTED = 16
_LONGEST_NOTES = 1 << 16


class Holder(msgspec.Struct, frozen=True):
    """A process. Unknown fields are a hyphen."""

    host: str
    machine: str
    boot: str
    pids: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Holder:
        """The current process."""
        return cls(
            host=socket.gethostname().replace(" ", "") or _UNKNOWN,
            machine=machine_id() or _UNKNOWN,
            boot=procfs.boot_id() or _UNKNOWN,
            pids=procfs.pid_namespace() or _UNKNOWN,
            pid=os.getpid(),
            started=start_of(os.getpid()) or _UNKNOWN,
        )

    def line(self, nonce: str) -> str:
        """The holder as a line of the lock file."""
        return f"s3-uploader {self.host} {self.machine} {self.boot} {self.pids} {self.pid} {self.started} {nonce}"

    @classmethod
    def of_line(cls, line: str) -> Holder | None:
        """Parse a line of a lock file; ``None`` if this program did not write it."""
        words = line.split(" ")
        if len(words) != 8 or words[0] != "s3-uploader" or not (words[5].isascii() and words[5].isdigit()):
            return None
        if len(words[5]) > 10:
            return None
        return cls(words[1], words[2], words[3], words[4], int(words[5]), words[6])

    def is_this_process(self) -> bool:
        """Whether it is known to be the current process."""
        return self == Holder.current() and self._can_be_seen()

    def is_gone(self, *, is_noted: bool, is_alone: bool = False) -> bool:
        """Whether the process is known to have ended; ``False`` if that cannot be told from this machine.

        :param is_noted: whether a run of this state directory has noted it as its own (:class:`LockNotes`).
        :param is_alone: whether there is only one such run at a time, and this process is that run now.
        """
        if self.is_of_another_boot():
            # No process survives a reboot. But the clone of a machine has its host name and its identifier.
            return is_noted
        if self._is_of_another_container():
            # Its process is not visible here. In this respect, a container that was started again is another container.
            return is_noted and is_alone
        # A pid is reused, but not together with the start time.
        return self._can_be_seen() and start_of(self.pid) != self.started

    def is_alive(self) -> bool:
        """Whether the process is known to run on this machine."""
        return self._can_be_seen() and start_of(self.pid) == self.started

    def is_of_another_boot(self) -> bool:
        """Whether it ran on this machine before the last boot, or runs on a clone of this machine."""
        here = Holder.current()
        is_known = _UNKNOWN not in (self.machine, self.boot, here.boot)
        return is_known and (self.host, self.machine) == (here.host, here.machine) and self.boot != here.boot

    def _is_of_another_container(self) -> bool:
        here = Holder.current()
        is_known = _UNKNOWN not in (self.boot, self.pids, here.pids)
        is_here = (self.host, self.machine, self.boot) == (here.host, here.machine, here.boot)
        return is_known and is_here and self.pids != here.pids

    def _can_be_seen(self) -> bool:
        """Whether the process is seen from here as long as it runs."""
        here = Holder.current()
        # A boot identifies its machine, so the identifier of the machine may be missing, as in many containers.
        is_known = _UNKNOWN not in (self.boot, self.pids, self.started)
        return is_known and (self.host, self.machine, self.boot, self.pids) == (
            here.host,
            here.machine,
            here.boot,
            here.pids,
        )


class LockNotes:
    """Notes of the locks that runs have made at servers, in a small file of the state directory.

    A lock of an earlier boot was left by this machine if it is noted here. Otherwise it may be the lock of a clone of
    this machine, which is at work. A lock is noted before it exists, and forgotten when it was removed.

    :param path: the file, ``None`` if there is no place for one; then nothing is noted.
    :param is_alone: whether no two processes that make such notes run at a time.
    """

    def __init__(self, path: str | None, *, is_alone: bool = False) -> None:
        self._path = path
        self.is_alone = is_alone

    def add(self, line: str, intent: str) -> None:
        """Note a lock durably. If that fails and the lock outlasts the next reboot, it has to be removed by hand.

        :param intent: the name of the file that exists while the lock is made.
        """
        self._write([*self._noted(), [line, intent]][-_MOST_NOTED:], durable=True)

    def forget(self, text: str) -> None:
        """Forget the lock with that line or intent."""
        noted = self._noted()
        left = [each for each in noted if text not in each]
        if left != noted:
            self._write(left, durable=False)

    def has(self, text: str) -> bool:
        """Whether a lock with that line or intent is noted."""
        return any(text in each for each in self._noted())

    def _noted(self) -> list[list[str]]:
        if self._path is not None:
            with contextlib.suppress(OSError), open_at_once(self._path) as file:
                lines = file.read(_LONGEST_NOTES).decode("utf-8", "replace").split("\n")
                return [line.split("\t") for line in lines if line]
        return []

    def _write(self, locks: list[list[str]], *, durable: bool) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if locks:
                text = "".join("\t".join(lock) + "\n" for lock in locks)
                replace_file(self._path, text.encode(), durable=durable, mode=0o600)
            else:
                os.unlink(self._path)


def start_of(pid: int) -> str:
    """The start of a process in clock ticks since boot; empty if it does not exist or is a zombie."""
    ticks = procfs.start_ticks(pid)
    return str(ticks) if ticks and not procfs.is_zombie(pid) else ""


def machine_id() -> str:
    """The identifier of this installation of an operating system (``machine-id(5)``); empty if unknown."""
    try:
        with open("/etc/machine-id", encoding="ascii", errors="replace") as file:
            found = file.read(64).strip()
    except OSError:
        return ""
    return found if len(found) == 32 else ""
