"""The endpoint of a bucket and the credentials for it, from the configuration and the environment.

An AWS configuration works as with boto3. botocore is used only if there are configuration files or a profile
(``aws_settings``), because its import takes most of the time of a short run.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import parsed_server_url, without_passwords
from s3_uploader.stores.s3.credentials import AwsSettings, Credentials
from s3_uploader.stores.s3.proxy import Proxy, bypasses, find_proxy, strange_proxy

DEFAULT_REGION = "us-east-1"

_VIRTUAL_BUCKET = "[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"
_DNS_BUCKET = "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_S3_HOST = (
    r"s3[.-]|(.*\.)?(digitaloceanspaces|linodeobjects|vultrobjects|backblazeb2|wasabisys|amazonaws|cloudflarestorage"
    r"|googleapis|aliyuncs|myqcloud|your-objectstorage|upcloudobjects|contabostorage)\.com$"
)
"""Hosts that are known to accept the bucket as a prefix of the host name."""
_PUBLIC_AWS_URL = r"https://s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?"
_REGION = "[A-Za-z0-9._-]+"
_ON = ("true", "1", "yes", "on")


def is_address(host: str) -> bool:
    """Whether a host is an IP address, in brackets or not."""
    bare = host.strip("[]")
    try:
        if ":" in bare:
            socket.inet_pton(socket.AF_INET6, bare.partition("%")[0])
        else:
            socket.inet_pton(socket.AF_INET, bare)
    except (OSError, ValueError):
        return False
    return True


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint of one bucket.

    :param url: as configured, without the bucket.
    :param host: name or address to connect to; in brackets if it is an IPv6 address.
    :param path: the path before the key's slash: empty, or ``/bucket``.
    :param ca_file: certificates to trust, ``None`` for the system's.
    :param client_certificate_file: PEM file with the certificate that a server may demand of its clients, and its key.
    :param doubled_bucket: the configured endpoint contained the bucket, which was removed.
    :param direct: there is no proxy.
    :param signs_payload: bodies are hashed for the signature over TLS, too.
    :param only_boto3: why only botocore can reach this bucket; empty if every engine can.
    """

    url: str
    tls: bool
    host: str
    port: int
    path: str
    bucket: str
    region: str
    virtual: bool = False
    given: bool = False
    ca_file: str | None = None
    client_certificate_file: str | None = None
    proxy: Proxy | None = None
    only_boto3: str = ""
    doubled_bucket: bool = False
    direct: bool = True
    signs_payload: bool = False

    @property
    def is_aws(self) -> bool:
        """Whether this is Amazon's own service."""
        return f".{self.host}".endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def is_found_by_region(self) -> bool:
        """Whether the region alone determines the endpoint: Amazon's own service, by its public name."""
        return not self.given or (self.is_aws and re.fullmatch(_PUBLIC_AWS_URL, self.url) is not None)

    @property
    def host_header(self) -> str:
        """The value of the Host header, without the scheme's default port."""
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"

    @property
    def payload_is_unsigned(self) -> bool:
        """Whether TLS alone protects the bytes of a body, which is normal unless the AWS configuration wants more."""
        return self.tls and not self.signs_payload

    @property
    def memory_key(self) -> str:
        """The prefix under which the endpoint's capabilities are remembered."""
        return f"{self.url}/{self.bucket}"


def _cannot_renew() -> bool:
    return False


class Access(msgspec.Struct, frozen=True):
    """An endpoint, and the function that returns its current credentials.

    The function raises ``StoreError`` if there are none. ``session`` is the botocore session behind it, if there is
    one.
    """

    endpoint: Endpoint
    credentials: Callable[[], Credentials]
    session: Any = None
    renew: Callable[[], bool] = _cannot_renew


def resolve(
    *,
    bucket: str,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
    addressing_style: str,
    environment: Mapping[str, str],
    credentials: Credentials | None = None,
    client_certificate_file: str | None = None,
) -> Access:
    """Find the bucket's endpoint and the credentials.

    :param client_certificate_file: see :class:`Endpoint`.
    :param credentials: those of a calling program; then no others are searched for.
    :raises StoreError: if there are no credentials or the configuration is invalid.
    """
    if is_enough := not profile and _environment_is_enough(environment, given=credentials is not None):
        credentials = _usable(credentials or _credentials_in(environment))
        aws = _settings_in(environment)
    else:
        from s3_uploader.stores.s3.aws_settings import read_settings

        aws = read_settings(profile, environment, needs_endpoint=endpoint_url is None, is_on=_is_on)
    endpoint = locate(
        bucket=bucket,
        endpoint_url=aws.endpoint_url if endpoint_url is None else endpoint_url,
        region=region or aws.region,
        addressing_style=aws.addressing_style if addressing_style == "auto" else addressing_style,
        ca_bundle=aws.ca_bundle or environment.get("REQUESTS_CA_BUNDLE"),
        client_certificate_file=client_certificate_file,
        special=_special(bucket, aws),
        environment=environment,
    )
    if _is_on(aws.signs_payload):
        endpoint = msgspec.structs.replace(endpoint, signs_payload=True)
    if credentials is None:
        from s3_uploader.stores.s3.aws_settings import renewed_credentials

        renewed = renewed_credentials(aws.session, usable=_usable)
        return Access(endpoint, renewed, aws.session, renewed.renew)
    usable = credentials
    if not is_enough:
        usable = _usable(credentials)
        aws.session.set_credentials(usable.access_key, usable.secret_key, usable.token or None)
    return Access(endpoint, lambda: usable, aws.session)


def _credentials_in(environment: Mapping[str, str]) -> Credentials:
    return Credentials(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment.get("AWS_SESSION_TOKEN", ""),
    )


def _settings_in(environment: Mapping[str, str]) -> AwsSettings:
    ignores_urls = _is_on(environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))
    url = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
    return AwsSettings(
        endpoint_url=None if ignores_urls else url,
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
        ca_bundle=environment.get("AWS_CA_BUNDLE"),
        dualstack=environment.get("AWS_USE_DUALSTACK_ENDPOINT", ""),
        fips=environment.get("AWS_USE_FIPS_ENDPOINT", ""),
    )


def _environment_is_enough(environment: Mapping[str, str], *, given: bool = False) -> bool:
    """Whether the credentials are static, without a profile or a configuration file that could add to them.

    :param given: a calling program has given the credentials.
    """
    if not given and not (environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY")):
        return False
    if environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE"):
        return False
    files = (
        environment.get("AWS_CONFIG_FILE") or "~/.aws/config",
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
    )
    # /dev/null is a common way to say that there is no file; a device is not a file.
    return not any(os.path.isfile(os.path.expanduser(name)) for name in files)


def _special(bucket: str, aws: AwsSettings) -> str:
    if bucket.startswith("arn:"):
        return "the bucket is an ARN"
    if bucket.endswith("--x-s3"):
        return "the bucket is a directory bucket"
    for name, value in (("dual-stack", aws.dualstack), ("FIPS", aws.fips), ("accelerated", aws.accelerate)):
        if _is_on(value):
            return f"the AWS configuration asks for {name} endpoints"
    return ""


def locate(
    *,
    bucket: str,
    endpoint_url: str | None,
    region: str | None,
    addressing_style: str,
    ca_bundle: str | None,
    client_certificate_file: str | None = None,
    special: str,
    environment: Mapping[str, str],
) -> Endpoint:
    """Build the endpoint; a pure function.

    Addressing follows botocore: a configured endpoint has the bucket in the path unless the style is ``virtual``,
    Amazon's only if it is ``path``. A bucket whose name cannot stand in the host is in the path with either: over https
    also one with a dot, which no wildcard certificate covers.
    """
    region = region or DEFAULT_REGION
    if not re.fullmatch(_REGION, region):
        raise StoreError(
            f"The region {region!r} is not a valid name of a region.",
            code="InvalidRegion",
            origin=Origin.BUCKET,
            scope=Scope.DESTINATION,
            hint="Check region and AWS_REGION.",
        )
    if endpoint_url:
        tls, host, port, base = _taken_apart(endpoint_url)
        host, base, doubled = _without_bucket(bucket, host=host, base=base)
        fitting = _VIRTUAL_BUCKET if tls else _DNS_BUCKET
        virtual = addressing_style == "virtual" and not is_address(host) and re.fullmatch(fitting, bucket) is not None
    else:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        tls, host, port, base, doubled = True, f"s3.{region}.{suffix}", 443, "", False
        virtual = addressing_style != "path" and re.fullmatch(_VIRTUAL_BUCKET, bucket) is not None
        if re.match("us-iso|eu-iso|eusc-", region):
            special = special or f"the region {region} is in a partition that only botocore knows"
    server = f"{bucket}.{host}" if virtual else host
    setting = proxy_setting(server, port, tls=tls, environment=environment)
    url = f"{'https' if tls else 'http'}://{host}" + ("" if port == (443 if tls else 80) else f":{port}") + base
    return Endpoint(
        url=url,
        tls=tls,
        host=server,
        port=port,
        path=base if virtual else f"{base}/{bucket}",
        bucket=bucket,
        region=region,
        virtual=virtual,
        given=bool(endpoint_url),
        ca_file=ca_bundle or None,
        client_certificate_file=client_certificate_file,
        proxy=find_proxy(setting) if setting else None,
        only_boto3=special or (strange_proxy(setting) if setting else ""),
        direct=not setting,
        doubled_bucket=doubled,
    )


def _taken_apart(endpoint_url: str) -> tuple[bool, str, int, str]:
    """Parse a configured endpoint into TLS, host, port and path."""
    found = parsed_server_url(endpoint_url)
    if found is None:
        # The part after ? or # may be a token.
        shown = re.split("[?#]", without_passwords(endpoint_url))[0]
        raise StoreError(
            f"The endpoint {shown!r} is not the URL of a server.",
            code="InvalidEndpoint",
            origin=Origin.BUCKET,
            scope=Scope.DESTINATION,
            hint="Write it like https://s3.example.com.",
        )
    tls = found["scheme"].lower() == "https"
    return tls, found["host"].lower(), int(found["port"] or (443 if tls else 80)), (found["path"] or "").rstrip("/")


def _without_bucket(bucket: str, *, host: str, base: str) -> tuple[str, str, bool]:
    """Host and path of a configured endpoint without the bucket, and whether one of them contained it.

    Some services show their endpoints with the bucket; all objects would be stored under ``bucket/bucket/``.
    """
    if base.endswith(f"/{bucket}"):
        return host, base[: -len(bucket) - 1], True
    rest = host[len(bucket) + 1 :]
    if host.startswith(f"{bucket.lower()}.") and re.match(_S3_HOST, rest):
        return rest, base, True
    return host, base, False


def proxy_setting(host: str, port: int, *, tls: bool, environment: Mapping[str, str]) -> str:
    """The URL of the proxy in the environment, empty if there is none for this host."""
    name = "https_proxy" if tls else "http_proxy"
    value = environment.get(name)
    if value is None and (tls or "REQUEST_METHOD" not in environment):
        # In a CGI program HTTP_PROXY may come from a header of the request ("httpoxy"), so it is ignored there.
        value = environment.get(name.upper())
    if not value or bypasses(host, port, environment):
        return ""
    value = value.strip()
    return value if "://" in value else f"http://{value}"


def checksums_when_required(access: Access, environment: Mapping[str, str]) -> bool:
    """Whether the AWS configuration wants checksum headers only where an operation requires them."""
    value = environment.get("AWS_REQUEST_CHECKSUM_CALCULATION")
    if value is None and access.session is not None:
        value = access.session.get_config_variable("request_checksum_calculation")
    return str(value or "").strip().lower() == "when_required"


def _is_on(value: object) -> bool:
    """Whether an SDK setting is on. botocore accepts only ``true``, in any case; other SDKs accept more."""
    return str(value).strip().lower() in _ON


def _usable(credentials: Credentials) -> Credentials:
    """Check that credentials can be sent in a header. A line break at the end is a common mistake."""
    secret = credentials.secret_key
    if secret != secret.strip() or any(character < " " or character == "\x7f" for character in secret):
        raise StoreError(
            "The secret key in use begins or ends with a space or a line break, or has a control character.",
            code="InvalidCredentials",
            origin=Origin.CREDENTIALS,
            scope=Scope.DESTINATION,
            hint="Check AWS_SECRET_ACCESS_KEY, or the source of the credentials. Perhaps a file was read with its "
            "final line break.",
        )
    for name, value in (("access key", credentials.access_key), ("session token", credentials.token)):
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise StoreError(
                f"The {name} in use has an invalid character, for example a space or a line break.",
                code="InvalidCredentials",
                origin=Origin.CREDENTIALS,
                scope=Scope.DESTINATION,
                hint="Check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or the source of the credentials.",
            )
    return credentials
