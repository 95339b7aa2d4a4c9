"""Which HTTP proxy is on the way to an endpoint."""

from __future__ import annotations

import pytest

from s3_uploader.stores.s3.endpoint import proxy_setting
from s3_uploader.stores.s3.proxy import find_proxy


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"http_proxy": "http://proxy:3128"}, ("proxy", 3128)),
        ({"HTTP_PROXY": "proxy:3128"}, ("proxy", 3128)),
        ({"HTTP_PROXY": "http://proxy:3128", "REQUEST_METHOD": "GET"}, None),
        ({"http_proxy": "", "HTTP_PROXY": "http://proxy:3128"}, None),
        ({"https_proxy": "http://proxy:3128"}, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "other, .example.com"}, None),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "example.com:9000"}, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "ample.com"}, ("proxy", 3128)),
    ],
)
def test_which_proxy_is_used(environment: dict[str, str], expected: tuple[str, int] | None) -> None:
    """The usual variables count, in the way they do for everybody else."""
    proxy = find_proxy(proxy_setting("s3.example.com", 9000, tls=False, environment=environment))
    assert (proxy and (proxy.host, proxy.port)) == expected


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "192.168.0.0/16, 10.1.2.3/32", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[2001:db8::1]", "2001:db8::/32", True),
        ("[2001:db8::1]", "[2001:db8::]/32", True),
        ("[2001:db9::1]", "[2001:db8::]/32", False),
        ("10.1.2.3", "localhost 10.0.0.0/8 .example.com", True),
        ("s3.example.com", "localhost\t.example.com", True),
        ("s3.example.com", "localhost .example", False),
        ("[2001:db8::1]", "2001:DB8:0::1", True),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("[2001:db8::1]", "[2001:db8::1]:9000", True),
        ("[2001:db8::1]", "[2001:db8::1]:9001", False),
        ("s3.example.com", "*.example.com", True),
        ("s3.example.com", "s3.example.com:443", False),
        ("s3.example.com", "10.0.0.0/8,nonsense/99,/", False),
    ],
)
def test_hosts_that_need_no_proxy(host: str, no_proxy: str, direct: bool) -> None:
    """Names, ports, addresses in any spelling, and networks are known in NO_PROXY, as curl knows them."""
    environment = {"http_proxy": "http://proxy:3128", "no_proxy": no_proxy}
    assert (find_proxy(proxy_setting(host, 9000, tls=False, environment=environment)) is None) == direct


def test_a_proxy_may_want_a_password() -> None:
    """Name and password of the proxy's URL become its header."""
    proxy = find_proxy(proxy_setting("h", 80, tls=False, environment={"http_proxy": "http://me:p%40ss@proxy"}))
    assert proxy is not None
    assert proxy.authorization == "Basic bWU6cEBzcw=="
