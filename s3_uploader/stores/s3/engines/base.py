"""What the S3 store and its engines say to each other: requests, answers, failures, and the ``Engine`` protocol.

Terms
-----
engine
    Sends one S3 request and calls back with what came of it. It knows HTTP, TLS, proxies, connections and signatures,
    and nothing of what a request means: no retries, no proof, no conflicts. So every engine gives the same results.
answer
    What the server said: status, headers, body.
failure
    There is no answer: no name, no connection, no credentials, or it took too long.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from s3_uploader.stores.base import Loop

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

DOCUMENT_BYTES = 64 * 1024
"""Most bytes of the body of an answer that is a short document, or of an error's document."""
_SLOWEST_HANDLING = 64 * 1024
"""Bytes per second with which a server, or the proxy before it, works on what it was given before it answers."""

_XML_LEAF = re.compile(rb"<(?:\w+:)?(\w+)>([^<]*)</")
_XML_ENTITY = re.compile("&(#x?[0-9a-fA-F]+|\\w+);")
_XML_NAMES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


class Request(msgspec.Struct, kw_only=True):
    """One S3 request.

    :param operation: its name in the S3 API, e.g. ``PutObject``.
    :param key: the object's key, as it is.
    :param path: the same, percent-encoded for a URL.
    :param query: parameters of the URL, not encoded, sorted by name.
    :param headers: names in lower case. The engine adds ``host``, ``content-length`` and what signing needs.
    :param parts: number, ETag and CRC32 of each part, of which the body of CompleteMultipartUpload is made, for an
        engine that makes bodies itself.
    :param payload_hash: SHA-256 of the body in hexadecimal, or :data:`UNSIGNED_PAYLOAD`.
    :param answer_limit: most bytes of the answer's body. A longer one is no answer, an error's is cut off there.
    :param handled_bytes: what the server has to deal with before it can answer: a proxy passes the body on first, and
        an object is made of its parts.
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

    @property
    def allowance_seconds(self) -> float:
        """So much longer than others the server may be silent over this request."""
        return self.handled_bytes / _SLOWEST_HANDLING


class Answer(msgspec.Struct, kw_only=True):
    """What the server answered.

    :param headers: names in lower case; of a repeated header the last.
    :param fields: the leaves of the XML body by name, where an engine has parsed it; else ``None``.
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
    """Why there is no answer."""

    NAME = "the host name could not be resolved"
    REFUSED = "no connection could be made"
    CONNECT_TIMEOUT = "connecting took too long"
    TLS = "TLS failed"
    PROXY = "the proxy did not let us through"
    CLOSED = "the connection was lost"
    TIMEOUT = "the server fell silent"
    INVALID = "the answer is no HTTP"
    CREDENTIALS = "there are no usable credentials"
    RENEWING = "new credentials are not there yet"
    RESOURCES = "this machine has no room for another connection"
    CANCELLED = "the request was cancelled"
    BROKEN = "the engine broke down"
    """All that it still had to do failed with this request, and so will what comes."""
    OTHER = "the engine failed"


class Failure(msgspec.Struct, frozen=True):
    """There is no answer, and why. ``detail`` is what the system or the library said."""

    kind: TransportFailure
    detail: str = ""


Outcome: TypeAlias = Answer | Failure
Done: TypeAlias = Callable[[Outcome], None]


class Sending(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Cancel it; ``done`` is still called soon, unless it has been. May be called at any time."""


class Engine(Protocol):
    """Sends S3 requests to one bucket. All methods may be called on any thread."""

    name: str

    @property
    def loop(self) -> Loop | None:
        """The loop that a caller may run on its own thread; ``None`` if there is none to lend."""

    def open(self) -> None:
        """Import and start what is needed. No connection is made yet.

        :raises s3_uploader.core.errors.StoreError: if it is clear already that no request can be sent.
        :raises s3_uploader.core.errors.EngineUnavailable: if the engine cannot work here.
        """

    def send(self, request: Request, done: Done) -> Sending:
        """Send one request; ``done`` is called exactly once, on any thread, possibly before this returns."""

    def follow(self, region: str) -> bool:
        """The bucket is in another region: send further requests there. ``False`` if that cannot be done."""

    def close(self, *, timeout: float) -> None:
        """Fail what is under way and release everything, waiting at most ``timeout`` seconds. May be called twice."""


def xml_leaves(body: bytes) -> dict[str, str]:
    """The leaves of a small XML document by name without namespace; of equal names the first.

    S3's answers are flat and machine-made. An XML parser would cost an import and open the door to its attacks.
    """
    leaves: dict[str, str] = {}
    for name, text in _XML_LEAF.findall(body):
        leaves.setdefault(name.decode(), unescape(text.decode("utf-8", "replace")))
    return leaves


def unescape(text: str) -> str:
    """XML text without its entities."""
    return _XML_ENTITY.sub(_entity, text) if "&" in text else text


def _entity(match: re.Match[str]) -> str:
    name = match[1]
    if not name.startswith("#"):
        return _XML_NAMES.get(name, match[0])
    try:
        return chr(int(name[2:], 16) if name[1] in "xX" else int(name[1:]))
    except (ValueError, OverflowError):
        return match[0]


def escape(text: str) -> str:
    """Text for an XML document."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every engine is told.

    :param max_connections: most requests at once.
    :param max_bandwidth: bytes per second of all requests together, ``None`` for no limit.
    :param connect_timeout_seconds: for name, connection, proxy and TLS together.
    :param silence_seconds: after so long without a byte in either direction a request fails, later only by the
        request's allowance.
    """

    max_connections: int
    max_bandwidth: int | None = None
    connect_timeout_seconds: float = 10.0
    silence_seconds: float = 60.0
