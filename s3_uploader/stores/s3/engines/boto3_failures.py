"""The translation of botocore's exceptions for requests without an answer."""

from __future__ import annotations

from s3_uploader.stores.s3.engines.base import Failure, TransportFailure


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
        return Failure(TransportFailure.CREDENTIALS, detail)
    kinds: tuple[tuple[type[Exception], TransportFailure], ...] = (
        (exceptions.SSLError, TransportFailure.TLS),
        (exceptions.ProxyConnectionError, TransportFailure.PROXY),
        (exceptions.ConnectTimeoutError, TransportFailure.CONNECT_TIMEOUT),
        (exceptions.ReadTimeoutError, TransportFailure.TIMEOUT),
        (exceptions.EndpointConnectionError, TransportFailure.REFUSED),
        (exceptions.ConnectionClosedError, TransportFailure.CLOSED),
        (exceptions.ConnectionError, TransportFailure.CLOSED),
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
    if "handshake" in detail or "handshake" in innermost:
        kind = TransportFailure.TLS
    if "Tunnel connection failed" in f"{cause} {innermost}":
        kind = TransportFailure.PROXY
    return Failure(kind, innermost)


def _innermost(error: object) -> str:
    """The operating system's text inside urllib3's nested exceptions."""
    seen = 0
    while isinstance(error, BaseException) and seen < 10:
        seen += 1
        if isinstance(error, OSError) and error.strerror:
            return str(getattr(error, "verify_message", "") or error.strerror)
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if inner is None:
            break
        error = inner
    return str(error)
