"""The translation of a store's errors into those of the object API."""

from __future__ import annotations

from s3_uploader.core.errors import (
    ConflictError,
    KeyRefused,
    ProofError,
    SourceChanged,
    SourceUnreadable,
    StoreError,
    UploadCancelled,
)
from s3_uploader.remote_store.errors import ObjectNotFound, RemoteStoreError
from s3_uploader.stores.s3.meanings import Kind, kind_of

_NOT_FOUND = (Kind.NO_OBJECT, Kind.NOT_FOUND)
_OTHER_404 = (Kind.NOT_S3, Kind.NO_UPLOAD)
"""A page of another server, and a multipart upload that is gone, say nothing about the object."""


def from_store_error(error: StoreError, *, status: int = 0) -> RemoteStoreError:
    """Convert a store's error to one of this package.

    :param status: the HTTP status, 0 without an answer.
    """
    code, kind = error.code, kind_of(error)
    if kind not in _OTHER_404 and (status == 404 or kind in _NOT_FOUND):
        return ObjectNotFound(error.message, hint=error.hint, status=status or 404, code=code)
    if status or not _is_silence(error):
        return RemoteStoreError(error.message, hint=error.hint, status=status or None, code=code)
    # botocore takes a tenth of a second to import.
    from s3_uploader.remote_store.botocore_errors import NoConnection, NoCredentials

    silent = NoCredentials if kind is Kind.NO_CREDENTIALS else NoConnection
    is_closed = isinstance(error, UploadCancelled) and not error.is_late
    message = "The store was closed on another thread during this call." if is_closed else error.message
    return silent(message, hint=error.hint, code=code)


def _is_silence(error: StoreError) -> bool:
    """Whether an error without an answer concerns the way to the server, not this side or the content."""
    return not isinstance(error, (ConflictError, KeyRefused, ProofError, SourceChanged, SourceUnreadable))
