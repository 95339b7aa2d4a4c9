"""The FTP store: an FTP server, with or without TLS (explicit FTPS), as destination.

Terms
-----
session
    A logged-in connection. There is one for each upload in flight, at most ``max_concurrency``, and fewer where the
    server refuses that many.
temporary name
    Where the bytes lie until they are proven, in the directory of the target. It is new for each upload, and tells the
    next run whose it is, so that it removes what a killed one left.
proof
    The server's hash where it offers one (``HASH``, ``XSHA256`` and so on). Else the length, unless a stronger proof is
    asked for: then everything is read back and compared.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.model import Finding, Proof, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import Loop, Memory, PutOptions, Source, StoreProperties, ignore
from s3_uploader.stores.file_servers.conflict import Site
from s3_uploader.stores.file_servers.directories import KnownDirectories
from s3_uploader.stores.file_servers.lock import RemoteLock
from s3_uploader.stores.file_servers.naming import NamingLocks
from s3_uploader.stores.file_servers.parts import PartNames
from s3_uploader.stores.file_servers.pool import SessionPool
from s3_uploader.stores.ftp.attempts import Attempts
from s3_uploader.stores.ftp.errors import transfer_error
from s3_uploader.stores.ftp.learned import FtpLearned
from s3_uploader.stores.ftp.locking import append_line
from s3_uploader.stores.ftp.password import find_password
from s3_uploader.stores.ftp.renaming import make_sure_of_rename
from s3_uploader.stores.ftp.replies import Lost, Refused
from s3_uploader.stores.ftp.server import Server
from s3_uploader.stores.ftp.session import Session, Settings
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.workers import UploadTask, Workers

if TYPE_CHECKING:
    from s3_uploader.stores.file_servers.listing import FileInventory

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
_SHUTDOWN_SECONDS = 1.5
_WORKERS_SECONDS = 1.5
_OPENING_SECONDS = 1.0


class FtpStore:
    """An FTP server as :class:`~s3_uploader.stores.base.Store`.

    :param path: directory under which files are stored; it must exist. Relative to the login directory without a
        slash at its beginning.
    :param tls: explicit FTPS for commands and data; the certificate must be trusted and fit the host.
    :param ca_file: certificates to trust instead of the system's.
    :param lock_file: name, relative to ``path``, of a file that exists while files are uploaded.
    :param lock_stale_seconds: age from which such a file left by others is removed.
    :param timeout_seconds: longest silence of the server.
    :param connect_timeout_seconds: longest time until a connection has logged in.
    :param temporary_names: under what names files are sent: ``hidden`` (with a dot), ``visible``, ``auto`` (hidden
        where the server takes such names), or ``none``: straight to their own names.
    :param minimum_proof: the weakest proof that uploads will ask for; only :meth:`check` looks at it.
    :param max_concurrency: most connections at once.
    :param identity: what tells this uploader from others of this machine that write to the same directory, e.g. the
        spool. Default: random, which means that temporary files of killed runs stay behind.
    :param retry_attempts: most attempts for one file.
    :param retry_seconds: no new attempt is begun when that many seconds have passed since the first.
    :param jitter: a random number between 0 and 1.
    :param notice: takes a level and a sentence that a person should read.
    :param memory: what earlier runs learned of the server.
    """

    loop: Loop | None = None

    def __init__(
        self,
        *,
        host: str,
        port: int = 21,
        user: str = "anonymous",
        password: str = "",
        path: str = "/",
        tls: bool = False,
        ca_file: str | None = None,
        lock_file: str | None = None,
        lock_stale_seconds: float | None = None,
        timeout_seconds: float = 30,
        connect_timeout_seconds: float = 30,
        temporary_names: str = "auto",
        minimum_proof: str = "size",
        max_concurrency: int = 2,
        identity: str | None = None,
        retry_attempts: int = 5,
        retry_seconds: float = 60,
        jitter: Callable[[], float] = random.random,
        notice: Callable[[str, str], None] | None = None,
        memory: Memory | None = None,
    ) -> None:
        settings = Settings(
            host=host,
            port=port,
            user=user,
            password=password,
            path=path,
            tls=tls,
            ca_file=ca_file,
            timeout_seconds=timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
        )
        self._server = Server(settings, FtpLearned(memory, key=f"{user}@{host}:{port}/{path}"))
        self._lock_file = lock_file
        self._lock_stale_seconds = lock_stale_seconds
        self._max_concurrency = max_concurrency
        self._temporary_names = temporary_names
        self._minimum_proof = Proof.of_label(minimum_proof)
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
        self._pool: SessionPool[Session] | None = None
        self._lock: RemoteLock | None = None
        self._attempts: Attempts | None = None
        self._opening: Session | None = None
        self._naming = NamingLocks()
        self._is_open = threading.Event()
        self._is_open.set()
        self._closed = False
        self._told: set[str] = set()

    @property
    def properties(self) -> StoreProperties:
        """What the server can do."""
        return StoreProperties(
            name=self._server.name,
            scheme="ftps" if self._server.settings.tls else "ftp",
            # Reading everything back, at the worst.
            strongest_proof=Proof.CHECKSUM,
            conditional_put=False,
        )

    def open(self) -> None:
        """Connect, log in and take the remote lock; see :meth:`Store.open`."""
        if self._workers is not None:
            return
        self._closed = False
        self._is_open.clear()
        try:
            session = self._first_session()
            try:
                if self._temporary_names != "none":
                    make_sure_of_rename(session, self._server)
                self._lock = self._take_lock(session)
            except BaseException:
                session.quit()
                raise
            self._pool, self._attempts = self._made_ready(session)
            self._workers = Workers(name="ftp-store", count=self._max_concurrency)
        finally:
            self._opening = None
            self._is_open.set()

    def put(
        self, key: str, source: Source, *, options: PutOptions, deadline: float, replaces: str = ""
    ) -> Future[Receipt]:
        """Send the bytes of ``source`` to ``key`` below the path; see :meth:`Store.put`.

        ``receipt.etag``, and so ``replaces``, is ``sha256:`` and the hexadecimal SHA-256 of the content. Where the
        server does not compute that itself, a file to be replaced is read to see whether it is the one.
        """
        attempts = self._attempts
        if self._workers is None or attempts is None:
            raise RuntimeError("the store is not open")
        return self._workers.submit(lambda task: attempts.put(task, key, source, options, replaces), deadline=deadline)

    def confirm(self, receipt: Receipt, *, deadline: float) -> Future[Receipt]:
        """Ask for the file's size and read its last byte; see :meth:`Store.confirm`."""
        if self._workers is None:
            raise RuntimeError("the store is not open")
        return self._workers.submit(lambda task: self._confirm(task, receipt), deadline=deadline)

    def _confirm(self, task: UploadTask, receipt: Receipt) -> Receipt:
        from s3_uploader.stores.ftp.presence import confirm

        assert self._pool is not None
        address = shown_name(self.address(receipt.key))
        with self._pool.session(task) as session:
            path = f"{session.base.rstrip('/')}/{receipt.key}"
            try:
                return confirm(session, path, receipt, address=address)
            except (Refused, Lost) as error:
                raise transfer_error(error, address=address) from None

    def cancel(self) -> None:
        """Give up all uploads in flight."""
        if self._workers is not None:
            self._workers.cancel()

    def address(self, key: str) -> str:
        """Server, path and key."""
        return f"{self._server.name.rstrip('/')}/{key}"

    def close(self, *, timeout: float) -> None:
        """End the uploads, remove the remote lock and hang up; see :meth:`Store.close`."""
        ends_at = time.monotonic() + timeout
        self._closed = True
        # Somebody may still be opening it on another thread, whose lock must not stay.
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

            def on_shutdown(session: Session) -> None:
                if lock is not None:
                    lock.release(session, tell=self._tell)

            # A moment even with no time left at all: a lock left behind keeps everybody out.
            ends_at = max(ends_at, time.monotonic() + _SHUTDOWN_SECONDS)
            pool.close(ends_at=ends_at, on_shutdown=on_shutdown if lock is not None else None)

    def check(self, *, now: float, stored: Callable[[str], None] = ignore) -> list[Finding]:
        """Connect, log in and try everything that an upload needs; see :meth:`Store.check`."""
        from s3_uploader.stores.ftp.check import check_server

        # Some servers take one connection only.
        pool = self._pool

        borrowed: list[Session] = []

        def connect(remaining: Callable[[], float]) -> Session:
            idle = None if pool is None else pool.borrow(remaining)
            if idle is None:
                return self._server.connect(remaining)
            borrowed.append(idle)
            return idle

        def release(session: Session) -> None:
            if pool is not None and borrowed:
                pool.give_back(session)
            else:
                session.quit()

        return check_server(
            connect,
            self._server.login_error,
            server=self._server.name,
            # Once the store is open the lock file is our own.
            lock_file=None if self._lock is not None else self._lock_file,
            temporary_names=self._temporary_names,
            learned=self._server.learned,
            minimum_proof=self._minimum_proof,
            now=now,
            stored=stored,
            release=release,
        )

    def inventory(self) -> FileInventory:
        """What reads the same directory; it takes no lock, and needs the store neither open nor closed."""
        from s3_uploader.stores.file_servers.listing import FileInventory

        return FileInventory(
            connect=lambda: self._server.connect(lambda: self._server.settings.timeout_seconds),
            login_error=self._server.login_error,
            name=self._server.name,
            concurrency=self._max_concurrency,
        )

    def _tell(self, sentence: str) -> None:
        """Tell a person, once a run for each kind of sentence."""
        kind = sentence[:40]
        if kind not in self._told and self._notice is not None:
            self._told.add(kind)
            self._notice("warning", sentence)

    def _made_ready(self, session: Session) -> tuple[SessionPool[Session], Attempts]:
        """What uploads go through, beginning with this session."""
        parts = PartNames(self._identity)
        learned = self._server.learned
        site = Site(
            parts=parts,
            learned=learned,
            directories=KnownDirectories(parts=parts, learned=learned),
            temporary_names=self._temporary_names,
            address=lambda key: shown_name(self.address(key)),
            naming=self._naming.hold,
        )
        pool = SessionPool(
            make=self._server.new_session,
            login_error=self._server.login_error,
            most=self._max_concurrency,
            parts=parts,
        )
        pool.add(session)
        attempts = Attempts(
            pool=pool,
            site=site,
            retry=self._retry,
            random=self._jitter,
            server_name=self._server.name,
            tell=self._tell,
        )
        return pool, attempts

    def _first_session(self) -> Session:
        """Connect. Only "too many connections" is tried again: the server is there and knows us."""
        settings = self._server.settings
        ends_at = time.monotonic() + settings.connect_timeout_seconds + 2 * settings.timeout_seconds
        for attempt in range(3):
            session = self._opening = self._server.new_session(lambda: ends_at - time.monotonic())
            try:
                if self._closed:
                    raise Lost("it was closed")
                session.connect()
            except (Refused, Lost) as error:
                if attempt == 2 or self._closed or not isinstance(error, Refused) or error.code != 421:
                    raise self._server.login_error(error) from None
                time.sleep(self._jitter())
            else:
                return session
        raise AssertionError

    def _take_lock(self, session: Session) -> RemoteLock | None:
        if self._lock_file is None:
            return None
        lock = RemoteLock(
            path=f"{session.base.rstrip('/')}/{self._lock_file}",
            name=self._lock_file,
            server=self._server.name,
            stale_seconds=self._lock_stale_seconds,
            create=append_line,
            learned=self._server.learned,
        )
        try:
            lock.acquire(session)
        except (Refused, Lost) as error:
            raise StoreError(
                f"The lock file {self._lock_file} on {self._server.name} cannot be made: {error}.",
                code=str(error.code) if isinstance(error, Refused) else "ConnectionLost",
                scope=Scope.DESTINATION,
            ) from None
        return lock


def create(
    *,
    host: str,
    user: str = "anonymous",
    password_env: str = "S3_UPLOADER_FTP_PASSWORD",
    password_file: str | None = None,
    password: str | None = None,
    **settings: Any,
) -> FtpStore:
    """An FTP store from the keys of the configuration; the rest of them are the arguments of :class:`FtpStore`.

    :raises StoreError: if there is no password.
    """
    found = find_password(user, variable=password_env, file_name=password_file, password=password)
    return FtpStore(host=host, user=user, password=found, **settings)
