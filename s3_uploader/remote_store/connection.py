"""Where objects are: settings of the connection, names of objects, and the error that says that it did not work."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from s3_uploader.core.errors import UploaderError
from s3_uploader.core.text import without_passwords

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class StorageError(UploaderError):
    """Root of the errors of this package."""


class RemoteStoreError(StorageError):
    """The remote store answered with a failure, or with something that cannot be right.

    :param status: of the HTTP answer, ``None`` if it was none.
    :param code: S3's name of the error.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class S3Name(msgspec.Struct, frozen=True):
    """The name of an object: a key, and a bucket unless it is the default one of the connection."""

    key: str
    bucket: str | None = None


RemoteName: TypeAlias = "str | S3Name"


class Endpoint(msgspec.Struct, frozen=True):
    """What ``endpoint`` means: a URL to go to, or AWS itself (``None``); and the region that its name tells."""

    url: str | None
    region: str | None


def parse_endpoint(endpoint: str | None, *, tls: bool) -> Endpoint:
    """Understand ``s3-us-west-2.amazonaws.com``, ``localhost:9000`` and ``https://s3.example.org`` alike.

    :raises ValueError: if it is none of these.
    """
    if endpoint is None:
        return Endpoint(None, None)
    shown = without_passwords(endpoint)
    scheme, separator, rest = endpoint.rpartition("://")
    if not separator:
        scheme = "https" if tls else "http"
    elif scheme not in ("http", "https"):
        raise ValueError(f"the endpoint {shown!r} must begin with http:// or https://, or be a host name")
    host = rest.rstrip("/")
    if not re.fullmatch(r"[^\s/?#@]+(/[^\s?#]*)?", host):
        raise ValueError(f"the endpoint {shown!r} is no host name")
    if not separator:
        # The plain names of AWS: its own rules give a better address for each bucket, and find its region.
        if host in ("s3.amazonaws.com", "s3-external-1.amazonaws.com"):
            return Endpoint(None, "us-east-1")
        found = re.fullmatch(r"s3[.-]([a-z]{2}(?:-[a-z]+)+-\d+)\.amazonaws\.com(?:\.cn)?", host)
        if found is not None:
            return Endpoint(None, found[1])
    return Endpoint(f"{scheme}://{host}", None)


class S3Connection:
    """The settings of a connection; nothing is connected before the first request.

    :param access_key_id: and ``secret_access_key``, the credentials; without them the standard AWS chain applies.
    :param default_bucket: bucket of every name that has none; ``bucket`` is another word for it.
    :param endpoint: host name or URL of the service. Default: AWS.
    :param tls: ``https`` or ``http``, where the endpoint does not say.
    :param region: default: the one that the endpoint's name tells, else that of the environment, else us-east-1.
    :param ca_file: certificates to trust. Default: the system's.
    :param addressing_style: ``virtual`` (bucket in the host name), ``path``, or ``auto``.
    :param max_attempts: most attempts of one request.
    """

    def __init__(
        self,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        default_bucket: str | None = None,
        endpoint: str | None = None,
        tls: bool = True,
        *,
        bucket: str | None = None,
        region: str | None = None,
        session_token: str | None = None,
        profile: str | None = None,
        ca_file: str | None = None,
        addressing_style: str = "auto",
        connect_timeout_seconds: float = 10,
        read_timeout_seconds: float = 60,
        max_attempts: int = 5,
    ) -> None:
        if default_bucket is not None and bucket is not None and default_bucket != bucket:
            raise ValueError("default_bucket and bucket mean the same; give one of them")
        if (access_key_id is None) != (secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together")
        self.default_bucket = default_bucket if default_bucket is not None else bucket
        self.endpoint = parse_endpoint(endpoint, tls=tls)
        self._endpoint_given = endpoint is not None
        self._tls = tls
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._session_token = session_token
        self._profile = profile
        self._region = region or self.endpoint.region
        self._ca_file = ca_file
        self._addressing_style = addressing_style
        self._timeouts = (connect_timeout_seconds, read_timeout_seconds)
        self._max_attempts = max_attempts
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._extra = threading.local()

    def __repr__(self) -> str:
        # Without the credentials: a repr ends up in logs.
        where = self.endpoint.url or f"AWS {self._region or ''}".rstrip()
        return f"S3Connection(endpoint={where!r}, default_bucket={self.default_bucket!r})"

    def resolve(self, name: RemoteName) -> tuple[str, str]:
        """Bucket and key of a name.

        :raises ValueError: if there is no bucket.
        """
        key, bucket = (name.key, name.bucket) if isinstance(name, S3Name) else (name, None)
        bucket = self.default_bucket if bucket is None else bucket
        if bucket is None:
            raise ValueError(f"there is no bucket for {key!r}: the name has none and the connection no default_bucket")
        return bucket, key

    @property
    def client(self) -> S3Client:
        """The boto3 client, made when it is first needed; it may be used by many threads."""
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    @contextlib.contextmanager
    def sending(self, headers: Mapping[str, str]) -> Iterator[S3Client]:
        """The client, adding ``headers`` as they are to every request that this thread makes within."""
        before = getattr(self._extra, "headers", None)
        self._extra.headers = headers
        try:
            yield self.client
        finally:
            self._extra.headers = before

    def _make_client(self) -> S3Client:
        # boto3 takes a fifth of a second to import.
        import boto3
        from botocore.config import Config

        session = boto3.session.Session(
            aws_access_key_id=self._access_key_id,
            aws_secret_access_key=self._secret_access_key,
            aws_session_token=self._session_token,
            profile_name=self._profile,
        )
        connect_timeout, read_timeout = self._timeouts
        options: dict[str, Any] = {
            "signature_version": "s3v4",
            "s3": {"addressing_style": self._addressing_style},
            "retries": {"mode": "standard", "total_max_attempts": self._max_attempts},
            "connect_timeout": connect_timeout,
            "read_timeout": read_timeout,
            "tcp_keepalive": True,
            # We send checksums in headers by ourselves. What boto3 adds otherwise is a trailer, which older servers
            # refuse or store as a part of the object.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_supported",
            # An endpoint in the program's own settings wins over AWS_ENDPOINT_URL.
            "ignore_configured_endpoint_urls": self._endpoint_given,
        }
        client = session.client(
            "s3",
            region_name=self._region or session.region_name or "us-east-1",
            endpoint_url=self.endpoint.url,
            use_ssl=self._tls,
            verify=self._ca_file,
            config=Config(**options),
        )
        client.meta.events.register("before-call.s3", self._add_headers)
        return client

    def _add_headers(self, params: dict[str, Any], **_: object) -> None:
        """Put the caller's headers into a request, before it is signed, whether boto3 has a name for them or not."""
        for name, value in (getattr(self._extra, "headers", None) or {}).items():
            headers = params["headers"]
            for there in [there for there in headers if there.lower() == name]:
                del headers[there]
            headers[name] = value
