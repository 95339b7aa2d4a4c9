"""One upload to an FTP server, attempt after attempt, and what is tidied up after each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.model import Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.file_servers.conflict import Site
from s3_uploader.stores.file_servers.parts import remove
from s3_uploader.stores.file_servers.pool import SessionPool
from s3_uploader.stores.ftp.errors import FULL, transfer_error
from s3_uploader.stores.ftp.replies import Lost, Refused
from s3_uploader.stores.ftp.session import Session
from s3_uploader.stores.ftp.upload import FtpUpload
from s3_uploader.stores.keys import path_segments
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.workers import UploadTask


class Attempts:
    """Makes uploads, each in as many attempts as are worth while.

    :param retry: bounds of the attempts for one file.
    :param random: a number between 0 and 1.
    :param server_name: the server's name in messages.
    :param tell: takes a sentence that a person should read.
    """

    def __init__(
        self,
        *,
        pool: SessionPool[Session],
        site: Site,
        retry: RetryPolicy,
        random: Callable[[], float],
        server_name: str,
        tell: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._site = site
        self._retry = retry
        self._random = random
        self._server_name = server_name
        self._tell = tell

    def put(self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str) -> Receipt:
        """Upload one file.

        :raises StoreError: if it cannot be uploaded.
        """
        path_segments(key)
        if "\n" in key or "\r" in key:
            raise KeyRefused(f"The key {shown_name(key)} holds a line break, which no FTP command can.")
        upload = FtpUpload(task, key, source, options, replaces, site=self._site)
        try:
            return self._persist(task, upload, key, self._site.address(key))
        finally:
            # What could not be removed, since the connection was lost, is for the next one.
            for path in (upload.temporary_path, upload.scratch):
                if path:
                    self._site.parts.leave_behind(path)

    def _persist(self, task: UploadTask, upload: FtpUpload, key: str, address: str) -> Receipt:
        """Try until it works or is not worth trying, bounded in number and time."""
        begun = time.monotonic()
        attempts = 0
        while True:
            attempts += 1
            try:
                return self._attempt(task, upload, key, address)
            except StoreError as error:
                pause = self._retry.pause(
                    attempts=attempts,
                    since_first_failure=time.monotonic() - begun,
                    remaining=task.remaining,
                    random=self._random,
                )
                if not error.retryable or pause is None:
                    raise
            task.pause(pause)

    def _attempt(self, task: UploadTask, upload: FtpUpload, key: str, address: str) -> Receipt:
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


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
