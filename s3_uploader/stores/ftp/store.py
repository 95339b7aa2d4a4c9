"""The FTP store: an FTP server, with or without TLS (explicit FTPS), as destination.

The part shared with other file servers is :mod:`s3_uploader.stores.file_servers.store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from s3_uploader.core.errors import KeyRefused, StoreError
from s3_uploader.core.findings import Finding
from s3_uploader.core.model import Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import Memory, PutOptions, Source
from s3_uploader.stores.file_servers import base
from s3_uploader.stores.file_servers.conflict import Site
from s3_uploader.stores.file_servers.password import find_password
from s3_uploader.stores.file_servers.store import FileServerStore
from s3_uploader.stores.ftp.errors import transfer_error
from s3_uploader.stores.ftp.learned import FtpLearned
from s3_uploader.stores.ftp.locking import append_line
from s3_uploader.stores.ftp.renaming import make_sure_of_rename
from s3_uploader.stores.ftp.replies import Lost, Refused
from s3_uploader.stores.ftp.server import Server
from s3_uploader.stores.ftp.session import Session, Settings
from s3_uploader.stores.ftp.upload import FtpUpload
from s3_uploader.stores.workers import UploadTask


class FtpStore(FileServerStore[Session]):
    """An FTP server as :class:`~s3_uploader.stores.base.Store`.

    :param path: the directory that files are stored in; it must exist. Without a leading slash it is relative to the
        login directory.
    :param tls: explicit FTPS for commands and data; the certificate must be trusted and match the host.
    :param ca_file: certificates to trust instead of the system's.
    :param timeout_seconds: longest silence of the server.
    :param connect_timeout_seconds: longest time until a connection is logged in.
    :param memory: what earlier runs learned about the server.
    :param settings: the other arguments of :class:`~s3_uploader.stores.file_servers.store.FileServerStore`.
    """

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
        timeout_seconds: float = 30,
        connect_timeout_seconds: float = 30,
        memory: Memory | None = None,
        **settings: Any,
    ) -> None:
        self._ftp = Server(
            Settings(
                host=host,
                port=port,
                user=user,
                password=password,
                path=path,
                tls=tls,
                ca_file=ca_file,
                timeout_seconds=timeout_seconds,
                connect_timeout_seconds=connect_timeout_seconds,
            ),
            FtpLearned(memory, key=f"{user}@{host}:{port}/{path}"),
        )
        super().__init__(self._ftp, create_lock=append_line, **settings)

    def new_upload(
        self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str, *, site: Site
    ) -> FtpUpload:
        """Make the upload of one file."""
        if "\n" in key or "\r" in key:
            raise KeyRefused(f"The key {shown_name(key)} has a line break, which FTP commands cannot contain.")
        return FtpUpload(task, key, source, options, replaces, site=site)

    def check_key(self, session: Session, key: str) -> None:
        """Check that the server supports such a key."""
        if session.features.utf8 and not _is_utf8(key):
            raise KeyRefused(f"The key {shown_name(key)} is not UTF-8, which the FTP server requires.")

    def transfer_error(self, error: base.Refused | Lost, *, address: str) -> StoreError:
        """The error of an upload that failed after the connection was established."""
        assert isinstance(error, (Refused, Lost))
        return transfer_error(error, address=address)

    def may_be_full(self, refused: base.Refused) -> bool:
        """Whether a refusal may mean that the disk is full."""
        return isinstance(refused, Refused) and refused.lacks_room

    def _prepare(self, session: Session) -> None:
        if self._temporary_names != "none":
            make_sure_of_rename(session, self._ftp)

    def _look_again(self, session: Session, path: str, receipt: Receipt, *, address: str) -> Receipt:
        from s3_uploader.stores.ftp.presence import confirm

        return confirm(session, path, receipt, address=address)

    def _of_the_login(self, session: Session) -> Iterator[Finding]:
        from s3_uploader.stores.ftp.check import of_the_login

        return of_the_login(self._server.name, session)


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
    """Make an FTP store from the keys of the configuration. The others are the arguments of :class:`FtpStore`.

    :raises StoreError: if there is no password.
    """
    found = find_password(user, variable=password_env, file_name=password_file, password=password)
    return FtpStore(host=host, user=user, password=found, **settings)
