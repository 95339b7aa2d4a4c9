"""The errors of the object API."""

from __future__ import annotations

from s3_uploader.core.errors import UploaderError


class StorageError(UploaderError):
    """Base class of the errors of this package."""


class RemoteStoreError(StorageError):
    """The remote store answered with a failure, or with an invalid answer.

    :param status: the HTTP status, ``None`` without an answer.
    :param code: S3's error code.
    """

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class RemoteConnectionError(RemoteStoreError):
    """There is no answer: the name, the connection or the credentials failed, or the timeout passed.

    The raised error is also a ``botocore.exceptions.BotoCoreError``, because programs catch that.
    """


class _FileError(RemoteStoreError):
    """Base of the errors that are also an ``OSError``."""

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, code: str = "") -> None:
        super().__init__(message, hint=hint, status=status, code=code)
        self.filename: str | None = None

    def __str__(self) -> str:
        # OSError would format it differently.
        return RemoteStoreError.__str__(self)


class ObjectNotFound(_FileError, FileNotFoundError):
    """The object or the bucket does not exist."""


class ObjectExists(_FileError, FileExistsError):
    """The object exists already and was not to be replaced."""


class ObjectChanged(RemoteStoreError):
    """The object was replaced while it was read."""
