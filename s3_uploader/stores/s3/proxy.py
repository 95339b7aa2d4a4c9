"""The HTTP proxy on the way to an endpoint: its URL, and the hosts that are reached without it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.text import SERVER_URL

if TYPE_CHECKING:
    import ipaddress


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy, chosen from ``HTTPS_PROXY`` and ``NO_PROXY`` by the rules of ``urllib.request`` and botocore.

    :param authorization: the header that it requires, or empty.
    """

    host: str
    port: int
    authorization: str = ""


def find_proxy(setting: str) -> Proxy | None:
    """The proxy of a setting; ``None`` if there is none, or its URL is not supported."""
    found = re.match(SERVER_URL, setting)
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
    if not setting or (setting.lower().startswith("http://") and re.match(SERVER_URL, setting)):
        return ""
    return f"the proxy is not an http proxy ({setting.partition('://')[0]})"


def bypasses(host: str, port: int, environment: Mapping[str, str]) -> bool:
    """Whether ``NO_PROXY`` names this host."""
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
