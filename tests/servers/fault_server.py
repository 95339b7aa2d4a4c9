"""A scriptable S3 server that lies, stalls and fails on command, in the process of the test.

What it stores is in memory (`objects`, `stored`, `replacements`), what it was asked is recorded (`requests`,
`most_concurrent_writes`), what goes wrong is queued in `faults` with the functions of `fault_script`, and which kind of
server it is stands in `dialect`::

    with FaultServer(dialect=OLD) as server:
        server.faults.add(run_before_answer(lambda: source.write_bytes(b"changed")), slow_down().repeated(3))
        ...
        server.assert_all_used()
        assert server.objects()["bedroom/46-topic.dat"] == b"..."
"""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import email.utils
import hashlib
import secrets
import socket
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from tests.servers.base import S3Endpoint, S3Server, random_access_key, random_name
from tests.servers.certificates import make_certificates
from tests.servers.dialects import AWS, Dialect
from tests.servers.fault_errors import error_answer
from tests.servers.fault_objects import ObjectStore, Replacement, StoredObject
from tests.servers.fault_script import ActionFailed, Exchange, FaultScript
from tests.servers.fault_wire import Answer, Disconnected, HangUp, Request, Wire

_ALLOWED_SKEW_SECONDS = 15 * 60
_HOST_SUFFIXES = (".localhost", ".s3.test", ".amazonaws.com")
_SUBRESOURCES = {
    "acl": "Acl",
    "attributes": "Attributes",
    "legal-hold": "LegalHold",
    "lifecycle": "LifecycleConfiguration",
    "object-lock": "LockConfiguration",
    "policy": "Policy",
    "retention": "Retention",
    "tagging": "Tagging",
    "versioning": "Versioning",
}

_GLANCE_SECONDS = 0.05


class FaultServer(S3Server):
    """The server; every attribute may be changed while it runs.

    * `dialect`: which kind of S3 server it is.
    * `allowed_operations`: None for all; others are answered AccessDenied (`{"PutObject"}`: the least privilege).
    * `latency_seconds`: every answer comes so much later.
    * `clock_offset_seconds`: its clock is off; requests signed more than 15 minutes away from it are answered
      RequestTimeTooSkewed, and `Date` shows it.
    * `keep_bodies`: the record of a request keeps its body.

    `small_buffers` limits what is on its way between the two sockets, which makes `run_in_body` mean what it says: some
    150 KiB for the first body of a connection, rarely more than 1 MiB later, when the client's congestion control has
    found out how quick loopback is; without it, 5 MiB. It costs throughput (40 MiB take a third of a second).

    Signatures are not verified, the access key is.
    """

    name = "fault"

    def __init__(
        self,
        *,
        dialect: Dialect = AWS,
        tls: bool = False,
        versioned: bool = False,
        small_buffers: bool = True,
        keep_bodies: bool = False,
        region: str = "us-east-1",
    ) -> None:
        super().__init__()
        self._tls = tls
        self._versioned = versioned
        self._small_buffers = small_buffers
        self._region = region
        self.keep_bodies = keep_bodies
        self.latency_seconds = 0.0
        self.clock_offset_seconds = 0.0
        self.allowed_operations: Collection[str] | None = None
        self.faults = FaultScript()
        self._dialect = dialect
        self._reset()

    def _reset(self) -> None:
        self.store = ObjectStore(dialect=self._dialect, region=self._region, versioned=self._versioned)
        self.faults.clear()
        self.requests: list[Request] = []
        self._writing: defaultdict[str, list[Wire]] = defaultdict(list)
        self._most_writing: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._connections: dict[int, socket.socket] = {}
        self._connection_count = 0
        self._threads: set[threading.Thread] = set()
        self._listener: socket.socket | None = None
        self._tls_context: ssl.SSLContext | None = None
        self._port = 0

    # What the tests look at

    @property
    def dialect(self) -> Dialect:
        """Which kind of S3 server it is."""
        return self._dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self._dialect = self.store.dialect = dialect
        self.endpoint = dataclasses.replace(self.endpoint, dialect=dialect)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._port

    def virtual_host_environment(self) -> dict[str, str]:
        """Return `environment` for a client that puts the bucket before the host name: `<bucket>.s3.test`.

        Nobody resolves such names; the server is named as the proxy for http, which gets the whole URL. Not with TLS.
        """
        return {
            **self.environment(),
            "AWS_ENDPOINT_URL": "http://s3.test",
            "HTTP_PROXY": self.endpoint_url,
            "http_proxy": self.endpoint_url,
        }

    def objects(self, bucket: str | None = None) -> dict[str, bytes]:
        """Return the bytes of every object of a bucket by key."""
        return {key: stored.body for key, stored in self.stored(bucket).items()}

    def stored(self, bucket: str | None = None) -> dict[str, StoredObject]:
        """Return every object of a bucket, with its headers and checksums."""
        with self.store.lock:
            return dict(self.store.buckets.get(bucket or self.bucket, {}))

    @property
    def replacements(self) -> list[Replacement]:
        """Every time an object was replaced by one with other bytes."""
        with self.store.lock:
            return list(self.store.replacements)

    @property
    def pending_uploads(self) -> list[str]:
        """The keys of the multipart uploads that were neither completed nor aborted."""
        with self.store.lock:
            return [upload.key for upload in self.store.uploads.values()]

    def requests_of(self, operation: str, key: str | None = None) -> list[Request]:
        """Return the records of one operation, in the order in which the requests came."""
        with self._lock:
            return [
                request
                for request in self.requests
                if request.operation == operation and (key is None or request.key == key)
            ]

    def counts(self) -> Counter[str]:
        """Return how often each operation was asked for."""
        with self._lock:
            return Counter(request.operation for request in self.requests)

    def most_concurrent_writes(self, key: str | None = None) -> int:
        """Return how many PutObject and UploadPart requests were under way at once at most, for one key or for any.

        With a key: of that key. Without: the highest number of any key.
        """
        with self._lock:
            return self._most_writing[key] if key is not None else max(self._most_writing.values(), default=0)

    def forget_requests(self) -> None:
        """Empty the record of requests; what is stored stays."""
        with self._lock:
            self.requests.clear()
            self._most_writing.clear()

    def assert_all_used(self) -> None:
        """Raise AssertionError when a queued fault did not happen; see `FaultScript.assert_all_used`."""
        self.faults.assert_all_used()

    # Life cycle

    def put(self, key: str, body: bytes, bucket: str | None = None) -> None:
        """Store an object without a request."""
        request = Request("PUT", "", {}, "", b"", {}, 0, 0.0)
        request.operation, request.bucket, request.key = "PutObject", bucket or self.bucket, key
        request.body_md5 = hashlib.md5(body).hexdigest()
        self.store.handle(request, body)

    def _launch(self) -> None:
        self._reset()
        ca_bundle = None
        if self._tls:
            certificates = make_certificates(self.directory)
            self._tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls_context.load_cert_chain(certificates.certificate, certificates.key)
            ca_bundle = certificates.authority
        self._listen()
        self.endpoint = S3Endpoint(
            endpoint_url=f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}",
            access_key=random_access_key(),
            secret_key=secrets.token_hex(20),
            region=self._region,
            bucket=random_name("bucket"),
            ca_bundle=ca_bundle,
            server=self.name,
            dialect=self._dialect,
        )
        self.store.buckets[self.bucket] = {}

    def _clean_up(self) -> None:
        self._stopping.set()
        self.go_down()
        for thread in list(self._threads):
            thread.join(timeout=5)
        super()._clean_up()

    def go_down(self) -> None:
        """Refuse new connections and cut those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Only shutdown wakes a thread that waits in accept.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut_connections()

    def come_up(self) -> None:
        """Accept connections again, at the same port."""
        self._listen()

    def cut_connections(self) -> None:
        """Cut every open connection, whatever it is doing."""
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._small_buffers:
            # Both are inherited by the accepted sockets. The client's send buffer grows with the segment size that
            # the server announces; with loopback's own 64 KiB it would start at more than 2 MiB.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(1024)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._spawn(self._accept, listener)

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="fault-server", daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads = {each for each in self._threads if each.is_alive()}
        thread.start()
        with self._lock:
            self._threads.add(thread)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connection_count += 1
                number = self._connection_count
                self._connections[number] = connection
            self._spawn(self._serve, connection, number)

    def _serve(self, connection: socket.socket, number: int) -> None:
        wire = Wire(connection, number)
        reset = False
        try:
            if self._tls_context is not None:
                connection = self._tls_context.wrap_socket(connection, server_side=True)
                wire = Wire(connection, number)
                with self._lock:
                    self._connections[number] = connection
            while not self._stopping.is_set():
                if not self._serve_one(wire):
                    break
        except HangUp as hang_up:
            reset = hang_up.reset
        except (Disconnected, OSError):
            pass
        except Exception as error:
            # The test is to hear of it, not only the log.
            self.faults.failed(error)
        finally:
            with self._lock:
                self._connections.pop(number, None)
            wire.close(reset=reset)

    # One request

    def _serve_one(self, wire: Wire) -> bool:
        """Answer the next request; return whether the connection lives on."""
        request = wire.read_request()
        _identify(request)
        writes = request.operation in ("PutObject", "UploadPart")
        refusal = self._refusal(request)
        # A request that is refused anyway takes no fault.
        exchange = Exchange(request, FaultScript() if refusal else self.faults, self._stopping)
        request.fault = exchange.fault.name if exchange.fault else ""
        with self._lock:
            self.requests.append(request)
            request.number = len(self.requests)
            if writes:
                # Whoever was killed writes no longer, however long it takes here to find that out.
                writing = [other for other in self._writing[request.key] if not other.has_no_client()] + [wire]
                self._writing[request.key] = writing
                self._most_writing[request.key] = max(self._most_writing[request.key], len(writing))
        happened = True
        try:
            answer = self._answer(wire, exchange, refusal)
            answered = time.monotonic()
            # As it says by now: made shorter, it lets those go that wait already.
            while (left := answered + self.latency_seconds - time.monotonic()) > 0:
                exchange.wait(min(left, _GLANCE_SECONDS))
            request.answer_status, request.answer_headers = answer.status, answer.headers
            # Before the answer leaves: a test that has it may look at the record and at the faults at once.
            self._finish(exchange, wire)
            happened = False
            wire.send(request, answer)
        except ActionFailed as failed:
            self.faults.failed(failed.__cause__ or failed)
            raise HangUp from failed
        finally:
            if happened:
                self._finish(exchange, wire)
        return not answer.close and request.headers.get("connection", "").lower() != "close"

    def _finish(self, exchange: Exchange, wire: Wire) -> None:
        exchange.request.ended = time.monotonic()
        exchange.count()
        with self._lock:
            writing = self._writing[exchange.request.key]
            if wire in writing:
                writing.remove(wire)

    def _answer(self, wire: Wire, exchange: Exchange, answer: Answer | None) -> Answer:
        request, fault = exchange.request, exchange.fault
        expects = request.headers.get("expect", "").lower() == "100-continue"
        if fault is not None and fault.before_body is not None:
            fault.before_body(exchange)
        if fault is not None and fault.early is not None:
            answer = fault.early(exchange)
            answer.close = True
            return self._stamped(answer)
        if answer is not None and expects:
            answer.close = True
            return self._stamped(answer)
        if expects:
            wire.continue_request()
        body = self._read_body(wire, exchange)
        if answer is None:
            if fault is not None and fault.after_body is not None:
                fault.after_body(exchange)
            if fault is not None and fault.instead is not None:
                answer = fault.instead(exchange)
            else:
                answer = self.store.handle(request, body)
        if fault is not None and fault.before_answer is not None:
            answer = fault.before_answer(exchange, answer)
        return self._stamped(answer)

    def _read_body(self, wire: Wire, exchange: Exchange) -> bytes:
        request = exchange.request
        partial = bytearray()
        try:
            body = wire.read_body(request, exchange.progress, partial=partial)
        except (Disconnected, OSError):
            if self.dialect.stores_truncated_bodies and request.operation == "PutObject":
                self.store.keep_truncated(request, bytes(partial))
            raise
        request.body_bytes = len(body)
        request.body_md5 = hashlib.md5(body).hexdigest()
        if self.keep_bodies:
            request.body = body
        return body

    def _refusal(self, request: Request) -> Answer | None:
        """Return the error for a request that is not let in, decided from its head alone."""
        if request.access_key is None:
            return error_answer("AccessDenied")
        if request.access_key != self.access_key:
            return error_answer("InvalidAccessKeyId")
        stamp = request.headers.get("x-amz-date") or request.query.get("X-Amz-Date", "")
        with contextlib.suppress(ValueError):
            signed = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
            if abs(signed - time.time() - self.clock_offset_seconds) > _ALLOWED_SKEW_SECONDS:
                return error_answer("RequestTimeTooSkewed")
        if self.allowed_operations is not None and request.operation not in self.allowed_operations:
            return error_answer("AccessDenied")
        try:
            request.path.decode("utf-8")
        except UnicodeDecodeError:
            return error_answer("InvalidURI")
        return None

    def _stamped(self, answer: Answer) -> Answer:
        answer.headers = {
            "Server": "FaultServer",
            "Date": email.utils.formatdate(time.time() + self.clock_offset_seconds, usegmt=True),
            "x-amz-request-id": "4442587FB7D0A2F9",
            **answer.headers,
        }
        return answer


def _identify(request: Request) -> None:
    """Set a request's bucket, key and operation, from a path-style or a virtual-host-style address."""
    path = request.path.decode("utf-8", "surrogateescape")
    bucket = _virtual_bucket(request.host)
    if bucket:
        request.bucket, request.key = bucket, path[1:]
    else:
        request.bucket, _, request.key = path[1:].partition("/")
    request.operation = _operation(request.method, bool(request.bucket), bool(request.key), request)


def _virtual_bucket(host: str) -> str:
    name = host.rpartition(":")[0] if ":" in host else host
    for suffix in _HOST_SUFFIXES:
        if name.endswith(suffix):
            bucket = name.removesuffix(suffix)
            if suffix == ".amazonaws.com":
                # <bucket>.s3.<region>.amazonaws.com, or s3.<region>.amazonaws.com with the bucket in the path.
                bucket = bucket.rpartition(".s3")[0]
            return bucket
    return ""


def _operation(method: str, bucket: bool, key: bool, request: Request) -> str:
    query: Mapping[str, str] = request.query
    if not bucket:
        return "ListBuckets"
    verb = {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete", "POST": "Post"}.get(method, method)
    if key:
        if "uploadId" in query:
            if method == "PUT":
                return "UploadPartCopy" if "x-amz-copy-source" in request.headers else "UploadPart"
            by_method = {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}
            return by_method.get(method, verb + "Object")
        if method == "POST" and "uploads" in query:
            return "CreateMultipartUpload"
        for name, suffix in _SUBRESOURCES.items():
            if name in query:
                return f"{verb}Object{suffix}"
        if method == "PUT" and "x-amz-copy-source" in request.headers:
            return "CopyObject"
        return verb + "Object"
    for name, suffix in _SUBRESOURCES.items():
        if name in query:
            return f"{verb}Bucket{suffix}"
    if method == "GET":
        if "location" in query:
            return "GetBucketLocation"
        if "uploads" in query:
            return "ListMultipartUploads"
        return "ListObjectsV2" if query.get("list-type") == "2" else "ListObjects"
    if method == "POST" and "delete" in query:
        return "DeleteObjects"
    return {"PUT": "CreateBucket"}.get(method, verb + "Bucket")
