"""Where a bucket is and how to reach it: URL, region, addressing style, certificates, proxy.

Everybody's AWS configuration works as with boto3. botocore is asked only where there are configuration files or a
profile; its import is most of what a short run costs.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.text import quoted
from s3_uploader.stores.s3.credentials import Credentials, no_credentials

DEFAULT_REGION = "us-east-1"

_VIRTUAL_BUCKET = re.compile("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_DNS_BUCKET = re.compile("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_URL = re.compile(
    r"(?P<scheme>https?)://(?:(?P<user>[^/@]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:?#@\s]+)"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^?#\s]*)?",
    re.I,
)
_AWS_HOST = re.compile(r"(^|\.)amazonaws\.com(\.cn)?$")
_S3_HOST = re.compile(
    r"s3[.-]|(.*\.)?(digitaloceanspaces|linodeobjects|vultrobjects|backblazeb2|wasabisys|amazonaws|cloudflarestorage"
    r"|googleapis|aliyuncs|myqcloud|your-objectstorage|upcloudobjects|contabostorage)\.com$"
)
"""Hosts of which it is known that a name before theirs is that of a bucket."""
_PUBLIC_AWS_URL = re.compile(r"https://s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?")
_REGION = re.compile("[A-Za-z0-9._-]+")
_CREDENTIAL = re.compile("[!-~]*")
_TRUE = ("true", "1", "yes", "on")


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy; ``authorization`` is the header that it wants, or empty."""

    host: str
    port: int
    authorization: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where one bucket is.

    :param url: as a person knows it, without the bucket.
    :param host: name or address to connect to; in brackets if it is an IPv6 address.
    :param path: what comes before the key's slash: empty, or ``/bucket``.
    :param ca_file: certificates to trust, ``None`` for the system's.
    :param doubled_bucket: the endpoint as it was given had the bucket in it, which was left out.
    :param direct: there is no proxy on the way to it.
    :param signs_payload: bodies are hashed for the signature over TLS too.
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
    proxy: Proxy | None = None
    only_boto3: str = ""
    doubled_bucket: bool = False
    direct: bool = True
    signs_payload: bool = False

    @property
    def is_aws(self) -> bool:
        """Whether this is Amazon's own service."""
        return _AWS_HOST.search(self.host) is not None

    @property
    def is_found_by_region(self) -> bool:
        """Whether the region alone says where the bucket is: Amazon's own service, by its public name."""
        return not self.given or _PUBLIC_AWS_URL.fullmatch(self.url) is not None

    @property
    def host_header(self) -> str:
        """The host as HTTP names it, without the scheme's own port."""
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"

    @property
    def payload_is_unsigned(self) -> bool:
        """Whether TLS alone protects the bytes of a body, as everywhere unless the AWS configuration wants more."""
        return self.tls and not self.signs_payload

    @property
    def memory_key(self) -> str:
        """What this endpoint can do is remembered under."""
        return f"{self.url}/{self.bucket}"


def _cannot_renew() -> bool:
    return False


class Access(msgspec.Struct, frozen=True):
    """An endpoint, and the function that gives the credentials for it as they are now.

    The function raises ``StoreError`` if there are none. ``session`` is the botocore session behind it, if any.
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
) -> Access:
    """Find out where the bucket is and who we are.

    :raises StoreError: if there are no credentials or the configuration makes no sense.
    """
    if profile or not _environment_is_enough(environment):
        return _with_botocore(bucket, endpoint_url, region, profile, addressing_style, environment)
    credentials = _usable(
        Credentials(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN", ""),
        )
    )
    if endpoint_url is None and not _is_true(environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")):
        endpoint_url = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
    endpoint = locate(
        bucket=bucket,
        endpoint_url=endpoint_url,
        region=region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
        addressing_style=addressing_style,
        ca_bundle=environment.get("AWS_CA_BUNDLE") or environment.get("REQUESTS_CA_BUNDLE"),
        special=_special(
            bucket,
            dualstack=environment.get("AWS_USE_DUALSTACK_ENDPOINT", ""),
            fips=environment.get("AWS_USE_FIPS_ENDPOINT", ""),
        ),
        environment=environment,
    )
    return Access(endpoint, lambda: credentials)


def locate(
    *,
    bucket: str,
    endpoint_url: str | None,
    region: str | None,
    addressing_style: str,
    ca_bundle: str | None,
    special: str,
    environment: Mapping[str, str],
) -> Endpoint:
    """The endpoint from what is known of it; a pure function.

    Addressing is botocore's: a given endpoint has the bucket in the path unless the style is ``virtual``; Amazon's has
    it in the host where the name allows (with https not if it has a dot, which no wildcard certificate covers).
    """
    region = region or DEFAULT_REGION
    if not _REGION.fullmatch(region):
        raise StoreError(
            f"The region {region!r} is no name of a region.",
            code="InvalidRegion",
            scope=Scope.DESTINATION,
            hint="Look at region and AWS_REGION.",
        )
    if endpoint_url:
        found = _URL.fullmatch(endpoint_url.strip())
        if found is None or int(found["port"] or 1) not in range(1, 65536):
            raise StoreError(
                f"The endpoint {endpoint_url!r} is no URL of a server.",
                code="InvalidEndpoint",
                scope=Scope.DESTINATION,
                hint="Write it like https://s3.example.com.",
            )
        tls = found["scheme"].lower() == "https"
        host = found["host"].lower()
        port = int(found["port"] or (443 if tls else 80))
        base = (found["path"] or "").rstrip("/")
        host, base, doubled = _without_bucket(bucket, host=host, base=base)
        virtual = addressing_style == "virtual" and not _is_address(host) and _DNS_BUCKET.fullmatch(bucket) is not None
    else:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        tls, host, port, base, doubled = True, f"s3.{region}.{suffix}", 443, "", False
        virtual = addressing_style != "path" and _VIRTUAL_BUCKET.fullmatch(bucket) is not None
        if re.match("us-iso|eu-iso|eusc-", region):
            special = special or f"the region {region} is in a partition that only botocore knows"
    server = f"{bucket}.{host}" if virtual else host
    special = special or _strange_proxy(server, port, tls=tls, environment=environment)
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
        proxy=find_proxy(server, port, tls=tls, environment=environment),
        only_boto3=special,
        direct=not _proxy_setting(server, port, tls=tls, environment=environment),
        doubled_bucket=doubled,
    )


def _without_bucket(bucket: str, *, host: str, base: str) -> tuple[str, str, bool]:
    """Host and path of a given endpoint without the bucket, and whether it was in one of them.

    Some services show endpoints with it; everything would land under ``bucket/bucket/``.
    """
    if base.endswith(f"/{bucket}"):
        return host, base[: -len(bucket) - 1], True
    rest = host[len(bucket) + 1 :]
    if host.startswith(f"{bucket.lower()}.") and _S3_HOST.match(rest):
        return rest, base, True
    return host, base, False


def find_proxy(host: str, port: int, *, tls: bool, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for a host, by the rules that ``urllib.request`` and botocore follow."""
    value = _proxy_setting(host, port, tls=tls, environment=environment)
    found = _URL.match(value) if value else None
    if found is None:
        return None
    authorization = ""
    if found["user"]:
        import base64
        from urllib.parse import unquote

        authorization = "Basic " + base64.b64encode(unquote(found["user"]).encode()).decode()
    return Proxy(found["host"].strip("[]"), int(found["port"] or 80), authorization)


def _strange_proxy(host: str, port: int, *, tls: bool, environment: Mapping[str, str]) -> str:
    """Why only botocore, if anybody, can use the proxy: going past it is not what was asked for."""
    value = _proxy_setting(host, port, tls=tls, environment=environment)
    if not value or (value.lower().startswith("http://") and _URL.match(value)):
        return ""
    return f"the proxy is of another kind than http ({value.partition('://')[0]})"


def _proxy_setting(host: str, port: int, *, tls: bool, environment: Mapping[str, str]) -> str:
    """The URL of the proxy as the environment has it, empty if there is none for this host."""
    name = "https_proxy" if tls else "http_proxy"
    value = environment.get(name)
    if value is None and (tls or "REQUEST_METHOD" not in environment):
        # In a CGI program HTTP_PROXY may be a header of the request ("httpoxy"), hence the exception.
        value = environment.get(name.upper())
    if not value or _bypasses(host, port, environment):
        return ""
    value = value.strip()
    return value if "://" in value else f"http://{value}"


def _bypasses(host: str, port: int, environment: Mapping[str, str]) -> bool:
    value = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    if value.strip() == "*":
        return True
    bare = host.lower().strip("[]")
    address = _address(bare)
    for entry in value.split(","):
        entry = entry.strip().lower()
        if "/" in entry and address is not None:
            # Networks, as curl and Go have them; urllib knows none.
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            continue
        name, wanted_port = _host_and_port(entry)
        if not name or (wanted_port and wanted_port != str(port)):
            continue
        if bare == name or bare.endswith(f".{name}") or (address is not None and address == _address(name)):
            return True
    return False


def _host_and_port(entry: str) -> tuple[str, str]:
    """Name and port of an entry of ``NO_PROXY``: ``.example.com``, ``*.example.com``, ``host:9000``, ``[::1]:9000``."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") > 1:
        return entry, ""
    name, _, port = entry.partition(":")
    return name.removeprefix("*").lstrip("."), port


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _special(bucket: str, *, dualstack: str, fips: str, accelerate: str = "") -> str:
    if bucket.startswith("arn:"):
        return "the bucket is an ARN"
    if bucket.endswith("--x-s3"):
        return "the bucket is a directory bucket"
    for name, value in (("dual-stack", dualstack), ("FIPS", fips), ("accelerated", accelerate)):
        if _is_true(value):
            return f"the AWS configuration asks for {name} endpoints"
    return ""


def _is_true(value: object) -> bool:
    """Whether a setting of the SDKs is on; botocore takes only ``true``, in any case, and others write more."""
    return str(value).strip().lower() in _TRUE


def _environment_is_enough(environment: Mapping[str, str]) -> bool:
    """Static credentials in the environment, and neither a profile nor a configuration file that could add to them."""
    if not (environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY")):
        return False
    if environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE"):
        return False
    files = (
        environment.get("AWS_CONFIG_FILE") or "~/.aws/config",
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
    )
    # /dev/null is how people say that there is no file; a device is none.
    return not any(os.path.isfile(os.path.expanduser(name)) for name in files)


def _with_botocore(
    bucket: str,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
    addressing_style: str,
    environment: Mapping[str, str],
) -> Access:
    from botocore.configprovider import ConfiguredEndpointProvider
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    from s3_uploader.stores.s3.helpers import RenewedCredentials, find

    try:
        session = Session(profile=profile)
        scoped = session.get_scoped_config()
        if endpoint_url is None and not _is_true(session.get_config_variable("ignore_configured_endpoint_urls")):
            endpoint_url = ConfiguredEndpointProvider(
                full_config=session.full_config, scoped_config=scoped, client_name="s3"
            ).provide()
        nested = scoped.get("s3")
        s3: dict[str, Any] = nested if isinstance(nested, dict) else {}
        if addressing_style == "auto":
            addressing_style = s3.get("addressing_style", "auto")
        endpoint = locate(
            bucket=bucket,
            endpoint_url=endpoint_url,
            # botocore knows AWS_DEFAULT_REGION only; the other SDKs, and the command line of AWS, AWS_REGION too.
            region=region or environment.get("AWS_REGION") or session.get_config_variable("region"),
            addressing_style=addressing_style,
            ca_bundle=session.get_config_variable("ca_bundle") or environment.get("REQUESTS_CA_BUNDLE"),
            special=_special(
                bucket,
                dualstack=str(
                    session.get_config_variable("use_dualstack_endpoint") or s3.get("use_dualstack_endpoint", "")
                ),
                fips=str(session.get_config_variable("use_fips_endpoint") or ""),
                accelerate=str(s3.get("use_accelerate_endpoint", "")),
            ),
            environment=environment,
        )
    except BotoCoreError as error:
        raise StoreError(
            f"The AWS configuration cannot be used: {quoted(str(error))}",
            code="AwsConfiguration",
            scope=Scope.DESTINATION,
            hint="Look at profile and at the files ~/.aws/config and ~/.aws/credentials.",
        ) from None
    found = find(session)
    if found is None:
        raise no_credentials()
    if _is_true(s3.get("payload_signing_enabled")):
        endpoint = msgspec.structs.replace(endpoint, signs_payload=True)
    credentials = RenewedCredentials(found, usable=_usable)
    return Access(endpoint, credentials, session, credentials.renew)


def _usable(credentials: Credentials) -> Credentials:
    """Credentials that can be put into a header; a line break at the end is an easy mistake."""
    secret = credentials.secret_key
    if secret != secret.strip() or any(character < " " or character == "\x7f" for character in secret):
        raise StoreError(
            "The secret key in use begins or ends with a space or a line break, or holds a control character.",
            code="InvalidCredentials",
            scope=Scope.DESTINATION,
            hint="Look at AWS_SECRET_ACCESS_KEY, or where the credentials come from: a file was perhaps read with "
            "its last line break.",
        )
    for name, value in (("access key", credentials.access_key), ("session token", credentials.token)):
        if not _CREDENTIAL.fullmatch(value):
            raise StoreError(
                f"The {name} in use holds a character that none can have, a space or a line break for example.",
                code="InvalidCredentials",
                scope=Scope.DESTINATION,
                hint="Look at AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or where the credentials come from.",
            )
    return credentials
