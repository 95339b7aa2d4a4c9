"""Errors of requests without an answer, which programs written for boto3 can catch. Imports botocore."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from s3_uploader.core.text import without_passwords
from s3_uploader.remote_store.errors import RemoteConnectionError


class _NoAnswer(RemoteConnectionError):
    """Base of the errors that also inherit from botocore's."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        # Neither base can initialize the other: botocore's builds its message from keyword arguments.
        message = without_passwords(message)
        Exception.__init__(self, message)
        self.message, self.hint = message, without_passwords(hint)
        self.status, self.code = None, code
        made: Any = self
        made.kwargs = {}


class NoConnection(_NoAnswer, EndpointConnectionError):
    """The server cannot be reached, or it stopped answering."""


class NoCredentials(_NoAnswer, NoCredentialsError):
    """There are no credentials to sign a request with."""
