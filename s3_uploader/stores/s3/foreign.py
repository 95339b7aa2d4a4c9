"""Answers that are not those of an S3 server: web pages, redirects, and a port that expects TLS."""

from __future__ import annotations

import re

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3.engines.base import Answer, xml_root

REDIRECTS = (301, 302, 303, 307, 308)
TOO_LARGE = 413
NOT_S3 = "This is not an S3 server: "
_MAYBE_NOT_S3 = "This is not an S3 server, or something on the way refused the request: "
_NOT_BY_S3 = "Something on the way refused the request: "
_NEVER_S3 = frozenset((302, 303, 511))
"""S3 redirects with 301 and 307. Networks redirect to their login pages with these."""
_KNOWN_TO_S3 = frozenset((404, 405))
_SELF_EXPLAINING = frozenset((407, 408, TOO_LARGE, 425, 429))
"""Statuses that name the cause, whatever page a proxy sends with them."""
_SERVER = r"(?i)https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(:\d{1,5})?(?=[/?#]|$)"
_HOST = r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?"
_LONGEST_LOCATION = 4096
_PLAIN_HTTP = (
    rb"(?i)http request to an https server|plain http request was sent to https port|speaking plain http to an ssl"
    rb"|port requires tls"
)
"""What Go's server (MinIO), nginx, Apache and Tomcat answer to plain HTTP on a port for TLS."""


def redirect(answer: Answer, operation: str, *, endpoint: str) -> StoreError | None:
    """The error for a redirect. It is not followed, because a request is signed for one server."""
    elsewhere = redirect_target(answer)
    is_path = answer.headers.get("location", "").startswith("/") and answer.status in REDIRECTS
    if not elsewhere and (not is_path or answer.status in _NEVER_S3):
        return None
    if not elsewhere or _same_server(elsewhere, endpoint):
        elsewhere = "its own address"
        hint = (
            "Something before the S3 server may answer, for example a login page or a proxy, or endpoint_url lacks a "
            "path."
        )
    else:
        hint = (
            f"If that is the right server, set endpoint_url to it ({elsewhere}, without the bucket's name). If not, a "
            "proxy or the login page of a network may have answered."
        )
    return StoreError(
        f"The {operation} operation was answered with a redirect to {elsewhere} (status {answer.status}).",
        code="Redirect",
        origin=Origin.BUCKET,
        scope=Scope.DESTINATION,
        hint=hint,
    )


def redirect_target(answer: Answer) -> str:
    """The server in a redirect, as the beginning of a URL; empty if the answer is not a redirect.

    If only the error document names it, it is the host alone.
    """
    location = answer.headers.get("location", "")
    if answer.status not in REDIRECTS or len(location) > _LONGEST_LOCATION:
        return ""
    found = re.match(_SERVER, location) if location else re.fullmatch(_HOST, answer.field("Endpoint"))
    return found[0].lower() if found else ""


def _same_server(target: str, endpoint: str) -> bool:
    found = re.match(_SERVER, endpoint)
    return found is not None and _with_port(target) == _with_port(found[0].lower())


def _with_port(server: str) -> str:
    has_port = re.search(r":\d+$", server) is not None
    return server if has_port else f"{server}:{443 if server.startswith('https') else 80}"


def no_s3(answer: Answer, operation: str, *, proven_useful: bool) -> StoreError | None:
    """The error for an answer without a document of S3, if it shows that something else has answered.

    A proxy or a firewall may also refuse single requests with a web page.
    """
    status = answer.status
    if status == 400 and re.search(_PLAIN_HTTP, answer.body[:2048]) is not None:
        return StoreError(
            f"The {operation} operation was refused (status 400): the server expects https on this port.",
            code="HttpsExpected",
            origin=Origin.BUCKET,
            scope=Scope.DESTINATION,
            hint="Write https:// instead of http:// in endpoint_url.",
        )
    if status not in _NEVER_S3 and (status >= 500 or status in _SELF_EXPLAINING or not is_web_page(answer)):
        return None
    return web_page_error(answer, operation, proven_useful=proven_useful)


def web_page_error(answer: Answer, operation: str, *, proven_useful: bool) -> StoreError:
    """The error for a web page. Its status and earlier answers of the server suggest who sent it."""
    status = answer.status
    prefix = NOT_S3
    if 400 <= status < 500 and status not in _KNOWN_TO_S3:
        prefix = _NOT_BY_S3 if proven_useful else _MAYBE_NOT_S3
    return StoreError(
        f"{prefix}the {operation} operation was answered with a web page (status {status}).",
        code="NotS3",
        origin=Origin.SERVER,
        scope=Scope.DESTINATION,
        hint="Check endpoint_url and the network: a proxy, a firewall or the login page of a network may answer.",
    )


def is_web_page(answer: Answer) -> bool:
    """Whether the answer is a web page: of a proxy, a login page, or a server that is not S3."""
    if answer.body:
        start = answer.body[:512].lstrip().lower()
        return start.startswith((b"<!doctype html", b"<html")) or xml_root(answer.body).lower() == "html"
    # The answer to a HEAD has no body, and for an error boto3 does not provide it. A page has bytes: some S3 servers
    # (moto) give an empty answer the type of a page.
    is_html = answer.headers.get("content-type", "").lower().startswith("text/html")
    return answer.status >= 300 and is_html and answer.headers.get("content-length") != "0"


def is_page_for_object(answer: Answer) -> bool:
    """Whether a success that should be about an object is a web page. S3 gives an object an ETag, also one in HTML."""
    headers = answer.headers
    is_html = headers.get("content-type", "").lower().startswith("text/html")
    return is_html and "etag" not in headers and not any(name.startswith("x-amz-") for name in headers)


def without_blame(message: str) -> str:
    """The message about a web page without the guess about its sender."""
    for prefix in (NOT_S3, _MAYBE_NOT_S3, _NOT_BY_S3):
        message = message.removeprefix(prefix)
    return message[:1].upper() + message[1:]
