"""The errors of the object API."""

from __future__ import annotations

from s3_uploader.core.errors import UploaderError


class StorageError(UploaderError):
    """Root of the errors of this package."""


class RemoteStoreError(StorageError):
    """The remote store answered with a failure, or with something that cannot be right.

    :param status: of the HTTP answer, ``None`` if it was none.
    :param code: S3's name of the error.
    """

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class RemoteConnectionError(RemoteStoreError):
    """There is no answer: no name, no connection, no credentials, or it took too long.

    What is raised is a ``botocore.exceptions.BotoCoreError`` too, because programs catch that.
    """


class _FileError(RemoteStoreError):
    """One that is an ``OSError`` too."""

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, code: str = "") -> None:
        super().__init__(message, hint=hint, status=status, code=code)
        self.filename: str | None = None

    def __str__(self) -> str:
        # OSError has a form of its own.
        return RemoteStoreError.__str__(self)


class ObjectNotFound(_FileError, FileNotFoundError):
    """There is no such object, or no such bucket."""


class ObjectExists(_FileError, FileExistsError):
    """There is such an object already, and it was not to be replaced."""


class ObjectChanged(RemoteStoreError):
    """The object was replaced while it was read."""
