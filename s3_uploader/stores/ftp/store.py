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

import contextlib
import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.model import Finding, Proof, Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import Loop, Memory, PutOptions, Source, StoreProperties, ignore
from s3_uploader.stores.ftp.errors import FULL, login_error, transfer_error
from s3_uploader.stores.ftp.learned import Learned
from s3_uploader.stores.ftp.naming import NamingLocks
from s3_uploader.stores.ftp.replies import Lost, Refused, wire
from s3_uploader.stores.keys import path_segments
from s3_uploader.stores.workers import UploadTask, Workers

if TYPE_CHECKING:
    from s3_uploader.stores.ftp.listing import FtpInventory
    from s3_uploader.stores.ftp.lock import RemoteLock
    from s3_uploader.stores.ftp.pool import SessionPool
    from s3_uploader.stores.ftp.session import Session
    from s3_uploader.stores.ftp.upload import FtpUpload, Site

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
        self._host = host
        self._port = port
        self._user = user
        self._password = password
        self._path = path
        self._tls = tls
        self._ca_file = ca_file
        self._lock_file = lock_file
        self._lock_stale_seconds = lock_stale_seconds
        self._timeout_seconds = timeout_seconds
        self._max_concurrency = max_concurrency
        self._connect_timeout_seconds = connect_timeout_seconds
        self._temporary_names = temporary_names
        self._minimum_proof = Proof.of_label(minimum_proof)
        self._identity = secrets.token_hex(16) if identity is None else identity
        self._retry_attempts = retry_attempts
        self._retry_seconds = retry_seconds
        self._jitter = jitter
        self._notice = notice
        self._learned = Learned(memory, key=f"{user}@{host}:{port}/{path}")
        self._workers: Workers | None = None
        self._pool: SessionPool | None = None
        self._lock: RemoteLock | None = None
        self._site: Site | None = None
        self._opening: Session | None = None
        self._is_open = threading.Event()
        self._is_open.set()
        self._closed = False
        self._naming = NamingLocks()
        self._told: set[str] = set()

    @property
    def properties(self) -> StoreProperties:
        """What the server can do."""
        return StoreProperties(
            name=self._server_name,
            scheme="ftps" if self._tls else "ftp",
            # Reading everything back, at the worst.
            strongest_proof=Proof.CHECKSUM,
            conditional_put=False,
        )

    def open(self) -> None:
        """Connect, log in and take the remote lock; see :meth:`Store.open`."""
        if self._workers is not None:
            return
        from s3_uploader.stores.ftp.pool import SessionPool

        self._closed = False
        self._is_open.clear()
        try:
            session = self._first_session()
            try:
                self._make_sure_of_rename(session)
                self._lock = self._take_lock(session)
            except BaseException:
                session.quit()
                raise
            self._site = self._new_site()
            pool = SessionPool(
                make=self._new_session,
                login_error=self._login_error,
                most=self._max_concurrency,
                parts=self._site.parts,
            )
            pool.add(session)
            self._pool = pool
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
        if self._workers is None:
            raise RuntimeError("the store is not open")
        return self._workers.submit(lambda task: self._put(task, key, source, options, replaces), deadline=deadline)

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
        return f"{self._server_name.rstrip('/')}/{key}"

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
                return self._connect(remaining)
            borrowed.append(idle)
            return idle

        def release(session: Session) -> None:
            if pool is not None and borrowed:
                pool.give_back(session)
            else:
                session.quit()

        return check_server(
            connect,
            self._login_error,
            server=self._server_name,
            # Once the store is open the lock file is our own.
            lock_file=None if self._lock is not None else self._lock_file,
            temporary_names=self._temporary_names,
            learned=self._learned,
            minimum_proof=self._minimum_proof,
            now=now,
            stored=stored,
            release=release,
        )

    def inventory(self) -> FtpInventory:
        """What reads the same directory; it takes no lock, and needs the store neither open nor closed."""
        from s3_uploader.stores.ftp.listing import FtpInventory

        return FtpInventory(
            connect=lambda: self._connect(lambda: self._timeout_seconds),
            login_error=self._login_error,
            name=self._server_name,
            concurrency=self._max_concurrency,
        )

    @property
    def _server_name(self) -> str:
        port = "" if self._port == 21 else f":{self._port}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}{port}/{self._path.strip('/')}".rstrip("/")

    def _put(self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str) -> Receipt:
        from s3_uploader.stores.ftp.upload import FtpUpload

        assert self._site is not None
        path_segments(key)
        if "\n" in key or "\r" in key:
            raise KeyRefused(f"The key {shown_name(key)} holds a line break, which no FTP command can.")
        upload = FtpUpload(task, key, source, options, replaces, site=self._site)
        try:
            return self._persist(task, upload, key, shown_name(self.address(key)))
        finally:
            # What could not be removed, since the connection was lost, is for the next one.
            for path in (upload.temporary_path, upload.scratch):
                if path:
                    self._site.parts.leave_behind(path)

    def _persist(self, task: UploadTask, upload: FtpUpload, key: str, address: str) -> Receipt:
        """Try until it works or is not worth trying, bounded in number and time."""
        begun = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(task, upload, key, address)
            except StoreError as error:
                # Full jitter, so that many uploaders that lost one server do not come back in step.
                pause = self._jitter() * min(10.0, 0.5 * 2**attempt)
                spent = time.monotonic() - begun
                if not error.retryable or attempt >= self._retry_attempts or spent + pause > self._retry_seconds:
                    raise
            task.pause(pause)

    def _attempt(self, task: UploadTask, upload: FtpUpload, key: str, address: str) -> Receipt:
        assert self._pool is not None
        with self._pool.session(task) as session:
            if session.features.utf8 and not _is_utf8(key):
                raise KeyRefused(f"The key {shown_name(key)} is no UTF-8, which the FTP server insists on.")
            try:
                return upload.run(session)
            except Refused as refused:
                error = transfer_error(refused, address=address)
                self._tidy_up(session, upload)
                if refused.code in FULL and self._is_full(session, upload):
                    error.scope = Scope.DESTINATION
                raise error from None
            except Lost as lost:
                raise transfer_error(lost, address=address) from None
            finally:
                self._tidy_up(session, upload)

    def _tidy_up(self, session: Session, upload: FtpUpload) -> None:
        """Remove what lies under the temporary name; on a lost connection the next attempt does it, or the next run."""
        from s3_uploader.stores.ftp.parts import remove

        with contextlib.suppress(Refused, Lost):
            if upload.temporary_path and session.usable:
                if not session.delete(upload.temporary_path) and session.size(upload.temporary_path) is not None:
                    self._tell(
                        f"What was sent to {self._server_name} for an upload that failed cannot be deleted there "
                        f"({shown_name(upload.temporary_path)}). Give the FTP user the right to delete."
                    )
                upload.temporary_path = ""
            if upload.scratch and session.usable:
                remove(session, upload.scratch)
                upload.scratch = ""

    def _tell(self, sentence: str) -> None:
        """Tell a person, once a run for each kind of sentence."""
        kind = sentence[:40]
        if kind not in self._told and self._notice is not None:
            self._told.add(kind)
            self._notice("warning", sentence)

    def _is_full(self, session: Session, upload: FtpUpload) -> bool:
        """Whether even one byte finds no room: 552 may also mean that this one file is too large for the account."""
        if not upload.probe_path:
            return True
        try:
            session.store(upload.probe_path, [b"\n"])
        except (Refused, Lost):
            return True
        finally:
            with contextlib.suppress(Refused, Lost):
                session.delete(upload.probe_path)
        return False

    def _new_site(self) -> Site:
        from s3_uploader.stores.ftp.directories import KnownDirectories
        from s3_uploader.stores.ftp.parts import PartNames
        from s3_uploader.stores.ftp.upload import Site

        parts = PartNames(self._identity)
        return Site(
            parts=parts,
            learned=self._learned,
            directories=KnownDirectories(parts=parts, learned=self._learned),
            temporary_names=self._temporary_names,
            address=lambda key: shown_name(self.address(key)),
            naming=self._naming.hold,
        )

    def _new_session(self, remaining: Callable[[], float]) -> Session:
        from s3_uploader.stores.ftp.session import Session, Settings

        settings = Settings(
            host=self._host,
            port=self._port,
            user=self._user,
            password=self._password,
            path=self._path,
            tls=self._tls,
            ca_file=self._ca_file,
            timeout_seconds=self._timeout_seconds,
            connect_timeout_seconds=self._connect_timeout_seconds,
        )
        return Session(settings, remaining=remaining, learned=self._learned)

    def _connect(self, remaining: Callable[[], float]) -> Session:
        session = self._new_session(remaining)
        session.connect()
        return session

    def _first_session(self) -> Session:
        """Connect. Only "too many connections" is tried again: the server is there and knows us."""
        ends_at = time.monotonic() + self._connect_timeout_seconds + 2 * self._timeout_seconds
        for attempt in range(3):
            session = self._opening = self._new_session(lambda: ends_at - time.monotonic())
            try:
                if self._closed:
                    raise Lost("it was closed")
                session.connect()
            except (Refused, Lost) as error:
                if attempt == 2 or self._closed or not isinstance(error, Refused) or error.code != 421:
                    raise self._login_error(error) from None
                time.sleep(self._jitter())
            else:
                return session
        raise AssertionError

    def _make_sure_of_rename(self, session: Session) -> None:
        """Where a rename was refused in an earlier run, try that one again before anything is sent.

        :raises StoreError: if it is refused again.
        """
        path = self._learned.refusing("rename")
        if not path or self._temporary_names == "none":
            return
        from s3_uploader.stores.ftp.upload import without_rename

        try:
            session.command(f"RNFR {wire(path)}")
        except Refused as refused:
            if session.size(path) is not None:
                raise without_rename(refused, self._server_name) from None
        except Lost as lost:
            raise self._login_error(lost) from None
        else:
            session.delete(path)
        self._learned.refused("rename", "")

    def _take_lock(self, session: Session) -> RemoteLock | None:
        if self._lock_file is None:
            return None
        from s3_uploader.stores.ftp.lock import RemoteLock

        lock = RemoteLock(
            path=f"{session.base.rstrip('/')}/{self._lock_file}",
            name=self._lock_file,
            server=self._server_name,
            stale_seconds=self._lock_stale_seconds,
            learned=self._learned,
        )
        try:
            lock.acquire(session)
        except (Refused, Lost) as error:
            raise StoreError(
                f"The lock file {self._lock_file} on {self._server_name} cannot be made: {error}.",
                code=str(error.code) if isinstance(error, Refused) else "ConnectionLost",
                scope=Scope.DESTINATION,
            ) from None
        return lock

    def _login_error(self, error: Refused | Lost) -> StoreError:
        server = f"{self._host}:{self._port}"
        return login_error(error, server=server, user=self._user, path=self._path, tls=self._tls)


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    found = _find_password(user, password_env, password_file, password)
    return FtpStore(host=host, user=user, password=found, **settings)


def _find_password(user: str, variable: str, file_name: str | None, password: str | None) -> str:
    if password is not None:
        return password
    if file_name is not None:
        try:
            with open(file_name, encoding="utf-8", errors="surrogateescape") as file:
                return file.read().rstrip("\r\n")
        except OSError as error:
            raise StoreError(
                f"The password file {file_name} cannot be read: {(error.strerror or str(error)).lower()}.",
                code="NoPassword",
                scope=Scope.DESTINATION,
            ) from None
    found = os.environ.get(variable)
    if found is not None:
        return found
    if user == "anonymous":
        return "anonymous@"
    raise StoreError(
        f"There is no password for the FTP user {user}.",
        code="NoPassword",
        scope=Scope.DESTINATION,
        hint=f"Put it into the environment variable {variable}, or name a file that holds it in password_file.",
    )
