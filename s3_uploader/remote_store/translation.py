"""The translation of a store's errors into those of the object API."""

from __future__ import annotations

from s3_uploader.core.errors import ConflictError, KeyRefused, ProofError, SourceChanged, SourceUnreadable, StoreError
from s3_uploader.remote_store.errors import ObjectNotFound, RemoteStoreError

_NO_CREDENTIALS = ("NoCredentials", "CredentialsUnavailable", "CredentialsTimeout", "InvalidCredentials")
_NOT_FOUND = ("NoSuchKey", "NoSuchBucket", "404")
_NOT_S3 = "NotS3"


def from_store_error(error: StoreError, *, status: int = 0) -> RemoteStoreError:
    """Convert a store's error to one of this package.

    :param status: the HTTP status, 0 without an answer.
    """
    code = error.code
    if code != _NOT_S3 and (status == 404 or code in _NOT_FOUND):
        return ObjectNotFound(error.message, hint=error.hint, status=status or 404, code=code)
    if status or not _is_silence(error):
        return RemoteStoreError(error.message, hint=error.hint, status=status or None, code=code)
    # botocore takes a tenth of a second to import.
    from s3_uploader.remote_store.botocore_errors import NoConnection, NoCredentials

    kind = NoCredentials if code in _NO_CREDENTIALS else NoConnection
    return kind(error.message, hint=error.hint, code=code)


def _is_silence(error: StoreError) -> bool:
    """Whether an error without an answer concerns the way to the server, not this side or the content."""
    return not isinstance(error, (ConflictError, KeyRefused, ProofError, SourceChanged, SourceUnreadable))
