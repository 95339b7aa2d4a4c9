"""AWS Signature Version 4 for S3, in headers.

Reference: "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)" in the Amazon S3 API
reference. S3's two exceptions to the general scheme apply: the path is encoded once, and it is not normalised.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Callable

import msgspec

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Access, Endpoint, locate
from s3_uploader.stores.s3.engines.base import Request

_UNSIGNED_HEADERS = frozenset(("content-length", "user-agent", "accept-encoding", "connection", "expect"))
"""Not signed, because a proxy may change these. The payload hash covers the length."""
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


class Signer:
    """Signs requests for one region."""

    def __init__(
        self, *, region: str, credentials: Callable[[], Credentials], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.region = region
        self._credentials = credentials
        self._wall_clock = wall_clock
        self._stamp: tuple[int, str] = (-1, "")
        self._key: tuple[Credentials | None, str, str, _Key] = (None, "", "", _Key(b""))

    def sign(self, *, method: str, path: str, query: str, headers: dict[str, str], payload_hash: str) -> None:
        """Add the headers that sign a request to ``headers``, whose names are in lower case and include ``host``.

        :param path: percent-encoded, as it is sent.
        :param query: percent-encoded and sorted, as it is sent, without the question mark.
        """
        credentials = self._credentials()
        now = int(self._wall_clock())
        stamp = self._stamp
        if stamp[0] != now:
            # One thread may overwrite what another has just stored; both values are right.
            stamp = self._stamp = (now, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))
        date = stamp[1]
        headers["x-amz-content-sha256"] = payload_hash
        headers["x-amz-date"] = date
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names, signed = _signed_names(tuple(headers))
        lines = ""
        for name in names:
            lines += f"{name}:{headers[name]}\n"
        lines = lines[:-1]
        if "  " in lines or ": " in lines or " \n" in lines or lines[-1] == " " or "\t" in lines:
            lines = "\n".join([f"{name}:{' '.join(headers[name].split())}" for name in names])
        canonical = f"{method}\n{path}\n{query}\n{lines}\n\n{signed}\n{payload_hash}"
        region = self.region
        scope = f"{date[:8]}/{region}/s3/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        known = self._key
        if known[0] is not credentials or known[1] != date[:8] or known[2] != region:
            known = self._new_key(credentials, date[:8], region)
        signature = known[3].signature(to_sign.encode())
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )

    def _new_key(self, credentials: Credentials, day: str, region: str) -> tuple[Credentials, str, str, _Key]:
        """The key for that day, kept for later requests."""
        made = self._key = (credentials, day, region, _Key(signing_key(credentials, day, region)))
        return made


class _Key:
    """HMAC-SHA256 with one key, whose two blocks are hashed once (RFC 2104, 4): a signature costs a quarter of a call.

    :param key: at most 64 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._inner = hashlib.sha256(key.ljust(64, b"\0").translate(_INNER))
        self._outer = hashlib.sha256(key.ljust(64, b"\0").translate(_OUTER))

    def signature(self, message: bytes) -> str:
        """The signature of a message, hexadecimal."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()


def signing_key(credentials: Credentials, day: str, region: str) -> bytes:
    """The key that signs with these credentials on that day (``YYYYMMDD``)."""
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@functools.lru_cache(maxsize=64)
def _signed_names(names: tuple[str, ...]) -> tuple[list[str], str]:
    """The signed ones of the headers, in order, and their list as in the signature.

    There are a few kinds of requests, so this is computed a few times in a run.
    """
    signed = sorted(set(names) - _UNSIGNED_HEADERS)
    return signed, ";".join(signed)


class SignedRequests:
    """Prepares the requests to one bucket for sending."""

    def __init__(self, access: Access, *, wall_clock: Callable[[], float] = time.time) -> None:
        from s3_uploader._version import __version__

        self.endpoint: Endpoint = access.endpoint
        self._host = access.endpoint.host_header
        self._signer = Signer(region=access.endpoint.region, credentials=access.credentials, wall_clock=wall_clock)
        self._agent = f"s3_uploader/{__version__}"

    def prepare(self, request: Request) -> tuple[str, dict[str, str]]:
        """The request's target and all its headers.

        :raises StoreError: if there are no credentials.
        """
        endpoint = self.endpoint
        path = f"{endpoint.path}/{request.path}"
        query = ""
        if request.query:
            from urllib.parse import quote

            query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in request.query)
        headers = {"host": self._host, **request.headers}
        self._signer.sign(
            method=request.method, path=path, query=query, headers=headers, payload_hash=request.payload_hash
        )
        headers["user-agent"] = self._agent
        if request.body or request.method in ("PUT", "POST"):
            headers["content-length"] = str(len(request.body))
        target = f"{path}?{query}" if query else path
        if endpoint.proxy is not None and not endpoint.tls:
            target = f"http://{endpoint.host_header}{target}"
            if endpoint.proxy.authorization:
                headers["proxy-authorization"] = endpoint.proxy.authorization
        return target, headers

    def move_to(self, region: str) -> bool:
        """Use the same bucket in another region. A configured endpoint does not change."""
        endpoint = self.endpoint
        if region == endpoint.region:
            return False
        if not endpoint.is_found_by_region:
            # Only the region in the signature changes (MinIO, Garage and others have their own names for regions).
            self._signer.region = region
            self.endpoint = msgspec.structs.replace(endpoint, region=region)
            return True
        moved = locate(
            bucket=endpoint.bucket,
            endpoint_url=None,
            region=region,
            addressing_style="virtual" if endpoint.virtual else "path",
            ca_bundle=endpoint.ca_file,
            client_certificate_file=endpoint.client_certificate_file,
            special="",
            environment={},
        )
        self._signer.region = region
        self.endpoint = msgspec.structs.replace(moved, proxy=endpoint.proxy)
        self._host = self.endpoint.host_header
        return True
