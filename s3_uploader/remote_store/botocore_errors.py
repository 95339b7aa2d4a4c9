"""Errors of a request without an answer, in a form that programs written for boto3 catch. botocore is imported here."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from s3_uploader.core.text import without_passwords
from s3_uploader.remote_store.errors import RemoteConnectionError


def _prepare(error: Any, message: str, hint: str, code: str) -> None:
    # Neither base can make the other one: botocore's makes its message of keyword arguments.
    message = without_passwords(message)
    Exception.__init__(error, message)
    error.message, error.hint = message, without_passwords(hint)
    error.status, error.code, error.kwargs = None, code, {}


class NoConnection(RemoteConnectionError, EndpointConnectionError):
    """There is no connection to the server, or it fell silent."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        _prepare(self, message, hint, code)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.message, self.hint, self.code)


class NoCredentials(RemoteConnectionError, NoCredentialsError):
    """There is nothing to sign a request with."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        _prepare(self, message, hint, code)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.message, self.hint, self.code)


def _again(kind: type[NoConnection | NoCredentials], message: str, hint: str, code: str) -> RemoteConnectionError:
    return kind(message, hint=hint, code=code)
