"""The remote lock file: while it is there, nobody else is to touch the directory (zeit.cds calls it ``write``).

FTP has no way to create a file only if it is missing. The next best is ``APPE``: everybody appends one unique line, and
whoever finds its own line *first* in the file has the lock. Among uploaders of this kind that is exact on every server
whose ``APPE`` appends. Two limits remain:

* A program of another kind that creates the file with ``STOR`` between our look and our ``APPE`` destroys no data of
  ours, but both may believe that the lock is theirs.
* A server that refuses ``APPE`` or reading back gets a plain ``STOR`` after the look: two uploaders that look in the
  same moment both go on.

A lock is removed only if its first line is ours, if it is older than ``stale_seconds`` by the server's clock, or if it
was left by a process of this program that ran in this very system, since its last boot, and does not exist any more.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket

import msgspec

from s3_uploader.core import procfs
from s3_uploader.core.errors import DestinationBusy
from s3_uploader.stores.ftp.replies import Refused
from s3_uploader.stores.ftp.session import Session

_LONGEST = 4096


class Holder(msgspec.Struct, frozen=True):
    """A process, identified so that another one in the same system can tell whether it still exists."""

    host: str
    boot: str
    pids: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Holder:
        """The process that runs this."""
        return cls(
            host=socket.gethostname(),
            boot=procfs.boot_id(),
            pids=procfs.pid_namespace(),
            pid=os.getpid(),
            started=_start_of(os.getpid()),
        )

    def line(self, nonce: str) -> str:
        """The line in the lock file."""
        return f"s3-uploader {self.host} {self.boot or '-'} {self.pids or '-'} {self.pid} {self.started or '-'} {nonce}"

    @classmethod
    def of_line(cls, line: str) -> Holder | None:
        """The holder in a line of a lock file, ``None`` if it is none of ours."""
        words = line.split(" ")
        if len(words) != 7 or words[0] != "s3-uploader" or not words[4].isdigit():
            return None
        return cls(host=words[1], boot=words[2], pids=words[3], pid=int(words[4]), started=words[5])

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; ``False`` where there is no telling from here."""
        here = Holder.current()
        if "-" in (self.boot, self.pids, self.started) or not here.boot:
            return False
        if (self.host, self.boot, self.pids) != (here.host, here.boot, here.pids):
            return False
        # A pid comes round again; together with the start time it does not.
        return _start_of(self.pid) != self.started


class RemoteLock:
    """The lock file at ``path``.

    :param server: how messages call the server.
    :param stale_seconds: age from which a lock left by anybody is removed, ``None`` for never.
    """

    def __init__(self, *, path: str, name: str, server: str, stale_seconds: float | None) -> None:
        self._path = path
        self._name = name
        self._server = server
        self._stale_seconds = stale_seconds
        self._line = Holder.current().line(secrets.token_hex(8))
        self._held = False

    def acquire(self, session: Session) -> None:
        """Create the lock file.

        :raises DestinationBusy: if somebody else has it.
        :raises Refused: if the server does not let us create it.
        """
        if session.size(self._path) is not None and not self._clear_away(session):
            raise self._busy()
        content = self._line.encode() + b"\n"
        try:
            session.store(self._path, [content], command="APPE")
        except Refused:
            # Some servers refuse APPE as a whole, others only to a file that is there.
            if session.size(self._path) is not None:
                raise self._busy() from None
            session.store(self._path, [content])
        first = self._first_line(session)
        if first is not None and first != self._line:
            raise self._busy()
        self._held = True

    def release(self, session: Session) -> bool:
        """Remove the lock file if it is still ours; ``False`` if it was not."""
        if not self._held:
            return False
        first = self._first_line(session)
        ours = first is None or first == self._line
        removed = ours and session.delete(self._path)
        # Not before: with the connection lost on the way the caller tries again.
        self._held = False
        return removed

    def _busy(self) -> DestinationBusy:
        hint = ""
        if self._stale_seconds is None:
            hint = "If whoever made it is gone, remove it by hand, or set lock_stale_seconds."
        return DestinationBusy(f"Cannot access {self._server} as '{self._name}' lockfile exists.", hint=hint)

    def _first_line(self, session: Session) -> str | None:
        """First line of the lock file; ``None`` if the server does not let us read, empty if the file has gone."""
        content = bytearray()

        def consume(chunk: bytes) -> None:
            # Somebody else's lock file may be anything.
            content.extend(chunk[: _LONGEST - len(content)])

        try:
            session.retrieve(self._path, consume)
        except Refused:
            return "" if session.size(self._path) is None else None
        return content.split(b"\n", 1)[0].decode("utf-8", "replace")

    def _clear_away(self, session: Session) -> bool:
        """Remove a lock that nobody holds any more; ``False`` if it has to stay."""
        first = self._first_line(session)
        holder = Holder.of_line(first or "")
        if holder is not None and holder.is_gone():
            return self._take_away(session, first)
        if self._stale_seconds is None:
            return False
        modified = session.modified(self._path)
        if modified is None:
            return False
        now = self._server_time(session)
        if now is None or now - modified < self._stale_seconds:
            return False
        return self._take_away(session, first)

    def _take_away(self, session: Session, first: str | None) -> bool:
        """Remove the lock with that first line, by renaming it first: a fresh lock of somebody quicker is put back."""
        aside = f"{self._path}.{secrets.token_hex(6)}"
        try:
            session.rename(self._path, aside)
        except Refused:
            return False
        taken, self._path = self._path, aside
        try:
            renamed_first = self._first_line(session)
        finally:
            self._path = taken
        if renamed_first != first:
            with contextlib.suppress(Refused):
                session.rename(aside, self._path)
            return False
        session.delete(aside)
        return True

    def _server_time(self, session: Session) -> float | None:
        """The server's clock, by which the lock's time was written: the time of a file made now."""
        probe = f"{self._path}.{secrets.token_hex(6)}"
        try:
            session.store(probe, [b"\n"])
        except Refused:
            return None
        try:
            return session.modified(probe)
        finally:
            session.delete(probe)


def _start_of(pid: int) -> str:
    """Start of a process in clock ticks since boot; empty if there is no such process, or only its zombie."""
    ticks = procfs.start_ticks(pid)
    return str(ticks) if ticks and not procfs.is_zombie(pid) else ""
