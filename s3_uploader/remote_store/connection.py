"""A connection to objects: its settings, the resolution of names, and its open buckets."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import weakref
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from s3_uploader.core.control import begins_anew_after_fork
from s3_uploader.core.errors import StoreError
from s3_uploader.core.text import without_passwords
from s3_uploader.remote_store.local_files import Downloads
from s3_uploader.remote_store.names import RemoteName, S3Name
from s3_uploader.remote_store.translation import from_store_error
from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.engines.base import EngineName

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from s3_uploader.remote_store.bucket import Bucket, Shared
    from s3_uploader.remote_store.pool import Pool
    from s3_uploader.stores.s3.endpoint import Access


_OF_A_REGION = (
    r"(?:[^/]+\.)?s3(?:-fips)?[.-](?:fips\.|dualstack\.)*([a-z]{2}(?:-[a-z]+)+-\d+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?"
    r"(?::\d+)?(?:/.*)?"
)
"""A host name of AWS with its region: plain, dual-stack, FIPS, or of an endpoint in a VPC."""


class Endpoint(msgspec.Struct, frozen=True):
    """The meaning of ``endpoint``: a URL, or AWS itself (``None``), and the region in its name."""

    url: str | None
    region: str | None


def parse_endpoint(endpoint: str | None, *, tls: bool) -> Endpoint:
    """Parse an endpoint such as ``s3-us-west-2.amazonaws.com``, ``localhost:9000`` or ``https://s3.example.org``.

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
        raise ValueError(f"the endpoint {shown!r} is not a host name")
    if not separator:
        # For AWS's plain names, AWS's own rules give a better address for each bucket and find its region.
        if host in ("s3.amazonaws.com", "s3-external-1.amazonaws.com"):
            return Endpoint(None, "us-east-1")
        found = re.fullmatch(r"s3[.-]([a-z]{2}(?:-[a-z]+)+-\d+)\.amazonaws\.com(?:\.cn)?", host)
        if found is not None:
            return Endpoint(None, found[1])
    regional = re.fullmatch(_OF_A_REGION, host.lower())
    return Endpoint(f"{scheme}://{host}", regional[1] if regional else None)


def _insist_on_text(**values: object) -> None:
    """Refuse numbers and dates, as YAML makes them of keys and names without quotes: digits would be lost.

    :raises TypeError: without the value, which may be a secret.
    """
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be text, not {type(value).__name__}; in YAML, put it between quotes")


class S3Connection:
    """The settings of a connection. Nothing is connected before the first request.

    :param access_key_id: with ``secret_access_key``, the credentials. Default: the standard AWS chain.
    :param default_bucket: the bucket of every name without one; ``bucket`` is an alias.
    :param endpoint: host name or URL of the service. Default: AWS.
    :param tls: whether to use ``https`` or ``http`` if the endpoint does not say.
    :param region: default: the region in the endpoint's name, else that of the environment, else us-east-1.
    :param ca_file: certificates to trust. Default: the system's.
    :param client_certificate_file: PEM file with the certificate that the endpoint demands of its clients, and its
        private key.
    :param addressing_style: ``virtual`` (bucket in the host name), ``path``, or ``auto``.
    :param max_attempts: the maximum number of attempts of one request.
    :param timeout_seconds: timeout of one request with all its attempts. A transfer gets a second more for every
        16 KiB, a download for those that the answer announces; a copy within the store gets one for every MiB, but no
        more than ten times the timeout.
    :param max_connections: the maximum number of connections to one bucket.
    :param engine: ``native``, the program's own; ``boto3``; ``auto`` uses boto3 only for what the native one cannot do.

    Connections are kept and reused by any number of threads; a forked child opens its own. They are closed by
    :meth:`close`, at the end of a ``with`` block, or when the object is garbage-collected.
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
        client_certificate_file: str | None = None,
        addressing_style: Literal["auto", "virtual", "path"] = "auto",
        connect_timeout_seconds: float = 10,
        read_timeout_seconds: float = 60,
        max_attempts: int = 5,
        timeout_seconds: float = 300,
        max_connections: int = 64,
        engine: EngineName = "auto",
    ) -> None:
        _insist_on_text(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            default_bucket=default_bucket,
            endpoint=endpoint,
            bucket=bucket,
            region=region,
            session_token=session_token,
            profile=profile,
        )
        if not isinstance(tls, int):
            raise TypeError(f"tls must be true or false, not {type(tls).__name__}")
        if default_bucket is not None and bucket is not None and default_bucket != bucket:
            raise ValueError("default_bucket and bucket mean the same; give only one of them")
        if (access_key_id is None) != (secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key must be given together")
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
        self._client_certificate_file = client_certificate_file
        self._addressing_style = addressing_style
        self._timeouts = (connect_timeout_seconds, read_timeout_seconds)
        self._max_attempts = max_attempts
        self._limits = (timeout_seconds, max_connections)
        self._engine: EngineName = engine
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._client_of_parent: S3Client | None = None
        self._pool: Pool | None = None
        self.downloads = Downloads()
        begins_anew_after_fork(self, S3Connection._forked)

    def __enter__(self) -> S3Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        # The credentials are left out, because a repr ends up in logs.
        where = self.endpoint.url or f"AWS {self._region or ''}".rstrip()
        return f"S3Connection(endpoint={where!r}, default_bucket={self.default_bucket!r})"

    def resolve(self, name: RemoteName) -> tuple[str, str]:
        """Bucket and key of a name.

        :raises ValueError: if there is no bucket.
        :raises TypeError: if the key is not text, such as bytes or ``None``.
        """
        named, bucket = (name.key, name.bucket) if isinstance(name, S3Name) else (name, None)
        if not isinstance(named, str | PurePosixPath):
            raise TypeError(f"a key is a str or a pure POSIX path, not {type(named).__name__}")
        key = str(named)
        bucket = self.default_bucket if bucket is None else bucket
        # An empty one would make the key the bucket of the request.
        if not bucket:
            raise ValueError(f"there is no bucket for {key!r}; put one into the name, or set default_bucket")
        return bucket, key

    @property
    def client(self) -> S3Client:
        """A boto3 client with the same settings, for what this package does not do. Many threads may use it."""
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    @contextlib.contextmanager
    def bucket(self, name: str) -> Iterator[Bucket]:
        """Lend the open bucket of that name. Meanwhile this object stays alive."""
        pool = self._pool
        if pool is None:
            pool = self._make_pool()
        with pool.bucket(name) as bucket:
            yield bucket

    def close(self) -> None:
        """Close all connections. A later request opens them again."""
        pool = self._pool
        if pool is not None:
            pool.close()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        # It is not collected here: closing its connections would need locks of the parent.
        self._client_of_parent, self._client = self._client, None
        self.downloads.forked()

    def _make_pool(self) -> Pool:
        from s3_uploader.remote_store.pool import Pool

        with self._lock:
            if self._pool is None:
                # The pool may refer to the settings but not to this object, or the object would never be
                # garbage-collected.
                settings = weakref.proxy(self)
                self._pool = Pool(lambda name, shared: S3Connection._open(settings, name, shared))
                weakref.finalize(self, self._pool.close)
            return self._pool

    def _open(self, name: str, shared: Shared) -> Bucket:
        """Find the bucket's endpoint and credentials, and start an engine.

        :raises RemoteStoreError: if no request is possible.
        :raises EngineUnavailable: if the engine named in the settings does not support the other settings.
        """
        from s3_uploader.remote_store.bucket import Bucket, BucketSettings

        connect_timeout, read_timeout = self._timeouts
        timeout, max_connections = self._limits
        settings = BucketSettings(
            engine=self._engine,
            max_attempts=self._max_attempts,
            max_connections=max_connections,
            connect_timeout_seconds=connect_timeout,
            read_timeout_seconds=read_timeout,
            timeout_seconds=timeout,
        )
        try:
            return Bucket(access=self.access(name), settings=settings, shared=shared)
        except StoreError as error:
            raise from_store_error(error) from error

    def access(self, bucket: str) -> Access:
        """The endpoint of a bucket, and the credentials for it.

        :raises StoreError: if there are none, or the settings are invalid.
        """
        from s3_uploader.stores.s3.endpoint import resolve

        url, style = self._where(bucket)
        access = resolve(
            bucket=bucket,
            endpoint_url=url,
            region=self._region,
            profile=self._profile,
            addressing_style=style,
            client_certificate_file=self._client_certificate_file,
            environment=os.environ,
            credentials=None
            if self._access_key_id is None
            else Credentials(self._access_key_id, self._secret_access_key or "", self._session_token or ""),
        )
        access.credentials()
        if self._ca_file is None:
            return access
        return msgspec.structs.replace(access, endpoint=msgspec.structs.replace(access.endpoint, ca_file=self._ca_file))

    def _where(self, bucket: str) -> tuple[str | None, str]:
        """The URL to use, ``None`` for the environment's, and the addressing style."""
        if self.endpoint.url is not None or (self._tls and not self._endpoint_given):
            return self.endpoint.url, self._addressing_style
        # AWS itself, whatever AWS_ENDPOINT_URL says; in virtual style if the name allows it, as without a URL.
        region = self._region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        style = "virtual" if self._addressing_style == "auto" and "." not in bucket else self._addressing_style
        return f"{'https' if self._tls else 'http'}://s3.{region}.{suffix}", style

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
            "client_cert": self._client_certificate_file,
            # This program sends checksums in headers. boto3 would add a trailer, which older servers refuse or store as
            # a part of the object.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_supported",
            # An endpoint in the program's own settings takes precedence over AWS_ENDPOINT_URL.
            "ignore_configured_endpoint_urls": self._endpoint_given,
        }
        return session.client(
            "s3",
            region_name=self._region or session.region_name or "us-east-1",
            endpoint_url=self.endpoint.url,
            use_ssl=self._tls,
            verify=self._ca_file,
            config=Config(**options),
        )
