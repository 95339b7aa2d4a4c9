"""What the object API does with connections: kept, shared, bounded in time, closed, another one in a forked child."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import s3_uploader as s3
from tests.integration.remote_support import connect
from tests.integration.s3_support import own_threads
from tests.servers.base import S3Endpoint
from tests.servers.dialects import AWS_KMS, BLIND, ECHO, OLD
from tests.servers.fault_script import (
    Exchange,
    Fault,
    cut_answer,
    error,
    error_after_storing,
    hang,
    hang_up,
    no_proof,
    run_before_answer,
    wrong_etag,
)
from tests.servers.fault_server import FaultServer
from tests.servers.fault_wire import Answer
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.process import wait_until

pytestmark = pytest.mark.rotated("make")

Make = Callable[..., s3.RemoteStore]


@pytest.fixture(params=["native", "boto3"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes stores on an endpoint, with each engine in turn."""

    def store(endpoint: S3Endpoint, **settings: Any) -> s3.RemoteStore:
        return s3.RemoteStore(
            connect(endpoint, engine=request.param, **settings), multipart_threshold=6 * 2**20, part_size=5 * 2**20
        )

    return store


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A local file."""
    path = tmp_path / "example"
    path.write_bytes(hashlib.shake_128(b"example").digest(100_000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A local file that is written in parts, and read in pieces."""
    path = tmp_path / "large"
    path.write_bytes(hashlib.shake_128(b"large").digest(11 * 2**20 + 3))
    return path


def test_connections_are_used_again(fault_server: FaultServer, example: Path, tmp_path: Path) -> None:
    """One connection serves one request after the other, of whatever kind."""
    store = s3.RemoteStore(connect(fault_server.endpoint))
    for number in range(5):
        assert store.write(example, f"{number}")
        assert store.exists(f"{number}")[0]
        assert store.read(f"{number}", tmp_path / "back")[0]
        assert store.delete(f"{number}")
    assert {request.connection for request in fault_server.requests} == {1}


def test_a_small_object_is_one_request(fault_server: FaultServer, example: Path, tmp_path: Path) -> None:
    """Writing, looking, reading and deleting cost one request each where the server proves what it has."""
    store = s3.RemoteStore(connect(fault_server.endpoint))
    assert store.write(example, "key")
    assert store.exists("key")[0]
    assert store.read("key", tmp_path / "back")[0]
    assert store.delete("key")
    assert dict(fault_server.counts()) == {"PutObject": 1, "HeadObject": 1, "GetObject": 1, "DeleteObject": 1}


def test_closing(fault_server: FaultServer, example: Path) -> None:
    """At the end of a ``with`` block no thread and no socket is left; what is asked afterwards opens them again."""
    threads = own_threads()
    descriptors = len(os.listdir("/proc/self/fd"))
    with connect(fault_server.endpoint) as connection:
        store = s3.RemoteStore(connection)
        assert store.write(example, "key")
        assert [thread.name for thread in own_threads() - threads] == ["s3-native"]
    assert own_threads() <= threads
    # The server in this process has to notice first. What tests before this one have left may be closed meanwhile, too.
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, what="the connections were closed")
    assert store.exists("key")[0]
    connection.close()


def test_closing_during_a_call(fault_server: FaultServer, example: Path) -> None:
    """A call that is under way on another thread fails, and its error says why."""
    connection = connect(fault_server.endpoint)

    def close(_: object) -> None:
        connection.close()

    fault_server.faults.add(Fault("closing", before_body=close).only(operations="PutObject"))
    store = s3.RemoteStore(connection)
    assert not store.write(example, "key")
    assert str(store.last_error) == "The store was closed on another thread during this call."
    assert store.write(example, "key")
    connection.close()


def test_many_threads_at_once(fault_server: FaultServer, example: Path, tmp_path: Path, make: Make) -> None:
    """Threads that share a store have each their own answers."""
    store = make(fault_server.endpoint)
    failures: list[str] = []

    def work(number: int) -> None:
        for turn in range(5):
            name = f"{number}-{turn}"
            content = name.encode() * 500
            path = tmp_path / name
            path.write_bytes(content)
            good = (
                store.write(path, name, {"x-amz-meta-name": name})
                and store.exists(name) == (True, {"x-amz-meta-name": name})
                and store.read(name, tmp_path / f"{name}.back")[0]
                and (tmp_path / f"{name}.back").read_bytes() == content
                and store.delete(name)
            )
            if not good:
                failures.append(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert fault_server.endpoint.keys() == []


def test_a_forked_child_has_its_own(fault_server: FaultServer, example: Path) -> None:
    """Parent and child go on side by side after a fork, and neither gets an answer of the other's."""
    store = s3.RemoteStore(connect(fault_server.endpoint))
    assert store.write(example, "before")
    child = os.fork()
    if not child:
        code = 1
        try:
            done = [store.write(example, f"child-{number}") and store.exists("before")[0] for number in range(10)]
            code = 0 if all(done) else 2
        finally:
            os._exit(code)
    mine = [store.write(example, f"parent-{number}") and store.exists("before")[0] for number in range(10)]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(mine)
    assert len(fault_server.endpoint.keys()) == 21


def test_a_server_that_falls_silent(fault_server: FaultServer, example: Path, tmp_path: Path, make: Make) -> None:
    """Every call ends in the time that it was given, and says why."""
    store = make(fault_server.endpoint, timeout_seconds=0.5, read_timeout_seconds=60)
    example.write_bytes(b"small")
    assert store.write(example, "key")
    for call in (
        lambda: store.write(example, "key"),
        lambda: store.read("key", tmp_path / "back")[0],
        lambda: store.copy("key", "other"),
        lambda: store.delete("another"),
    ):
        fault_server.faults.add(
            hang().only(operations=("PutObject", "GetObject", "HeadObject", "DeleteObject"), times=None)
        )
        began = time.monotonic()
        assert not call()
        # And what a piece of a download may take at the slowest, which the silence of the server cuts short.
        assert time.monotonic() - began < 20
        fault_server.faults.clear()
    assert store.exists("key")[0]


def test_a_connection_that_was_closed_meanwhile(fault_server: FaultServer, example: Path) -> None:
    """A server that closed an idle connection, or was started anew, costs nothing but another connection."""
    store = s3.RemoteStore(connect(fault_server.endpoint))
    assert store.write(example, "key")
    fault_server.cut_connections()
    assert store.write(example, "key")
    fault_server.cut_connections()
    assert store.exists("key")[0]


@pytest.mark.parametrize("dialect", [OLD, BLIND, ECHO, AWS_KMS])
def test_what_proves_nothing_is_read_back(
    make_fault_server: Callable[..., FaultServer], make: Make, example: Path, large: Path, dialect: Any
) -> None:
    """Whatever a server answers, what was written counts as written only when it is proven, at worst by reading it."""
    server = make_fault_server(dialect=dialect)
    store = make(server.endpoint)
    for path in (example, large):
        assert store.write(path, path.name)
        assert server.objects()[path.name] == path.read_bytes()
    if dialect is BLIND:
        assert server.counts()["GetObject"] >= 2


def test_damage_is_found(fault_server: FaultServer, make: Make, example: Path) -> None:
    """An answer without any proof is not believed where the object holds other bytes."""
    store = make(fault_server.endpoint)
    fault_server.faults.add(no_proof().only(operations="PutObject"))
    assert store.write(example, "right")
    assert fault_server.counts()["GetObject"] + fault_server.counts()["HeadObject"] >= 1

    def store_other_bytes(exchange: Exchange) -> Answer:
        fault_server.put("other", example.read_bytes()[::-1])
        return Answer(headers={"ETag": '"0x8DBC1F5A"'})

    fault_server.faults.add(Fault(name="other bytes", operations=("PutObject",), times=None, instead=store_other_bytes))
    assert not store.write(example, "other")
    assert fault_server.objects()["other"] != example.read_bytes()


def test_new_metadata_are_not_lost_with_an_answer(fault_server: FaultServer, make: Make, example: Path) -> None:
    """A write of the same content with other metadata is not taken for done because the content is there already."""
    store = make(fault_server.endpoint)
    assert store.write(example, "key", {"x-amz-meta-a": "1"})
    fault_server.faults.add(hang_up("in_body", after_bytes=10_000))
    assert store.write(example, "key", {"x-amz-meta-a": "2"})
    assert store.exists("key") == (True, {"x-amz-meta-a": "2"})


def test_a_condition_on_a_connection_that_breaks(fault_server: FaultServer, make: Make, example: Path) -> None:
    """The same if the server carries it out and closes a connection that has served before, without any answer."""
    store = make(fault_server.endpoint)
    assert store.write(example, "other")
    fault_server.faults.add(hang_up().only(operations="PutObject"))
    assert store.write(example, "key", {"If-None-Match": "*"})
    assert fault_server.objects()["key"] == example.read_bytes()
    assert not store.write(example, "key", {"If-None-Match": "*"})


@pytest.mark.parametrize("name", ["example", "large"])
def test_a_condition_whose_answer_is_lost(
    fault_server: FaultServer, make: Make, example: Path, large: Path, name: str
) -> None:
    """A conditional write that was carried out counts, though its repetition meets the object; another's does not."""
    path = {"example": example, "large": large}[name]
    store = make(fault_server.endpoint)
    fault_server.faults.add(error_after_storing().only(operations=("PutObject", "CompleteMultipartUpload")))
    assert store.write(path, "key", {"If-None-Match": "*"})
    assert not store.write(path, "key", {"If-None-Match": "*"})
    other = path.with_name("other")
    other.write_bytes(b"other" + path.read_bytes())
    assert not store.write(other, "key", {"If-None-Match": "*"})
    assert fault_server.objects()["key"] == path.read_bytes()
    etag = fault_server.stored()["key"].etag
    assert store.write(other, "key", {"If-Match": f'"{etag.strip(chr(34))}"'})
    assert fault_server.pending_uploads == []


def test_headers_go_where_they_belong(fault_server: FaultServer, make: Make, large: Path) -> None:
    """A header of every request goes with every part; what makes the object goes with its beginning."""
    store = make(fault_server.endpoint)
    headers = {"x-amz-expected-bucket-owner": "123456789012", "cache-control": "no-store", "x-amz-meta-a": "1"}
    assert store.write(large, "key", headers)
    for operation in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
        for request in fault_server.requests_of(operation):
            sent = {name.lower(): value for name, value in request.headers.items()}
            assert sent["x-amz-expected-bucket-owner"] == "123456789012"
            assert ("cache-control" in sent) is ("x-amz-meta-a" in sent) is (operation == "CreateMultipartUpload")


def test_a_checksum_of_the_whole_goes_in_one_request(fault_server: FaultServer, make: Make, large: Path) -> None:
    """A checksum of the caller's is sent instead of ours. Content-MD5 of a large file is verified here instead."""
    store = make(fault_server.endpoint)
    content = large.read_bytes()
    sha256 = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert store.write(large, "sha", {"x-amz-checksum-sha256": sha256})
    (request,) = fault_server.requests_of("PutObject", "sha")
    sent = {name.lower(): value for name, value in request.headers.items()}
    assert sent["x-amz-checksum-sha256"] == sha256
    assert "x-amz-checksum-crc32" not in sent
    md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    assert store.write(large, "md5", {"Content-MD5": md5})
    assert not store.write(large, "other", {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert sorted(fault_server.endpoint.keys()) == ["md5", "sha"]


def test_a_large_download(fault_server: FaultServer, make: Make, large: Path, tmp_path: Path) -> None:
    """A large object is read in pieces of the same object, whatever breaks on the way."""
    store = make(fault_server.endpoint)
    assert store.write(large, "key", {"x-amz-meta-a": "1"})
    fault_server.faults.add(cut_answer(20_000).only(operations="GetObject"))
    fault_server.faults.add(error("SlowDown").only(operations="GetObject"))
    assert store.read("key", tmp_path / "back") == (True, {"x-amz-meta-a": "1"})
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


def test_an_object_that_is_replaced_while_it_is_read(
    fault_server: FaultServer, make: Make, large: Path, tmp_path: Path
) -> None:
    """Pieces of two objects are never put together."""
    store = make(fault_server.endpoint)
    assert store.write(large, "key")

    def replace() -> None:
        fault_server.client().put_object(Bucket=fault_server.bucket, Key="key", Body=b"x" * (11 * 2**20 + 3))

    fault_server.faults.add(run_before_answer(replace).only(operations="GetObject"))
    assert store.read("key", tmp_path / "back") == (False, {})
    assert not (tmp_path / "back").exists()


def test_an_answer_with_another_etag(make_fault_server: Callable[..., FaultServer], make: Make, tmp_path: Path) -> None:
    """Bytes that do not have the MD5 which the server names are no download, with either engine."""
    server = make_fault_server(dialect=OLD)
    server.client().put_object(Bucket=server.bucket, Key="key", Body=b"content")
    server.faults.add(wrong_etag("0" * 32).only(operations="GetObject"))
    assert make(server.endpoint).read("key", tmp_path / "back") == (False, {})


def test_a_call_that_is_interrupted(fault_server: FaultServer, large: Path) -> None:
    """Ctrl-C ends a write at once, removes its parts, and the store works on."""
    store = s3.RemoteStore(connect(fault_server.endpoint), multipart_threshold=6 * 2**20, part_size=5 * 2**20)
    assert store.write(large, "before")
    fault_server.faults.add(hang(seconds=20).only(operations="UploadPart"))
    main = threading.main_thread().ident
    assert main is not None
    interrupt = threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT))
    interrupt.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        store.write(large, "key")
    assert time.monotonic() - began < 15
    interrupt.join()
    fault_server.faults.clear()
    assert sorted(fault_server.objects()) == ["before"]
    wait_until(lambda: not fault_server.pending_uploads, what="the parts were removed")
    assert store.write(large, "after")


def test_a_signal_handler_that_raises(fault_server: FaultServer, example: Path) -> None:
    """What a handler of a signal raises comes out of the call that it interrupts, and the store works on."""

    class Alarm(Exception):
        pass

    def alarm(*_: object) -> None:
        raise Alarm

    store = s3.RemoteStore(connect(fault_server.endpoint))
    assert store.write(example, "before")
    fault_server.faults.add(hang(seconds=20).only(operations="PutObject"))
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Alarm):
            store.write(example, "key")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    fault_server.faults.clear()
    assert store.write(example, "after")
    assert store.exists("before")[0]
