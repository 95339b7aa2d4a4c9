"""The directories on the server that are known to exist, and what is found out when one is first used."""

from __future__ import annotations

import contextlib
import threading

from s3_uploader.core.errors import ProofError
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

_MOST_KNOWN = 10_000
_MOST_LISTED_BYTES = 1 << 20


class KnownDirectories:
    """Shared by all uploads of a store; any thread may use it."""

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
        """Whether the server has taken a file of ours, so that a refusal is not about temporary names as such."""

    def ensure(self, session: FileSession, path: str, *, hidden: bool) -> bool:
        """Make ``path`` with all its parents; ``False`` if it was known already, so that nothing was asked.

        :raises KeyRefused: if the server gives one of them another name.
        """
        with self._lock:
            if path in self._known:
                return False
        if path in ("/", session.base):
            self._sweep(session, path)
        else:
            parent, _, name = path.rpartition("/")
            if session.is_directory(path):
                self._check_name(session, parent or "/", name, hidden=hidden)
                self._sweep(session, path)
            else:
                self.ensure(session, parent or "/", hidden=hidden)
                self._check_name(session, parent or "/", name, hidden=hidden)
                self._make(session, path)
        with self._lock:
            # Bounded: a spool of many years has a directory for every hour.
            if len(self._known) > _MOST_KNOWN:
                self._known = set()
            self._known.add(path)
        return True

    def forget(self, path: str) -> None:
        """``path``, and perhaps its parents, have gone, it seems."""
        with self._lock:
            self._known = {known for known in self._known if known == "/" or not f"{path}/".startswith(f"{known}/")}

    def learn_names(self, session: FileSession, directory: str, *, hidden: bool, renames: bool) -> None:
        """Find out what the server makes of plain names, unless that is known."""
        if self._tried_names:
            return
        with self._learning:
            if self._tried_names:
                return
            try:
                with contextlib.suppress(Refused):
                    self._learned.names = learn_names(session, directory, self._parts, hidden=hidden, renames=renames)
            finally:
                # Also where the connection does not survive it: then the next attempt does without.
                self._tried_names = True

    def try_name(self, session: FileSession, directory: str, name: str, *, hidden: bool) -> None:
        """Make sure that a file can have that name, by storing a byte under it where nothing can be replaced.

        :raises KeyRefused: if the server gives it another one.
        """
        with scratch_directory(session, directory, self._parts, hidden=hidden) as scratch:
            if scratch is not None:
                session.store(f"{scratch}/{name}", [b"\n"])
                if not is_stored_as(session, scratch, name):
                    raise name_changed(shown_name(name))
                return
        if self._learned.refusing("delete").startswith("/"):
            return  # each try would stay there
        word = self._parts.new(hidden=False)[:8]
        for tried in (f"{word}-{name}", f"{name}-{word}"):
            path = f"{directory.rstrip('/')}/{tried}"
            session.store(path, [b"\n"])
            if session.size(path, thoroughly=True) is None:
                raise name_changed(shown_name(name))
            session.delete(path)

    def make_sure_of_looks(self, session: FileSession, directory: str) -> None:
        """Before anything is sent straight to its name: a server that denies what is there would let us replace it.

        :raises ProofError: if the server does not tell of a file that is there.
        """
        with self._learning:
            if self._learned.sees or _has_no_files(session, directory):
                return
            # One that could not be deleted does for the next runs too.
            path = self._learned.refusing("delete")
            if not path.startswith("/") or session.size(path, thoroughly=True) is None:
                path = f"{directory.rstrip('/')}/{self._parts.new(hidden=False)}"
                session.store(path, [b"\n"])
            is_seen = session.size(path, thoroughly=True) is not None
            self._learned.refused("delete", GRANTED if session.delete(path) else path)
        if not is_seen:
            raise ProofError(
                "The server does not let us look at what is there, so that nothing could be proven.",
                hint="Give the user the right to list, or for a drop box set minimum_proof to none.",
            )

    def _sweep(self, session: FileSession, path: str) -> None:
        with self._lock:
            if path in self._swept:
                return
            if len(self._swept) > _MOST_KNOWN:
                self._swept = set()
            # Before it is done: a connection that does not survive a listing is not to be tried with it again.
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
            # Another session of ours, or somebody else, may have made it meanwhile; servers say 550 or 521 to that.
            if not session.is_directory(path):
                raise


def _has_no_files(session: FileSession, directory: str) -> bool:
    """Whether a listing says that there is no file; ``False`` also where there is none, or where nobody can tell."""
    files: list[str] = []

    def collect(listed: Listed) -> None:
        if listed.kind != "dir" and not files:
            files.append(listed.name)

    try:
        whole = session.listing(directory, collect, most=_MOST_LISTED_BYTES)
    except Refused:
        return False
    if files:
        # If the server tells of it, its word counts (`sees`) from now on.
        return session.size(f"{directory.rstrip('/')}/{files[0]}") is not None
    return whole
