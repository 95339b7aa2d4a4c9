"""The server of metrics: what it answers, and that nobody who connects to it can hold it up."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from s3_uploader.core.errors import UploaderError
from s3_uploader.monitoring.metrics import server as metrics_server
from s3_uploader.monitoring.metrics.server import MOST_CONNECTIONS, ListenAddress, MetricsServer, parse_address

HOST = "127.0.0.1"


class Numbers:
    """What is served."""

    def __init__(self) -> None:
        self.text = "answer 42\n"
        self.silence = 1.0
        self.error: Exception | None = None

    def metrics(self) -> str:
        """The text of /metrics."""
        if self.error is not None:
            raise self.error
        return self.text


@pytest.fixture
def numbers() -> Numbers:
    """Numbers that a test may change."""
    return Numbers()


@pytest.fixture
def server(numbers: Numbers) -> Iterator[MetricsServer]:
    """A server on a free port."""
    server = MetricsServer(ListenAddress(HOST, 0), metrics=numbers.metrics, seconds_since_beat=lambda: numbers.silence)
    server.start()
    yield server
    server.close()


def get(server: MetricsServer, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    """Status, type and body of an answer."""
    request = urllib.request.Request(server.url.removesuffix("/metrics") + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def connected(server: MetricsServer) -> socket.socket:
    """A connection over which nothing has been said."""
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    return socket.create_connection((HOST, port), timeout=10)


def answer_to(server: MetricsServer, request: bytes) -> bytes:
    """All that is answered to some bytes."""
    with connected(server) as channel:
        channel.sendall(request)
        return b"".join(iter(lambda: channel.recv(65536), b""))


def test_pages(server: MetricsServer, numbers: Numbers) -> None:
    """Metrics in Prometheus's own type, a health page, a page that points to both, and nothing else."""
    assert get(server) == (200, "text/plain; version=0.0.4; charset=utf-8", "answer 42\n")
    assert get(server, "/metrics?x=1")[0] == 200
    assert get(server, method="HEAD") == (200, "text/plain; version=0.0.4; charset=utf-8", "")
    assert get(server, "/healthz")[::2] == (200, "ok\n")
    numbers.silence = 99.0
    status, _, text = get(server, "/healthz")
    assert (status, text) == (503, "The watch has given no sign of life for 99 s.\n")
    status, kind, text = get(server, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert 'href="/metrics"' in text
    assert get(server, "/elsewhere")[0] == 404
    assert get(server, method="POST")[0] == 405


def test_an_error_costs_one_answer(server: MetricsServer, numbers: Numbers) -> None:
    """A bug in what is served is told to the one who asked, and the next one is answered."""
    numbers.error = RuntimeError("a bug")
    assert get(server)[::2] == (500, "RuntimeError: a bug\n")
    numbers.error = None
    assert get(server)[0] == 200


def test_large_answers_and_many_scrapes_at_once(server: MetricsServer, numbers: Numbers) -> None:
    """Each of many scrapers gets the whole text, however large it is."""
    numbers.text = "x 1\n" * 500_000
    found: list[int] = []

    def scrape() -> None:
        found.append(len(get(server)[2]))

    threads = [threading.Thread(target=scrape) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [len(numbers.text)] * 12


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics SPDY/3\r\n\r\n",
        b"\r\n\r\n",
        b"GET /" + b"x" * 20_000,
        b"\0" * 9000,
    ],
)
def test_garbage(server: MetricsServer, request_bytes: bytes) -> None:
    """What is no request of HTTP is refused, and the next scrape is answered."""
    assert answer_to(server, request_bytes).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert get(server)[0] == 200


def test_a_request_may_come_in_pieces(server: MetricsServer) -> None:
    """A slow sender is answered once its request is whole."""
    with connected(server) as channel:
        for piece in (b"GET /metr", b"ics HTTP/1.1\r\nHost: x\r\n", b"\r\n"):
            channel.sendall(piece)
            get(server)
        assert channel.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_those_who_only_connect_hold_nobody_up(server: MetricsServer) -> None:
    """Any number of silent connections keeps nobody from scraping, for the oldest make room."""
    silent = [connected(server) for _ in range(2 * MOST_CONNECTIONS)]
    try:
        assert get(server)[0] == 200
        assert silent[0].recv(10) == b""
    finally:
        for channel in silent:
            channel.close()
    assert get(server)[0] == 200


def test_slow_clients_are_let_go(server: MetricsServer, numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not send its request, or does not read its answer, is dropped when its time is over."""
    monkeypatch.setattr(metrics_server, "TIMEOUT_SECONDS", 0.1)
    numbers.text = "x 1\n" * 5_000_000
    with connected(server) as silent, connected(server) as deaf:
        deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert silent.recv(10) == b""
        until = time.monotonic() + 10
        while server._connections and time.monotonic() < until:
            time.sleep(0.01)
        assert not server._connections
    numbers.text = "x 1\n"
    assert get(server)[0] == 200


def test_it_ends_at_once(numbers: Numbers) -> None:
    """Closing does not wait for those who are connected, and is possible before it was started."""
    address = ListenAddress(HOST, 0)
    MetricsServer(address, metrics=numbers.metrics, seconds_since_beat=lambda: 0).close()
    server = MetricsServer(address, metrics=numbers.metrics, seconds_since_beat=lambda: 0)
    server.start()
    with connected(server) as silent:
        get(server)
        server.close()
        assert silent.recv(10) == b""
    assert not server._thread.is_alive()


def test_a_port_that_is_taken(server: MetricsServer, numbers: Numbers) -> None:
    """A port in use, and an address that is not this machine's, are told in a sentence."""
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    for address in (ListenAddress(HOST, port), ListenAddress("192.0.2.1", 0)):
        with pytest.raises(UploaderError, match=r"Metrics cannot be served at [0-9.]+, port \d+: [a-z ]+\. "):
            MetricsServer(address, metrics=numbers.metrics, seconds_since_beat=lambda: 0)


def test_ipv6(numbers: Numbers) -> None:
    """An IPv6 address is listened to, and shown in brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    server = MetricsServer(parse_address("[::1]:0"), metrics=numbers.metrics, seconds_since_beat=lambda: 0)
    server.start()
    assert server.url.startswith("http://[::1]:")
    assert get(server)[0] == 200
    server.close()
