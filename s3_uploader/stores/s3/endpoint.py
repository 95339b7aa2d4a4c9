"""The endpoint of a bucket: URL, region, addressing style, certificates, and the HTTP proxy on the way to it."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import without_passwords

if TYPE_CHECKING:
    import ipaddress

DEFAULT_REGION = "us-east-1"

_VIRTUAL_BUCKET = re.compile("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_DNS_BUCKET = re.compile("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_AWS_HOST = re.compile(r"(^|\.)amazonaws\.com(\.cn)?$")
_S3_HOST = re.compile(
    r"s3[.-]|(.*\.)?(digitaloceanspaces|linodeobjects|vultrobjects|backblazeb2|wasabisys|amazonaws|cloudflarestorage"
    r"|googleapis|aliyuncs|myqcloud|your-objectstorage|upcloudobjects|contabostorage)\.com$"
)
"""Hosts that are known to accept the bucket as a prefix of the host name."""
_PUBLIC_AWS_URL = re.compile(r"https://s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?")
_REGION = re.compile("[A-Za-z0-9._-]+")
SERVER_URL = re.compile(
    r"(?P<scheme>https?)://(?:(?P<user>[^/@]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^/:?#@\s]+)"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^?#\s]*)?",
    re.I,
)
"""The URL of an HTTP server, be it a proxy or an endpoint."""


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
        return _AWS_HOST.search(self.host) is not None

    @property
    def is_found_by_region(self) -> bool:
        """Whether the region alone determines the endpoint: Amazon's own service, by its public name."""
        return not self.given or _PUBLIC_AWS_URL.fullmatch(self.url) is not None

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

    Addressing follows botocore: a configured endpoint has the bucket in the path unless the style is ``virtual``.
    Amazon's has it in the host if the name allows it (not with a dot over https, which no wildcard certificate covers).
    """
    region = region or DEFAULT_REGION
    if not _REGION.fullmatch(region):
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
        virtual = addressing_style == "virtual" and not is_address(host) and _DNS_BUCKET.fullmatch(bucket) is not None
    else:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        tls, host, port, base, doubled = True, f"s3.{region}.{suffix}", 443, "", False
        virtual = addressing_style != "path" and _VIRTUAL_BUCKET.fullmatch(bucket) is not None
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
        proxy=find_proxy(setting),
        only_boto3=special or strange_proxy(setting),
        direct=not setting,
        doubled_bucket=doubled,
    )


def _taken_apart(endpoint_url: str) -> tuple[bool, str, int, str]:
    """Parse a configured endpoint into TLS, host, port and path."""
    found = SERVER_URL.fullmatch(endpoint_url.strip())
    if found is None or int(found["port"] or 1) not in range(1, 65536):
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
    if host.startswith(f"{bucket.lower()}.") and _S3_HOST.match(rest):
        return rest, base, True
    return host, base, False


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy, chosen from ``HTTPS_PROXY`` and ``NO_PROXY`` by the rules of ``urllib.request`` and botocore.

    :param authorization: the header that it requires, or empty.
    """

    host: str
    port: int
    authorization: str = ""


def find_proxy(setting: str) -> Proxy | None:
    """The proxy of a setting; ``None`` if there is none, or its URL is not supported."""
    found = SERVER_URL.match(setting)
    if found is None:
        return None
    authorization = ""
    if found["user"]:
        import base64
        from urllib.parse import unquote

        authorization = "Basic " + base64.b64encode(unquote(found["user"]).encode()).decode()
    return Proxy(found["host"].strip("[]"), int(found["port"] or 80), authorization)


def strange_proxy(setting: str) -> str:
    """Why only botocore may support the proxy of a setting; the setting must not be ignored."""
    if not setting or (setting.lower().startswith("http://") and SERVER_URL.match(setting)):
        return ""
    return f"the proxy is not an http proxy ({setting.partition('://')[0]})"


def proxy_setting(host: str, port: int, *, tls: bool, environment: Mapping[str, str]) -> str:
    """The URL of the proxy in the environment, empty if there is none for this host."""
    name = "https_proxy" if tls else "http_proxy"
    value = environment.get(name)
    if value is None and (tls or "REQUEST_METHOD" not in environment):
        # In a CGI program HTTP_PROXY may come from a header of the request ("httpoxy"), so it is ignored there.
        value = environment.get(name.upper())
    if not value or _bypasses(host, port, environment):
        return ""
    value = value.strip()
    return value if "://" in value else f"http://{value}"


def _bypasses(host: str, port: int, environment: Mapping[str, str]) -> bool:
    import ipaddress  # imported only in runs with a proxy

    value = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    if value.strip() == "*":
        return True
    bare = host.lower().strip("[]")
    address = _address(bare)
    # Blanks separate, too, as in curl.
    for entry in value.lower().replace(",", " ").split():
        if "/" in entry and address is not None:
            # Networks, as in curl and Go; urllib does not support them.
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False):
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
    import ipaddress

    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
