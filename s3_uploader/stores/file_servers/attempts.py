"""One upload to a file server, attempt after attempt, and what is tidied up after each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.model import Receipt
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.conflict import Site
from s3_uploader.stores.file_servers.parts import remove
from s3_uploader.stores.file_servers.pool import SessionPool
from s3_uploader.stores.file_servers.upload import FileUpload
from s3_uploader.stores.keys import path_segments
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.workers import UploadTask

_Session = TypeVar("_Session", bound=FileSession)


class Manner(Protocol[_Session]):
    """How uploads are made by one protocol."""

    def new_upload(
        self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str, *, site: Site
    ) -> FileUpload[_Session]:
        """The upload of one file."""

    def check_key(self, session: _Session, key: str) -> None:
        """Make sure that the protocol and the server can have such a key.

        :raises KeyRefused: if they cannot.
        """

    def transfer_error(self, error: Refused | Lost, *, address: str) -> StoreError:
        """The error of an upload on a connection that had come up."""

    def may_be_full(self, refused: Refused) -> bool:
        """Whether a refusal may mean that there is no room."""

    def without_room(self, error: StoreError) -> StoreError:
        """The error of such a refusal where not even a byte finds room."""


class Attempts(Generic[_Session]):
    """Makes uploads, each in as many attempts as are worth while.

    :param manner: how the protocol at hand does it.
    :param retry: bounds of the attempts for one file.
    :param random: a number between 0 and 1.
    :param server_name: the server's name in messages.
    :param tell: takes a sentence that a person should read.
    """

    def __init__(
        self,
        *,
        manner: Manner[_Session],
        pool: SessionPool[_Session],
        site: Site,
        retry: RetryPolicy,
        random: Callable[[], float],
        server_name: str,
        tell: Callable[[str], None],
    ) -> None:
        self._manner = manner
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
        upload = self._manner.new_upload(task, key, source, options, replaces, site=self._site)
        try:
            return self._persist(task, upload, key, self._site.address(key))
        finally:
            # What could not be removed, since the connection was lost, is for the next one.
            for path in (upload.temporary_path, upload.scratch):
                if path:
                    self._site.parts.leave_behind(path)

    def _persist(self, task: UploadTask, upload: FileUpload[_Session], key: str, address: str) -> Receipt:
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
                if not error.retryable:
                    raise
                if pause is None:
                    task.check()  # the deadline is what ended it, whatever the last attempt ran into
                    raise
            task.pause(pause)

    def _attempt(self, task: UploadTask, upload: FileUpload[_Session], key: str, address: str) -> Receipt:
        with self._pool.session(task) as session:
            self._manner.check_key(session, key)
            try:
                return upload.run(session)
            except Refused as refused:
                error = self._manner.transfer_error(refused, address=address)
                self._tidy_up(session, upload)
                if self._manner.may_be_full(refused) and self._is_full(session, upload):
                    error = self._manner.without_room(error)
                    error.scope = Scope.DESTINATION
                raise error from None
            except Lost as lost:
                raise self._manner.transfer_error(lost, address=address) from None
            finally:
                self._tidy_up(session, upload)

    def _tidy_up(self, session: _Session, upload: FileUpload[_Session]) -> None:
        """Remove what lies under the temporary name; on a lost connection the next attempt does it, or the next run."""
        with contextlib.suppress(Refused, Lost):
            if upload.temporary_path and session.usable:
                if not session.delete(upload.temporary_path) and session.size(upload.temporary_path) is not None:
                    self._tell(
                        f"What was sent to {self._server_name} for an upload that failed cannot be deleted there "
                        f"({shown_name(upload.temporary_path)}). Give the {session.protocol} user the right to delete."
                    )
                upload.temporary_path = ""
            if upload.scratch and session.usable:
                remove(session, upload.scratch)
                upload.scratch = ""

    def _is_full(self, session: _Session, upload: FileUpload[_Session]) -> bool:
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
