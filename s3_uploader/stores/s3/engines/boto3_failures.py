"""The translation of botocore's exceptions for requests without an answer."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from s3_uploader.core.text import without_secrets
from s3_uploader.stores.s3.engines.base import NO_HANDSHAKE, Failure, TransportFailure

_MOST_NESTED = 10


def failure_of(error: Exception) -> Failure:
    """Convert an exception of botocore."""
    from botocore import exceptions

    detail = str(error)
    cause = getattr(error, "kwargs", {}).get("error", error)
    if isinstance(
        error,
        (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.TokenRetrievalError,
            exceptions.MetadataRetrievalError,
            exceptions.RefreshWithMFAUnsupportedError,
            exceptions.SSOError,
            getattr(exceptions, "LoginError", exceptions.SSOError),  # `aws login`, which older versions do not know
        ),
    ):
        return Failure(TransportFailure.CREDENTIALS, without_secrets(detail))
    kinds: tuple[tuple[type[Exception], TransportFailure], ...] = (
        (exceptions.SSLError, TransportFailure.TLS),
        (exceptions.ProxyConnectionError, TransportFailure.PROXY),
        (exceptions.ConnectTimeoutError, TransportFailure.CONNECT_TIMEOUT),
        (exceptions.ReadTimeoutError, TransportFailure.TIMEOUT),
        (exceptions.EndpointConnectionError, TransportFailure.REFUSED),
        (exceptions.ConnectionClosedError, TransportFailure.CLOSED),
        (exceptions.ConnectionError, TransportFailure.CLOSED),
        (exceptions.IncompleteReadError, TransportFailure.CLOSED),
        (exceptions.HTTPClientError, TransportFailure.CLOSED),
    )
    for exception, kind in kinds:
        if isinstance(error, exception):
            return _more_exactly(kind, detail, cause)
    if isinstance(error, OSError):
        return Failure(TransportFailure.CLOSED, error.strerror or detail)
    return Failure(TransportFailure.OTHER, detail)


def _more_exactly(kind: TransportFailure, detail: str, cause: object) -> Failure:
    """Refine the kind of a failure by the text of its exception."""
    if kind is TransportFailure.REFUSED and ("resolve" in str(cause) or "getaddrinfo" in str(cause)):
        kind = TransportFailure.NAME
    innermost = _innermost(cause)
    if kind is TransportFailure.CLOSED and _is_no_http(cause):
        kind = TransportFailure.INVALID
    if "handshake" in detail or "handshake" in innermost:
        if "timed out" in innermost:
            return Failure(TransportFailure.CONNECT_TIMEOUT, NO_HANDSHAKE)
        kind = TransportFailure.TLS
    if "Tunnel connection failed" in f"{cause} {innermost}":
        kind = TransportFailure.PROXY
    return Failure(kind, innermost)


def _innermost(error: object) -> str:
    """The operating system's text inside urllib3's nested exceptions."""
    for each in _nested(error):
        if isinstance(each, OSError) and each.strerror:
            return str(getattr(each, "verify_message", "") or each.strerror)
        error = each
    return str(error)


def _is_no_http(error: object) -> bool:
    """Whether an answer was not one of HTTP, rather than the connection lost."""
    from urllib3.exceptions import InvalidHeader

    return any(
        isinstance(each, (http.client.HTTPException, InvalidHeader))
        # RemoteDisconnected is both.
        and not isinstance(each, (ConnectionError, http.client.IncompleteRead))
        for each in _nested(error)
    )


def _nested(error: object) -> Iterator[BaseException]:
    """An exception and those inside it, from the outside to the inside."""
    for _ in range(_MOST_NESTED):
        if not isinstance(error, BaseException):
            return
        yield error
        error = error.__cause__ or error.__context__ or getattr(error, "reason", None)
