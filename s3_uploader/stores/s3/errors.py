"""The meaning of an S3 answer or failure: retryable or not, this file or all files, and what to do.

Messages of the server have botocore's form with every engine, because people search the web for them.
"""

from __future__ import annotations

import datetime
import re

import msgspec

from s3_uploader.core.errors import OutOfResources, Scope, StoreError, UploadCancelled
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted, quoted_code, without_tokens
from s3_uploader.stores.s3 import foreign
from s3_uploader.stores.s3.engines.base import Answer, Failure, TransportFailure
from s3_uploader.stores.s3.meanings import FULL, MEANINGS, PASSING, SLOW, TOO_LARGE, Meaning

_CERTIFICATE_REQUIRED = "(?i)certificate.required"
_REGION = "[A-Za-z0-9._-]{1,64}"
_FILE, _DESTINATION = Scope.FILE, Scope.DESTINATION


_FIRST = ("HeadObject", "PutObject", "CreateMultipartUpload", "ListObjectsV2")
"""The first requests of an upload or an audit."""
CLOCK_SKEW = "RequestTimeTooSkewed"
_SUSPICIOUS_SKEW = 300.0
"""S3 refuses requests whose time is wrong by fifteen minutes; some servers are stricter."""

_OF_THE_SERVER = frozenset((300, 304, 305, 401, 402, 406, 410, 411, 417, 418, 421, 423, 426, 428, 451))
"""Statuses that a name or a content hardly ever causes: without a document of S3, every file may meet them."""
_OF_THE_ACCOUNT = frozenset((401, 402, 403))
"""Statuses by which services say in codes of their own that an account is closed, unpaid or without a permission."""
_WRITES = frozenset(("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"))
_UNKNOWN = Meaning()
_COPIES = "s3:GetObject on the source and s3:PutObject"

_STATUS_NAMES = {
    300: "Multiple Choices",
    304: "Not Modified",
    305: "Use Proxy",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Requested Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    425: "Too Early",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}

_NO_CONNECTION = (
    TransportFailure.NAME,
    TransportFailure.REFUSED,
    TransportFailure.CONNECT_TIMEOUT,
    TransportFailure.TLS,
    TransportFailure.PROXY,
    TransportFailure.RESOURCES,
)

_FAILURES: dict[TransportFailure, tuple[str, bool, str]] = {
    # kind: (code, worth retrying here, what to do)
    TransportFailure.NAME: (
        "NameResolutionFailed",
        True,
        "Check endpoint_url, the region, the bucket's name and the DNS settings of this machine.",
    ),
    TransportFailure.REFUSED: ("ConnectionFailed", True, "Check endpoint_url, the network and the firewall."),
    TransportFailure.CONNECT_TIMEOUT: ("ConnectTimeout", False, "Check endpoint_url, the network and the firewall."),
    TransportFailure.TLS: (
        "TlsFailed",
        False,
        "Check the server's certificate, AWS_CA_BUNDLE, endpoint_url (https or http?) and this machine's clock.",
    ),
    TransportFailure.PROXY: ("ProxyFailed", True, "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY."),
    TransportFailure.CLOSED: ("ConnectionLost", True, "Check the network between this machine and the endpoint."),
    TransportFailure.TIMEOUT: (
        "ReadTimeout",
        True,
        "Check the network between this machine and the endpoint, or its load.",
    ),
    TransportFailure.INVALID: ("InvalidAnswer", True, "Check endpoint_url: is this an S3 server?"),
    TransportFailure.CREDENTIALS: (
        "NoCredentials",
        False,
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or profile, or give the machine a role.",
    ),
    TransportFailure.RENEWING: ("CredentialsExpired", True, "Check the source of this machine's credentials."),
    TransportFailure.RESOURCES: (
        "OutOfResources",
        True,
        "Raise this user's limits of open files and threads (ulimit -n and -u), or lower max_concurrency.",
    ),
    TransportFailure.BROKEN: (
        "EngineFailed",
        False,
        "This is a bug; please report it. Until then set engine to boto3.",
    ),
    TransportFailure.OTHER: ("EngineFailed", False, ""),
}


_ORIGINS = {
    TransportFailure.TLS: Origin.CERTIFICATE,
    TransportFailure.PROXY: Origin.PROXY,
    TransportFailure.CREDENTIALS: Origin.CREDENTIAL_SOURCE,
    TransportFailure.RENEWING: Origin.CREDENTIAL_SOURCE,
    TransportFailure.BROKEN: Origin.SERVER,
}
"""Every file would meet the other failures: the destination is out of reach."""


class Verdict(msgspec.Struct, frozen=True):
    """An error, and how it is to be retried."""

    error: StoreError
    corrupted: bool = False


def answered(answer: Answer, operation: str, *, now: float, proven_useful: bool, endpoint: str = "") -> Verdict:
    """The verdict on an answer that is not a success.

    :param endpoint: URL of the endpoint.
    :param now: wall-clock time, to find out how wrong our clock is.
    :param proven_useful: this store has uploaded something already, so a denial now concerns this key.
    """
    code, text = error_code(answer)
    if not bucket_region(answer) and (redirected := foreign.redirect(answer, operation, endpoint=endpoint)):
        return Verdict(redirected)
    if code.isdigit() and (not_s3 := foreign.no_s3(answer, operation, proven_useful=proven_useful)):
        return Verdict(not_s3)
    known_as = code
    meaning = MEANINGS.get(code) or _meaning_by_status(answer, code, operation, now=now, proven_useful=proven_useful)
    skew = clock_skew(answer, now)
    wrong = skew is not None and abs(skew) > _SUSPICIOUS_SKEW
    is_vague = code not in MEANINGS or code == "SignatureDoesNotMatch"
    if (answer.status == 403 and wrong and is_vague) or (code == "AccessDenied" and "request time" in text):
        # Not every server answers RequestTimeTooSkewed (rclone denies access). A code that names another cause counts
        # more than a date.
        meaning = _clock(answer, now)
        known_as = CLOCK_SKEW
    hint = meaning.hint
    region = bucket_region(answer)
    if region and "region" in hint:
        hint = f"The bucket is in {region}: set region to that."
    error = StoreError(
        f"An error occurred ({code}) when calling the {operation} operation: {text}",
        code=known_as,
        retryable=meaning.retryable,
        scope=meaning.scope,
        hint=hint,
        retry_after=retry_after(answer, now),
        origin=meaning.origin,
    )
    return Verdict(error, corrupted=meaning.corrupted)


def _meaning_by_status(answer: Answer, code: str, operation: str, *, now: float, proven_useful: bool) -> Meaning:
    """The meaning of a code that is in no list, by operation and status."""
    status = answer.status
    if code in ("AccessDenied", "403"):
        return _denied(operation, proven_useful=proven_useful, is_explained=code != "403")
    if code in ("RequestTimeTooSkewed", "RequestExpired"):
        return _clock(answer, now)
    if status in _OF_THE_ACCOUNT and operation in _WRITES and not code.isdigit():
        meaning = _denied(operation, proven_useful=proven_useful)
        return msgspec.structs.replace(
            meaning, hint="Check the account that the credentials belong to, and its permissions."
        )
    if status == 507:
        return FULL
    if status >= 500 and status != 501:
        return PASSING
    if code == "501":
        # Without an S3 document it is a temporary fault of something in between, or another kind of server.
        return Meaning(
            retryable=True,
            scope=_FILE if proven_useful else _DESTINATION,
            hint="Check endpoint_url: is this an S3 server?",
            origin=Origin.SERVER,
        )
    if status in foreign.REDIRECTS:
        hint = "Check endpoint_url and region: the server answers with a redirect and does not say where to."
        return Meaning(scope=_DESTINATION, hint=hint, origin=Origin.BUCKET)
    if status == 429:
        return SLOW
    if status == foreign.TOO_LARGE:
        return TOO_LARGE
    if status == 407:
        hint = "Check the name and password in HTTP_PROXY and HTTPS_PROXY."
        return Meaning(scope=_DESTINATION, hint=hint, origin=Origin.PROXY)
    if not proven_useful and code in ("404", "405") and operation in _FIRST:
        origin = Origin.BUCKET if code == "404" else Origin.SERVER
        return Meaning(scope=_DESTINATION, hint="Check endpoint_url: is this an S3 server?", origin=origin)
    if not proven_useful and code in ("301", "307", "400", "401") and operation == "HeadObject":
        # There is only a status. After a success it concerns this key (rclone: 400 for "a//b").
        origin = Origin.CREDENTIALS if code == "401" else Origin.BUCKET
        hint = "Check the region of the bucket, the credentials, and endpoint_url (http or https?)."
        return Meaning(scope=_DESTINATION, hint=hint, origin=origin)
    if code == "400" and operation == "HeadObject":
        return Meaning(hint="Check the name of the object, and whether the credentials have expired.")
    if not proven_useful and code.isdigit() and status in _OF_THE_SERVER:
        origin = Origin.CREDENTIALS if status == 401 else Origin.SERVER
        return Meaning(scope=_DESTINATION, hint="Check endpoint_url: is this an S3 server?", origin=origin)
    # Retried: 425 Too Early, 408 of load balancers for a connection that was idle too long, an error with an unknown
    # code in a 200, and NoSuchKey, which is Ceph's answer to a PUT whose body was cut short.
    is_cut = code == "NoSuchKey" and operation in ("PutObject", "UploadPart")
    return PASSING if status in (408, 425) or status < 300 or is_cut else _UNKNOWN


def failed(failure: Failure, operation: str, *, endpoint: str) -> Verdict:
    """The verdict on a request without an answer.

    :param endpoint: URL of the endpoint, for the message.
    """
    if failure.kind is TransportFailure.CANCELLED:
        return Verdict(UploadCancelled.interrupted())
    code, retryable, hint = _FAILURES[failure.kind]
    quoted_detail = quoted(failure.detail)
    detail = f" ({quoted_detail})" if quoted_detail else ""
    if failure.kind in (TransportFailure.CREDENTIALS, TransportFailure.RENEWING):
        # The detail is a complete sentence already.
        is_sentence = failure.detail.endswith(".")
        message = quoted_detail if is_sentence else f"There are no usable AWS credentials{detail}."
    else:
        message = f"The {operation} operation did not reach {endpoint} or got no answer: {failure.kind.value}{detail}."
    if failure.kind is TransportFailure.TLS and re.search(_CERTIFICATE_REQUIRED, failure.detail):
        hint = "Set client_certificate_file to a PEM file with a certificate that the server accepts, and its key."
    if failure.kind is TransportFailure.RESOURCES:
        return Verdict(OutOfResources(message, hint=hint))
    scope = _FILE if failure.kind is TransportFailure.OTHER else _DESTINATION
    origin = _ORIGINS.get(failure.kind)
    error = StoreError(
        message,
        code=code,
        retryable=retryable,
        scope=scope,
        hint=hint,
        origin=origin,
        never_connected=failure.kind in _NO_CONNECTION,
    )
    return Verdict(error)


def error_code(answer: Answer) -> tuple[str, str]:
    """Code and message of an answer that is not a success; without a document, those of its status.

    A server, or a proxy before it, may repeat the request that it refuses, with its session token.
    """
    code = quoted_code(without_tokens(answer.field("Code")))
    text = quoted(without_tokens(answer.field("Message")))
    if not code:
        code = str(answer.status)
        text = text or _STATUS_NAMES.get(answer.status, "Unknown")
    return code, text or "Unknown"


def is_archived(answer: Answer | None) -> bool:
    """Whether the answer to a GET says that the object must be restored from an archive before it can be read."""
    return answer is not None and answer.field("Code") == "InvalidObjectState"


def bucket_region(answer: Answer) -> str:
    """The region of the bucket in the answer, empty if it has none."""
    named = answer.headers.get("x-amz-bucket-region", "") or answer.field("Region")
    return named if re.fullmatch(_REGION, named) else ""


def retry_after(answer: Answer, now: float) -> float | None:
    """The seconds that the server asks us to wait (RFC 9110, 10.2.3: a number or a date)."""
    value = answer.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    at = parse_http_date(value)
    return None if at is None else max(0.0, at - now)


def clock_skew(answer: Answer, now: float) -> float | None:
    """Seconds by which our clock is ahead of the server's, ``None`` if the answer has no date."""
    at = parse_http_date(answer.headers.get("date", ""))
    return None if at is None else now - at


def parse_http_date(value: str) -> float | None:
    """Seconds since the epoch of an HTTP date in its only current form (RFC 9110, 5.6.7)."""
    parts = value.split()
    if len(parts) != 6 or parts[5] != "GMT":
        return None
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    try:
        # Not strptime: the names of months depend on the locale.
        hour, minute, second = (int(number) for number in parts[4].split(":"))
        moment = datetime.datetime(
            int(parts[3]), months.index(parts[2]) + 1, int(parts[1]), hour, minute, second, tzinfo=datetime.timezone.utc
        )
        return moment.timestamp()
    except (ValueError, OverflowError):
        return None


def _denied(operation: str, *, proven_useful: bool, is_explained: bool = True) -> Meaning:
    """The meaning of a denial. One that is not explained may also be due to the credentials, or a missing object."""
    action = {
        "PutObject": "s3:PutObject",
        "CreateMultipartUpload": "s3:PutObject",
        "UploadPart": "s3:PutObject",
        "CompleteMultipartUpload": "s3:PutObject",
        "AbortMultipartUpload": "s3:AbortMultipartUpload",
        "HeadObject": "s3:GetObject",
        "GetObject": "s3:GetObject",
        "DeleteObject": "s3:DeleteObject",
        "ListObjectsV2": "s3:ListBucket",
        "ListParts": "s3:ListMultipartUploadParts",
        "CopyObject": _COPIES,
        "UploadPartCopy": _COPIES,
    }.get(operation, f"s3:{operation}")
    writes = operation in _WRITES
    hint = f"Grant {action} on the bucket to the credentials in use"
    if writes:
        hint += " (storage class, ACL, tags and a KMS key need further permissions)"
    elif operation == "HeadObject" and not is_explained:
        hint += ", and s3:ListBucket, without which a missing object is refused too"
        if not proven_useful:
            hint += "; or correct the access key and the secret key"
    # A policy may deny one prefix only. Until something was accepted, the denial is assumed to concern all files.
    is_for_all = writes and not proven_useful
    return Meaning(
        scope=_DESTINATION if is_for_all else _FILE,
        hint=f"{hint}.",
        origin=Origin.CREDENTIALS if is_for_all else Origin.FILE_RIGHT,
    )


def _clock(answer: Answer, now: float) -> Meaning:
    return Meaning(scope=_DESTINATION, hint=_clock_hint(answer, now), origin=Origin.CLOCK)


def _clock_hint(answer: Answer, now: float) -> str:
    skew = clock_skew(answer, now)
    if skew is None or abs(skew) < 60:
        return "Set this machine's clock. It differs too much from the server's."
    direction = "ahead of" if skew > 0 else "behind"
    return f"Set this machine's clock: it is {abs(skew):.0f} s {direction} the server's."
