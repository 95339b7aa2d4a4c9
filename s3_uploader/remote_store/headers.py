"""Headers of requests and metadata of objects, as pure functions.

Metadata are the headers that begin with ``x-amz-meta-``. Names are always in lower case, as S3 returns them.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable, Mapping

METADATA_PREFIX = "x-amz-meta-"

SYSTEM_METADATA = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
)
"""What an object has besides its metadata. S3 drops all of it when the metadata is replaced."""

_OURS = {
    "authorization",
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-range",
    "x-amz-date",
    "x-amz-security-token",
}
_ENTIRE_BODY = ("content-md5", "x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer")
_CONDITIONS = ("if-match", "if-none-match")
_CUSTOMER_KEY = "x-amz-server-side-encryption-customer-"
_CUSTOMER_KEY_OF_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_OWNER, _OWNER_OF_SOURCE = "x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"
_PAYER = "x-amz-request-payer"
_EVERY_REQUEST = (_PAYER, _OWNER)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_GRANT_HEADERS = {
    "FULL_CONTROL": "x-amz-grant-full-control",
    "READ": "x-amz-grant-read",
    "READ_ACP": "x-amz-grant-read-acp",
    "WRITE_ACP": "x-amz-grant-write-acp",
}


def normalised(headers: Mapping[str, object] | None) -> dict[str, str]:
    """The headers of a caller: names in lower case, values encoded for a header.

    :raises ValueError: if a header cannot be sent, or must not be set by the caller.
    """
    result: dict[str, str] = {}
    for name, value in (headers or {}).items():
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a header")
        if lower in _OURS:
            raise ValueError(f"the header {name} is set by the program and cannot be given")
        result[lower] = encoded_value(str(value))
    return result


def encoded_value(value: str) -> str:
    """The value in the form of a header: plain text if possible, else RFC 2047, which is also how S3 returns it.

    RFC 2047 is used for non-ASCII text, for surrounding spaces, which HTTP strips, and for text that looks encoded.
    """
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ValueError(f"{value!r} cannot be the value of a header: it has a control character")
    if value.isascii() and value == value.strip() and "=?" not in value:
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def decoded_value(value: str) -> str:
    """The value of a header as the user wrote it, the reverse of :func:`encoded_value`."""
    value = _as_text(value)
    if "=?" not in value:
        return value
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return value


def _as_text(value: str) -> str:
    """The text of a received value. Engines read it as Latin-1, but servers that keep the bytes as given have UTF-8."""
    with contextlib.suppress(UnicodeError):
        return value if value.isascii() else value.encode("latin-1").decode()
    return value


def _kept(name: str, value: str) -> str:
    """A received value in the form in which it is sent again."""
    if value.isascii():
        return value
    return encoded_value(_as_text(value)) if name.startswith(METADATA_PREFIX) else _as_text(value)


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The metadata among the headers of an answer."""
    return {
        name.lower(): decoded_value(value)
        for name, value in headers.items()
        if name.lower().startswith(METADATA_PREFIX)
    }


def concerns_entire_body(headers: Iterable[str]) -> bool:
    """Whether one of the headers describes the body as a whole, so that it cannot be sent in parts."""
    return any(name.startswith(_ENTIRE_BODY) for name in headers)


def conditions(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that make the write conditional."""
    return {name: value for name, value in headers.items() if name in _CONDITIONS}


def for_create(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are sent with the creation of a multipart upload."""
    return {name: value for name, value in headers.items() if name not in _CONDITIONS}


def for_part(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are sent with every part."""
    return {name: value for name, value in headers.items() if name.startswith(_CUSTOMER_KEY) or name in _EVERY_REQUEST}


def for_part_copy(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are sent with every part of a copy: those of the source, too."""
    of_source = {
        name: value
        for name, value in headers.items()
        if name.startswith(_CUSTOMER_KEY_OF_SOURCE) or name == _OWNER_OF_SOURCE
    }
    return for_part(headers) | of_source


def about_source(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a look at the source of a copy, made of those of the copy."""
    customer_key = {
        name.replace(_CUSTOMER_KEY_OF_SOURCE, _CUSTOMER_KEY): value
        for name, value in headers.items()
        if name.startswith(_CUSTOMER_KEY_OF_SOURCE)
    }
    return about_bucket_of_source(headers) | customer_key


def about_bucket_of_source(headers: Mapping[str, str]) -> dict[str, str]:
    """The same for its tags and its ACL, which are not encrypted."""
    names = ((_PAYER, _PAYER), (_OWNER_OF_SOURCE, _OWNER))
    return {name: headers[given] for given, name in names if given in headers}


def for_completion(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are sent with the completion of a multipart upload, the conditions among them."""
    return for_part(headers) | conditions(headers)


def for_copy(given: Mapping[str, str], source: Mapping[str, str], *, onto_itself: bool) -> dict[str, str]:
    """The headers of a copy.

    S3 copies either all attributes of the source or none. So if one is to differ, the others are taken from the source
    and sent explicitly. A copy onto itself has to change something, else S3 refuses it. It also falls back to the
    storage class and the encryption of new objects unless they are sent explicitly.

    :param given: normalised headers of the caller.
    :param source: headers of the answer to HEAD on the source.
    """
    headers = dict(given)
    has_metadata = any(name.startswith(METADATA_PREFIX) for name in given)
    has_system_metadata = any(name in given for name in SYSTEM_METADATA)
    if "x-amz-metadata-directive" not in given and (has_metadata or has_system_metadata or onto_itself):
        headers["x-amz-metadata-directive"] = "REPLACE"
        for name, value in source.items():
            kept = name in SYSTEM_METADATA or (name.startswith(METADATA_PREFIX) and not has_metadata)
            if kept and name not in headers:
                headers[name] = _kept(name, value)
    if "x-amz-tagging" in given and "x-amz-tagging-directive" not in given:
        headers["x-amz-tagging-directive"] = "REPLACE"
    if onto_itself:
        names = ["x-amz-storage-class"]
        if not any(name.startswith("x-amz-server-side-encryption") for name in given):
            names += [
                "x-amz-server-side-encryption",
                "x-amz-server-side-encryption-aws-kms-key-id",
                "x-amz-server-side-encryption-bucket-key-enabled",
            ]
        for name in names:
            if name in source and name not in headers:
                headers[name] = source[name]
    return headers


def directed(given: Mapping[str, str]) -> dict[str, str]:
    """The headers of a caller for a copy in parts, for which S3 knows no directives: what the caller's ask for is done.

    ``x-amz-metadata-directive`` stays with ``REPLACE`` (:func:`for_copy` then takes nothing from the source). With
    ``COPY`` the caller's own metadata are left out, as S3 does.
    """
    directive = given.get("x-amz-metadata-directive", "")
    headers = {
        name: value
        for name, value in given.items()
        if not name.endswith("-directive") and not name.startswith(("x-amz-copy-source-", "x-amz-source-"))
    }
    if directive == "COPY":
        return {
            name: value
            for name, value in headers.items()
            if name not in SYSTEM_METADATA and not name.startswith(METADATA_PREFIX)
        }
    return headers | ({"x-amz-metadata-directive": directive} if directive else {})


def sets_acl(headers: Mapping[str, str]) -> bool:
    """Whether the headers set an ACL."""
    return any(name == "x-amz-acl" or name.startswith("x-amz-grant-") for name in headers)


def for_grants(owner: str, grants: list[dict[str, object]]) -> dict[str, str]:
    """The headers for the grants of an ACL; empty if it is the ACL of every new object."""
    values: dict[str, list[str]] = {}
    beyond_the_owner = False
    for grant in grants:
        grantee = grant.get("Grantee")
        header = _GRANT_HEADERS.get(str(grant.get("Permission")))
        if not isinstance(grantee, dict) or header is None:
            continue
        if "URI" in grantee:
            values.setdefault(header, []).append(f'uri="{grantee["URI"]}"')
        elif "ID" in grantee:
            values.setdefault(header, []).append(f'id="{grantee["ID"]}"')
        beyond_the_owner = beyond_the_owner or grantee.get("ID") != owner
    return {header: ", ".join(grantees) for header, grantees in values.items()} if beyond_the_owner else {}
