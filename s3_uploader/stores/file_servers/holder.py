"""The identity of the process that made a file at the server, so that a later process can tell whether it exists."""

from __future__ import annotations

import os
import socket

import msgspec

from s3_uploader.core import procfs

_UNKNOWN = "-"


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
        return self == Holder.current() and _UNKNOWN not in (self.machine, self.boot, self.pids, self.started)

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; ``False`` if that cannot be told from this machine."""
        here = Holder.current()
        if _UNKNOWN in (self.machine, self.boot) or (self.host, self.machine) != (here.host, here.machine):
            return False
        if self.boot != here.boot:
            # No process survives a reboot. Two machines with one host name have different identifiers (machine-id(5)).
            return here.boot != _UNKNOWN
        if _UNKNOWN in (self.pids, self.started) or self.pids != here.pids:
            return False
        # A pid is reused, but not together with the start time.
        return start_of(self.pid) != self.started


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
