"""One upload to a file server with its retries, and the cleanup after each attempt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.model import Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.conflict import Site
from s3_uploader.stores.file_servers.parts import NAMES, PART, remove
from s3_uploader.stores.file_servers.pool import SessionPool
from s3_uploader.stores.file_servers.upload import FileUpload
from s3_uploader.stores.keys import path_segments
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.workers import UploadTask

_Session = TypeVar("_Session", bound=FileSession)


class Manner(Protocol[_Session]):
    """What a protocol contributes to uploads."""

    def new_upload(
        self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str, *, site: Site
    ) -> FileUpload[_Session]:
        """Make the upload of one file."""

    def check_key(self, session: _Session, key: str) -> None:
        """Check that the protocol and the server support such a key.

        :raises KeyRefused: if they do not.
        """

    def transfer_error(self, error: Refused | Lost, *, address: str) -> StoreError:
        """The error of an upload that failed after the connection was established."""

    def may_be_full(self, refused: Refused) -> bool:
        """Whether a refusal may mean that the disk is full."""

    def without_room(self, error: StoreError) -> StoreError:
        """The error of such a refusal if there is no room for even one byte."""


class Attempts(Generic[_Session]):
    """Makes uploads, each in as many attempts as are useful.

    :param manner: the protocol's part.
    :param retry: bounds of the attempts for one file.
    :param random: returns a number between 0 and 1.
    :param server_name: the server's name in messages.
    :param tell: takes a sentence for the user.
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
        self._takes_tests = False
        """Whether the server has accepted a test file or directory, so that a refusal is not about all files."""

    def put(self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str) -> Receipt:
        """Upload one file.

        :raises StoreError: if it cannot be uploaded.
        """
        path_segments(key)
        upload = self._manner.new_upload(task, key, source, options, replaces, site=self._site)
        try:
            return self._persist(task, upload, key, self._site.address(key))
        finally:
            # Remove what could not be removed before because the connection was lost.
            for path in (upload.temporary_path, upload.moved_from, upload.scratch):
                if path:
                    self._site.parts.leave_behind(path)

    def _persist(self, task: UploadTask, upload: FileUpload[_Session], key: str, address: str) -> Receipt:
        """Retry until the upload succeeds or a retry is useless, bounded in number and time."""
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
                    task.check()  # a passed deadline is the reason, whatever error the last attempt had
                    raise
            task.pause(pause)

    def _attempt(self, task: UploadTask, upload: FileUpload[_Session], key: str, address: str) -> Receipt:
        with self._pool.session(task) as session, self._holding_the_name(task, key):
            self._manner.check_key(session, key)
            try:
                return upload.run(session)
            except Refused as refused:
                error = self._manner.transfer_error(refused, address=address)
                self._tidy_up(session, upload)
                if self._manner.may_be_full(refused) and self._is_full(session, upload):
                    error = self._manner.without_room(error)
                    error.scope = Scope.DESTINATION
                elif _has_no_base(session):
                    error = _without_base(session)
                elif refused.may_be_of_all and self._takes_nothing(session, refused):
                    error = _without_right(error, session)
                raise error from None
            except StoreError as error:
                if error.origin is Origin.OURS and _has_no_base(session):
                    raise _without_base(session) from None
                raise
            except Lost as lost:
                if lost.lacks_descriptors:
                    self._pool.narrow(session)
                raise self._manner.transfer_error(lost, address=address) from None
            finally:
                self._tidy_up(session, upload)

    def _holding_the_name(self, task: UploadTask, key: str) -> contextlib.AbstractContextManager[None]:
        """Where a file is sent straight to its name, it is ours from the look until a failed upload is removed."""
        if self._site.temporary_names == "none":
            return self._site.naming(task, key)
        return contextlib.nullcontext()

    def _tidy_up(self, session: _Session, upload: FileUpload[_Session]) -> None:
        """Remove the temporary file. If the connection was lost, the next attempt or the next run does it."""
        with contextlib.suppress(Refused, Lost):
            if upload.temporary_path and session.usable:
                if not session.delete(upload.temporary_path) and session.size(upload.temporary_path) is not None:
                    self._tell(
                        f"The temporary file of a failed upload to {self._server_name} cannot be deleted "
                        f"({shown_name(upload.temporary_path)}). Give the {session.protocol} user permission to delete."
                    )
                upload.temporary_path = ""
            if upload.scratch and session.usable:
                remove(session, upload.scratch)
                upload.scratch = ""
        if self._site.temporary_names == "none":
            # On a later connection a complete file may have that name. A beginning of ours is replaced.
            upload.temporary_path = ""

    def _takes_nothing(self, session: _Session, refused: Refused) -> bool:
        """Whether nothing can be written even in the directory above all files, so that this file's is not at fault."""
        if self._site.directories.took_a_file or self._takes_tests:
            return False
        is_directory = refused.is_of_a_directory
        path = f"{session.base.rstrip('/')}/{self._site.parts.new(hidden=False, kind=NAMES if is_directory else PART)}"
        try:
            if is_directory:
                session.make_directory(path)
            else:
                session.store(path, [b"\n"])
        except (Refused, Lost) as other:
            return isinstance(other, Refused) and other.may_be_of_all
        self._takes_tests = True
        try:
            if is_directory:
                session.remove_directory(path)
            elif not session.delete(path):
                self._site.parts.leave_behind(path)
        except (Refused, Lost):
            self._site.parts.leave_behind(path)
        return False

    def _is_full(self, session: _Session, upload: FileUpload[_Session]) -> bool:
        """Whether there is no room for even one byte: 552 may also mean that this file is too large for the account."""
        if not upload.probe_path:
            return True
        try:
            session.store(upload.probe_path, [b"\n"])
        except Refused:
            return True
        except Lost:
            return False  # a connection that is cut says nothing about the disk
        finally:
            with contextlib.suppress(Refused, Lost):
                session.delete(upload.probe_path)
        return False


def _has_no_base(session: FileSession) -> bool:
    """Whether the directory above all files has vanished since the login, so that no file is at fault."""
    if session.base == "/" or not session.usable:
        return False
    try:
        return not session.is_directory(session.base)
    except (Refused, Lost):
        return False


def _without_base(session: FileSession) -> StoreError:
    return StoreError(
        f"The directory {shown_name(session.base)} on the {session.protocol} server has vanished during the run.",
        code="NoSuchDirectory",
        scope=Scope.DESTINATION,
        origin=Origin.DIRECTORY,
        hint="Check the path; the directory must exist.",
    )


def _without_right(error: StoreError, session: FileSession) -> StoreError:
    """The error of a user who may write nothing."""
    return StoreError(
        error.message,
        code=error.code,
        scope=Scope.DESTINATION,
        origin=Origin.DIRECTORY,
        hint=f"Nothing can be written in {shown_name(session.base)} either. "
        + (error.hint or f"Check the permissions of the {session.protocol} user there."),
    )
