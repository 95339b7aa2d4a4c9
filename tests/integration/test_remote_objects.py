"""The object API beyond files: bytes, streams, listings, looks, URLs, progress and causes, on several servers."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError

import s3_uploader as s3
from tests.integration.remote_support import connect
from tests.integration.s3_raw_server import RawRequest, RawServer
from tests.integration.s3_support import own_threads
from tests.servers.base import S3Endpoint
from tests.servers.dialects import WEAK, Dialect
from tests.servers.fault_script import error, no_proof
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import *  # noqa: F403
from tests.servers.fixtures import MakeFaultServer

pytestmark = pytest.mark.rotated("endpoint", "store")

LARGE = hashlib.shake_128(b"large").digest(7 * 2**20 + 3)


@pytest.fixture(params=["moto", "ceph"])
def endpoint(request: pytest.FixtureRequest) -> S3Endpoint:
    """A fresh bucket on each of the servers in turn."""
    found = request.getfixturevalue(f"{request.param}_s3")
    assert isinstance(found, S3Endpoint)
    return found


def new_store(endpoint: S3Endpoint, *, engine: Any = "auto", **settings: Any) -> s3.RemoteStore:
    """A store that works in parts early."""
    return s3.RemoteStore(
        connect(endpoint, engine=engine), multipart_threshold=6 * 2**20, part_size=5 * 2**20, **settings
    )


@pytest.fixture(params=["native", "boto3"])
def store(endpoint: S3Endpoint, request: pytest.FixtureRequest) -> s3.RemoteStore:
    """A store on each server, with each engine."""
    return new_store(endpoint, engine=request.param)


def test_bytes_there_and_back(store: s3.RemoteStore, endpoint: S3Endpoint) -> None:
    """Bytes of any size and kind become an object and come back."""
    kinds: list[tuple[str, bytes | bytearray | memoryview]]
    kinds = [("empty", b""), ("small", bytearray(b"some")), ("large", memoryview(LARGE))]
    for name, data in kinds:
        receipt = store.write_bytes(data, name, {"x-amz-meta-a": "1"})
        assert (receipt.key, receipt.size) == (name, len(data))
        assert receipt.proof >= s3.Proof.MD5
        assert store.read_bytes(name) == bytes(data) == endpoint.read(name)
        assert store.stat(name).metadata == {"x-amz-meta-a": "1"}
    assert store.read_bytes("large", start=3, length=5) == LARGE[3:8]
    assert store.read_bytes("large", start=len(LARGE) - 2) == LARGE[-2:]
    assert store.read_bytes("small", start=100) == b""


def test_file_objects(store: s3.RemoteStore, endpoint: S3Endpoint, tmp_path: Path) -> None:
    """What a file object reads from its position on is what is written, not what its descriptor leads to."""
    (tmp_path / "plain").write_bytes(LARGE)
    with gzip.open(tmp_path / "packed", "wb") as packed:
        packed.write(b"unpacked")
    with (tmp_path / "plain").open("rb") as plain:
        store.write_file(plain, "plain")
    with (tmp_path / "plain").open("rb") as plain:
        plain.seek(7)
        store.write_file(plain, "rest")
    with gzip.open(tmp_path / "packed") as packed:
        store.write_file(packed, "packed")
    store.write_file(io.BytesIO(b"memory"), "memory")
    assert endpoint.read("plain") == LARGE
    assert endpoint.read("rest") == LARGE[7:]
    assert endpoint.read("packed") == b"unpacked"
    assert endpoint.read("memory") == b"memory"
    back = io.BytesIO()
    assert store.read_file("plain", back) == {}
    assert back.getvalue() == LARGE


def test_streams(store: s3.RemoteStore, endpoint: S3Endpoint) -> None:
    """``open`` reads and writes, binary and text, and an object appears only with a clean close."""
    with store.open("text", "w", headers={"content-type": "text/plain"}) as text:
        text.write("Größe\nzwei\n")
        assert not store.exists("text")[0]
    assert text.receipt is not None
    with store.open("text", "r") as lines:
        assert list(lines) == ["Größe\n", "zwei\n"]
    assert store.stat("text").content_type == "text/plain"
    with store.open("large", "wb") as stream:
        for first in range(0, len(LARGE), 100_000):
            stream.write(LARGE[first : first + 100_000])
    with store.open("large") as reader:
        assert reader.seek(-5, io.SEEK_END) == len(LARGE) - 5
        assert reader.read() == LARGE[-5:]
        reader.seek(0)
        assert reader.read() == LARGE

    def fail() -> None:
        with store.open("never", "wb") as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sorted(endpoint.keys()) == ["large", "text"]
    with pytest.raises(s3.ObjectNotFound), store.open("missing"):
        pass
    with pytest.raises(FileNotFoundError):
        store.read_bytes("missing")
    with pytest.raises(ValueError, match="mode"):
        store.open("text", "a")  # type: ignore[call-overload]


def test_streams_that_replace_nothing(store: s3.RemoteStore, endpoint: S3Endpoint) -> None:
    """A stream that is opened to create an object creates it, and never replaces one."""
    with store.open("new", "xb") as stream:
        stream.write(b"first")
    with pytest.raises(FileExistsError), store.open("new", "x") as text:
        text.write("second")
    assert endpoint.read("new") == b"first"


def test_nothing_is_replaced_where_the_server_ignores_conditions(make_fault_server: MakeFaultServer) -> None:
    """What is to replace nothing replaces nothing on servers that ignore conditions: streams, files, bytes, copies."""
    server = make_fault_server(dialect=WEAK)
    store = new_store(server.endpoint)
    condition = {"If-None-Match": "*"}
    with store.open("new", "xb") as stream:
        stream.write(b"first")
    for content in (b"second", LARGE):
        with pytest.raises(s3.ObjectExists, match="new exists already"), store.open("new", "xb") as stream:
            stream.write(content)
        with pytest.raises(s3.RemoteStoreError, match="new exists already") as caught:
            store.write_bytes(content, "new", condition)
        assert (caught.value.status, caught.value.code) == (412, "PreconditionFailed")
    store.write_bytes(b"source", "source")
    assert not store.copy("source", "new", condition)
    assert server.endpoint.read("new") == b"first"
    assert store.copy("source", "other", condition)
    store.write_bytes(b"second", "new")
    assert server.endpoint.read("new") == b"second"


@pytest.mark.parametrize("dialect", [WEAK, None])
def test_only_a_certain_object_is_replaced(make_fault_server: MakeFaultServer, dialect: Dialect | None) -> None:
    """What is to replace one object replaces no other one, also on servers that ignore conditions."""
    server = make_fault_server() if dialect is None else make_fault_server(dialect=dialect)
    store = new_store(server.endpoint)
    first = store.write_bytes(b"first", "key").etag
    store.write_bytes(b"source", "source")
    store.write_bytes(b"second", "key", {"If-Match": f'"{first}"'})
    for content in (b"third", LARGE):
        with pytest.raises(s3.RemoteStoreError) as caught:
            store.write_bytes(content, "key", {"If-Match": f'"{first}"'})
        assert (caught.value.status, caught.value.code) == (412, "PreconditionFailed")
    assert not store.copy("source", "key", {"If-Match": f'"{first}"'})
    assert server.endpoint.read("key") == b"second"
    second = store.stat("key").etag
    store.write_bytes(b"fourth", "key", {"If-Match": f'"{first}", "{second}"'} if dialect else {"If-Match": second})
    assert server.endpoint.read("key") == b"fourth"


@pytest.mark.parametrize("refusal", ["AccessDenied", "MethodNotAllowed", "NotImplemented"])
def test_streams_that_may_not_look(fault_server: FaultServer, refusal: str) -> None:
    """Who may write but not look is still kept from replacing an object by the server itself."""
    store = new_store(fault_server.endpoint)
    fault_server.faults.add(error(refusal).only(operations="HeadObject", times=2))
    with store.open("new", "xb") as stream:
        stream.write(b"first")
    with pytest.raises(s3.ObjectExists), store.open("new", "xb") as stream:
        stream.write(b"second")
    assert fault_server.endpoint.read("new") == b"first"


def test_listing(store: s3.RemoteStore, endpoint: S3Endpoint) -> None:
    """A listing tells of every object, in order, with what is known of it; each is a name to go on with."""
    names = [f"a/{number:03}" for number in range(20)] + ["b/ü +", "c"]
    for name in names:
        store.write_bytes(name.encode(), name)
    found = list(store)
    assert [each.key for each in found] == names
    assert {each.bucket for each in found} == {endpoint.bucket}
    assert all(each.size == len(each.key.encode()) and each.etag for each in found)
    assert all(each.modified is not None and each.modified.utcoffset() is not None for each in found)
    assert [each.key for each in store.list("b/")] == ["b/ü +"]
    assert [each.key for each in store.list("a/", start_after="a/017")] == ["a/018", "a/019"]
    assert [each.key for each in store.list(limit=3)] == names[:3]
    assert store.read_bytes(next(iter(store.list("b/")))) == "b/ü +".encode()
    other = endpoint.new_bucket().bucket
    assert list(store.list(bucket=other)) == []
    with pytest.raises(s3.ObjectNotFound):
        list(store.list(bucket="no-such-bucket-here"))


def test_listing_of_many_pages(moto_s3: S3Endpoint) -> None:
    """Pages are asked for when they are wanted, and a listing outlives the closing of its connection."""
    store = new_store(moto_s3)
    for number in range(1005):
        store.write_bytes(b"x", f"{number:04}")
    entries = store.list()
    assert next(entries).key == "0000"
    store.close()
    assert [each.key for each in entries] == [f"{number:04}" for number in range(1, 1005)]


def test_looking(store: s3.RemoteStore) -> None:
    """A look tells length, ETag, time, type and metadata; of what is missing that it is missing."""
    store.write_bytes(b"content", "key", {"x-amz-meta-a": "ü", "content-type": "text/x-a"})
    found = store.stat(PurePosixPath("key"))
    assert (found.key, found.size, found.content_type) == ("key", 7, "text/x-a")
    assert found.etag == hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    assert found.metadata == {"x-amz-meta-a": "ü"}
    assert [name in store for name in ("key", found, PurePosixPath("key"), "missing", 7)] == [True] * 3 + [False] * 2
    with pytest.raises(s3.ObjectNotFound) as caught:
        store.stat("missing")
    assert caught.value.status == 404


def test_presigned_urls(store: s3.RemoteStore, endpoint: S3Endpoint) -> None:
    """Who has a URL can make the one request that it is for, without credentials."""
    key = "a b/ü+"
    store.write_bytes(b"content", key)
    with urllib.request.urlopen(store.presign(key), timeout=30) as answer:
        assert answer.read() == b"content"
    url = store.presign(key, method="PUT", headers={"content-type": "text/x-a"}, expires_seconds=60)
    request = urllib.request.Request(url, data=b"new", method="PUT", headers={"content-type": "text/x-a"})
    urllib.request.urlopen(request, timeout=30).close()
    assert store.read_bytes(key) == b"new"
    assert store.stat(key).content_type == "text/x-a"
    for seconds in (0, 700_000):
        with pytest.raises(ValueError, match="seconds"):
            store.presign(key, expires_seconds=seconds)


def test_a_url_is_for_one_thing(ceph_s3: S3Endpoint) -> None:
    """A URL for reading neither writes nor reads another object."""
    store = new_store(ceph_s3)
    store.write_bytes(b"content", "key")
    store.write_bytes(b"secret", "other")
    url = store.presign("key")
    for request in (
        urllib.request.Request(url, data=b"x", method="PUT"),
        urllib.request.Request(url.replace("/key?", "/other?")),
    ):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=30)


def test_progress(store: s3.RemoteStore, tmp_path: Path) -> None:
    """Progress is told in order, on the caller's thread, up to the end; what the callback raises ends the call."""
    (tmp_path / "large").write_bytes(LARGE)
    told: list[tuple[int, int]] = []
    threads: set[int] = set()

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        threads.add(threading.get_ident())

    def complete() -> list[tuple[int, int]]:
        result = told.copy()
        told.clear()
        assert result == sorted(result)
        assert result[-1] == (len(LARGE), len(LARGE))
        return result

    assert store.write(tmp_path / "large", "key", progress=progress)
    complete()
    assert store.read("key", tmp_path / "back", progress=progress)[0]
    assert len(complete()) > 1
    assert store.copy("key", "copy", progress=progress)
    complete()
    assert threads == {threading.get_ident()}

    def fail(done: int, total: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        store.read("key", tmp_path / "never", progress=fail)
    assert not (tmp_path / "never").exists()
    with pytest.raises(KeyError):
        store.write(tmp_path / "large", "never", progress=fail)
    assert store.exists("key")[0]


def test_the_cause_beside_false(moto_s3: S3Endpoint, tmp_path: Path) -> None:
    """After ``False`` the cause is there, of each thread its own; after a success there is none."""
    store = new_store(moto_s3)
    assert store.last_error is None
    assert store.read("missing", tmp_path / "back") == (False, {})
    cause = store.last_error
    assert isinstance(cause, s3.ObjectNotFound)
    assert (cause.status, cause.code) == (404, "NoSuchKey")
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(store.last_error))
    thread.start()
    thread.join()
    assert seen == [None]
    (tmp_path / "file").write_bytes(b"x")
    assert store.write(tmp_path / "file", "key")
    assert store.last_error is None


def test_errors_that_are_raised(moto_s3: S3Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With ``raise_errors`` no failure is returned, and none is logged beside."""
    store = new_store(moto_s3, raise_errors=True)
    with pytest.raises(s3.ObjectNotFound):
        store.read("missing", tmp_path / "back")
    with pytest.raises(FileNotFoundError):
        store.copy("missing", "other")
    assert store.delete("missing")
    assert caplog.records == []


def test_no_connection_is_one_of_botocore_too(tmp_path: Path) -> None:
    """Where there is no connection programs for boto3 catch it as they did, and it can be sent to another process."""
    connection = s3.S3Connection("key", "secret", "bucket", "http://127.0.0.1:9", max_attempts=1)
    store = s3.RemoteStore(connection, raise_errors=True)
    for call in (lambda: store.delete("key"), lambda: store.read_bytes("key"), lambda: list(store)):
        with pytest.raises(BotoCoreError) as caught:
            call()
        assert isinstance(caught.value, s3.RemoteConnectionError)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_an_object_that_is_replaced_while_it_is_open(fault_server: FaultServer) -> None:
    """A reader never gives bytes of two objects."""
    store = new_store(fault_server.endpoint)
    store.write_bytes(LARGE, "key")
    with store.open("key") as reader:
        assert reader.read(10) == LARGE[:10]
        store.write_bytes(b"other" * 2_000_000, "key")
        with pytest.raises(s3.ObjectChanged):
            reader.read()


def test_bytes_are_proven(fault_server: FaultServer) -> None:
    """What the server proves nothing of is read back, of bytes and of streams as of files."""
    store = new_store(fault_server.endpoint)
    for number in range(2):
        fault_server.faults.add(no_proof().only(operations="PutObject"))
        if number:
            with store.open("stream", "wb") as stream:
                stream.write(b"content")
            receipt = stream.receipt
        else:
            receipt = store.write_bytes(b"content", "bytes")
        assert receipt is not None
        assert receipt.proof >= s3.Proof.MD5
    assert fault_server.counts()["HeadObject"] + fault_server.counts()["GetObject"] >= 2


def test_a_store_in_a_with_block(fault_server: FaultServer) -> None:
    """A store closes its connection at the end of its block."""
    threads = own_threads()
    with new_store(fault_server.endpoint) as store:
        store.write_bytes(b"x", "key")
        assert [thread.name for thread in own_threads() - threads] == ["s3-native"]
    assert own_threads() <= threads


@pytest.mark.parametrize("engine", ["native", "boto3"])
def test_a_login_page_is_no_object(engine: Any, tmp_path: Path) -> None:
    """A network that answers everything with its page, as a success, neither has an object nor gives its bytes."""
    page = b"<!DOCTYPE html><html>Log in</html>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
    with (
        RawServer(lambda request, _: head + (b"" if request.method == "HEAD" else page)) as server,
        connect(server.endpoint, engine=engine, max_attempts=1) as connection,
    ):
        store = s3.RemoteStore(connection, raise_errors=True)
        for ask in (store.exists, store.stat, store.__contains__, store.read_bytes):
            with pytest.raises(s3.RemoteStoreError, match="is not an S3 server"):
                ask("key")
        with pytest.raises(s3.RemoteStoreError, match="is not an S3 server"):
            store.read("key", str(tmp_path / "file"))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["native", "boto3"])
def test_a_page_that_is_an_object(engine: Any) -> None:
    """An object in HTML is read, also where the server gives no checksum of it."""
    page = b"<!DOCTYPE html><html>Mine</html>"
    head = b"HTTP/1.1 200 OK\r\nx-amz-id-2: 1\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
    with (
        RawServer(lambda request, _: head + (b"" if request.method == "HEAD" else page)) as server,
        connect(server.endpoint, engine=engine) as connection,
    ):
        assert s3.RemoteStore(connection).read_bytes("key") == page


def test_a_range_of_what_became_shorter() -> None:
    """A whole object that happens to be as long as the range is not the range."""

    def answer(request: RawRequest, connection: socket.socket) -> bytes:
        if request.method == "HEAD":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n"
        if request.headers["range"].startswith("bytes=0-"):
            place = b"206 Partial Content\r\nContent-Range: bytes 0-1048575/3145728\r\nContent-Length: 1048576"
            return b"HTTP/1.1 " + place + b"\r\n\r\n" + bytes(2**20)
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        count = int(last) + 1 - int(first)
        return f"HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n".encode() + bytes(count)

    with (
        RawServer(answer) as server,
        connect(server.endpoint) as connection,
        pytest.raises(s3.RemoteStoreError, match="other bytes"),
    ):
        s3.RemoteStore(connection).read_bytes("key", start=2_000_000, length=10)


@pytest.mark.parametrize("engine", ["native", "boto3"])
@pytest.mark.parametrize(("place", "count"), [("5-1/2", 5000), ("5-9/10", 5), ("0-1/2", 5000)])
def test_a_first_answer_with_other_bytes(engine: Any, place: str, count: int) -> None:
    """Whoever reads an object as a file gets no bytes of another place, and no beginning of them as the whole."""
    head = f'206 Partial Content\r\nETag: "e-2"\r\nContent-Range: bytes {place}\r\nContent-Length: {count}\r\n\r\n'
    about = f'HTTP/1.1 200 OK\r\nETag: "e-2"\r\nContent-Length: {place.partition("/")[2]}\r\n\r\n'

    def answer(request: RawRequest, connection: socket.socket) -> bytes:
        return about.encode() if request.method == "HEAD" else b"HTTP/1.1 " + head.encode() + bytes(count)

    with RawServer(answer) as server, connect(server.endpoint, engine=engine, max_attempts=1) as connection:
        store = s3.RemoteStore(connection)
        with pytest.raises(s3.RemoteStoreError), store.open("key") as reader:
            reader.read()
        with pytest.raises(s3.RemoteStoreError):
            store.read_bytes("key")
