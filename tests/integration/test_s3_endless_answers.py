"""S3 servers that never come to an end: every deadline holds, and memory stays what it was."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from s3_uploader.core.errors import Scope
from s3_uploader.remote_store import RemoteConnectionError, RemoteStore
from s3_uploader.stores.retry import RetryPolicy
from tests.contracts.store_contract import pattern
from tests.integration.remote_support import connect
from tests.integration.s3_raw_server import RawRequest, RawServer
from tests.integration.s3_support import ENGINES, PART, PATIENCE, Known, Station
from tests.servers.base import S3Endpoint
from tests.servers.fault_script import hang
from tests.servers.fixtures import MakeFaultServer

pytestmark = pytest.mark.parametrize("engine", ENGINES)

SECONDS = 1.5
"""The deadline of an upload in these tests,"""
TOLERANCE = 2.0
"""and so much later it is over at the latest."""
GIVEN_UP = 6.0
"""Seconds in which a cancelled upload is over; two of them are its own, the others are for a busy machine."""
CHUNKED = b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000),
    "other interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 3000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 10_000),
    "one header": (b"HTTP/1.1 200 OK\r\na: ", b"b" * 65536),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "an error without a length": (b"HTTP/1.1 503 X\r\n\r\n", b"x" * 65536),
    "a long body": (b"HTTP/1.1 503 X\r\nContent-Length: 999999999999\r\n\r\n", b"x" * 65536),
    "chunks of one byte": (CHUNKED, b"1\r\nx\r\n" * 10_000),
    "one chunk": (CHUNKED + b"fffffffff\r\n", b"x" * 65536),
    "extensions": (CHUNKED, b"1;" + b"x" * 500 + b"\r\nx\r\n"),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
}
DRIPS: dict[str, tuple[bytes, bytes]] = {
    "a head": (b"HTTP/1.1 200 OK\r\na: ", b"b"),
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.fixture
def station() -> Iterator[Station]:
    """Stores that are closed in the end."""
    with Station() as station:
        yield station


def endless(begin: bytes, more: bytes, *, pause: float = 0.0) -> Callable[[RawRequest, socket.socket], bytes | None]:
    """Answer every write with something that has no end."""

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        if request.method != "PUT":
            return request.good()
        connection.sendall(begin)
        ends_at = time.monotonic() + 20
        while time.monotonic() < ends_at:
            connection.sendall(more)
            time.sleep(pause)
        return None

    return answer


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood(engine: str, station: Station, name: str) -> None:
    """An answer that always has more bytes ends with the upload's deadline at the latest, and is not kept."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RawServer(endless(*FLOODS[name])) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        began = time.monotonic()
        station.error(store, "key", pattern(1000), seconds=SECONDS)
        assert time.monotonic() - began < SECONDS + TOLERANCE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


@pytest.mark.parametrize("name", DRIPS)
def test_a_drip(engine: str, station: Station, name: str) -> None:
    """A byte now and then is no reason to wait longer than an upload may take."""
    with RawServer(endless(*DRIPS[name], pause=0.05)) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        began = time.monotonic()
        station.error(store, "key", pattern(1000), seconds=SECONDS)
        assert time.monotonic() - began < SECONDS + TOLERANCE


def test_closing_does_not_wait_for_an_answer(engine: str, station: Station) -> None:
    """What is in flight is given up soon, although the server is silent and there would be more time."""
    quiet = threading.Event()

    def silent(request: RawRequest, connection: socket.socket) -> bytes | None:
        quiet.wait(60)
        return None

    with RawServer(silent) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        upload = station.begin(store, "key", pattern(1000), seconds=60)
        while not server.requests:
            time.sleep(0.01)
        began = time.monotonic()
        store.cancel()
        store.close(timeout=20)
        assert upload.exception(10) is not None
        assert time.monotonic() - began < GIVEN_UP
        quiet.set()


@pytest.mark.parametrize("silent", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_giving_up_a_large_file_does_not_wait_either(
    engine: str, station: Station, make_fault_server: MakeFaultServer, silent: str
) -> None:
    """A server that answers neither the upload nor the request to drop its parts is not waited for."""
    server = make_fault_server()
    server.faults.add(hang().only(operations=(silent, "AbortMultipartUpload"), times=None))
    store = station.store(server.endpoint, engine, memory=Known())
    upload = station.begin(store, "key", pattern(PART + 1), seconds=60)
    while not server.requests_of(silent):
        time.sleep(0.01)
    began = time.monotonic()
    store.cancel()
    store.close(timeout=20)
    assert upload.exception(10) is not None
    assert time.monotonic() - began < GIVEN_UP


def test_a_completion_that_is_never_answered(engine: str, station: Station, make_fault_server: MakeFaultServer) -> None:
    """Parts that are joined without an answer end with the deadline, and the next try delivers the file."""
    server = make_fault_server()
    server.faults.add(hang().only(operations=("CompleteMultipartUpload", "AbortMultipartUpload"), times=None))
    store = station.store(server.endpoint, engine, memory=Known())
    content = pattern(PART + 1)
    seconds = 4.0
    began = time.monotonic()
    refusal = station.error(store, "key", content, seconds=seconds)
    assert seconds - 1.0 < time.monotonic() - began < seconds + GIVEN_UP
    assert refusal.code == "DeadlineExceeded"
    server.faults.clear()
    assert station.put(store, "key", content).size == len(content)
    assert server.objects()["key"] == content


def test_others_get_their_turn(engine: str, station: Station) -> None:
    """While some servers' connections never fall silent, the other files come through."""
    flood = endless(CHUNKED, b"1\r\nx\r\n" * 500, pause=0.002)
    patient = RetryPolicy(max_attempts=1000, base_pause=0.02, max_pause=0.1, max_total=PATIENCE)

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        return flood(request, connection) if request.key.startswith("bad") else request.good()

    with RawServer(answer) as server:
        store = station.store(server.endpoint, engine, memory=Known(), retry=patient)
        bad = [station.begin(store, f"bad-{number}", pattern(100), seconds=2 * PATIENCE) for number in range(4)]
        for number in range(5):
            station.put(store, f"good-{number}", pattern(100))
        assert not any(future.done() for future in bad)
        store.cancel()
        assert all(future.exception(10) is not None for future in bad)


@pytest.mark.parametrize("status", [b"403 Forbidden", b"503 Slow Down"])
def test_an_error_that_says_a_lot(engine: str, station: Station, status: bytes) -> None:
    """What the error is stands at the beginning of its document, however long that is; it is asked for once."""
    sent = threading.Event()

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        if request.method != "PUT":
            return request.good()
        body = b"<Error><Code>AccessDenied</Code><Message>" + b"A" * 5_000_000 + b"</Message></Error>"
        sent.set()
        return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body

    with RawServer(answer) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        error = station.error(store, "key", pattern(1000), seconds=30)
    assert sent.is_set()
    assert error.code == "AccessDenied"


def test_a_compressed_error(engine: str, station: Station) -> None:
    """A document that a proxy has compressed without being asked says no more than its status, and is not unpacked.

    The status alone has a plain name asked for; that is answered, so a permission is missing.
    """
    import gzip

    body = gzip.compress(b"<Error><Code>AccessDenied</Code></Error>" + b"x" * 50_000_000)

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        head = b"HTTP/1.1 403 X\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        return head + body if request.method == "PUT" else request.good()

    with RawServer(answer) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error = station.error(store, "key", pattern(1000), seconds=30)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024
    assert "403" in error.message
    assert (error.code, error.scope) == ("AccessDenied", Scope.DESTINATION)
    assert "a permission is missing" in error.hint


def dripping(begin: bytes) -> Callable[[socket.socket], None]:
    """Say how it begins, and then a byte now and then."""

    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(begin)
            while True:
                connection.sendall(b"a")
                time.sleep(0.05)

    return talk


@contextlib.contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which everybody is talked to like that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port: int = listener.getsockname()[1]
        yield port
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ["tls", "proxy"])
def test_a_connection_that_is_never_made(engine: str, station: Station, kind: str) -> None:
    """A handshake, or a proxy's leave, that comes byte by byte takes no longer than connecting may."""
    begin = b"\x16\x03\x03\x40\x00" if kind == "tls" else b"HTTP/1.1 200 OK\r\nX: "
    with listening(dripping(begin)) as port:
        endpoint = S3Endpoint(endpoint_url=f"https://127.0.0.1:{port}", access_key="A", secret_key="B", bucket="bucket")
        environment = endpoint.environment()
        if kind == "proxy":
            environment = {**environment, "AWS_ENDPOINT_URL": "https://s3.example.com"}
            environment["HTTPS_PROXY"] = f"http://127.0.0.1:{port}"
        with pytest.MonkeyPatch.context() as patch:
            # botocore asks the process.
            for name, value in environment.items():
                patch.setenv(name, value)
            retry = RetryPolicy(max_attempts=1)
            store = station.store(
                environment, engine, bucket="bucket", connect_timeout_seconds=1, retry=retry, memory=Known()
            )
            began = time.monotonic()
            error = station.error(store, "key", pattern(1000))
        assert time.monotonic() - began < 1 + TOLERANCE
    assert error.code == {"tls": "ConnectTimeout", "proxy": "ProxyFailed"}[kind]


def test_a_redirect_is_not_followed(engine: str, station: Station) -> None:
    """Nobody is given a signature because another server names him; which one it would be is told."""

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        return b"HTTP/1.1 307 X\r\nLocation: https://s3.example.com/bucket/key\r\nContent-Length: 0\r\n\r\n"

    with RawServer(answer) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        error = station.error(store, "key", pattern(1000))
        assert len(server.requests) == 1
    assert error.scope is Scope.DESTINATION
    assert "set endpoint_url to it (https://s3.example.com" in error.hint


def test_another_region_in_the_signature(engine: str, station: Station) -> None:
    """A server that names its region is signed for in that region; it is the same server."""

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        if "/garage/s3/" in request.headers["authorization"]:
            return request.good()
        body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>garage</Region></Error>"
        return b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    with RawServer(answer) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        station.put(store, "key", pattern(1000))
        station.put(store, "other", pattern(1000))
        assert len(server.requests) == 3
    assert ("info", "The bucket is in garage. Set region to that to avoid a redirect.") in station.notices


def test_a_server_that_sends_us_in_circles(engine: str, station: Station) -> None:
    """A region that is named again after we went there is an error with that region, after two requests."""

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        return b"HTTP/1.1 301 X\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n"

    with RawServer(answer) as server:
        store = station.store(server.endpoint, engine, memory=Known())
        error = station.error(store, "key", pattern(1000))
        assert len(server.requests) == 2
    assert error.scope is Scope.DESTINATION
    assert "eu-west-1" in error.hint


READ = {
    "a body": (b"Content-Length: 1000\r\n\r\n", b"x"),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a body without a length": (b"\r\n", b"x"),
}


def reading(engine: str, server: RawServer) -> tuple[bytes | None, float]:
    """What the object API reads with a timeout of a second, and how long that takes."""
    began = time.monotonic()
    with connect(server.endpoint, engine=engine, timeout_seconds=1) as connection:
        try:
            return RemoteStore(connection).read_bytes("key"), time.monotonic() - began
        except RemoteConnectionError:
            return None, time.monotonic() - began


@pytest.mark.parametrize("name", READ)
def test_an_object_that_drips(engine: str, name: str) -> None:
    """It has the time for the bytes that its answer promises, and not for those that were asked for."""
    begin, more = READ[name]

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "' + b"a" * 32 + b'"\r\n' + begin)
        ends_at = time.monotonic() + 20
        while time.monotonic() < ends_at:
            connection.sendall(more)
            time.sleep(0.05)
        return None

    with RawServer(answer) as server:
        body, seconds = reading(engine, server)
    assert body is None
    assert seconds < 1 + 2 * TOLERANCE


def test_an_object_on_a_slow_line(engine: str) -> None:
    """It comes in although it takes three times the timeout."""
    content = pattern(100_000)

    def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
        etag = hashlib.md5(content).hexdigest()
        connection.sendall(f'HTTP/1.1 200 OK\r\nETag: "{etag}"\r\nContent-Length: {len(content)}\r\n\r\n'.encode())
        for first in range(0, len(content), 5000):
            time.sleep(0.15)
            connection.sendall(content[first : first + 5000])
        return None

    with RawServer(answer) as server:
        body, seconds = reading(engine, server)
    assert body == content
    assert seconds > 2.5
