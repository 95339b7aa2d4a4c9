"""A store on a file server of any protocol: its sessions, its uploads, its lock, its end.

Terms
-----
session
    A logged-in connection. There is one for each upload in flight, at most ``max_concurrency``, and fewer if the server
    refuses that many.
temporary name
    The name of the bytes until they are proven, in the directory of the target. It is new for each upload. The next run
    can tell from it who made it, and removes those of killed runs.
proof
    The server's hash if it offers one. Otherwise the length, unless a stronger proof is required: then everything is
    read back and compared.
"""

from __future__ import annotations

import posixpath
import random
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.findings import Finding
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, Loop, PendingReceipt, PutOptions, Source, ignore
from s3_uploader.stores.file_servers.attempts import Attempts
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.conflict import Site
from s3_uploader.stores.file_servers.directories import KnownDirectories
from s3_uploader.stores.file_servers.holder import LockNotes
from s3_uploader.stores.file_servers.lock import CANNOT_BE_MADE, Create, RemoteLock
from s3_uploader.stores.file_servers.naming import NamingLocks
from s3_uploader.stores.file_servers.parts import PartNames
from s3_uploader.stores.file_servers.pool import SessionPool
from s3_uploader.stores.file_servers.server import FileServer
from s3_uploader.stores.file_servers.upload import FileUpload
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.workers import UploadTask, Workers

if TYPE_CHECKING:
    from s3_uploader.stores.file_servers.listing import FileInventory

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
_SHUTDOWN_SECONDS = _WORKERS_SECONDS = 1.5
_OPENING_SECONDS = 1.0

_Session = TypeVar("_Session", bound=FileSession)


class FileServerStore(ABC, Generic[_Session]):
    """A file server as :class:`~s3_uploader.stores.base.Store`, and how uploads are made there.

    :param create_lock: creates the lock file.
    :param lock_file: name, relative to the path, of a file that exists while files are uploaded.
    :param lock_stale_seconds: age after which such a file of others is removed.
    :param lock_notes: notes of the locks made, so that a lock from before a reboot is known.
    :param temporary_names: the names under which files are sent: ``hidden`` (with a dot), ``visible``, ``auto`` (hidden
        if the server accepts such names), or ``none``: directly to their final names.
    :param minimum_proof: the weakest proof that uploads ask for; only :meth:`check` uses it.
    :param makes_directories: whether uploads need new directories again and again; only :meth:`check` uses it.
    :param key_prefixes: what keys begin with; only :meth:`check` uses it.
    :param max_concurrency: the maximum number of connections.
    :param identity: distinguishes this uploader from others of this machine that write to the same directory, e.g. the
        spool. Default: random; then temporary files of killed runs are never removed.
    :param retry_attempts: the maximum number of attempts for one file.
    :param retry_seconds: no attempt begins when this many seconds have passed since the first.
    :param jitter: returns a random number between 0 and 1.
    :param notice: takes a level and a sentence for the user.
    """

    loop: Loop | None = None
    keeps_writers_apart = False  # most servers rename over a file, so it looks first
    _link: Callable[[_Session, str, str], None] | None = None
    """Gives a file a second, free name, if the protocol supports that."""

    def __init__(
        self,
        server: FileServer[_Session],
        *,
        create_lock: Create,
        lock_file: str | None = None,
        lock_stale_seconds: float | None = None,
        lock_notes: LockNotes | None = None,
        temporary_names: str = "auto",
        minimum_proof: str = "size",
        makes_directories: bool = False,
        key_prefixes: Sequence[str] = (),
        max_concurrency: int = 2,
        identity: str | None = None,
        retry_attempts: int = 5,
        retry_seconds: float = 60,
        jitter: Callable[[], float] = random.random,
        notice: Callable[[str, str], None] | None = None,
    ) -> None:
        self._server = server
        self._create_lock = create_lock
        self._lock_file = lock_file
        self._lock_stale_seconds = lock_stale_seconds
        self._lock_notes = lock_notes
        self._max_concurrency = max_concurrency
        self._temporary_names = temporary_names
        self._minimum_proof = Proof.of_label(minimum_proof)
        self._makes_directories = makes_directories
        self._key_prefixes = key_prefixes
        self._identity = secrets.token_hex(16) if identity is None else identity
        self._retry = RetryPolicy(
            max_attempts=retry_attempts,
            base_pause=_FIRST_PAUSE_SECONDS,
            max_pause=_LONGEST_PAUSE_SECONDS,
            max_total=retry_seconds,
        )
        self._jitter = jitter
        self._notice = notice
        self._workers: Workers | None = None
        self._pool: SessionPool[_Session] | None = None
        self._lock: RemoteLock | None = None
        self._attempts: Attempts[_Session] | None = None
        self._opening: _Session | None = None
        self._naming = NamingLocks()
        self._is_open = threading.Event()
        self._is_open.set()
        self._closed = False
        self._told: set[str] = set()

    @property
    def name(self) -> str:
        """The server and the path on it."""
        return self._server.name

    # ------------------------------------------------------------------------------------------ the protocol's part

    @abstractmethod
    def new_upload(
        self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str, *, site: Site
    ) -> FileUpload[_Session]:
        """Make the upload of one file."""

    @abstractmethod
    def check_key(self, session: _Session, key: str) -> None:
        """Check that the protocol and the server support such a key.

        :raises KeyRefused: if they do not.
        """

    @abstractmethod
    def transfer_error(self, error: Refused | Lost, *, address: str) -> StoreError:
        """The error of an upload that failed after the connection was established."""

    @abstractmethod
    def may_be_full(self, refused: Refused) -> bool:
        """Whether a refusal may mean that the disk is full."""

    def without_room(self, error: StoreError) -> StoreError:
        """The error of such a refusal if there is no room for even one byte."""
        return error

    @abstractmethod
    def _prepare(self, session: _Session) -> None:
        """Do what is needed before the first upload."""

    @abstractmethod
    def _look_again(self, session: _Session, path: str, receipt: Receipt, *, address: str) -> Receipt:
        """Look again for the file of a receipt; see :meth:`confirm`."""

    @abstractmethod
    def _of_the_login(self, session: _Session) -> Iterator[Finding]:
        """The findings of :meth:`check` about a logged-in session."""

    # ------------------------------------------------------------------------------------------ the store

    def open(self) -> None:
        """Connect, log in and take the remote lock; see :meth:`Store.open`."""
        if self._workers is not None:
            return
        self._closed = False
        self._is_open.clear()
        try:
            session = self._first_session()
            parts = PartNames(self._identity)
            try:
                self._prepare(session)
                self._lock = self._take_lock(session, parts)
            except BaseException:
                session.quit()
                raise
            self._pool, self._attempts = self._made_ready(session, parts)
            self._workers = Workers(name="file-server-store", count=self._max_concurrency)
        finally:
            self._opening = None
            self._is_open.set()

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> PendingReceipt:
        """Send the bytes of ``source`` to ``key`` below the path; see :meth:`Store.put`.

        ``receipt.etag``, and so ``replaces``, is ``sha256:`` and the hexadecimal SHA-256 of the content. If the server
        does not compute it, a file to be replaced is read first, to see whether it is the right one.
        """
        attempts = self._attempts
        if self._workers is None or attempts is None:
            raise RuntimeError("the store is not open")

        def send(task: UploadTask) -> Receipt:
            self._check_lock_file(key)
            return attempts.put(task, key, source, options, replaces)

        return self._workers.submit(send, deadline=deadline)

    def confirm(self, receipt: Receipt, *, deadline: float) -> PendingReceipt:
        """Ask for the file's size and read its last byte; see :meth:`Store.confirm`."""
        if self._workers is None:
            raise RuntimeError("the store is not open")
        return self._workers.submit(lambda task: self._confirm(task, receipt), deadline=deadline)

    def _confirm(self, task: UploadTask, receipt: Receipt) -> Receipt:
        assert self._pool is not None
        address = shown_name(self.address(receipt.key))
        with self._pool.session(task) as session:
            path = f"{session.base.rstrip('/')}/{receipt.key}"
            try:
                return self._look_again(session, path, receipt, address=address)
            except (Refused, Lost) as error:
                raise self.transfer_error(error, address=address) from None

    def cancel(self) -> None:
        """Cancel all uploads in flight."""
        if self._workers is not None:
            self._workers.cancel()

    def address(self, key: str) -> str:
        """Server, path and key."""
        return f"{self._server.name.rstrip('/')}/{key}"

    def close(self, *, timeout: float) -> None:
        """End the uploads, remove the remote lock and close the connections; see :meth:`Store.close`."""
        ends_at = time.monotonic() + timeout
        self._closed = True
        # Another thread may still be opening the store. Its lock must not stay.
        if not self._is_open.wait(min(timeout, _OPENING_SECONDS)):
            opening = self._opening
            if opening is not None:
                opening.interrupt()
            self._is_open.wait(_OPENING_SECONDS)
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.close(timeout=min(timeout, _WORKERS_SECONDS))
        pool, self._pool = self._pool, None
        lock, self._lock = self._lock, None
        if pool is not None:

            def on_shutdown(session: _Session) -> None:
                if lock is not None:
                    lock.release(session, tell=self._tell)

            # A moment even if no time is left: a remaining lock would block all uploads.
            ends_at = max(ends_at, time.monotonic() + _SHUTDOWN_SECONDS)
            pool.close(ends_at=ends_at, on_shutdown=on_shutdown if lock is not None else None)
        if lock is not None:
            # If no connection was left to remove it, the next pass does that.
            lock.give_up()

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """Connect, log in and try everything that an upload needs; see :meth:`Store.check`."""
        from s3_uploader.stores.file_servers.check import borrowing, check_file_server
        from s3_uploader.stores.file_servers.check_lock import made_already

        connect, release = borrowing(self._pool, self._server)
        findings = [] if self._lock is None else [made_already(self.name, str(self._lock_file))]
        return findings + check_file_server(
            connect,
            self._server.login_error,
            self._of_the_login,
            server=self._server.name,
            # In an open store the lock file is our own.
            lock_file=None if self._lock is not None else self._lock_file,
            create_lock=self._create_lock,
            temporary_names=self._temporary_names,
            learned=self._server.learned,
            minimum_proof=self._minimum_proof,
            makes_directories=self._makes_directories,
            key_prefixes=self._key_prefixes,
            now=now,
            stored=stored,
            limits=limits,
            release=release,
            link=self._link,
        )

    def inventory(self, *, seconds: float = float("inf"), until: float = float("inf")) -> FileInventory:
        """The inventory of the same directory. It takes no lock, and works whether the store is open or closed.

        :param seconds: longest time for one directory or file.
        :param until: the end of all of them, by the monotonic clock.
        """
        from s3_uploader.stores.file_servers.listing import FileInventory

        return FileInventory(self._server, concurrency=self._max_concurrency, seconds=seconds, until=until)

    def _tell(self, sentence: str) -> None:
        """Tell the user, once in a run for each kind of sentence."""
        kind = sentence[:40]
        if kind not in self._told and self._notice is not None:
            self._told.add(kind)
            self._notice("warning", sentence)

    def _made_ready(self, session: _Session, parts: PartNames) -> tuple[SessionPool[_Session], Attempts[_Session]]:
        """Make the pool, with this session in it, and the uploads that use it."""
        server = self._server
        site = Site(
            parts=parts,
            learned=server.learned,
            directories=KnownDirectories(parts=parts, learned=server.learned),
            temporary_names=self._temporary_names,
            address=lambda key: shown_name(self.address(key)),
            naming=self._naming.hold,
        )
        pool = SessionPool(
            make=server.new_session, login_error=server.login_error, most=self._max_concurrency, parts=parts
        )
        pool.add(session)
        attempts = Attempts(
            manner=self,
            pool=pool,
            site=site,
            retry=self._retry,
            random=self._jitter,
            server_name=server.name,
            tell=self._tell,
        )
        return pool, attempts

    def _first_session(self) -> _Session:
        """Connect. Only "too many connections" is retried, because then the server is there and accepts the login."""
        ends_at = time.monotonic() + self._server.opening
        for attempt in range(3):
            session = self._opening = self._server.new_session(lambda: ends_at - time.monotonic())
            try:
                if self._closed:
                    raise Lost("it was closed")
                session.connect()
            except (Refused, Lost) as error:
                if attempt == 2 or self._closed or not error.is_for_now:
                    raise self._server.login_error(error) from None
                time.sleep(self._jitter())
            else:
                return session
        raise AssertionError

    def _check_lock_file(self, key: str) -> None:
        """Check that a file does not take the place of the lock file, which would then never be removed."""
        if self._lock_file is not None and f"{key}/".startswith(f"{posixpath.normpath(self._lock_file)}/"):
            raise KeyRefused(
                f"The key {shown_name(key)} would take the place of the lock file.",
                hint="Rename the file, or choose another lock_file.",
            )

    def _take_lock(self, session: _Session, parts: PartNames) -> RemoteLock | None:
        if self._lock_file is None:
            return None
        lock = RemoteLock(
            path=f"{session.base.rstrip('/')}/{self._lock_file}",
            name=self._lock_file,
            server=self._server.name,
            stale_seconds=self._lock_stale_seconds,
            create=self._create_lock,
            parts=parts,
            learned=self._server.learned,
            notes=self._lock_notes,
        )
        try:
            lock.acquire(session)
        except (Refused, Lost) as error:
            raise StoreError(
                f"The lock file {self._lock_file} on {self._server.name} cannot be made: {error}.",
                code=error.error_code if isinstance(error, Refused) else "ConnectionLost",
                origin=error.origin if isinstance(error, Refused) else None,
                scope=Scope.DESTINATION,
                hint=CANNOT_BE_MADE if isinstance(error, Refused) else "",
            ) from None
        return lock
