"""The interface between the S3 store and its engines: requests, answers, failures, and the ``Engine`` protocol.

Terms
-----
engine
    Sends one S3 request and reports the outcome by a callback. It implements HTTP, TLS, proxies, connections and
    signatures, but does not interpret requests: no retries, no proof, no conflicts. So all engines give the same
    results.
answer
    The server's response: status, headers, body.
failure
    There is no answer: the name, the connection or the credentials failed, or the timeout passed.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import msgspec

from s3_uploader.stores.base import Loop

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

DOCUMENT_BYTES = 64 * 1024
"""Most bytes of the body of an answer that is a short document, or of an error's document."""
_SLOWEST_HANDLING = 64 * 1024
"""Bytes per second at which a server, or a proxy before it, is expected to process a body before it answers."""

MOTO = "moto.core.models"
"""The module of moto that tells whether a mock is active."""

CONTENT_RANGE = r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)"
"""The value of the header Content-Range."""
_XML_LEAF = rb"<(?:\w+:)?(\w+)>([^<]*)</"
_XML_ROOT = rb"<(?:[\w.-]+:)?([\w.-]+)"
_BLANKS = rb"\s*"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_XML_ENTITY = "&(#x?[0-9a-fA-F]+|\\w+);"
_XML_NAMES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


class Request(msgspec.Struct, kw_only=True):
    """One S3 request.

    :param operation: its name in the S3 API, e.g. ``PutObject``.
    :param key: the object's key, unencoded.
    :param path: the key, percent-encoded for a URL.
    :param query: parameters of the URL, not encoded, sorted by name.
    :param headers: names in lower case. The engine adds ``host``, ``content-length`` and the headers for signing.
    :param parts: number, ETag and CRC32 of each part, for an engine that makes the body of CompleteMultipartUpload
        itself.
    :param payload_hash: SHA-256 of the body in hexadecimal, or :data:`UNSIGNED_PAYLOAD`.
    :param answer_limit: most bytes of the answer's body. A longer one is invalid, but the document of an error is cut.
    :param handled_bytes: bytes that the server has to process before it can answer: a proxy passes the body on first,
        and parts are joined.
    :param may_be_repeated: the engine may send it again by itself if the connection was just being closed. Not if the
        answer to the repetition depends on whether the request was carried out: then the caller has to know.
    """

    operation: str
    method: str
    key: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: dict[str, str] = {}
    body: bytes = b""
    payload_hash: str = EMPTY_SHA256
    parts: tuple[tuple[int, str, str], ...] = ()
    answer_limit: int = DOCUMENT_BYTES
    handled_bytes: int = 0
    may_be_repeated: bool = True

    @property
    def allowance_seconds(self) -> float:
        """How much longer than usual the server may be silent for this request."""
        return self.handled_bytes / _SLOWEST_HANDLING


class Answer(msgspec.Struct, kw_only=True):
    """The server's answer.

    :param headers: names in lower case; of a repeated header the last one.
    :param fields: the leaves of the XML body by name if the engine has parsed it, else ``None``.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    fields: dict[str, str] | None = None

    def field(self, name: str) -> str:
        """The text of the first leaf of that name in the XML body, empty if there is none."""
        if self.fields is None:
            self.fields = xml_leaves(self.body)
        return self.fields.get(name, "")


class TransportFailure(enum.Enum):
    """The reason why there is no answer."""

    NAME = "the host name could not be resolved"
    REFUSED = "no connection could be made"
    CONNECT_TIMEOUT = "connecting took too long"
    TLS = "TLS failed"
    PROXY = "the proxy refused the connection"
    CLOSED = "the connection was lost"
    TIMEOUT = "the server stopped responding"
    INVALID = "the answer is not HTTP"
    CREDENTIALS = "there are no usable credentials"
    RENEWING = "new credentials have not arrived yet"
    RESOURCES = "this machine has no room for another connection"
    CANCELLED = "the request was cancelled"
    BROKEN = "the engine broke down"
    """All requests in flight failed together with this one, and later ones will fail."""
    OTHER = "the engine failed"


NO_HANDSHAKE = "no answer to the TLS handshake"
"""The detail of a handshake that timed out."""


class Failure(msgspec.Struct, frozen=True):
    """The reason why there is no answer. ``detail`` is the text of the system or the library."""

    kind: TransportFailure
    detail: str = ""


Outcome: TypeAlias = Answer | Failure
Done: TypeAlias = Callable[[Outcome], None]
EngineName: TypeAlias = Literal["auto", "native", "boto3"]


class Sending(Protocol):
    """A request in flight."""

    @property
    def promised(self) -> int | None:
        """How many bytes of the answer's body are sure to come, or have come; ``None`` while the request is queued."""

    def cancel(self) -> None:
        """Cancel it. Unless ``done`` was called already, it is still called soon. May be called at any time."""


class Engine(Protocol):
    """Sends S3 requests to one bucket. All methods may be called on any thread."""

    name: str

    @property
    def loop(self) -> Loop | None:
        """The loop that a caller may run on its own thread; ``None`` if the engine lends none."""

    def open(self) -> None:
        """Import and start what is needed. No connection is made yet.

        :raises s3_uploader.core.errors.StoreError: if it is certain that no request can be sent.
        :raises s3_uploader.core.errors.EngineUnavailable: if the engine cannot work here.
        """

    def send(self, request: Request, done: Done) -> Sending:
        """Send one request. ``done`` is called exactly once, on any thread, possibly before this returns."""

    def follow(self, region: str) -> bool:
        """Send further requests to the bucket in another region. Returns ``False`` if that is not possible."""

    def close(self, *, timeout: float) -> None:
        """Fail what is in flight and release everything, waiting at most ``timeout`` seconds. May be called twice."""


def xml_leaves(body: bytes) -> dict[str, str]:
    """The leaves of a small XML document by name without namespace; of equal names the first.

    S3's answers are flat and machine-made. An XML parser would cost an import and add its vulnerabilities.
    """
    leaves: dict[str, str] = {}
    for name, text in re.findall(_XML_LEAF, body):
        leaves.setdefault(name.decode(), unescape(text.decode("utf-8", "replace")))
    return leaves


def xml_root(body: bytes) -> str:
    """The name of a document's root element without namespace, empty if it has none.

    S3 sends blanks before some documents, to keep the connection alive while it works.
    """
    at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    while True:
        blanks = re.compile(_BLANKS).match(body, at)
        at = at if blanks is None else blanks.end()
        if body.startswith(b"<!--", at):
            end = b"-->"
        elif body.startswith((b"<?", b"<!"), at):
            end = b">"
        else:
            break
        found = body.find(end, at)
        if found < 0:
            return ""
        at = found + len(end)
    root = re.compile(_XML_ROOT).match(body, at)
    return "" if root is None else root[1].decode("utf-8", "replace")


def unescape(text: str) -> str:
    """XML text with its entities resolved."""
    if "&" not in text:
        return text
    text = text.replace("&quot;", '"')  # most entities are the quotes of ETags
    return re.sub(_XML_ENTITY, _entity, text) if "&" in text else text


def _entity(match: re.Match[str]) -> str:
    name = match[1]
    if not name.startswith("#"):
        return _XML_NAMES.get(name, match[0])
    try:
        return chr(int(name[2:], 16) if name[1] in "xX" else int(name[1:]))
    except (ValueError, OverflowError):
        return match[0]


def escape(text: str) -> str:
    """Escape text for an XML document."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of every engine.

    :param max_connections: the maximum number of concurrent requests.
    :param max_bandwidth: bytes per second of all requests together, ``None`` for no limit.
    :param connect_timeout_seconds: for name, connection, proxy and TLS together.
    :param silence_seconds: a request fails after this time without a byte in either direction, plus the request's own
        allowance.
    """

    max_connections: int
    max_bandwidth: int | None = None
    connect_timeout_seconds: float = 10.0
    silence_seconds: float = 60.0
