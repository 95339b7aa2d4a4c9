"""The remote lock file: while it exists, nobody else may touch the directory (zeit.cds calls it ``write``).

The protocol decides how the file is made. It has one line that names its owner. Whoever finds its own line *first* in
the file holds the lock.

A lock is removed only if its first line is ours, if it is older than ``stale_seconds`` by the server's clock, or if it
was left by a process of this program on this machine that has ended.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

from s3_uploader.core.errors import DestinationBusy, Scope, StoreError
from s3_uploader.stores.file_servers.base import FileSession, Refused
from s3_uploader.stores.file_servers.holder import Holder
from s3_uploader.stores.file_servers.learned import GRANTED, Learned
from s3_uploader.stores.file_servers.parts import PartNames

Create = Callable[[FileSession, str, bytes, str], None]
"""Makes a file at a path with that content, or appends it to a file that another process makes at the same moment. The
last argument is a free name in the same directory; a later run removes what a killed one leaves there.

:raises FileExistsError: if the file exists already.
:raises Refused: if the server refuses it.
"""

_LONGEST = 4096
_HINT = "Give that right, or leave out lock_file."


class RemoteLock:
    """The lock file at ``path``.

    :param server: the server's name in messages.
    :param stale_seconds: age after which anybody's lock is removed, ``None`` for never.
    :param create: makes the file.
    :param parts: makes the names of files beside the lock. A later run recognises those of a killed one.
    :param learned: what is known about the server.
    """

    def __init__(
        self,
        *,
        path: str,
        name: str,
        server: str,
        stale_seconds: float | None,
        create: Create,
        parts: PartNames,
        learned: Learned | None = None,
    ) -> None:
        self._path = path
        self._name = name
        self._server = server
        self._stale_seconds = stale_seconds
        self._create = create
        self._parts = parts
        self._learned = Learned() if learned is None else learned
        self._line = Holder.current().line(secrets.token_hex(8))
        self._held = False

    def acquire(self, session: FileSession) -> None:
        """Create the lock file.

        :raises DestinationBusy: if another client holds it.
        :raises Refused: if the server refuses to create it.
        :raises StoreError: if it could not be deleted later.
        """
        self._make_sure_of_delete(session)
        if session.size(self._path) is not None and not self._clear_away(session):
            raise self._busy()
        content = self._line.encode() + b"\n"
        try:
            self._create(session, self._path, content, self._beside())
        except FileExistsError:
            raise self._busy() from None
        first = self._first_line(session)
        if first is not None and first != self._line:
            raise self._busy()
        self._held = True

    def release(self, session: FileSession, *, tell: Callable[[str], None] = lambda _: None) -> bool:
        """Remove the lock file if it is still ours. Returns ``False`` if it was not.

        :param tell: takes a message if it cannot be removed.
        """
        if not self._held:
            return False
        first = self._first_line(session)
        removed = False
        if first is None or first == self._line:
            try:
                session.remove(self._path)
                removed = True
            except Refused as refused:
                self._learned.refused("delete", self._path)
                tell(self._stays(session, refused).message + " " + _HINT)
        # Only now: if the connection was lost meanwhile, the caller tries again.
        self._held = False
        return removed

    def _make_sure_of_delete(self, session: FileSession) -> None:
        """Check that files can be deleted before a lock exists that nobody could remove.

        :raises StoreError: if files cannot be deleted there.
        """
        known = self._learned.refusing("delete")
        if known == GRANTED:
            return
        if not known or session.size(known) is None:
            known = self._beside()
            session.store(known, [b"\n"])
        try:
            session.remove(known)
        except Refused as refused:
            self._learned.refused("delete", known)
            raise self._stays(session, refused) from None
        self._learned.refused("delete", GRANTED)

    def _beside(self) -> str:
        return f"{self._path.rpartition('/')[0]}/{self._parts.new(hidden=False)}"

    def _stays(self, session: FileSession, refused: Refused) -> StoreError:
        return StoreError(
            f"The {session.protocol} user has no right to delete files on {self._server}, so the lock file "
            f"{self._name} could not be removed: {refused.text}.",
            code=refused.error_code,
            origin=refused.origin,
            scope=Scope.DESTINATION,
            hint=_HINT,
        )

    def _busy(self) -> DestinationBusy:
        hint = ""
        if self._stale_seconds is None:
            hint = "If its owner no longer runs, remove it by hand, or set lock_stale_seconds."
        return DestinationBusy(f"Cannot access {self._server} as '{self._name}' lockfile exists.", hint=hint)

    def _first_line(self, session: FileSession) -> str | None:
        """First line of the lock file; ``None`` if it cannot be read, empty if the file was deleted."""
        content = bytearray()

        def consume(chunk: bytes) -> None:
            # Another program's lock file may have any content.
            content.extend(chunk[: _LONGEST - len(content)])

        try:
            session.retrieve(self._path, consume, most=_LONGEST)
        except Refused:
            return "" if session.size(self._path) is None else None
        return content.split(b"\n", 1)[0].decode("utf-8", "replace")

    def _clear_away(self, session: FileSession) -> bool:
        """Remove a stale lock. Returns ``False`` if the lock has to stay."""
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

    def _take_away(self, session: FileSession, first: str | None) -> bool:
        """Remove the lock with that first line. It is renamed first, and put back if it turns out to be a fresh one."""
        aside = self._beside()
        try:
            session.rename(self._path, aside)
        except Refused:
            # Without the right to rename, a fresh lock could be removed by mistake for a moment.
            return self._first_line(session) == first and session.delete(self._path)
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

    def _server_time(self, session: FileSession) -> float | None:
        """The time on the server's clock, which the lock's time refers to: that of a file made now."""
        probe = self._beside()
        try:
            session.store(probe, [b"\n"])
        except Refused:
            return None
        try:
            return session.modified(probe)
        finally:
            session.delete(probe)
