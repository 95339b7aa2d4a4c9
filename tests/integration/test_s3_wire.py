"""What the S3 store makes of servers, proxies and networks that misbehave on the wire, with every engine."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from s3_uploader.core.errors import Scope, StoreError, UploadCancelled
from s3_uploader.core.model import Proof
from s3_uploader.stores.s3.endpoint import Access
from s3_uploader.stores.s3.engines.base import Engine, EngineSettings
from s3_uploader.stores.s3.engines.native import make_engine
from s3_uploader.stores.s3.waiting import EventLoop
from tests.contracts.store_contract import pattern
from tests.integration.s3_raw_server import RawRequest, RawServer
from tests.integration.s3_support import MEBIBYTE, PATIENCE, Known, Station, nothing_leaks
from tests.servers.fixtures import MakeFaultServer
from tests.servers.process import free_ports


def settings(**changes: float) -> Callable[..., Engine]:
    """Make engines with other settings: ``silence_seconds`` is no key of the configuration."""

    def make(access: Access, name: str, given: EngineSettings, notice: Callable[[str, str], None]) -> Engine:
        import msgspec

        return make_engine(access, name, msgspec.structs.replace(given, **changes), notice)  # type: ignore[arg-type]

    return make


SetAddresses = Callable[..., None]


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> SetAddresses:
    """Gives every name these addresses."""

    def give(*found: tuple[str, int]) -> None:
        entries = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in found]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)

    return give


def etag_of(request: RawRequest) -> bytes:
    """The header that proves the upload."""
    return b'ETag: "%s"\r\n' % hashlib.md5(request.body).hexdigest().encode()


UNUSUAL: dict[str, Callable[[RawRequest], bytes]] = {
    "100 before": lambda request: b"HTTP/1.1 100 Continue\r\n\r\n" + request.good(),
    "102 and 103 before": lambda request: (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>; rel=preload\r\n\r\n" + request.good()
    ),
    "chunked": lambda request: (
        b"HTTP/1.1 200 OK\r\n" + etag_of(request) + b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\n<x/>\r\n0\r\n\r\n"
    ),
    "chunked with a trailer": lambda request: (
        b"HTTP/1.1 200 OK\r\n" + etag_of(request) + b"Transfer-Encoding: chunked\r\n\r\n4\r\n<x/>\r\n0\r\nA: b\r\n\r\n"
    ),
    "connection close": lambda request: request.good("Connection: close\r\n"),
    "no reason": lambda request: b"HTTP/1.1 200 \r\n" + etag_of(request) + b"Content-Length: 0\r\n\r\n",
    "many headers": lambda request: request.good("".join(f"X-Header-{n}: {'x' * 200}\r\n" for n in range(50))),
    "odd header case and space": lambda request: (
        b"HTTP/1.1 200 OK\r\neTaG:   " + etag_of(request)[6:-2] + b"  \r\nCONTENT-LENGTH:0\r\n\r\n"
    ),
    "a length twice": lambda request: request.good("Content-Length: 0\r\n"),
    "a length as a list": lambda request: b"HTTP/1.1 200 OK\r\n" + etag_of(request) + b"Content-Length: 0, 0\r\n\r\n",
    "a folded header": lambda request: request.good("X-Folded: a\r\n b\r\n\tc\r\n"),
    "no content": lambda request: b"HTTP/1.1 204 No Content\r\n" + etag_of(request) + b"\r\n",
}

UNTIL_CLOSE: dict[str, Callable[[RawRequest], bytes]] = {
    "HTTP/1.0": lambda request: b"HTTP/1.0 200 OK\r\n" + etag_of(request) + b"Content-Length: 0\r\n\r\n",
    "a body without a length": lambda request: b"HTTP/1.1 200 OK\r\n" + etag_of(request) + b"\r\n<x/>",
}

BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": b"220 ftp.example.com ready\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "status 999": b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n0123456789",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    "a length of 5000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
    "a length in superscript": b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nthis is no header\r\nContent-Length: 0\r\n\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X-Header: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n" * 20_000,
    "a chunk that is too short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello\r\n0\r\n\r\n",
    "a chunk size that is no number": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a chunk size in superscript": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\xb2\r\nhe\r\n0\r\n\r\n",
    "a body that is cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    "an error document that is cut": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n<Error><Code>Acc",
    "entities out of range": (
        b"HTTP/1.1 400 Bad\r\nContent-Length: 55\r\n\r\n<Error><Code>&#x7fffffffffff;&#99999999;</Code></Error>"
    ),
    "an XML bomb": (
        b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n<!DOCTYPE a [<!ENTITY b '&b;&b;'>]><Error>&b;</Error>"
    ),
    "a date in the year 99999": (
        b"HTTP/1.1 503 Slow Down\r\nRetry-After: Sun, 06 Nov 99999 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"
    ),
    "a date in the year 0": (
        b"HTTP/1.1 503 Slow Down\r\nRetry-After: Sun, 06 Nov 0000 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"
    ),
    "an endless pause": b"HTTP/1.1 503 Slow Down\r\nRetry-After: " + b"9" * 400 + b"\r\nContent-Length: 0\r\n\r\n",
    "a clock beyond reason": (
        b"HTTP/1.1 403 Forbidden\r\nDate: Sun, 06 Nov 99999 08:49:37 GMT\r\nContent-Length: 48\r\n\r\n"
        b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    ),
}


def test_a_bug_in_the_loop(
    station: Station, make_fault_server: MakeFaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the engine ends the run and is named: nobody interrupted it, and no file is to blame."""

    def broken(loop: EventLoop) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(EventLoop, "_loop", broken)
    store = station.store(make_fault_server().endpoint, "native")
    for key in ("first", "second"):
        error = station.begin(store, key, b"content").exception(PATIENCE)
        assert isinstance(error, StoreError)
        assert (error.code, error.scope) == ("EngineFailed", Scope.DESTINATION)
        assert "a bug" in error.message


class TestAnswers:
    @pytest.mark.parametrize("name", [*UNUSUAL, *UNTIL_CLOSE])
    def test_unusual_answers_are_understood(self, engine: str, station: Station, name: str) -> None:
        """Whatever form an answer takes that HTTP allows, the upload is proven by it, and so is the next one."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            if name in UNUSUAL:
                return UNUSUAL[name](request)
            connection.sendall(UNTIL_CLOSE[name](request))
            return None

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            for number in range(3):
                receipt = station.put(store, f"key-{number}", pattern(100, str(number)))
                assert receipt.proof is Proof.MD5
        assert [request.method for request in server.requests] == ["PUT"] * 3

    def test_an_interim_answer_is_none(self, engine: str, station: Station) -> None:
        """What comes after an interim answer belongs to the same request: a refusal is no other file's answer."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes:
            early = b"HTTP/1.1 103 Early Hints\r\nLink: </>; rel=preload\r\n\r\n"
            if request.key == "refused":
                return early + b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
            return early + request.good()

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known(), max_concurrency=1)
            assert station.put(store, "first", b"content").proof is Proof.MD5
            assert station.error(store, "refused", b"content").code == "400"
            assert station.put(store, "second", b"content").proof is Proof.MD5

    def test_an_answer_byte_by_byte(self, engine: str, station: Station) -> None:
        """An answer that trickles in is as good as one that comes at once."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            good = b"HTTP/1.1 100 Continue\r\n\r\n" + request.good("Transfer-Encoding: chunked\r\n").replace(
                b"Content-Length: 0\r\n", b""
            )
            for byte in good + b"4\r\n<x/>\r\n0\r\n\r\n":
                connection.sendall(bytes([byte]))
            return b""

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            assert station.put(store, "key", b"content").proof is Proof.MD5

    @pytest.mark.parametrize("name", BROKEN)
    def test_broken_answers_cost_one_file(self, engine: str, station: Station, name: str) -> None:
        """An answer that is none proves nothing and does no harm to the uploads that come after it."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            if request.key == "good":
                return request.good()
            connection.sendall(BROKEN[name])
            connection.shutdown(socket.SHUT_WR)
            return None

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            error = station.error(store, "bad", b"content", seconds=20)
            assert not isinstance(error, UploadCancelled), error
            assert station.put(store, "good", b"content").proof is Proof.MD5

    @pytest.mark.parametrize(
        "length", [b"\xb2", b"1" * 5000, b"-3", b"", b"7, 7"], ids=["superscript", "digits", "minus", "empty", "twice"]
    )
    def test_a_look_at_an_object_with_a_strange_length(self, engine: str, station: Station, length: bytes) -> None:
        """A HEAD whose length makes no sense is no proof, and nothing stops working for it."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            if request.key == "good":
                return request.good()
            if request.method == "PUT":
                return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b'\r\nETag: "x"\r\n\r\n')
            return None

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            station.error(store, "bad", b"content", seconds=20)
            assert station.put(store, "good", b"content").proof is Proof.MD5

    @pytest.mark.parametrize("hostile", [b"abc\ndef", b"abc\rdef", b"abc\0def", b"abc\x0bdef"])
    def test_an_etag_with_control_characters(self, engine: str, station: Station, hostile: bytes) -> None:
        """What a server says never ends up as a line of its own in a later request."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            if request.method == "PUT":
                return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "' + hostile + b'"\r\n\r\n')
            return None

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            station.error(store, "key", b"content", seconds=20)
        assert server.errors == []
        assert not any(name.startswith("def") for request in server.requests for name in request.headers)

    def test_an_early_answer_is_heard(self, engine: str, station: Station) -> None:
        """A server that refuses an upload before it has read the body, and hangs up, is understood all the same."""
        document = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        refusal = (
            b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(document) + document
        )

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            connection.sendall(refusal)
            # Bytes that were not read turn this close into a reset.
            time.sleep(0.1)
            return None

        with RawServer(answer, early=True) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            error = station.error(store, "key", pattern(4 * MEBIBYTE))
            assert error.code == "AccessDenied"
            assert error.scope is Scope.DESTINATION
            assert len(server.requests) == 1

    @pytest.mark.parametrize("pause", [0.0, 0.05])
    def test_an_answer_too_many(self, engine: str, station: Station, pause: float) -> None:
        """A second answer to one request is never taken for the answer to the next one."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            if pause:
                connection.sendall(request.good())
                time.sleep(pause)
                connection.sendall(request.good())
                return b""
            return request.good() * 2

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            for number in range(4):
                content = pattern(100, str(number))
                receipt = station.put(store, f"key-{number}", content)
                assert receipt.etag == hashlib.md5(content).hexdigest()
                time.sleep(2 * pause)

    def test_a_timeout_that_is_told_to_an_idle_connection(self, engine: str, station: Station) -> None:
        """A server that says 408 to a connection that rests, and closes it, disturbs nobody."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            connection.sendall(request.good())
            time.sleep(0.05)
            connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return None

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            for number in range(4):
                station.put(store, f"key-{number}", b"content")
                time.sleep(0.1)


class TestConnections:
    @pytest.mark.parametrize("moment", ["after the answer", "with the request"])
    @pytest.mark.parametrize("reset", [False, True])
    def test_connections_that_the_server_closes_between_requests(
        self, engine: str, station: Station, moment: str, *, reset: bool
    ) -> None:
        """A connection that the server has closed meanwhile costs nothing: the request goes over another one."""
        abrupt = struct.pack("ii", 1, 0)

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abrupt)
            if moment == "with the request":
                first = sum(other.connection == request.connection for other in server.requests) == 1
                return request.good() if first else None
            connection.sendall(request.good())
            return None

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            for number in range(6):
                assert station.put(store, f"key-{number}", b"content").proof is Proof.MD5
            if engine == "native" or moment == "after the answer":
                futures = [station.begin(store, f"more-{number}", b"content") for number in range(20)]
                assert [future.exception(PATIENCE) for future in futures] == [None] * 20

    def test_a_server_that_takes_nothing(self, engine: str, station: Station) -> None:
        """A server that accepts a connection and reads nothing is given up at the deadline, also within a body."""
        release = threading.Event()

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            release.wait(PATIENCE)
            return None

        with RawServer(answer, early=True) as server:
            store = station.store(server.endpoint, engine, memory=Known(), multipart_threshold=64 * MEBIBYTE)
            began = time.monotonic()
            error = station.error(store, "key", pattern(16 * MEBIBYTE), seconds=1.0)
            assert isinstance(error, UploadCancelled)
            assert error.code == "DeadlineExceeded"
            assert time.monotonic() - began < 4
            release.set()

    def test_a_server_that_falls_silent(self, engine: str, station: Station) -> None:
        """After so long without a byte in either direction a request counts as failed and is tried again."""
        release = threading.Event()

        def answer(request: RawRequest, connection: socket.socket) -> bytes | None:
            if request.number == 0:
                release.wait(PATIENCE)
                return None
            return request.good()

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known(), make_engine=settings(silence_seconds=1.0))
            began = time.monotonic()
            assert station.put(store, "key", b"content").proof is Proof.MD5
            assert 0.9 < time.monotonic() - began < 6
            release.set()

    def test_nobody_listens(self, engine: str, station: Station) -> None:
        """A refused connection is everybody's problem, found out within seconds."""
        (port,) = free_ports()
        with RawServer(lambda request, connection: None) as server:
            endpoint = server.endpoint.replace(endpoint_url=f"http://127.0.0.1:{port}")
            store = station.store(endpoint, engine)
            began = time.monotonic()
            futures = [station.begin(store, f"key-{number}", b"content") for number in range(10)]
            for future in futures:
                error = future.exception(PATIENCE)
                assert isinstance(error, StoreError)
                assert error.code == "ConnectionFailed"
                assert error.scope is Scope.DESTINATION
                assert error.hint
            assert time.monotonic() - began < 15

    def test_a_name_that_does_not_exist(self, engine: str, station: Station) -> None:
        """A name that cannot be resolved is everybody's problem, found out within seconds."""
        with RawServer(lambda request, connection: None) as server:
            endpoint = server.endpoint.replace(endpoint_url="http://no-such-host.invalid")
            store = station.store(endpoint, engine)
            error = station.error(store, "key", b"content")
            assert error.code == "NameResolutionFailed"
            assert error.scope is Scope.DESTINATION

    def test_ipv6(self, engine: str, station: Station) -> None:
        """An endpoint may be an IPv6 address."""
        try:
            server = RawServer(lambda request, connection: request.good(), host="::1")
        except OSError as error:
            pytest.skip(f"this machine has no IPv6: {error}")
        with server:
            store = station.store(server.endpoint, engine, memory=Known())
            assert station.put(store, "key", b"content").proof is Proof.MD5
            assert server.requests[0].headers["host"] == f"[::1]:{server.port}"

    def test_one_of_several_addresses_refuses(self, engine: str, station: Station, addresses: SetAddresses) -> None:
        """Where one address of a name refuses connections, the next one is taken."""
        (dead,) = free_ports()
        with RawServer(lambda request, connection: request.good()) as server:
            addresses(("127.0.0.1", dead), ("127.0.0.1", server.port), ("127.0.0.1", dead))
            store = station.store(server.endpoint_at("s3.example.com"), engine, memory=Known())
            futures = [station.begin(store, f"key-{number}", b"content") for number in range(9)]
            assert [future.exception(PATIENCE) for future in futures] == [None] * 9

    def test_one_of_several_addresses_does_not_answer(
        self, engine: str, station: Station, addresses: SetAddresses
    ) -> None:
        """Where one address of a name does not answer at all, the next one is tried long before the connect timeout."""
        with black_hole() as dead, RawServer(lambda request, connection: request.good()) as server:
            addresses(dead, ("127.0.0.1", server.port), dead)
            endpoint = server.endpoint_at("s3.example.com")
            store = station.store(endpoint, engine, memory=Known(), connect_timeout_seconds=20)
            began = time.monotonic()
            futures = [station.begin(store, f"key-{number}", b"content") for number in range(9)]
            assert [future.exception(PATIENCE) for future in futures] == [None] * 9
            assert time.monotonic() - began < 15

    def test_none_of_several_addresses_answers(self, engine: str, station: Station, addresses: SetAddresses) -> None:
        """All addresses of a name together have one connect timeout."""
        with black_hole() as one, black_hole() as two, black_hole() as three, RawServer(lambda *_: None) as server:
            addresses(one, two, three)
            endpoint = server.endpoint_at("s3.example.com")
            store = station.store(endpoint, engine, connect_timeout_seconds=4)
            began = time.monotonic()
            error = station.error(store, "key", b"content")
            assert (error.code, error.scope) == ("ConnectTimeout", Scope.DESTINATION)
            assert time.monotonic() - began < 10

    def test_no_address_answers(self, engine: str, station: Station) -> None:
        """A server behind a firewall that drops packets is everybody's problem after one connect timeout."""
        with black_hole() as (host, port), RawServer(lambda request, connection: None) as server:
            endpoint = server.endpoint.replace(endpoint_url=f"http://{host}:{port}")
            store = station.store(endpoint, engine, connect_timeout_seconds=1)
            began = time.monotonic()
            error = station.error(store, "key", b"content")
            assert error.code == "ConnectTimeout"
            assert error.scope is Scope.DESTINATION
            assert time.monotonic() - began < 5


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address whose packets are dropped: the kernel ignores a SYN while the queue of a listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()


class TestLeaks:
    def test_nothing_is_left_of_a_store(self, engine: str, make_fault_server: MakeFaultServer) -> None:
        """After close() there are neither threads nor descriptors of the store, whatever was cancelled before."""
        server = make_fault_server()
        with Station() as station:
            # What is imported and cached the first time stays.
            station.put(station.store(server.endpoint, engine), "first", b"x")
        with nothing_leaks():
            for round_number in range(3):
                with Station() as station:
                    store = station.store(server.endpoint, engine)
                    station.put(store, f"{round_number}", b"x")
                    futures = [
                        station.begin(store, f"{round_number}/{number}", pattern(200_000, str(number)))
                        for number in range(20)
                    ]
                    if round_number:
                        store.cancel()
                    for future in futures:
                        error = future.exception(PATIENCE)
                        assert error is None or isinstance(error, UploadCancelled)
                    store.close(timeout=5)

    def test_connections_do_not_pile_up(self, engine: str, station: Station) -> None:
        """Uploads one after the other use the connection that is there."""
        with RawServer(lambda request, connection: request.good()) as server:
            store = station.store(server.endpoint, engine, memory=Known())
            for number in range(30):
                station.put(store, f"key-{number}", b"content")
            assert server.connections == 1
            futures = [station.begin(store, f"more-{number}", b"content") for number in range(200)]
            assert [future.exception(PATIENCE) for future in futures] == [None] * 200
            assert server.connections <= 200

    def test_never_more_connections_than_allowed(self, engine: str, station: Station) -> None:
        """max_concurrency is a limit of the connections, too."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes:
            time.sleep(0.005)
            return request.good()

        with RawServer(answer) as server:
            store = station.store(server.endpoint, engine, memory=Known(), max_concurrency=3)
            futures = [station.begin(store, f"key-{number}", b"content") for number in range(60)]
            assert [future.exception(PATIENCE) for future in futures] == [None] * 60
            assert server.connections <= 3
