"""The requests of the S3 store: headers and bodies, each made by a pure function."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

import msgspec

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name
from s3_uploader.stores.base import PutOptions
from s3_uploader.stores.s3.engines.base import DOCUMENT_BYTES, UNSIGNED_PAYLOAD, Request

MAXIMUM_KEY_BYTES = 1024
_MEBIBYTE = 1024 * 1024
_LISTING_BYTES = 16 * _MEBIBYTE
"""A page has at most a thousand keys of a thousand bytes each, which may be percent-encoded."""

_WHOLE_BYTES = 64 * _MEBIBYTE
"""A larger object is read by ranges, or not at all."""

_PLAIN_KEY = re.compile("[A-Za-z0-9/_.~-]*")
_USUAL = re.compile("[a-z0-9_-][a-z0-9_.-]*(/[a-z0-9_-][a-z0-9_.-]*)*")
_HEADER_NAME = "[A-Za-z0-9!#$%&'*+.^_`|~-]+"

_MOST_MADE = 100
_CONTENT_TYPES = {".dat": "application/octet-stream"}
"""Known content types by extension. That of the layout ``dated`` needs no list of all types, which is slow to load."""


class Condition(msgspec.Struct, frozen=True):
    """The condition of a write: ``header`` is ``if-none-match``, ``if-match`` or empty.

    :param failed: the statuses for an unmet condition.
    """

    header: str = ""
    value: str = ""
    failed: frozenset[int] = frozenset()


UNLESS_THERE = Condition("if-none-match", "*", frozenset((412,)))
UNCONDITIONAL = Condition()


def if_match(value: str) -> Condition:
    """The condition that the existing object has that ETag. Without an object the answer is a 404."""
    return Condition("if-match", value, frozenset((404, 412)))


def encode_key(key: str) -> str:
    """The key encoded for a URL: each byte except the unreserved ones and the slash is percent-encoded.

    :raises KeyRefused: if S3 does not support such a key.
    """
    try:
        length = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:
        raise KeyRefused(
            f"The key {shown_name(key)} has bytes that are not UTF-8, but a key in S3 is text.",
            hint="Rename the file to valid UTF-8.",
        ) from None
    if length > MAXIMUM_KEY_BYTES:
        raise KeyRefused(
            f"The key {shown_name(key)} has {length} bytes, but S3 allows at most {MAXIMUM_KEY_BYTES}.",
            hint="Shorten the file's path or key_prefix.",
        )
    if not key:
        raise KeyRefused("The key is empty.")
    if "\0" in key:
        raise KeyRefused(f"The key {shown_name(key)} has a NUL character.")
    if _PLAIN_KEY.fullmatch(key):
        return key
    from urllib.parse import quote

    return quote(key, safe="/-_.~")


def is_usual(key: str) -> bool:
    """Whether no server confuses this name with another: lower case, no accents, no empty or dotted steps."""
    return _USUAL.fullmatch(key) is not None and "./" not in key and not key.endswith(".")


class ObjectHeaders:
    """The configured headers of every object, made once.

    :raises StoreError: if a value cannot be sent.
    """

    def __init__(
        self,
        *,
        storage_class: str | None,
        acl: str | None,
        sse: str | None,
        sse_kms_key_id: str | None,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
        content_type: str | None,
    ) -> None:
        headers = {}
        for name, value in (
            ("x-amz-storage-class", storage_class),
            ("x-amz-acl", acl),
            ("x-amz-server-side-encryption", sse),
            ("x-amz-server-side-encryption-aws-kms-key-id", sse_kms_key_id),
        ):
            if value is not None:
                headers[name] = _checked(name, value)
        if tags:
            headers["x-amz-tagging"] = _tagging(tags)
        self._content_type = None if content_type is None else _checked("content_type", content_type)
        self._headers = headers
        self._metadata = dict(metadata)
        # The options are kept with the result, so that no other options can get the same identity.
        self._made: dict[int, tuple[PutOptions, dict[str, str]]] = {}

    def of(self, key: str, options: PutOptions) -> dict[str, str]:
        """The headers of one object, as a new dictionary.

        :raises StoreError: if an option cannot be sent.
        """
        made = self._made.get(id(options))
        if made is None:
            # A run uses few different options, each for many files.
            if len(self._made) >= _MOST_MADE:
                self._made = {}
            made = self._made[id(options)] = options, self._make(options)
        headers = made[1].copy()
        headers["content-type"] = self._content_type or content_type_of(options.content_name or key)
        return headers

    def _make(self, options: PutOptions) -> dict[str, str]:
        headers = dict(self._headers)
        if options.storage_class is not None:
            headers["x-amz-storage-class"] = _checked("storage_class", options.storage_class)
        if options.tags is not None:
            headers["x-amz-tagging"] = _tagging(options.tags)
        if options.content_encoding:
            headers["content-encoding"] = options.content_encoding
        for name, value in {**self._metadata, **options.metadata}.items():
            if not re.fullmatch(_HEADER_NAME, name):
                raise _unsendable(f"metadata {name!r}")
            headers[f"x-amz-meta-{name.lower()}"] = _checked(f"metadata {name!r}", value)
        return headers


def content_type_of(key: str) -> str:
    """The content type by the extension of the name; ``application/octet-stream`` if unknown."""
    dot = key.rfind(".")
    # Most keys of a run have the same extension. Leading dots do not begin one.
    known = _CONTENT_TYPES.get(key[dot:]) if dot > 0 and key[dot - 1] not in "/." else None
    return _found_content_type(os.path.splitext(key)[1].lower()) if known is None else known


def _found_content_type(ending: str) -> str:
    known = _CONTENT_TYPES.get(ending)
    if known is None:
        import mimetypes

        try:
            kind, encoding = mimetypes.guess_type(f"name{ending}", strict=True)
        except (OSError, ValueError):
            # One of the machine's own lists is unreadable or not UTF-8. Python's own list is always there.
            kind, encoding = mimetypes.MimeTypes().guess_type(f"name{ending}", strict=True)
        # A compressed file does not have the type of its content.
        known = "application/octet-stream" if kind is None or encoding else kind
        if len(_CONTENT_TYPES) < 1000:
            _CONTENT_TYPES[ending] = known
    return known


def _tagging(tags: Mapping[str, str]) -> str:
    from urllib.parse import quote, urlencode

    # Not every server decodes a plus as a space (Ceph 16 keeps it).
    return urlencode(tags, quote_via=quote, safe="")


def put_object(
    key: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    *,
    crc32: str,
    condition: Condition,
    payload_hash: str,
    md5: str = "",
) -> Request:
    """Store an object in one request. ``headers`` are the object's and become those of the request.

    :param crc32: empty to omit it.
    :param md5: hexadecimal, to send it as Content-MD5.
    """
    if crc32:
        headers["x-amz-sdk-checksum-algorithm"] = "CRC32"
        headers["x-amz-checksum-crc32"] = crc32
    if md5:
        headers["content-md5"] = content_md5(md5)
    if condition.header:
        headers[condition.header] = condition.value
    return Request(
        operation="PutObject",
        method="PUT",
        key=key,
        path=path,
        headers=headers,
        body=body,
        payload_hash=payload_hash,
        handled_bytes=len(body),
    )


def content_md5(md5: str) -> str:
    """The value of Content-MD5 (RFC 1864) for an MD5 in hexadecimal."""
    import base64

    return base64.b64encode(bytes.fromhex(md5)).decode()


def quoted_etag(etag: str) -> str:
    """A clean ETag as it is sent: in quotes, a weak one with its mark before them (RFC 9110, 8.8.3)."""
    return f'W/"{etag[2:]}"' if etag.startswith("W/") else f'"{etag}"'


def head_object(key: str, path: str, *, encoding: str = "", checksums: bool = True) -> Request:
    """Ask what is under a key.

    :param checksums: ask for its checksums, too; what does not know them may refuse that.
    :param encoding: the content encoding that the object has if it is ours; see :func:`get_object`.
    """
    headers = {"accept-encoding": encoding or "identity"}
    if checksums:
        headers["x-amz-checksum-mode"] = "ENABLED"
    return Request(operation="HeadObject", method="HEAD", key=key, path=path, headers=headers)


def list_objects(prefix: str, *, token: str = "", after: str = "") -> Request:
    """Ask what there is, in pages.

    :param token: the continuation token of the previous page.
    :param after: begin with the first key after this one.
    """
    query = {
        "continuation-token": token,
        "encoding-type": "url",
        "list-type": "2",
        "prefix": prefix,
        "start-after": after,
    }
    return Request(
        operation="ListObjectsV2",
        method="GET",
        key="",
        path="",
        query=tuple((name, value) for name, value in query.items() if value),
        answer_limit=_LISTING_BYTES,
    )


def get_object(
    key: str,
    path: str,
    *,
    first: int,
    last: int,
    etag: str,
    encoding: str = "",
    size: int = 0,
    ranged: bool = True,
) -> Request:
    """Read some bytes of an object, as long as it is the one with that ETag.

    :param size: of the whole, which a server without ranges sends instead.
    :param ranged: name the bytes; otherwise ask for the whole, of a server that refuses ranges.
    :param encoding: the content encoding that the object has if it is ours. Storages that decompress (Google) send
        the stored bytes only if that encoding is accepted. Proxies that compress do so only if it is.
    """
    headers = {"accept-encoding": encoding or "identity"}
    if ranged:
        headers["range"] = f"bytes={first}-{last}"
    if etag and not etag.startswith("W/"):
        # A weak one never matches here (RFC 9110, 13.1.1); whoever reads holds it against the answer's.
        headers["if-match"] = f'"{etag}"'
    return Request(
        operation="GetObject",
        method="GET",
        key=key,
        path=path,
        headers=headers,
        answer_limit=max(last - first + 1, min(size, _WHOLE_BYTES), DOCUMENT_BYTES),
    )


def delete_object(key: str, path: str) -> Request:
    """Remove an object."""
    return Request(operation="DeleteObject", method="DELETE", key=key, path=path)


def payload_hash(body: bytes, *, tls: bool) -> str:
    """What is signed for the body: over plain http its SHA-256, over https the transport protects it."""
    if tls:
        return UNSIGNED_PAYLOAD
    return hashlib.sha256(body).hexdigest()


def _checked(name: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        raise _unsendable(name)
    return value


def _unsendable(name: str) -> StoreError:
    return StoreError(
        f"The value of {name} cannot be sent: HTTP headers hold printable ASCII without space at the ends.",
        code="InvalidHeader",
        origin=Origin.SETTING,
        scope=Scope.DESTINATION,
        hint="Change it in the configuration.",
    )
