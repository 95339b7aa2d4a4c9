"""The known directories on the server, and the checks when a directory is first used."""

from __future__ import annotations

import contextlib
import threading

from s3_uploader.core.errors import StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.stores.file_servers.base import FileSession, Listed, Refused
from s3_uploader.stores.file_servers.learned import GRANTED, Learned, Names
from s3_uploader.stores.file_servers.names import (
    is_plain,
    is_stored_as,
    learn_names,
    name_changed,
    scratch_directory,
    try_directory_name,
)
from s3_uploader.stores.file_servers.parts import PartNames
from s3_uploader.stores.file_servers.proving import shows_nothing

_MOST_KNOWN = 10_000
_MOST_LISTED_BYTES = 1 << 20
_MOST_MISSING = 2


class KnownDirectories:
    """The directories that are known to exist. All uploads of a store share them, on any thread."""

    def __init__(self, *, parts: PartNames, learned: Learned) -> None:
        self._parts = parts
        self._learned = learned
        self._lock = threading.Lock()
        self._learning = threading.Lock()
        self._tried_names = learned.names is not Names.UNKNOWN
        self._known: set[str] = set()
        self._swept: set[str] = set()
        self._kept: set[str] = set()
        self.took_a_file = False
        """Whether the server has accepted a file of ours, so that a refusal is not about temporary names in general."""

    def ensure(self, session: FileSession, path: str, *, hidden: bool) -> bool:
        """Make ``path`` with all its parents. Returns ``False`` if it was known already, so that nothing was requested.

        :raises KeyRefused: if the server gives one of them another name.
        """
        if self._knows(path):
            return False
        try:
            self._ensure(session, path, hidden=hidden, missing=0)
        except Refused:
            # Another program may have removed a parent that is known.
            parent = self._nearest_known(path)
            if not parent or session.is_directory(parent):
                raise
            self.forget(path)
            self._ensure(session, path, hidden=hidden, missing=0)
        return True

    def _knows(self, path: str) -> bool:
        with self._lock:
            return path in self._known

    def _ensure(self, session: FileSession, path: str, *, hidden: bool, missing: int) -> bool:
        """Make ``path`` with all its parents. Returns whether it did not exist.

        :param missing: how many directories below it do not exist. A server may delay each lookup of such a directory
            by a second, and close the connection after many (Pure-FTPd). After two the search begins at the top.
        """
        if self._knows(path):
            return False
        is_new = False
        if path in ("/", session.base):
            self._sweep(session, path)
        else:
            parent, _, name = path.rpartition("/")
            parent = parent or "/"
            from_top = missing >= _MOST_MISSING
            parent_is_new = from_top and self._ensure(session, parent, hidden=hidden, missing=missing)
            is_new = parent_is_new or not session.is_directory(path)
            if is_new and not from_top:
                self._ensure(session, parent, hidden=hidden, missing=missing + 1)
            self._check_name(session, parent, name, hidden=hidden)
            if is_new:
                self._make(session, path)
            else:
                self._sweep(session, path)
        with self._lock:
            # Bounded, because a spool of many years has a directory for every hour.
            if len(self._known) > _MOST_KNOWN:
                self._known = set()
            self._known.add(path)
        return is_new

    def _nearest_known(self, path: str) -> str:
        """The nearest parent that is known; empty if none is, except for the root."""
        while path and not self._knows(path):
            path = path.rpartition("/")[0]
        return path

    def forget(self, path: str) -> None:
        """Note that ``path``, and perhaps its parents, seem to be deleted."""
        with self._lock:
            self._known = {known for known in self._known if known == "/" or not f"{path}/".startswith(f"{known}/")}
            self._kept = set()  # names in a directory that is gone could not be tried

    def learn_names(self, session: FileSession, directory: str, *, hidden: bool, renames: bool) -> None:
        """Find out how the server stores plain names, unless that is known."""
        if self._tried_names:
            return
        with self._learning:
            if self._tried_names:
                return
            try:
                with contextlib.suppress(Refused):
                    self._learned.names = learn_names(session, directory, self._parts, hidden=hidden, renames=renames)
            finally:
                # Noted also if the connection breaks over it, so that the next attempt skips the test.
                self._tried_names = True

    def try_name(self, session: FileSession, directory: str, name: str, *, hidden: bool) -> None:
        """Check that a file can have that name, by storing a byte under it where nothing can be overwritten.

        :raises KeyRefused: if the server gives it another name.
        """
        with scratch_directory(session, directory, self._parts, hidden=hidden) as scratch:
            if scratch is not None:
                session.store(f"{scratch}/{name}", [b"\n"])
                if not is_stored_as(session, scratch, name):
                    session.delete(f"{scratch}/{name}")  # by its name, in case the server lists nothing
                    raise name_changed(shown_name(name))
                return
        if self._learned.refusing("delete").startswith("/"):
            return  # the test files could not be deleted
        word = self._parts.new(hidden=False)[:8]
        for tried in (f"{word}-{name}", f"{name}-{word}"):
            path = f"{directory.rstrip('/')}/{tried}"
            session.store(path, [b"\n"])
            if session.size(path, thoroughly=True) is None:
                raise name_changed(shown_name(name))
            session.delete(path)

    def make_sure_of_looks(self, session: FileSession, directory: str) -> None:
        """Check before a direct upload that the server reports existing files, so that none is overwritten.

        :raises ProofError: if the server does not report a file that exists.
        """
        with self._learning:
            if self._learned.sees:
                return
            # A server that hides files lists nothing, too. So that counts only where it has shown a file before.
            is_empty = _has_no_files(session, directory)
            if self._learned.sees or (is_empty and self._learned.has_shown_files):
                return
            # A file that could not be deleted serves the next runs, too.
            path = self._learned.refusing("delete")
            if not path.startswith("/") or session.size(path, thoroughly=True) is None:
                path = f"{directory.rstrip('/')}/{self._parts.new(hidden=False)}"
                session.store(path, [b"\n"])
            is_seen = session.size(path, thoroughly=True) is not None
            self._learned.refused("delete", GRANTED if session.delete(path) else path)
            self._learned.has_shown_files = is_seen
        if not is_seen:
            raise shows_nothing("The server does not report existing files, so nothing could be proven.")

    def _sweep(self, session: FileSession, path: str) -> None:
        with self._lock:
            if path in self._swept:
                return
            if len(self._swept) > _MOST_KNOWN:
                self._swept = set()
            # Noted before the listing, so that a connection that breaks over it is not tried with it again.
            self._swept.add(path)
        self._parts.sweep(session, path)

    def _check_name(self, session: FileSession, parent: str, name: str, *, hidden: bool) -> None:
        if (is_plain(name) and self._learned.names is not Names.CHANGED) or name in self._kept:
            return
        try_directory_name(session, parent, name, self._parts, hidden=hidden)
        with self._lock:
            if len(self._kept) > _MOST_KNOWN:
                self._kept = set()
            self._kept.add(name)

    def _make(self, session: FileSession, path: str) -> None:
        try:
            session.make_directory(path)
        except Refused:
            # Another session or client may have made it meanwhile; servers answer 550 or 521 to that.
            if session.is_directory(path):
                return
            if session.size(path) is not None:
                raise StoreError(
                    f"No directory can be made at {shown_name(path)} on the server, because a file has that name.",
                    code="FileInTheWay",
                    origin=Origin.CONFLICT,
                    hint="Rename that file, or choose another path or key_prefix.",
                ) from None
            raise


def _has_no_files(session: FileSession, directory: str) -> bool:
    """Whether a listing shows no file; ``False`` also if there is no directory, or no listing."""
    files: list[str] = []

    def collect(listed: Listed) -> None:
        if listed.kind != "dir" and not files:
            files.append(listed.name)

    try:
        whole = session.listing(directory, collect, most=_MOST_LISTED_BYTES)
    except Refused:
        return False
    if files:
        # If the server reports this file, its later answers can be trusted (`sees`).
        return session.size(f"{directory.rstrip('/')}/{files[0]}", thoroughly=True) is not None
    return whole
