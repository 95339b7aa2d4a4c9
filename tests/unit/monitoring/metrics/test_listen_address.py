"""Where the metrics are to be served, as it is written on the command line."""

from __future__ import annotations

import pytest

from s3_uploader.core.errors import UsageProblem
from s3_uploader.monitoring.metrics.server import ListenAddress, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("9105", "127.0.0.1", 9105),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:9105", "0.0.0.0", 9105),
        ("localhost:80", "localhost", 80),
        ("[::1]:9105", "::1", 9105),
        ("[::]:0", "::", 0),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """A port alone is one of this machine only; an IPv6 address stands in brackets."""
    assert parse_address(text) == ListenAddress(host, port)


@pytest.mark.parametrize(
    "text", ["", "x", ":9105", "::1:9105", "65536", "host:", "host:x", "-1", "1.5", "٣", "[]:1x", "[]:80"]
)
def test_no_addresses(text: str) -> None:
    """Anything else is refused with an example of what would do."""
    with pytest.raises(UsageProblem, match=r"is not of the form \[ADDRESS:\]PORT. Write 9105"):
        parse_address(text)
