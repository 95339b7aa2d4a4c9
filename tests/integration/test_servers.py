"""The servers of the tests: each starts, takes an object, does what its dialect says, and leaves nothing behind."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers import debian, dialects, fault_checksums, fault_script
from tests.servers.base import S3Endpoint, S3Server, Server
from tests.servers.ceph_rgw import CephServer
from tests.servers.dialects import DIALECTS, Dialect
from tests.servers.faketime import clock_offset_environment
from tests.servers.fault_checksums import checksum
from tests.servers.fault_script import (
    Fault,
    cut_answer,
    error,
    error_after_storing,
    error_in_success,
    hang,
    hang_up,
    lose_object,
    no_proof,
    run_after_body,
    run_before_answer,
    run_before_body,
    run_in_body,
    slow_body,
    slow_down,
    wrong_checksum,
    wrong_etag,
)
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import or_skip
from tests.servers.guard import session_members
from tests.servers.haproxy_fault import HaproxyFault
from tests.servers.moto_server import MotoServer
from tests.servers.nginx_sink import NginxSink, Piece
from tests.servers.openssh import HOW, OpensshServer
from tests.servers.process import free_ports, make_directory, remove_directory, wait_until
from tests.servers.proftpd import ProftpdServer
from tests.servers.rclone_s3 import RcloneServer
from tests.servers.shared import SHARED, SharedServers, ask
from tests.servers.swift_s3 import SwiftServer

STORES: list[Callable[[], S3Server]] = [
    RcloneServer,
    lambda: RcloneServer(tls=True),
    lambda: RcloneServer(memory=True),
    SwiftServer,
    lambda: SwiftServer(memory=False),
    CephServer,
    MotoServer,
    FaultServer,
    lambda: FaultServer(tls=True),
]
NAMES = ["rclone", "rclone-tls", "rclone-memory", "swift", "swift-disk", "ceph", "moto", "fault", "fault-tls"]


@pytest.fixture
def started() -> Iterator[Callable[[Server], None]]:
    """Start servers; when the test ends, stop them and see that no process and no directory is left."""
    servers: list[Server] = []

    def start(server: Server) -> None:
        or_skip(server.start)
        servers.append(server)

    yield start
    for server in reversed(servers):
        sessions = [process.identifier for process in server.processes]
        directory = server.directory
        assert directory.is_dir()
        server.stop()
        assert [session_members(session) for session in sessions] == [[]] * len(sessions)
        assert not directory.exists()


@pytest.mark.rotated("make")
@pytest.mark.parametrize("make", STORES, ids=NAMES)
def test_each_server_takes_an_object_and_leaves_nothing(
    make: Callable[[], S3Server], started: Callable[[Server], None]
) -> None:
    """A server starts on a free port with a bucket, keeps what it is given, and is gone when it was stopped."""
    server = make()
    started(server)
    server.client().put_object(Bucket=server.bucket, Key="bedroom/46 topic.dat", Body=b"payload")
    other = server.new_bucket()
    assert server.endpoint.objects() == {"bedroom/46 topic.dat": b"payload"}
    assert other.objects() == {}
    assert server.endpoint.server == server.name


@pytest.mark.rotated("make")
@pytest.mark.parametrize("make", [RcloneServer, SwiftServer, CephServer, MotoServer])
def test_real_servers_speak_the_dialects_that_are_written_down(
    make: Callable[[], S3Server], started: Callable[[Server], None]
) -> None:
    """What a real server verifies, ignores and answers is what its dialect says."""
    server = make()
    started(server)
    assert server.endpoint.dialect is not None
    assert _observed(server.endpoint) == _expected(server.endpoint.dialect)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_the_fault_server_speaks_every_dialect(dialect: Dialect, started: Callable[[Server], None]) -> None:
    """The fault server behaves as the dialect says that it was given."""
    server = FaultServer(dialect=dialect)
    started(server)
    assert _observed(server.endpoint) == _expected(dialect)


def _expected(dialect: Dialect) -> dict[str, object]:
    if dialect.etags_are_md5:
        completion = "parts" if dialect.completion_has_etag else "none"
        head = "whole" if dialect.head_has_whole_md5 else "parts"
    else:
        completion = head = "other"
    return {
        "verifies payload hash": dialect.verifies_payload_hash,
        "verifies Content-MD5": dialect.verifies_content_md5,
        "verifies bare checksum": dialect.verifies_checksums and not dialect.requires_algorithm_header,
        "verifies named checksum": dialect.verifies_checksums,
        "answers checksum": dialect.answers_checksums,
        "accepts trailers": dialect.accepts_trailers,
        "conditional put": dialect.conditional_put,
        "ETag of completion": completion,
        "ETag of HEAD": head,
        "repeats completion": dialect.repeats_completion,
    }


def _observed(endpoint: S3Endpoint) -> dict[str, object]:
    wrong_md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    wrong_crc = checksum("crc32", b"other")
    framed = b"1\r\nx\r\n0\r\nx-amz-checksum-crc32:" + checksum("crc32", b"x").encode() + b"\r\n\r\n"
    trailer_headers = {
        "content-encoding": "aws-chunked",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": "1",
    }
    client = endpoint.client()
    answer = client.put_object(
        Bucket=endpoint.bucket,
        Key="answered",
        Body=b"x",
        ChecksumAlgorithm="CRC32",
        ChecksumCRC32=checksum("crc32", b"x"),
    )
    assert _put(endpoint, b"x", {}, hashlib.sha256(b"x").hexdigest()) == 200
    return {
        "verifies payload hash": _put(endpoint, b"x", {}, hashlib.sha256(b"other").hexdigest()) == 400,
        "verifies Content-MD5": _put(endpoint, b"x", {"content-md5": wrong_md5}) == 400,
        "verifies bare checksum": _put(endpoint, b"x", {"x-amz-checksum-crc32": wrong_crc}) == 400,
        "verifies named checksum": _put(
            endpoint, b"x", {"x-amz-checksum-crc32": wrong_crc, "x-amz-sdk-checksum-algorithm": "CRC32"}
        )
        == 400,
        "answers checksum": answer.get("ChecksumCRC32") == checksum("crc32", b"x"),
        "accepts trailers": _put(endpoint, framed, trailer_headers, "STREAMING-UNSIGNED-PAYLOAD-TRAILER") == 200,
        "conditional put": _conditional_put(endpoint),
        **_observed_multipart(endpoint),
    }


def _put(endpoint: S3Endpoint, body: bytes, headers: dict[str, str], payload_hash: str | None = None) -> int:
    """PUT with headers of the test's own, signed as they are; return the status."""

    class Signer(S3SigV4Auth):
        def payload(self, request: AWSRequest) -> str:
            return payload_hash or hashlib.sha256(body).hexdigest()

    request = AWSRequest("PUT", f"{endpoint.endpoint_url}/{endpoint.bucket}/probe", data=b"", headers=headers)
    Signer(Credentials(endpoint.access_key, endpoint.secret_key), "s3", endpoint.region).add_auth(request)
    url = urlsplit(str(request.url))
    connection = http.client.HTTPConnection(url.netloc, timeout=20)
    try:
        connection.request("PUT", url.path, body=body, headers=dict(request.headers.items()))
        return connection.getresponse().status
    finally:
        connection.close()


def _conditional_put(endpoint: S3Endpoint) -> str:
    client = endpoint.client()
    client.put_object(Bucket=endpoint.bucket, Key="condition", Body=b"first")
    try:
        client.put_object(Bucket=endpoint.bucket, Key="condition", Body=b"second", IfNoneMatch="*")
    except ClientError as refusal:
        assert endpoint.read("condition") == b"first"
        codes = {"PreconditionFailed": "honoured", "NotImplemented": "not-implemented"}
        return codes[refusal.response["Error"]["Code"]]
    return "ignored"


def _observed_multipart(endpoint: S3Endpoint) -> dict[str, object]:
    client, bucket, key = endpoint.client(), endpoint.bucket, "multipart"
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    part = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"part")

    def complete() -> str:
        return client.complete_multipart_upload(
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]},
        ).get("ETag", "")

    def kind(etag: str) -> str:
        known = {
            "": "none",
            fault_checksums.multipart_etag([hashlib.md5(b"part").hexdigest()]): "parts",
            hashlib.md5(b"part").hexdigest(): "whole",
        }
        return known.get(etag.strip('"'), "other")

    completion = kind(complete())
    head = kind(client.head_object(Bucket=bucket, Key=key)["ETag"])
    try:
        complete()
        repeats = True
    except endpoint.client().exceptions.NoSuchUpload:
        repeats = False
    return {"ETag of completion": completion, "ETag of HEAD": head, "repeats completion": repeats}


def test_the_checksums_are_those_of_the_standards() -> None:
    """CRC32C and CRC64NVME give the published check values, by the library and by the slow way."""
    digits = b"123456789"
    assert base64.b64decode(checksum("crc32c", digits)).hex() == "e3069283"
    assert base64.b64decode(checksum("crc64nvme", digits)).hex() == "ae8b14860a799888"
    assert fault_checksums.reflected_crc(digits, 0x82F63B78, 32) == 0xE3069283
    assert fault_checksums.reflected_crc(digits, 0x9A6C9329AC4BC9B5, 64) == 0xAE8B14860A799888


@pytest.fixture
def server(started: Callable[[Server], None]) -> FaultServer:
    """A fault server."""
    server = FaultServer()
    started(server)
    return server


def _attempt(server: S3Server, body: bytes = b"x" * 2000) -> str:
    """PUT an object; return the ETag of the answer, the code of the error, or the name of the exception."""
    try:
        return server.client().put_object(Bucket=server.bucket, Key="key", Body=body)["ETag"].strip('"')
    except ClientError as refusal:
        return refusal.response["Error"]["Code"]
    except (BotoCoreError, KeyError) as failure:
        return type(failure).__name__


BODY_MD5 = hashlib.md5(b"x" * 2000).hexdigest()


@pytest.mark.parametrize(
    ("fault", "outcome", "stored"),
    [
        (wrong_etag("0" * 32), "0" * 32, True),
        (no_proof("opaque"), "opaque", True),
        (wrong_checksum(), BODY_MD5, True),
        (lose_object(), BODY_MD5, False),
        (slow_down(), "SlowDown", False),
        (error("InvalidAccessKeyId"), "InvalidAccessKeyId", False),
        (error("ExpiredToken", early=True), "ExpiredToken", False),
        (error_after_storing(), "InternalError", True),
        (hang_up("before_body"), "ConnectionClosedError", False),
        (hang_up("in_body", after_bytes=1000), "ConnectionClosedError", False),
        (hang_up("after_body", reset=True), "ConnectionClosedError", False),
        (hang_up("before_answer"), "ConnectionClosedError", True),
        (hang(seconds=0.05), BODY_MD5, True),
        (slow_body(40_000), BODY_MD5, True),
        (cut_answer(len("HTTP/1.1 200 OK\r\n")), "KeyError", True),
        (cut_answer(0), "ConnectionClosedError", True),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_each_fault_happens(server: FaultServer, fault: Fault, outcome: str, stored: bool) -> None:
    """A queued fault happens to the first request that it fits, and only to that one."""
    server.faults.add(fault.only(operations="PutObject"))
    assert _attempt(server) == outcome
    server.assert_all_used()
    assert server.objects() == ({"key": b"x" * 2000} if stored else {})
    assert _attempt(server) == BODY_MD5


def test_a_fault_that_did_not_happen_is_an_error(server: FaultServer) -> None:
    """A fault that no request took, and one whose moment in the body never came, fail the test."""
    server.faults.add(wrong_etag().only(key="another"), run_in_body(lambda: None, after_bytes=1_000_000))
    _attempt(server)
    with pytest.raises(AssertionError, match=re.escape("wrong ETag: happened 0 of 1 times; run after 1000000 bytes")):
        server.assert_all_used()


def test_an_action_that_raises_is_an_error(server: FaultServer) -> None:
    """What an action of the test raises comes back to the test."""
    server.faults.add(run_before_answer(lambda: 1 // 0))
    _attempt(server)
    with pytest.raises(ZeroDivisionError):
        server.assert_all_used()


def test_actions_run_at_their_moments(server: FaultServer) -> None:
    """Actions run before the body, in it, after it and before the answer, and two faults can be joined."""
    moments: list[tuple[str, int, bool]] = []

    def note(moment: str) -> Callable[[], None]:
        return lambda: moments.append((moment, server.requests[-1].wire_bytes, "key" in server.objects()))

    server.faults.add(
        run_before_body(note("before")) | run_in_body(note("in"), after_bytes=1500) | run_after_body(note("after")),
        run_before_answer(note("answer")) | wrong_etag("lie"),
    )
    assert _attempt(server) == BODY_MD5
    assert moments == [("before", 0, False), ("in", 1500, False), ("after", 2000, False)]
    assert _attempt(server) == "lie"
    assert moments[3] == ("answer", 2000, True)
    server.assert_all_used()
    with pytest.raises(ValueError, match="both set instead"):
        slow_down() | lose_object()


def test_in_the_middle_of_the_body_the_client_is_still_reading(server: FaultServer) -> None:
    """When an action runs in the middle of a large body, the client has not read all of its file yet."""
    read = 0

    class Source:
        def __init__(self, size: int) -> None:
            self.size, self.position = size, 0

        def read(self, count: int = -1) -> bytes:
            nonlocal read
            count = self.size - self.position if count < 0 else min(count, self.size - self.position)
            self.position += count
            read = self.position
            return b"x" * count

        def seek(self, offset: int, whence: int = 0) -> int:
            self.position = offset + (0, self.position, self.size)[whence]
            return self.position

        def tell(self) -> int:
            return self.position

    ahead: list[int] = []
    server.faults.add(run_in_body(lambda: ahead.append(read - 1_000_000), after_bytes=1_000_000))
    server.client().put_object(Bucket=server.bucket, Key="key", Body=Source(8_000_000))  # type: ignore[arg-type]
    server.assert_all_used()
    assert 0 < ahead[0] < 5_000_000


def test_an_error_inside_a_success(server: FaultServer) -> None:
    """CompleteMultipartUpload can answer 200 with an error as the body."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=server.bucket, Key="key")["UploadId"]
    part = client.upload_part(Bucket=server.bucket, Key="key", UploadId=upload, PartNumber=1, Body=b"part")
    server.faults.add(error_in_success())
    with pytest.raises(ClientError, match="InternalError"):
        client.complete_multipart_upload(
            Bucket=server.bucket,
            Key="key",
            UploadId=upload,
            MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]},
        )
    server.assert_all_used()
    assert server.pending_uploads == ["key"]
    client.abort_multipart_upload(Bucket=server.bucket, Key="key", UploadId=upload)
    assert server.pending_uploads == []


def test_the_server_guards_its_door(server: FaultServer) -> None:
    """An unknown key, a skewed clock and an operation that is not allowed are refused, and a stopped server is gone."""
    wrong = server.endpoint.replace(access_key="AKNOBODY")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        wrong.client().put_object(Bucket=wrong.bucket, Key="key", Body=b"")
    server.clock_offset_seconds = 3600
    assert _attempt(server) == "RequestTimeTooSkewed"
    server.clock_offset_seconds = 0
    server.allowed_operations = {"PutObject"}
    assert _attempt(server) == BODY_MD5
    with pytest.raises(ClientError, match="AccessDenied"):
        server.endpoint.keys()
    server.go_down()
    assert _attempt(server) in ("EndpointConnectionError", "ConnectionClosedError")
    server.come_up()
    assert _attempt(server) == BODY_MD5


def test_requests_are_recorded(server: FaultServer) -> None:
    """The record shows operation, key, payload and answer, and counts writes of one key that overlap."""
    _attempt(server)
    (request,) = server.requests_of("PutObject", "key")
    assert (request.body_bytes, request.body_md5, request.answer_status) == (2000, BODY_MD5, 200)
    assert server.counts() == {"PutObject": 1}
    assert server.most_concurrent_writes("key") == 1
    assert server.replacements == []
    _attempt(server, b"other")
    assert [replacement.key for replacement in server.replacements] == ["key"]


def test_who_has_gone_writes_no_longer(server: FaultServer) -> None:
    """A client that was killed in the middle of a write is not at once with the next one; one that waits is."""
    server.latency_seconds = 60.0

    def write(number: int) -> socket.socket:
        address = urlsplit(server.endpoint.endpoint_url)
        client = socket.create_connection((str(address.hostname), int(address.port or 0)))
        client.sendall(f"PUT /{server.bucket}/key HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx".encode())
        wait_until(lambda: len(server.requests) == number, what="the request")
        return client

    write(1).close()
    with write(2):
        assert server.most_concurrent_writes("key") == 1
        with write(3):
            assert server.most_concurrent_writes("key") == 2
    server.latency_seconds = 0.0


def test_virtual_hosts(server: FaultServer) -> None:
    """A bucket may stand before the host name."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Host": f"{server.bucket}.s3.test:{server.port}", "Authorization": f"Credential={server.access_key}/"}
    connection.request("PUT", "/a%20b", body=b"payload", headers=headers)
    assert connection.getresponse().status == 200
    connection.close()
    assert server.objects() == {"a b": b"payload"}


@pytest.fixture
def proxied(started: Callable[[Server], None]) -> HaproxyFault:
    """A HAProxy in front of a server that keeps what it gets."""
    server = FaultServer()
    started(server)
    proxy = HaproxyFault(server)
    started(proxy)
    return proxy


def test_the_proxy_makes_faults_and_stops_making_them(proxied: HaproxyFault) -> None:
    """Each knob of the proxy does what it says at once, and `clear` ends it."""
    assert _attempt(proxied) == BODY_MD5
    proxied.slow_down(retry_after=7)
    with pytest.raises(ClientError, match="SlowDown") as refusal:
        proxied.client().put_object(Bucket=proxied.bucket, Key="never", Body=b"")
    assert refusal.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    proxied.clear()
    proxied.fail_after_storing()
    with pytest.raises(ClientError, match="InternalError"):
        proxied.client().put_object(Bucket=proxied.bucket, Key="stored", Body=b"")
    proxied.clear()
    assert proxied.endpoint.keys() == ["key", "stored"]
    proxied.close()
    assert _attempt(proxied) == "ConnectionClosedError"
    proxied.clear()
    proxied.drop()
    assert _attempt(proxied) == "ConnectionClosedError"
    proxied.clear()
    proxied.slow(200)
    began = time.monotonic()
    assert _attempt(proxied) == BODY_MD5
    assert time.monotonic() - began >= 0.2
    proxied.clear()
    proxied.go_down()
    assert _attempt(proxied) in ("EndpointConnectionError", "ConnectionClosedError")
    assert _attempt(proxied) == "EndpointConnectionError"
    proxied.come_up()
    assert _attempt(proxied) == BODY_MD5


def test_the_proxy_cuts_a_body(proxied: HaproxyFault) -> None:
    """What is under way is cut in the middle, and nothing of it is stored."""
    connection = http.client.HTTPConnection(urlsplit(proxied.endpoint_url).netloc, timeout=10)
    connection.putrequest("PUT", f"/{proxied.bucket}/cut")
    connection.putheader("Authorization", f"Credential={proxied.access_key}/")
    connection.putheader("Content-Length", "100000")
    connection.endheaders()
    connection.send(b"x" * 1000)
    while "be=back" not in proxied.command("show sess"):
        time.sleep(0.01)
    proxied.cut_connections()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()
    assert proxied.endpoint.keys() == []


def test_the_ftp_server(started: Callable[[Server], None]) -> None:
    """Files arrive over FTP and over explicit FTPS, and the server tells their hash."""
    server = ProftpdServer()
    started(server)
    plain = server.client()
    plain.storbinary("STOR plain.dat", io.BytesIO(b"payload"))
    assert hashlib.sha256(b"payload").hexdigest().upper() in plain.sendcmd("XSHA256 plain.dat")
    protected = server.tls_client()
    protected.storbinary("STOR protected.dat", io.BytesIO(b"payload"))
    # Left open on purpose: stopping the server has to end their processes too.
    assert server.files() == {"plain.dat": b"payload", "protected.dat": b"payload"}
    plain.close()
    protected.close()


def test_the_sink(started: Callable[[Server], None]) -> None:
    """The sink proves single and multipart uploads, remembers digests, and answers 20 ms later on its second port."""
    server = NginxSink()
    started(server)
    client = server.client()
    crc = checksum("crc32", b"payload")
    answer = client.put_object(Bucket="any", Key="key", Body=b"payload", ChecksumAlgorithm="CRC32", ChecksumCRC32=crc)
    assert answer["ETag"] == f'"{hashlib.md5(b"payload").hexdigest()}"'
    assert answer["ChecksumCRC32"] == crc
    assert server.counts(reset=True) == (1, 7, 0)
    upload = client.create_multipart_upload(Bucket="any", Key="key")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(Bucket="any", Key="key", UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in ((1, b"one"), (2, b"two"))
    ]
    completed = client.complete_multipart_upload(
        Bucket="any",
        Key="key",
        UploadId=upload,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        ChecksumCRC64NVME="proof",
    )
    digests = [hashlib.md5(body).hexdigest() for body in (b"one", b"two")]
    assert completed["ETag"] == f'"{fault_checksums.multipart_etag(digests)}"'
    assert completed["ChecksumCRC64NVME"] == "proof"
    assert server.counts() == (2, 6, 1)
    one, two = (Piece(3, hashlib.md5(body).hexdigest()) for body in (b"one", b"two"))
    assert server.objects() == {"any/key": (one, two)}
    assert client.head_object(Bucket="any", Key="key")["ETag"] == completed["ETag"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="any", Key="key", Body=b"", IfNoneMatch="*")
    assert server.objects(reset=True) == {"any/key": (one, two)}
    assert server.objects() == {}
    began = time.monotonic()
    server.slow_endpoint.client().put_object(Bucket="any", Key="key", Body=b"")
    assert time.monotonic() - began >= 0.02
    server.tls_endpoint.client().put_object(Bucket="any", Key="key", Body=b"three", ChecksumAlgorithm="CRC32")
    assert server.objects() == {"any/key": (Piece(5, hashlib.md5(b"three").hexdigest()),)}


@pytest.mark.exhaustive  # to start a Ceph takes long, and no test of the quick suite lets one crash
def test_ceph_comes_back_after_a_crash(started: Callable[[Server], None]) -> None:
    """A gateway that was killed and started again still has every object; one that hangs answers when it goes on."""
    server = CephServer(tls=True)
    started(server)
    assert _attempt(server) == BODY_MD5
    server.crash()
    assert _attempt(server) in ("EndpointConnectionError", "ConnectionClosedError")
    server.recover()
    assert server.endpoint.objects() == {"key": b"x" * 2000}
    server.pause()
    server.resume()
    assert server.tls_endpoint is not None
    assert server.tls_endpoint.keys() == ["key"]


@pytest.mark.exhaustive  # to start a Swift takes long, and the clock of the fault server is tried above
def test_a_server_with_a_skewed_clock(started: Callable[[Server], None]) -> None:
    """A Swift whose clock is two hours ahead refuses what is signed now."""
    server = SwiftServer(clock_offset_seconds=7200)
    started(server)
    with pytest.raises(ClientError, match="RequestTimeTooSkewed"):
        server.client().list_buckets()


def test_a_client_with_a_skewed_clock(tmp_path: Path) -> None:
    """A subprocess sees another time of day, the true monotonic clock and the true times of files."""
    environment = or_skip(lambda: clock_offset_environment(-3600))
    code = "import os, sys, time; print(time.time(), time.monotonic(), os.stat(sys.argv[1]).st_mtime)"
    output = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wall, monotonic, changed = map(float, output.split())
    assert abs(wall + 3600 - time.time()) < 60
    assert abs(monotonic - time.monotonic()) < 60
    assert changed == tmp_path.stat().st_mtime


def test_a_killed_test_leaves_no_server() -> None:
    """The servers of a process that was killed with SIGKILL end, and their directories are removed."""
    code = (
        "import time\n"
        "from tests.servers.rclone_s3 import RcloneServer\n"
        "server = RcloneServer().start()\n"
        "print(server.processes[0].identifier, server.directory, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        session, directory = process.stdout.readline().split()
        assert session_members(int(session))
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not session_members(int(session)), what="the end of the server", timeout_seconds=10)
    wait_until(lambda: not Path(directory).exists(), what="the end of its directory", timeout_seconds=10)


def test_a_shared_server_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a shared server gets the same one, which neither an end of a process nor its `stop` ends."""
    monkeypatch.setitem(SHARED, "moto", RcloneServer)
    shared = SharedServers()
    address = shared.address()
    code = (
        "import os, signal\n"
        "from tests.servers.shared import ask\n"
        f"server = ask({address!r}, 'moto')\n"
        "server.client().put_object(Bucket=server.bucket, Key='theirs', Body=b'theirs')\n"
        "server.stop()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    try:
        assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == -signal.SIGKILL
        with ThreadPoolExecutor(4) as threads:
            servers = list(threads.map(ask, [address] * 4, ["moto"] * 4))
        assert {server.endpoint for server in servers} == {shared.get("moto").endpoint}
        assert servers[0].endpoint.objects() == {"theirs": b"theirs"}
    finally:
        sessions = [process.identifier for process in shared.get("moto").processes]
        shared.stop()
    assert [session_members(session) for session in sessions] == [[]]
    assert not servers[0].directory.exists()


def test_a_shared_server_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a shared server that this machine lacks is told so, as in the process that has them."""
    monkeypatch.setattr(debian, "find_program", lambda name: None)
    shared = SharedServers()
    with pytest.raises(debian.Unavailable, match="install the Debian packages"):
        ask(shared.address(), "ceph")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without its programs says which packages bring them; tests skip then, and fail where CI=true."""
    monkeypatch.setattr(debian, "find_program", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install the Debian packages haproxy"):
        or_skip(lambda: debian.require("haproxy"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="haproxy not found"):
        or_skip(lambda: debian.require("haproxy"))


@pytest.mark.parametrize("how", HOW)
def test_what_is_missing_costs_nothing(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be started here removes its own directory, and never the one in which the tests run."""
    (tmp_path / "of the project").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(debian, "require", _nothing_is_installed)
    with pytest.raises(debian.Unavailable):
        OpensshServer(how).start()
    assert os.listdir(tmp_path) == ["of the project"]


def _nothing_is_installed(name: str) -> None:
    raise debian.Unavailable(name)


def test_only_directories_of_servers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that was never set is refused, and so is any other directory."""
    made = make_directory()
    (made / "data").touch()
    remove_directory(made)
    assert not made.exists()
    (tmp_path / "of the project").touch()
    monkeypatch.chdir(tmp_path)
    for directory in (Path(), Path("s3u-"), tmp_path):
        with pytest.raises(AssertionError):
            remove_directory(directory)
    assert os.listdir(tmp_path) == ["of the project"]


def test_ports_are_free_and_distinct() -> None:
    """Ports that are handed out can be listened on."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports[0]))


def test_every_fault_function_is_tried() -> None:
    """No fault exists that this module does not know."""
    functions = {
        name
        for name, value in vars(fault_script).items()
        if callable(value) and getattr(value, "__annotations__", {}).get("return") == "Fault" and name[0] != "_"
    }
    assert functions <= set(globals())
    assert dialects.AWS in DIALECTS.values()
