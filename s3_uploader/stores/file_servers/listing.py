"""The inventory of a file server: listed directory by directory, and looked up file by file."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.meanings import of_one_file
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.stores.file_servers.base import FileSession, Listed, Lost, Refused
from s3_uploader.stores.file_servers.server import FileServer
from s3_uploader.stores.keys import path_segments
from s3_uploader.stores.listing import OUT_OF_TIME, CannotList, Entry

_HINT = "The audit lists every directory: give the user permission to list and to read there."
_ATTEMPTS = 3
_MOST_LISTED_BYTES = 32 << 20
"""For one directory: about 300,000 names."""
_MOST_SECONDS = 120.0
_BYTES_A_SECOND = 65536
"""Reading a file or a listing more slowly than this takes too long."""
_LINE_BYTES = 40
"""Of a line in a listing besides the name."""

_Result = TypeVar("_Result")


class _Budget:
    """The time for one question, with all attempts: some seconds, and another for every 64 KiB that arrive.

    :param at_most: the end of all questions, by the monotonic clock.
    """

    def __init__(self, seconds: float, *, at_most: float) -> None:
        self._until = time.monotonic() + seconds
        self._at_most = at_most

    def arrived(self, count: int) -> None:
        """Note that this many bytes have arrived."""
        self._until += count / _BYTES_A_SECOND

    def left(self) -> float:
        """Seconds left."""
        return min(self._until, self._at_most) - time.monotonic()


class FileInventory:
    """A directory on a file server as :class:`~s3_uploader.stores.listing.Inventory`.

    Memory is bounded by the largest directory, and that by a limit. Each thread that looks has its own connection, or
    shares one if the server accepts no further one.

    :param concurrency: the maximum number of connections.
    :param seconds: longest time for one directory or file; one is added for every 64 KiB that arrive.
    :param until: the end of all questions, by the monotonic clock.
    """

    looks_are_cheap = False
    lists_in_order = True
    has_line_breaks = False
    """Whether the protocol supports names with a line break."""

    def __init__(
        self,
        server: FileServer[FileSession],
        *,
        concurrency: int,
        seconds: float = _MOST_SECONDS,
        until: float = math.inf,
    ) -> None:
        self._server = server
        self._name = server.name
        # The listing uses one connection, and some servers allow few.
        self._concurrency = max(1, concurrency - 1)
        self._mine = threading.local()
        self._sessions: dict[FileSession, threading.Lock] = {}
        self._seconds = min(seconds, _MOST_SECONDS)
        self._until = until
        self._closed = False
        self._unlisted: list[str] = []
        """Directories that the server does not list, each with a slash at its end."""

    @property
    def name(self) -> str:
        """Server and path."""
        return self._name

    @property
    def concurrency(self) -> int:
        """As many lookups at once as the store has connections."""
        return self._concurrency

    def open(self) -> None:
        """Connect and log in."""
        self._session()

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        while self._sessions:
            session, lock = self._sessions.popitem()
            # Another thread may still wait for an answer there.
            if lock.acquire(blocking=False):
                session.quit()
            else:
                session.interrupt()

    def address(self, key: str) -> str:
        """Server, path and key."""
        return f"{self._name.rstrip('/')}/{key}"

    def entries(self, prefix: str, *, wanted: Callable[[], str]) -> Iterator[Entry]:
        """Walk the tree from the directory that ``prefix`` names."""
        top = prefix[: prefix.rfind("/") + 1]
        yield from self._walk(top, self._listed(top), wanted)

    def look(self, key: str, *, content: bool) -> Entry | None:
        """Size and time; with ``content`` also the server's own digest, or the SHA-256 of the bytes read back."""
        try:
            path_segments(key)
        except KeyRefused:
            return None
        if not self.has_line_breaks and ("\n" in key or "\r" in key):
            return None
        found = self._persist(lambda session, budget: _look(session, budget, key, content=content), key)
        hidden = None if found is not None else next(filter(key.startswith, tuple(self._unlisted)), None)
        if hidden is not None:
            # Servers that may not look into a directory say of the files there that they do not exist (vsftpd: 550).
            raise StoreError(
                f"The server lists nothing of {shown_name(self.address(hidden))}, so nobody knows whether it holds "
                f"this file.",
                code="Unlisted",
                hint=_HINT,
            )
        return found

    def _listed(self, path: str) -> list[bytes]:
        return self._persist(lambda session, budget: _list(session, budget, path, self.address(path)), path)

    def _listed_if_allowed(self, path: str) -> list[bytes]:
        """One directory among others. If it cannot be listed, what is expected there is looked up file by file."""
        with _despite_one_refusal():
            return self._listed(path)
        self._unlisted.append(path)
        return []

    def _walk(self, path: str, listed: list[bytes], wanted: Callable[[], str]) -> Iterator[Entry]:
        # Sort a directory by its name with a slash: "a.b" comes before "a/b".
        listed.sort()
        listed.reverse()
        while listed:
            each = _unpacked(listed.pop())
            if each.kind == "dir":
                below = f"{path}{each.name}/"
                if os.fsencode(below) >= os.fsencode(wanted())[: len(os.fsencode(below))]:
                    yield from self._walk(below, self._listed_if_allowed(below), wanted)
            elif each.size is None:
                with _despite_one_refusal():  # the file is looked up again if it is expected, and named then
                    entry = self.look(path + each.name, content=False)
                    if entry is not None:
                        yield entry
            else:
                yield Entry(key=path + each.name, size=each.size, modified=each.modified)

    def _persist(self, ask: Callable[[FileSession, _Budget], _Result], key: str) -> _Result:
        """Ask the server. If the connection is lost, ask again on a new one, as long as there is time."""
        budget = _Budget(self._seconds, at_most=self._until)
        for attempt in range(_ATTEMPTS):
            session = self._session()
            try:
                with self._sessions.get(session) or threading.Lock(), _within(session, budget):
                    return ask(session, budget)
            except Lost as lost:
                session.close()
                if attempt + 1 == _ATTEMPTS or budget.left() <= 0:
                    raise self._lost(session, lost, key, is_late=budget.left() <= 0) from None
            except Refused as refused:
                if refused.lists_nothing:
                    raise CannotList(
                        f"The {session.protocol} server {self._name} lists nothing: {refused.text}.", code="502"
                    ) from None
                raise StoreError(
                    f"The {session.protocol} server refuses to look up {shown_name(self.address(key))}: "
                    f"{refused.text}.",
                    code=refused.error_code,
                    scope=Scope.DESTINATION if refused.is_one_too_many else Scope.FILE,
                    origin=refused.origin if refused.is_one_too_many else of_one_file(refused.origin),
                    hint=_HINT if refused.origin is Origin.DIRECTORY else "",
                ) from None
        raise AssertionError

    def _lost(self, session: FileSession, lost: Lost, key: str, *, is_late: bool) -> StoreError:
        if is_late:
            limit = OUT_OF_TIME if time.monotonic() >= self._until else f"in {self._seconds:g} s"
            sentence = (
                f"The {session.protocol} server {self._name} did not finish its answer about "
                f"{shown_name(self.address(key))} {limit}."
            )
        else:
            sentence = f"The connection to the {session.protocol} server {self._name} was lost: {lost.reason}."
        return StoreError(sentence, code="ConnectionLost", scope=Scope.DESTINATION)

    def _session(self) -> FileSession:
        session: FileSession | None = getattr(self._mine, "session", None)
        if session is None or not session.usable:
            if self._closed:
                raise StoreError("The inventory is closed.", code="Closed", scope=Scope.DESTINATION)
            try:
                session = self._server.connect(lambda: min(self._server.silence, self._until - time.monotonic()))
            except (Refused, Lost) as error:
                session = self._somebody_elses(error)
                if session is None:
                    raise self._server.login_error(error) from None
            self._mine.session = session
            self._sessions.setdefault(session, threading.Lock())
        return session

    def _somebody_elses(self, error: Refused | Lost) -> FileSession | None:
        """A session to share, if the server turned away one connection too many."""
        is_one_too_many = error.is_one_too_many if isinstance(error, Refused) else error.step == "connect"
        # A copy, because other threads add theirs.
        return next((each for each in list(self._sessions) if each.usable and is_one_too_many), None)


@contextlib.contextmanager
def _despite_one_refusal() -> Iterator[None]:
    """Go on after an error that concerns one file or directory only."""
    try:
        yield
    except CannotList:
        raise
    except StoreError as error:
        if error.scope is not Scope.FILE:
            raise


def _list(session: FileSession, budget: _Budget, path: str, address: str) -> list[bytes]:
    """The files and directories in one directory, each packed, because there may be very many."""
    packed: list[bytes] = []

    def collect(listed: Listed) -> None:
        budget.arrived(len(listed.name) + _LINE_BYTES)
        if listed.name not in ("", ".", "..") and "/" not in listed.name and listed.kind in ("file", "dir"):
            packed.append(_packed(listed))

    try:
        whole = session.listing(_absolute(session, path.rstrip("/")), collect, most=_MOST_LISTED_BYTES)
    except Refused as refused:
        if refused.is_absence:
            return []  # removed since its parent was listed, or it never existed
        raise
    if not whole and not session.was_cut_off:  # what a listing does not show is looked up on its own anyway
        raise CannotList(
            f"The listing of {shown_name(address)} on the {session.protocol} server does not end.", code="Endless"
        )
    return packed


def _packed(listed: Listed) -> bytes:
    # No name contains a NUL, so names sort in the order of whole keys.
    name = os.fsencode(listed.name) + (b"/" if listed.kind == "dir" else b"")
    size = "" if listed.size is None else str(listed.size)
    modified = "" if listed.modified is None else str(listed.modified)
    return name + f"\0{size} {modified}".encode()


def _unpacked(packed: bytes) -> Listed:
    name, _, rest = packed.partition(b"\0")
    size, _, modified = rest.partition(b" ")
    return Listed(
        name=os.fsdecode(name.removesuffix(b"/")),
        kind="dir" if name.endswith(b"/") else "file",
        size=int(size) if size else None,
        modified=float(modified) if modified else None,
    )


@contextlib.contextmanager
def _within(session: FileSession, budget: _Budget) -> Iterator[None]:
    """Limit the time of a question, however slowly the bytes of its answer arrive."""
    given = session.remaining
    session.remaining = lambda: min(given(), budget.left())
    try:
        yield
    finally:
        session.remaining = given


def _look(session: FileSession, budget: _Budget, key: str, *, content: bool) -> Entry | None:
    path = _absolute(session, key)
    # Before the server has reported a file, it may be one that refuses every SIZE.
    size = session.size(path, thoroughly=not session.learned.sees)
    if size is None:
        return None
    checksums: dict[str, str] = {}
    if content:
        digest = session.digest(path, size)
        algorithm = session.algorithm
        if not digest:
            read = hashlib.sha256()

            def consume(chunk: bytes) -> None:
                budget.arrived(len(chunk))
                read.update(chunk)

            # One byte more than expected is enough to show that it is another file.
            session.retrieve(path, consume, most=size)
            algorithm, digest = "sha256", read.hexdigest()
        checksums = {algorithm: digest}
    modified = None
    with contextlib.suppress(Refused):
        modified = session.modified(path)
    etag = f"sha256:{checksums['sha256']}" if "sha256" in checksums else ""
    return Entry(key=key, size=size, etag=etag, modified=modified, checksums=checksums)


def _absolute(session: FileSession, key: str) -> str:
    return f"{session.base.rstrip('/')}/{key}"
