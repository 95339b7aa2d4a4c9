"""The cause of a refused write: its condition, its checksums, another header, or something else.

A server without a feature answers 501 NotImplemented (Amazon, R2), 400 InvalidArgument (Backblaze, Google) or 405. The
feature is at best named in the message. So a refusal is compared with the headers that were sent. If the document names
none, only another request can tell.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import without_tokens
from s3_uploader.stores.s3.engines.base import Answer, Request
from s3_uploader.stores.s3.meanings import MEANINGS, Kind, kind_of

_STATUSES = frozenset((400, 403, 405, 411, 412, 415, 501))
_DAMAGED = frozenset(
    ("baddigest", "invaliddigest", "xamzcontentsha256mismatch", "xamzcontentchecksummismatch", "checksummismatch")
)
_CONDITION_WORDS = ("if-none-match", "ifnonematch", "if-match", "ifmatch", "conditional", "precondition")
_CHECKSUM_WORDS = ("checksum", "mp-object-size")
_MD5_WORDS = ("content-md5", "contentmd5", "content md5")
_UNSUPPORTED_WORDS = ("not implemented", "not supported", "unsupported", "does not support")
_SETTINGS = {
    "x-amz-tagging": ("x-amz-tagging", "tagging"),
    "x-amz-storage-class": ("x-amz-storage-class", "storage class", "storageclass"),
    "x-amz-acl": ("x-amz-acl", " acl", "accesscontrollist"),
    "x-amz-server-side-encryption": ("server-side-encryption", "serversideencryption", "encryption"),
    "content-encoding": ("content-encoding",),
    "content-type": ("content-type",),
}
"""Headers of configured settings, and the words that servers use for them."""

_KEYS = {
    "x-amz-tagging": "tags",
    "x-amz-storage-class": "storage_class",
    "x-amz-acl": "acl",
    "x-amz-server-side-encryption": "sse",
}
"""The keys of the configuration behind headers that all files share."""

_NO_PARTS = (Kind.BAD_REQUEST, Kind.NOT_FOUND, Kind.UNSUPPORTED)
NO_PARTS_HINT = (
    "This server may not support uploads in parts. Raise multipart_threshold above the size of such files. Each of "
    "them is then held in memory while it is sent."
)


class Blame(enum.Enum):
    """The cause of a refused write."""

    CONDITION = "the condition"
    CHECKSUM = "the checksums in its headers"
    CONTENT_MD5 = "a missing Content-MD5"
    HEADER = "another header"
    UNNAMED = "some header that is not named"
    OTHER = "something else"


def blame(answer: Answer | None, headers: Mapping[str, str]) -> Blame:
    """The cause of the refusal of a request with these headers. Only an error document of S3 tells it.

    A proxy's page or a bare status is ``OTHER``, because it may not come from the server.
    """
    if answer is None or answer.status not in _STATUSES:
        return Blame.OTHER
    code = answer.field("Code").lower()
    if not code or code.isdigit() or code in _DAMAGED or answer.status == 412:
        return Blame.OTHER
    text = " ".join((answer.fields or {}).values()).lower()
    if any(word in text for word in _MD5_WORDS) and "content-md5" not in headers:
        return Blame.CONTENT_MD5
    header = _named(text, headers)
    if header:
        return Blame.HEADER
    if any(word in text for word in _CONDITION_WORDS):
        return Blame.CONDITION if _has_condition(headers) else Blame.OTHER
    if any(word in text for word in _CHECKSUM_WORDS):
        return Blame.CHECKSUM
    is_unsupported = answer.status == 501 or code == "notimplemented"
    if not is_unsupported and answer.status in (400, 405):
        is_unsupported = any(word in text for word in _UNSUPPORTED_WORDS)
    return Blame.UNNAMED if is_unsupported else Blame.OTHER


def said(refusal: Answer) -> str:
    """The server's answer in short, as the reason for changed requests."""
    return f"{refusal.field('Code')}, {without_tokens(refusal.field('Message'))[:100]}"


def named_header(answer: Answer, headers: Mapping[str, str]) -> str:
    """The header of the request, apart from condition and checksums, that the refusal names; empty if none."""
    if not answer.field("Code"):
        return ""
    return _named(" ".join((answer.fields or {}).values()).lower(), headers)


def explain_setting(error: StoreError, refusal: Answer, headers: Mapping[str, str], *, of_all: bool) -> bool:
    """Say in ``error`` which setting is refused, if it may be one. Returns whether the refusal names a header.

    Ceph names nothing: its answer to an unknown storage class is InvalidArgument without a message. MinIO answers that
    some header stands for something that is not implemented.

    :param of_all: nothing shows that the error concerns one file only, so it is taken for everybody's.
    """
    header = named_header(refusal, headers)
    if error.scope is not Scope.FILE:
        return bool(header)
    sent = [key for name, key in _KEYS.items() if name in headers]
    if header:
        key = _KEYS.get(header, header)
        error.hint = f"The server does not accept {header} as it is sent. Change {key} or remove it."
    elif sent and _has_code(refusal) and kind_of(error) is Kind.UNSUPPORTED:
        error.hint = f"The server does not say what it does not support. Change or remove {' or '.join(sent)}."
    elif not error.hint and sent and refusal.status == 400 and _explains_nothing(refusal):
        error.hint = f"The server does not say why. Change or remove {' or '.join(sent)}."
    else:
        return False
    if of_all and (header in _KEYS or not header):
        error.scope, error.origin = Scope.DESTINATION, Origin.SETTING
    return bool(header)


def _explains_nothing(refusal: Answer) -> bool:
    """Whether the document has a code of S3 and no text."""
    return _has_code(refusal) and refusal.field("Code") not in MEANINGS and not refusal.field("Message").strip()


def _has_code(refusal: Answer) -> bool:
    code = refusal.field("Code")
    return bool(code) and not code.isdigit()


def _named(text: str, headers: Mapping[str, str]) -> str:
    for name, words in _SETTINGS.items():
        if name in headers and any(word in text for word in words):
            return name
    return next((name for name in headers if name.startswith("x-amz-meta-") and name in text), "")


def _has_condition(headers: Mapping[str, str]) -> bool:
    return "if-none-match" in headers or "if-match" in headers


def knows_no_parts(request: Request, error: StoreError) -> bool:
    """Whether a server refuses uploads in parts in general but accepts smaller files."""
    return request.operation == "CreateMultipartUpload" and kind_of(error) in _NO_PARTS
