"""The remote lock file: while it exists, nobody else may touch the directory (zeit.cds calls it ``write``).

The protocol decides how the file is made. It has one line that names its owner. Whoever finds its own line *first* in
the file holds the lock.

A lock is removed only if its first line is ours, if it was left by a process of this program on this machine that has
ended, or that lost the connection and gave it up, or if it is older than ``stale_seconds`` by the server's clock. The
lock of a process that runs on this machine never becomes too old. One from before a reboot is recognised by the notes
in the state directory (:class:`~s3_uploader.stores.file_servers.holder.LockNotes`), because it may also be that of a
clone of this machine.

Servers create a file before its content arrives. A run that is killed in between leaves an empty lock, and locks of
other programs may be empty too. So where the protocol cannot create both at once, an *intent* exists meanwhile: a file
beside the lock whose name tells who makes it. An empty lock is ours if it was created within a few seconds, by the
server's clock, after such a file of a run that has ended.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable

from s3_uploader.core.errors import DestinationBusy, Scope, StoreError
from s3_uploader.core.text import quoted, shown_duration
from s3_uploader.stores.file_servers.base import FileSession, Listed, Lost, Refused
from s3_uploader.stores.file_servers.holder import Holder, LockNotes
from s3_uploader.stores.file_servers.learned import GRANTED, Learned
from s3_uploader.stores.file_servers.parts import INTENT, PART, PartNames

Create = Callable[[FileSession, str, bytes, str], None]
"""Makes a file at a path with that content, or appends it to a file that another process makes at the same moment. The
last argument is the free name of an intent in the same directory; a later run removes what a killed one leaves there.

:raises FileExistsError: if the file exists already.
:raises Refused: if the server refuses it.
"""

_LONGEST = 4096
_MOST_LISTED_BYTES = 4 << 20
_MOST_INTENTS = 10
_MAKING_SECONDS = 5
"""How much later than its intent a lock may have been created; servers report whole seconds."""
_CLOCKS_DIFFER_SECONDS = 60
"""How much later than the server's present a lock may seem to be."""
_FROM_THE_FUTURE = "That is later than now, so it does not grow old. If its owner no longer runs, remove it by hand."
_OF_ANOTHER_BOOT = "It was made on this machine before its last boot, or on a clone of this machine."
_HINT = "Grant that permission, or leave out lock_file."
CANNOT_BE_MADE = (
    "The directory of lock_file must exist, and the user be permitted to create, read and delete files there; or leave "
    "out lock_file."
)
_HINT_REPLACED = "If that client removes locks of a certain age, give it a longer one."

_in_use: set[str] = set()
"""The lines of this process's locks that are held or being made, and the names of its intents."""


class RemoteLock:
    """The lock file at ``path``.

    :param server: the server's name in messages.
    :param stale_seconds: age after which a lock is removed unless its process runs here, ``None`` for never.
    :param create: makes the file.
    :param parts: makes the names of files beside the lock. A later run recognises those of a killed one.
    :param learned: what is known about the server.
    :param notes: notes of the locks that runs of the same state directory have made.
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
        notes: LockNotes | None = None,
    ) -> None:
        self._path = path
        self._name = name
        self._server = server
        self._stale_seconds = stale_seconds
        self._create = create
        self._parts = parts
        self._learned = Learned() if learned is None else learned
        self._notes = LockNotes(None) if notes is None else notes
        self._line = Holder.current().line(secrets.token_hex(8))
        self._intent = ""
        self._found: Holder | None = None
        self._is_empty = False
        self._is_ahead = False
        self._held = False
        self._was_readable = False
        self._removal_begun = False

    def acquire(self, session: FileSession) -> None:
        """Create the lock file.

        :raises DestinationBusy: if another client holds it.
        :raises Refused: if the server refuses to create it.
        :raises StoreError: if it could not be deleted later.
        """
        self._make_sure_of_delete(session)
        if session.size(self._path) is not None and not self._clear_away(session):
            raise self._busy(session)
        content = self._line.encode() + b"\n"
        intent = self._beside(INTENT)
        self._intent = intent.rpartition("/")[2]
        _in_use.update((self._line, self._intent))
        self._notes.add(self._line, self._intent)
        try:
            # An old lock that the server hid from the first look is cleared away here, once.
            if not self._made(session, content, intent) and not (
                self._clear_away(session) and self._made(session, content, intent)
            ):
                raise self._busy(session)
            self._held = True
        finally:
            _in_use.discard(self._intent)
            if not self._held:
                self.give_up()

    def _made(self, session: FileSession, content: bytes, intent: str) -> bool:
        """Create the file. Returns ``False`` if it is another client's."""
        try:
            self._create(session, self._path, content, intent)
        except FileExistsError:
            return False
        first = self._first_line(session, insists=True)
        self._was_readable = first is not None
        return first is None or first == self._line

    def release(self, session: FileSession, *, tell: Callable[[str], None] = lambda _: None) -> bool:
        """Remove the lock file if it is still ours. Returns ``False`` if it was not.

        :param tell: takes a message if it cannot be removed, or is another client's.
        """
        if not self._held:
            return False
        removed = False
        if self._is_ours(session):
            self._removal_begun = True
            try:
                session.remove(self._path)
                removed = True
            except Refused as refused:
                # A lock that stays keeps everybody out, so a server that is busy for a moment is asked once more.
                removed = session.delete(self._path)
                if not removed:
                    self._learned.refused("delete", self._path)
                    tell(self._stays(session, refused).message + " " + _HINT)
        elif not self._removal_begun:  # else it was removed, and only the answer was lost
            tell(
                f"The lock file {self._name} on {self._server} was removed or replaced by another client while files "
                f"were uploaded. {_HINT_REPLACED}"
            )
        if removed:
            self._notes.forget(self._line)
        # Not earlier: if the connection was lost before, the caller tries again.
        self.give_up()
        return removed

    def _is_ours(self, session: FileSession) -> bool:
        """Whether the lock file is still ours, as far as that can be told."""
        try:
            first = self._first_line(session, insists=True)
        except Refused:
            return True  # most probably; if it stayed, it would keep everybody out
        # One that could be read, and now may not be, is that of another user.
        return first == self._line or (first is None and not self._was_readable)

    def give_up(self) -> None:
        """Give the lock up, although its file may still exist. A later pass, also of this process, may remove it."""
        self._held = False
        _in_use.discard(self._line)

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

    def _beside(self, kind: str = PART) -> str:
        return f"{self._path.rpartition('/')[0]}/{self._parts.new(hidden=False, kind=kind)}"

    def _stays(self, session: FileSession, refused: Refused) -> StoreError:
        return StoreError(
            f"The {session.protocol} user has no permission to delete files on {self._server}, so the lock file "
            f"{self._name} could not be removed: {refused.text}.",
            code=refused.error_code,
            origin=refused.origin,
            scope=Scope.DESTINATION,
            hint=_HINT,
        )

    def _busy(self, session: FileSession) -> DestinationBusy:
        found = self._found
        if found is not None and found.is_alive():
            hint = f"Process {found.pid} of this machine holds it, and still runs."
        else:
            hint = " ".join(filter(None, (self._owner(), self._age(session), self._remedy())))
        return DestinationBusy(f"Cannot access {self._server} as '{self._name}' lockfile exists.", hint=hint)

    def _owner(self) -> str:
        """Who made the lock, as far as it says so."""
        found = self._found
        if found is None:
            return "It is empty, so nobody can tell whose it is." if self._is_empty else ""
        if found.is_of_another_boot():
            return _OF_ANOTHER_BOOT
        return f"It is that of process {found.pid} on {quoted(found.host)}."

    def _age(self, session: FileSession) -> str:
        # A time from outside may be one that no calendar has.
        with contextlib.suppress(Refused, Lost, ValueError, OverflowError, OSError):
            modified = session.modified(self._path)
            if modified is not None:
                made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(modified))
                return f"It is from {made} UTC by the server's clock."
        return ""

    def _remedy(self) -> str:
        if self._stale_seconds is None:
            return "If its owner no longer runs, remove it by hand, or set lock_stale_seconds."
        if self._is_ahead:
            return _FROM_THE_FUTURE
        return f"It is removed when it is {shown_duration(self._stale_seconds)} old."

    def _first_line(self, session: FileSession, *, insists: bool = False) -> str | None:
        """First line of the lock file; ``None`` if it cannot be read, empty if the file was deleted.

        :param insists: do without an answer only if the server permits no reading.
        :raises Refused: if the server is too busy for now to answer that.
        """
        content = bytearray()

        def consume(chunk: bytes) -> None:
            # Another program's lock file may have any content.
            content.extend(chunk[: _LONGEST - len(content)])

        try:
            session.retrieve(self._path, consume, most=_LONGEST)
        except Refused as refused:
            if session.size(self._path) is None:
                return ""
            if insists and refused.is_for_now:
                raise
            return None
        return content.split(b"\n", 1)[0].decode("utf-8", "replace")

    def _clear_away(self, session: FileSession) -> bool:
        """Remove a stale lock. Returns ``False`` if the lock has to stay."""
        first = self._first_line(session)
        self._found = holder = Holder.of_line(first or "")
        if holder is not None and first is not None and self._was_left(holder, first):
            taken = self._take_away(session, first)
            if taken:
                self._notes.forget(first)
            return taken
        self._is_empty = not first and session.size(self._path) == 0
        if self._is_empty and self._take_away_empty(session, first):
            return True
        if self._stale_seconds is None or (holder is not None and holder.is_alive()):
            return False
        modified = session.modified(self._path)
        if modified is None:
            return False
        now = self._server_time(session)
        self._is_ahead = now is not None and modified - now > _CLOCKS_DIFFER_SECONDS
        if now is None or now - modified < self._stale_seconds:
            return False
        return self._take_away(session, first)

    def _was_left(self, holder: Holder, line: str) -> bool:
        """Whether the line is that of a process that has ended, or of this one, which has given the lock up."""
        is_noted = self._notes.has(line)
        is_given_up = holder.is_this_process() and line not in _in_use
        return is_given_up or holder.is_gone(is_noted=is_noted, is_alone=self._notes.is_alone)

    def _take_away_empty(self, session: FileSession, first: str | None) -> bool:
        """Remove an empty lock if a run of ours was creating it when it was killed, and the intents of such runs."""
        directory = self._path.rpartition("/")[0]
        intents: list[str] = []

        def collect(listed: Listed) -> None:
            if len(intents) < _MOST_INTENTS and self._is_left_over(listed.name):
                intents.append(f"{directory}/{listed.name}")

        with contextlib.suppress(Refused):
            session.listing(directory or "/", collect, most=_MOST_LISTED_BYTES)
        created = session.modified(self._path) if intents else None
        taken = False
        if created is not None:
            stated = [session.modified(intent) for intent in intents]
            is_ours = any(each is not None and 0 <= created - each <= _MAKING_SECONDS for each in stated)
            taken = is_ours and self._take_away(session, first)
        for intent in intents:
            session.delete(intent)
            self._notes.forget(intent.rpartition("/")[2])
        return taken

    def _is_left_over(self, name: str) -> bool:
        """Whether it is the intent of a run that has ended, or of one of this process that has given up."""
        if not name.endswith(INTENT):
            return False
        if self._parts.is_of_another_boot(name):
            return self._notes.has(name)
        return self._parts.is_left_over(name) or (self._parts.is_of_this_process(name) and name not in _in_use)

    def _take_away(self, session: FileSession, first: str | None) -> bool:
        """Remove the lock with that first line. It is renamed first, and put back if it turns out to be a fresh one."""
        aside = self._beside()
        try:
            session.rename(self._path, aside)
        except Refused:
            # Without permission to rename, a fresh lock could be removed by mistake for a moment.
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
