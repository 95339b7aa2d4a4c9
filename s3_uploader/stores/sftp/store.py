"""The SFTP store: a directory on an SSH server as destination.

The part shared with other file servers is :mod:`s3_uploader.stores.file_servers.store`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from s3_uploader.core.errors import EngineUnavailable, StoreError
from s3_uploader.core.extras import installing
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.model import Receipt
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, Memory, PutOptions, Source, ignore
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.conflict import Site
from s3_uploader.stores.file_servers.learned import Learned
from s3_uploader.stores.file_servers.password import find_password
from s3_uploader.stores.file_servers.store import FileServerStore
from s3_uploader.stores.workers import UploadTask

try:
    from s3_uploader.stores.sftp.errors import may_be_full, transfer_error, without_room
    from s3_uploader.stores.sftp.login import Settings
    from s3_uploader.stores.sftp.server import Server
    from s3_uploader.stores.sftp.session import Session
    from s3_uploader.stores.sftp.upload import SftpUpload
except ImportError as missing:
    raise EngineUnavailable(
        f"Files cannot be sent by SFTP: the library for it is not installed ({missing}).",
        hint=f"Install it: {installing('sftp')}.",
    ) from None

if TYPE_CHECKING:
    from s3_uploader.stores.sftp.listing import SftpInventory


class SftpStore(FileServerStore[Session]):
    """An SFTP server as :class:`~s3_uploader.stores.base.Store`.

    :param path: the directory that files are stored in; it must exist. Without a leading slash it is relative to the
        login directory.
    :param private_key_file: the user's key. Default: those of the agent and the usual files.
    :param passphrase: of that key.
    :param known_hosts_file: the file of trusted keys, instead of the usual files.
    :param host_key_fingerprints: trusted keys, instead of those in files.
    :param timeout_seconds: longest silence of the server.
    :param connect_timeout_seconds: longest time until a session is logged in.
    :param memory: what earlier runs learned about the server.
    :param settings: the other arguments of :class:`~s3_uploader.stores.file_servers.store.FileServerStore`.
    """

    _link = staticmethod(Session.link)

    def __init__(
        self,
        *,
        host: str,
        port: int = 22,
        user: str,
        password: str = "",
        path: str = "",
        private_key_file: str | None = None,
        passphrase: str = "",
        known_hosts_file: str | None = None,
        host_key_fingerprints: Sequence[str] = (),
        timeout_seconds: float = 30,
        connect_timeout_seconds: float = 30,
        memory: Memory | None = None,
        **settings: Any,
    ) -> None:
        self._sftp = Server(
            Settings(
                host=host,
                port=port,
                user=user,
                password=password,
                path=path,
                private_key_file=private_key_file,
                passphrase=passphrase,
                known_hosts_file=known_hosts_file,
                host_key_fingerprints=tuple(host_key_fingerprints),
                timeout_seconds=timeout_seconds,
                connect_timeout_seconds=connect_timeout_seconds,
            ),
            Learned(memory, key=f"{user}@{host}:{port}/{path}", protocol="sftp"),
        )
        super().__init__(self._sftp, create_lock=create_lock_file, **settings)

    def new_upload(
        self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str, *, site: Site
    ) -> SftpUpload:
        """Make the upload of one file."""
        return SftpUpload(task, key, source, options, replaces, site=site)

    def check_key(self, session: Session, key: str) -> None:
        """Accept every key: SFTP names are any bytes, and how a server stores them is tried."""

    def transfer_error(self, error: Refused | Lost, *, address: str) -> StoreError:
        """The error of an upload that failed after the connection was established."""
        return transfer_error(error, address=address)

    def may_be_full(self, refused: Refused) -> bool:
        """Whether a refusal may mean that the disk is full."""
        return may_be_full(refused)

    def without_room(self, error: StoreError) -> StoreError:
        """The error of such a refusal if there is no room for even one byte."""
        return without_room(error)

    def close(self, *, timeout: float) -> None:
        """End the uploads, remove the remote lock and close the connections; see :meth:`Store.close`."""
        super().close(timeout=timeout)
        self._sftp.stop()

    def check(
        self, *, now: float, stored: Callable[[str], None] = ignore, limits: CheckLimits = USUAL_LIMITS
    ) -> list[Finding]:
        """Connect, log in and try everything that an upload needs; see :meth:`Store.check`."""
        try:
            return super().check(now=now, stored=stored, limits=limits)
        finally:
            if self._pool is None:
                self._sftp.stop()

    def inventory(self, *, seconds: float = float("inf"), until: float = float("inf")) -> SftpInventory:
        """The inventory of the same directory; see :meth:`FileServerStore.inventory`."""
        from s3_uploader.stores.sftp.listing import SftpInventory

        server = Server(self._sftp.settings, self._sftp.learned)
        return SftpInventory(server, concurrency=self._max_concurrency, seconds=seconds, until=until)

    def _prepare(self, session: Session) -> None:
        """Do nothing: no test is needed before the first file."""

    def _look_again(self, session: Session, path: str, receipt: Receipt, *, address: str) -> Receipt:
        from s3_uploader.stores.sftp.presence import confirm

        return confirm(session, path, receipt, address=address)

    def _of_the_login(self, session: Session) -> Iterator[Finding]:
        name = self._server.name
        yield Finding(Severity.OK, name, f"logged in; the server says: {session.welcome}")
        yield Finding(Severity.OK, name, f"its host key is trusted: {session.host_key}")
        free = session.free_bytes()
        if free is not None and free < 1 << 30:
            yield Finding(Severity.WARNING, name, f"only {free / 2**20:.0f} MiB are free", "Make room there soon.")


def create_lock_file(session: FileSession, path: str, content: bytes, beside: str) -> None:
    """Create the lock file together with its content, only if it does not exist.

    The file is written under another name first, and then linked to its own. So it never exists without the line that
    names its owner: otherwise nobody could tell whether a killed run left it. On a server without links it is created
    first and written afterwards (``SSH_FXF_EXCL``), while the other file tells who does that.
    """
    assert isinstance(session, Session)
    session.store(beside, [content])
    try:
        session.link(beside, path)
    except Refused:
        if session.size(path) is not None:
            raise FileExistsError from None
        _create_exclusively(session, path, content)
    finally:
        if session.usable:
            session.delete(beside)


def _create_exclusively(session: Session, path: str, content: bytes) -> None:
    try:
        session.store(path, [content])
    except Refused:
        if session.size(path) is not None:
            raise FileExistsError from None
        raise


def create(
    *,
    host: str,
    user: str,
    password_env: str = "S3_UPLOADER_SFTP_PASSWORD",
    password_file: str | None = None,
    passphrase_env: str = "S3_UPLOADER_SFTP_PASSPHRASE",
    **settings: Any,
) -> SftpStore:
    """Make an SFTP store from the keys of the configuration. The others are the arguments of :class:`SftpStore`.

    :raises StoreError: if the password file cannot be read.
    """
    password = ""
    if password_file is not None or password_env in os.environ:
        password = find_password(user, variable=password_env, file_name=password_file, password=None, protocol="SFTP")
    return SftpStore(host=host, user=user, password=password, passphrase=os.environ.get(passphrase_env, ""), **settings)
