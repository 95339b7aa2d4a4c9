"""The object API against moto and against real S3 servers, and its failures against the fault server."""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, EndpointConnectionError

import s3_uploader as s3
from s3_uploader.remote_store.bucket import Bucket
from s3_uploader.stores.s3.engines.base import EngineName
from tests.integration.remote_support import connect
from tests.servers.base import S3Endpoint, random_name
from tests.servers.dialects import OLD
from tests.servers.fault_script import (
    cut_answer,
    error,
    error_after_storing,
    hang_up,
    lose_object,
    run_before_body,
    wrong_etag,
)
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import *  # noqa: F403

pytestmark = pytest.mark.rotated("endpoint")

FIRST_PROGRAM = """\
import s3_uploader as s3
import yaml

with open('s3.yaml', 'r') as fi:
    config = yaml.safe_load(fi)

connection = s3.S3Connection(**config['s3'])    
store = s3.RemoteStore(connection)

import subprocess
assert store.write("example", "example-in-s3")
exists, metadata = store.exists("example-in-s3")
assert exists
ok, metadata = store.read("example-in-s3", "example-from-s3")
assert ok
assert 0 == subprocess.call(['diff', "example", "example-from-s3"])
assert store.delete("example-in-s3")
exists, metadata = store.exists("example-in-s3")
assert not exists
"""  # noqa: W291
"""As printed in the documentation of the package s3, but for two lines: the import of the package itself, and
``yaml.load(fi)``, which PyYAML 6 refuses without a loader."""

SECOND_PROGRAM = """\
headers = {
    'x-amz-meta-state': 'unprocessed',
    }
remote_name = s3.S3Name("example-in-s3", bucket="my_other_bucket")
assert store.write("example", remote_name, headers=headers)
exists, metadata = store.exists(remote_name)
assert exists
assert metadata == headers
headers['x-amz-meta-state'] = 'processed'
assert store.update_metadata(remote_name, headers)
ok, metadata = store.read(remote_name, "example-from-s3")
assert ok
assert metadata == headers
"""


@pytest.fixture(params=["moto", "swift", "ceph", "rclone"])
def endpoint(request: pytest.FixtureRequest) -> S3Endpoint:
    """A fresh bucket on each of the servers in turn."""
    found = request.getfixturevalue(f"{request.param}_s3")
    assert isinstance(found, S3Endpoint)
    return found


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A local file."""
    path = tmp_path / "example"
    path.write_bytes(hashlib.shake_128(b"example").digest(100_000))
    return path


def new_store(endpoint: S3Endpoint, **options: Any) -> s3.RemoteStore:
    """A store that works in parts early."""
    return s3.RemoteStore(
        connect(endpoint),
        **{"multipart_threshold": 6 * 2**20, "part_size": 5 * 2**20, "copy_part_size": 5 * 2**20, **options},
    )


@pytest.fixture
def store(endpoint: S3Endpoint) -> s3.RemoteStore:
    """A store on each server in turn."""
    return new_store(endpoint)


def has_metadata(endpoint: S3Endpoint, store: s3.RemoteStore, example: Path) -> bool:
    """Whether the server keeps metadata at all; rclone over a directory keeps none."""
    assert store.write(str(example), "probe", {"x-amz-meta-a": "b"})
    found = store.exists("probe")[1] == {"x-amz-meta-a": "b"}
    store.delete("probe")
    return found


@pytest.fixture
def with_metadata(endpoint: S3Endpoint, store: s3.RemoteStore, example: Path) -> None:
    """Skip servers without metadata."""
    if not has_metadata(endpoint, store, example):
        pytest.skip("this server keeps no metadata")


def test_first_program(endpoint: S3Endpoint, example: Path) -> None:
    """The first program of the package's documentation runs."""
    run_program(endpoint, example, FIRST_PROGRAM)


def test_second_program(endpoint: S3Endpoint, example: Path, with_metadata: None) -> None:
    """The second program of the package's documentation runs."""
    other = endpoint.new_bucket().bucket
    beginning = FIRST_PROGRAM.partition("import subprocess")[0]
    run_program(endpoint, example, beginning + SECOND_PROGRAM.replace("my_other_bucket", other))


def test_second_program_to_the_letter(moto_s3: S3Endpoint, example: Path) -> None:
    """It also runs with the very bucket name that it prints, where a server allows such a name."""
    moto_s3.client().create_bucket(Bucket="my_other_bucket")
    run_program(moto_s3, example, FIRST_PROGRAM.partition("import subprocess")[0] + SECOND_PROGRAM)


OLD_POLICY = {
    "s3:GetObject": ("GetObject", "HeadObject"),
    "s3:PutObject": (
        "PutObject",
        "CopyObject",
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPartCopy",
        "CompleteMultipartUpload",
    ),
    "s3:DeleteObject": ("DeleteObject",),
    "s3:AbortMultipartUpload": ("AbortMultipartUpload",),
    "s3:ListMultipartUploadParts": ("ListParts",),
    "s3:GetObjectAcl": ("GetObjectAcl",),
    "s3:PutObjectAcl": ("PutObjectAcl",),
}
"""What the bucket policy of the package's documentation allows, and the requests that each of it is."""


def test_the_policy_of_the_document_suffices(fault_server: FaultServer, tmp_path: Path) -> None:
    """Whoever has set up the bucket by the package's documentation need not grant anything more."""
    fault_server.allowed_operations = {operation for each in OLD_POLICY.values() for operation in each}
    store = new_store(fault_server.endpoint)
    for size in (100, 11 * 2**20):
        (tmp_path / "here").write_bytes(hashlib.shake_128(b"x").digest(size))
        assert store.write(str(tmp_path / "here"), "key", {"x-amz-meta-state": "unprocessed"})
        assert store.exists("key") == (True, {"x-amz-meta-state": "unprocessed"})
        assert store.copy("key", "copy")
        assert store.update_metadata("copy", {"x-amz-meta-state": "processed"})
        assert store.read("copy", str(tmp_path / "back")) == (True, {"x-amz-meta-state": "processed"})
        assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()
        assert store.delete("key")
    store.close()


def run_program(endpoint: S3Endpoint, example: Path, program: str) -> None:
    """Run a program of the documentation beside its settings."""
    scheme, _, host = endpoint.endpoint_url.partition("://")
    (example.parent / "s3.yaml").write_text(
        f'---\ns3: \n    access_key_id: "{endpoint.access_key}"\n    secret_access_key: "{endpoint.secret_key}"\n'
        f'    default_bucket: "{endpoint.bucket}"\n    endpoint: "{host}"\n    tls: {scheme == "https"}\n'
        f'    region: "{endpoint.region}"\n'
    )
    (example.parent / "program.py").write_text(program)
    result = subprocess.run(
        [sys.executable, "program.py"],
        cwd=example.parent,
        env={**os.environ, "PYTHONPATH": str(Path(s3.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("size", [0, 1, 300_000, 6 * 2**20, 6 * 2**20 + 1, 11 * 2**20 + 7])
def test_there_and_back(store: s3.RemoteStore, endpoint: S3Endpoint, tmp_path: Path, size: int) -> None:
    """What is written is read back byte for byte, in one piece or in parts."""
    content = hashlib.shake_128(str(size).encode()).digest(size)
    (tmp_path / "here").write_bytes(content)
    assert store.write(str(tmp_path / "here"), "a dir/weiß & ok+.dat")
    assert endpoint.read("a dir/weiß & ok+.dat") == content
    assert store.read("a dir/weiß & ok+.dat", str(tmp_path / "back")) == (True, {})
    assert (tmp_path / "back").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "here"]


def test_metadata(store: s3.RemoteStore, example: Path, tmp_path: Path, with_metadata: None) -> None:
    """Metadata come back as they were given, whatever text they hold; other headers take effect."""
    headers = {
        "x-amz-meta-state": "unprocessed",
        "x-amz-meta-note": "Größe: 5 €",
        "x-amz-meta-spaces": "  around  ",
        "content-type": "text/x-example",
        "cache-control": "no-store",
    }
    metadata = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
    assert store.write(str(example), "object", headers)
    assert store.exists("object") == (True, metadata)
    assert store.read("object", str(tmp_path / "back")) == (True, metadata)
    answer = store.connection.client.head_object(Bucket=str(store.connection.default_bucket), Key="object")
    assert (answer["ContentType"], answer["CacheControl"]) == ("text/x-example", "no-store")


def test_metadata_of_parts(store: s3.RemoteStore, tmp_path: Path, with_metadata: None) -> None:
    """An object that was written in parts has its metadata too."""
    (tmp_path / "large").write_bytes(b"x" * (7 * 2**20))
    assert store.write(str(tmp_path / "large"), "large", {"x-amz-meta-a": "b", "content-type": "text/x-a"})
    assert store.exists("large") == (True, {"x-amz-meta-a": "b"})


def test_copy(
    store: s3.RemoteStore, endpoint: S3Endpoint, example: Path, with_metadata: None, request: pytest.FixtureRequest
) -> None:
    """A copy has the metadata of the source, or those that are given; its content type in either case."""
    other = s3.S3Name("copy", bucket=endpoint.new_bucket().bucket)
    assert store.write(str(example), "a b/ü+", {"x-amz-meta-a": "1", "content-type": "text/x-a"})
    assert store.copy("a b/ü+", other)
    assert metadata_of(store, other) == {"x-amz-meta-a": "1"}
    assert store.copy("a b/ü+", other, {"x-amz-meta-b": "2"})
    replaced = metadata_of(store, other)
    if "rclone" in request.node.name:
        # It adds the new metadata to the old.
        replaced.pop("x-amz-meta-a")
    assert replaced == {"x-amz-meta-b": "2"}
    answer = store.connection.client.head_object(Bucket=str(other.bucket), Key="copy")
    assert answer["ContentType"] == "text/x-a"
    assert endpoint.replace(bucket=str(other.bucket)).read("copy") == example.read_bytes()


def test_copy_onto_itself(store: s3.RemoteStore, endpoint: S3Endpoint, example: Path, with_metadata: None) -> None:
    """A copy onto itself works and never deletes; with metadata it updates them."""
    assert store.write(str(example), "object", {"x-amz-meta-a": "1", "content-type": "text/x-a"})
    assert store.copy("object", "object")
    assert store.exists("object") == (True, {"x-amz-meta-a": "1"})
    assert store.update_metadata("object", {"x-amz-meta-b": "2"})
    assert store.exists("object") == (True, {"x-amz-meta-b": "2"})
    assert endpoint.read("object") == example.read_bytes()
    assert store.connection.client.head_object(Bucket=endpoint.bucket, Key="object")["ContentType"] == "text/x-a"


@pytest.mark.parametrize("engine", ["native", "boto3"])
@pytest.mark.parametrize("key", ["a b/ü+", "100%", "a%20b", "x?versionId=1", "#&=;"])
def test_copy_of_odd_names(moto_s3: S3Endpoint, example: Path, engine: EngineName, key: str) -> None:
    """A key of any characters is copied, and its metadata updated, with either engine."""
    store = s3.RemoteStore(connect(moto_s3, engine=engine))
    assert store.write(str(example), key)
    assert store.update_metadata(key, {"x-amz-meta-a": "1"})
    assert store.copy(key, "copy")
    assert store.exists("copy") == (True, {"x-amz-meta-a": "1"})


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize(
    ("condition", "value", "is_met"),
    [
        ("if-match", "ETAG", True),
        ("if-match", '"00000000000000000000000000000000"', False),
        ("if-none-match", "ETAG", False),
        ("if-unmodified-since", "Mon, 01 Jan 2001 00:00:00 GMT", False),
        ("if-modified-since", "Mon, 01 Jan 2001 00:00:00 GMT", True),
    ],
)
def test_conditional_copy(
    moto_s3: S3Endpoint, tmp_path: Path, condition: str, value: str, is_met: bool, in_parts: bool
) -> None:
    """A condition of the caller's on the source holds, though the copy is bound to what was seen of the source."""
    store = new_store(moto_s3, copy_threshold=2**20 if in_parts else 2**30)
    store.write_bytes(b"x" * 2**21, "source")
    given = value.replace("ETAG", store.stat("source").etag)
    assert store.copy("source", "copy", {f"x-amz-copy-source-{condition}": given}) is is_met
    assert store.exists("copy")[0] is is_met


def metadata_of(store: s3.RemoteStore, name: str | s3.S3Name) -> dict[str, str]:
    """The metadata of an object, without the one that rclone adds to a copy."""
    exists, metadata = store.exists(name)
    assert exists
    return {key: value for key, value in metadata.items() if key != "x-amz-meta-mtime"}


@pytest.mark.parametrize("onto_itself", [False, True])
def test_copy_in_parts(endpoint: S3Endpoint, tmp_path: Path, onto_itself: bool, request: pytest.FixtureRequest) -> None:
    """An object that is too large for one request is copied in parts, with its metadata."""
    store = new_store(endpoint, copy_threshold=6 * 2**20)
    content = hashlib.shake_128(b"large").digest(11 * 2**20 + 7)
    (tmp_path / "large").write_bytes(content)
    assert store.write(str(tmp_path / "large"), "large", {"x-amz-meta-a": "1", "content-type": "text/x-a"})
    metadata = store.exists("large")[1]
    target = "large" if onto_itself else "copy"
    if "rclone" in request.node.name:
        # It cannot do that, and takes each part for an empty one. The source must not suffer.
        assert not store.copy("large", target)
        assert endpoint.objects() == {"large": content}
        return
    assert store.copy("large", target)
    assert store.exists(target) == (True, metadata)
    assert endpoint.read(target) == content
    assert endpoint.client().list_multipart_uploads(Bucket=endpoint.bucket).get("Uploads", []) == []


@pytest.mark.parametrize("threshold", [2**30, 2**20])
def test_metadata_that_are_removed(moto_s3: S3Endpoint, threshold: int) -> None:
    """Directives mean the same for a copy in one request and for one in parts; without any, all is kept."""
    store = new_store(moto_s3, copy_threshold=threshold)
    store.write_bytes(
        bytes(2**20 + 1), "key", {"x-amz-meta-a": "1", "content-type": "text/x-a", "x-amz-tagging": "t=1"}
    )
    directives = {"x-amz-metadata-directive": "REPLACE", "x-amz-tagging-directive": "REPLACE"}
    assert store.update_metadata("key", {})
    assert store.exists("key") == (True, {"x-amz-meta-a": "1"})
    client = moto_s3.client()
    assert client.get_object_tagging(Bucket=moto_s3.bucket, Key="key")["TagSet"] == [{"Key": "t", "Value": "1"}]
    assert store.update_metadata("key", directives)
    assert store.exists("key") == (True, {})
    assert client.head_object(Bucket=moto_s3.bucket, Key="key")["ContentType"] != "text/x-a"
    assert client.get_object_tagging(Bucket=moto_s3.bucket, Key="key")["TagSet"] == []


@pytest.mark.parametrize("is_carried_out", [False, True])
def test_completion_of_a_copy_is_lost(
    swift_s3: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_carried_out: bool
) -> None:
    """If the repetition finds no upload, the copy counts unless the object there is still the one from before."""
    store, client = new_store(swift_s3, copy_threshold=6 * 2**20), swift_s3.client()
    (tmp_path / "large").write_bytes(b"x" * 11 * 2**20)
    assert store.write(str(tmp_path / "large"), "large", {"x-amz-meta-a": "1"})
    assert store.copy("large", "copy")
    begin = Bucket.begin

    def begin_later(bucket: Bucket, request: Any, **options: Any) -> Any:
        if request.operation != "CompleteMultipartUpload":
            return begin(bucket, request, **options)
        (upload,) = client.list_multipart_uploads(Bucket=swift_s3.bucket)["Uploads"]
        bucket_name, key, upload_id = swift_s3.bucket, upload["Key"], upload["UploadId"]
        if is_carried_out:
            found = client.list_parts(Bucket=bucket_name, Key=key, UploadId=upload_id)["Parts"]
            client.complete_multipart_upload(
                Bucket=bucket_name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": each["PartNumber"], "ETag": each["ETag"]} for each in found]},
            )
        else:
            client.abort_multipart_upload(Bucket=bucket_name, Key=key, UploadId=upload_id)
        asked = begin(bucket, request, **options)
        asked.call.attempts += 1
        return asked

    monkeypatch.setattr(Bucket, "begin", begin_later)
    target = "another copy" if is_carried_out else "copy"
    assert store.copy("large", target) is is_carried_out
    assert swift_s3.read(target) == b"x" * 11 * 2**20


def test_missing_objects(store: s3.RemoteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is not there does not exist, cannot be read or copied, which is logged, and leaves no file."""
    assert store.exists("missing") == (False, {})
    assert store.read("missing", str(tmp_path / "back")) == (False, {})
    assert not store.copy("missing", "copy")
    assert not store.update_metadata("missing", {"x-amz-meta-a": "1"})
    assert store.delete("missing")
    assert list(tmp_path.iterdir()) == []
    messages = [record.getMessage() for record in caplog.records if record.name == "s3_uploader.remote_store"]
    assert len(messages) == 3
    assert messages[0].startswith(f"Failed to read {store.connection.default_bucket}/missing: ")
    missing = f"{store.connection.default_bucket}/missing does not exist, or its bucket does not exist."
    assert [message.partition(": ")[2] for message in messages[1:]] == [missing, missing]


def test_missing_bucket(endpoint: S3Endpoint, example: Path, tmp_path: Path) -> None:
    """A bucket that does not exist is a failure that is returned."""
    store = new_store(endpoint)
    name = s3.S3Name("key", bucket=random_name("nowhere"))
    assert not store.write(str(example), name)
    assert store.read(name, str(tmp_path / "back")) == (False, {})
    assert not store.delete(name)
    assert isinstance(store.last_error, s3.ObjectNotFound)
    assert "Check the bucket's name" in str(store.last_error)


def test_wrong_secret(
    endpoint: S3Endpoint, example: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused credentials are a failure that is returned and logged; ``exists`` raises it."""
    if "moto" in request.node.name:
        pytest.skip("moto checks no signature")
    store = s3.RemoteStore(connect(endpoint.replace(secret_key="wrong" * 8)))
    assert not store.write(str(example), "key")
    assert not store.delete("key")
    with pytest.raises(s3.RemoteStoreError) as caught:
        store.exists("key")
    assert caught.value.status == 403
    assert "wrong" not in caplog.text


def test_no_connection(example: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a connection every method returns a failure and logs it, but ``exists``, which raises."""
    (port,) = free_port()
    store = s3.RemoteStore(s3.S3Connection("key", "secret", "bucket", f"http://127.0.0.1:{port}", max_attempts=1))
    assert not store.write(str(example), "key")
    assert store.read("key", str(tmp_path / "back")) == (False, {})
    assert not store.copy("key", "other")
    assert not store.update_metadata("key", {})
    assert not store.delete("key")
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 5
    with pytest.raises(EndpointConnectionError):
        store.exists("key")


@pytest.mark.parametrize("engine", ["native", "boto3"])
def test_a_web_server_says_nothing_about_objects(engine: Any, tmp_path: Path) -> None:
    """The page with which any web server answers is neither a yes nor a no: ``exists`` raises, nothing is missing."""
    (tmp_path / "empty").mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "empty"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            store = s3.RemoteStore(s3.S3Connection("key", "secret", "bucket", url, engine=engine))
            for ask in (store.exists, store.stat):
                with pytest.raises(s3.RemoteStoreError, match="is not an S3 server") as caught:
                    ask("key")
                assert not isinstance(caught.value, s3.ObjectNotFound)
            store.close()
        finally:
            server.shutdown()
            thread.join()


def free_port() -> list[int]:
    """A port that nobody listens on."""
    from tests.servers.process import free_ports

    return free_ports()


def test_no_credentials(moto_s3: S3Endpoint, example: Path) -> None:
    """Missing credentials are no crash."""
    store = s3.RemoteStore(s3.S3Connection(default_bucket=moto_s3.bucket, endpoint=moto_s3.endpoint_url))
    assert not store.write(str(example), "key")
    with pytest.raises(BotoCoreError):
        store.exists("key")


def test_full_local_disk(moto_s3: S3Endpoint, example: Path) -> None:
    """A local file that cannot be written is raised, for it is no failure of the remote store."""
    store = new_store(moto_s3)
    assert store.write(str(example), "key")
    with pytest.raises(OSError, match="No space left"):
        store.read("key", "/dev/full")


def test_many_threads(moto_s3: S3Endpoint, tmp_path: Path) -> None:
    """One store serves many threads, each with headers of its own."""
    store = new_store(moto_s3)
    (tmp_path / "file").write_bytes(b"x")
    results: dict[int, object] = {}

    def work(number: int) -> None:
        for turn in range(10):
            name = f"{number}-{turn}"
            assert store.write(str(tmp_path / "file"), name, {"x-amz-meta-name": name})
            results[number] = store.exists(name)[1]["x-amz-meta-name"]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}-9" for number in range(8)}


def test_conditional_write(moto_s3: S3Endpoint, example: Path, tmp_path: Path) -> None:
    """Any header of S3 may be given, conditions and tags among them, in one piece and in parts."""
    store = new_store(moto_s3)
    (tmp_path / "large").write_bytes(b"x" * (7 * 2**20))
    for name in (example, tmp_path / "large"):
        headers = {"If-None-Match": "*", "x-amz-tagging": "a=b&c=d", "x-amz-storage-class": "STANDARD_IA"}
        assert store.write(str(name), name.name, headers)
        client = moto_s3.client()
        tags = client.get_object_tagging(Bucket=moto_s3.bucket, Key=name.name)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"a": "b", "c": "d"}
        assert client.head_object(Bucket=moto_s3.bucket, Key=name.name)["StorageClass"] == "STANDARD_IA"
        assert store.update_metadata(name.name, {"x-amz-meta-a": "1"})
        assert client.head_object(Bucket=moto_s3.bucket, Key=name.name)["StorageClass"] == "STANDARD_IA"
    assert not store.write(str(example), "example", {"If-None-Match": "*"})


def test_rights_survive_new_metadata(ceph_s3: S3Endpoint, example: Path) -> None:
    """New metadata do not make a public object private, as a copy in S3 does by itself."""
    store = new_store(ceph_s3)
    assert store.write(str(example), "public", {"x-amz-acl": "public-read"})
    assert store.update_metadata("public", {"x-amz-meta-a": "1"})
    grants = ceph_s3.client().get_object_acl(Bucket=ceph_s3.bucket, Key="public")["Grants"]
    assert any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants)
    assert store.update_metadata("public", {"x-amz-meta-a": "2", "x-amz-acl": "private"})
    grants = ceph_s3.client().get_object_acl(Bucket=ceph_s3.bucket, Key="public")["Grants"]
    assert not any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants)


def test_wrong_content_md5(moto_s3: S3Endpoint, ceph_s3: S3Endpoint, example: Path) -> None:
    """A checksum of the caller's goes along and is verified by the server."""
    store = new_store(ceph_s3)
    assert not store.write(str(example), "key", {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert store.exists("key") == (False, {})


# ------------------------------------------------------------------------------------------------- faults of the server


@pytest.fixture
def faulty(fault_server: FaultServer) -> Callable[..., s3.RemoteStore]:
    """Makes stores on the fault server."""

    def make(**options: Any) -> s3.RemoteStore:
        return new_store(fault_server.endpoint, **options)

    return make


def test_answer_to_a_copy_is_lost(
    fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore], tmp_path: Path
) -> None:
    """New metadata whose answer was lost are there, though the repetition finds an object with another ETag."""
    store = faulty()
    store.write_file(io.BytesIO(b"x" * (7 * 2**20)), "large")
    assert store.stat("large").etag.endswith("-2")
    fault_server.faults.add(hang_up().only(operations="CopyObject"))
    assert store.update_metadata("large", {"x-amz-meta-a": "1"})
    assert store.exists("large") == (True, {"x-amz-meta-a": "1"})
    assert fault_server.counts()["CopyObject"] == 2


def test_copy_of_an_object_that_is_replaced_meanwhile(
    fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore]
) -> None:
    """A copy that has to be repeated does not take another object for its own work."""
    store = faulty()
    store.write_bytes(b"one", "object")
    replace = run_before_body(lambda: fault_server.put("object", b"two"))
    fault_server.faults.add((replace | hang_up("after_body")).only(operations="CopyObject"))
    assert not store.update_metadata("object", {"x-amz-meta-a": "1"})
    assert store.exists("object") == (True, {})


def test_headers_of_the_source(fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore]) -> None:
    """What S3 has to know before it shows the source goes with the look at it and with each part, too."""
    store = faulty(copy_threshold=2**20)
    store.write_bytes(b"small", "small")
    store.write_bytes(b"x" * 2**21, "large")
    owner, key = "111122223333", "x-amz-copy-source-server-side-encryption-customer-algorithm"
    given = {"x-amz-request-payer": "requester", "x-amz-source-expected-bucket-owner": owner, key: "AES256"}
    store.copy("large", "copy", given)  # this server does not copy in parts
    assert store.copy("small", "copy", given)
    for look in fault_server.requests_of("HeadObject", "small") + fault_server.requests_of("HeadObject", "large"):
        assert look.headers["x-amz-request-payer"] == "requester"
        assert look.headers["x-amz-expected-bucket-owner"] == owner
        assert look.headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256"
    (part,) = fault_server.requests_of("UploadPartCopy")
    assert part.headers[key] == "AES256"
    assert part.headers["x-amz-source-expected-bucket-owner"] == owner


def test_server_that_stores_something_else(
    fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore], example: Path
) -> None:
    """A server whose answer does not fit is asked for the object itself before anybody is alarmed."""
    fault_server.faults.add(wrong_etag())
    store = faulty()
    assert store.write(str(example), "key")


def test_server_that_loses_the_object(
    fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore], tmp_path: Path
) -> None:
    """A large object that the server says it has, and has not, was not written."""
    (tmp_path / "large").write_bytes(b"x" * (7 * 2**20))
    fault_server.faults.add(lose_object())
    assert not faulty().write(str(tmp_path / "large"), "key")


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_failed_parts_are_removed(
    fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore], tmp_path: Path, operation: str
) -> None:
    """Parts of an upload that failed do not stay to be paid for."""
    (tmp_path / "large").write_bytes(b"x" * (11 * 2**20))
    fault_server.faults.add(error("AccessDenied").only(operations=operation))
    assert not faulty().write(str(tmp_path / "large"), "key")
    assert fault_server.client().list_multipart_uploads(Bucket=fault_server.bucket).get("Uploads", []) == []
    assert fault_server.endpoint.keys() == []


def test_passing_errors(fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore], example: Path) -> None:
    """What passes is tried again: an overloaded server, a cut connection, an error after the work was done."""
    for fault in (error("SlowDown"), hang_up(), hang_up("in_body", after_bytes=10_000), error_after_storing()):
        fault_server.faults.add(fault)
    assert faulty().write(str(example), "key")
    assert fault_server.endpoint.read("key") == example.read_bytes()


def test_completion_whose_answer_is_lost(make_fault_server: Callable[..., FaultServer], tmp_path: Path) -> None:
    """An upload in parts that was completed counts as written, even if the server said otherwise and then forgot."""
    server = make_fault_server(dialect=OLD)
    server.faults.add(error_after_storing().only(operations="CompleteMultipartUpload"))
    (tmp_path / "large").write_bytes(b"x" * (7 * 2**20))
    assert new_store(server.endpoint).write(str(tmp_path / "large"), "key")


def test_download_is_resumed(
    fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore], example: Path, tmp_path: Path
) -> None:
    """A download whose connection breaks goes on where it was."""
    store = faulty()
    assert store.write(str(example), "key", {"x-amz-meta-a": "1"})
    for _ in range(3):
        fault_server.faults.add(cut_answer(20_000).only(operations="GetObject"))
    assert store.read("key", str(tmp_path / "back")) == (True, {"x-amz-meta-a": "1"})
    assert (tmp_path / "back").read_bytes() == example.read_bytes()


def test_download_that_breaks_for_good(
    fault_server: FaultServer, faulty: Callable[..., s3.RemoteStore], example: Path, tmp_path: Path
) -> None:
    """A download that never comes to its end fails and leaves what was there."""
    store = faulty()
    assert store.write(str(example), "key")
    (tmp_path / "back").write_bytes(b"before")
    fault_server.faults.add(cut_answer(1000).only(operations="GetObject", times=None))
    assert store.read("key", str(tmp_path / "back")) == (False, {})
    assert (tmp_path / "back").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "example"]


def test_download_of_something_else(make_fault_server: Callable[..., FaultServer], tmp_path: Path) -> None:
    """Bytes that do not have the object's MD5 are no download."""
    server = make_fault_server(dialect=OLD)
    server.client().put_object(Bucket=server.bucket, Key="key", Body=b"content")
    server.faults.add(wrong_etag("0" * 32).only(operations="GetObject"))
    assert new_store(server.endpoint).read("key", str(tmp_path / "back")) == (False, {})
    assert list(tmp_path.iterdir()) == []


def test_the_log_holds_nothing_that_drives_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    """Names and what a server says are escaped and bounded in the log of the object API."""
    store = s3.RemoteStore(s3.S3Connection(default_bucket="b"))

    def fail() -> None:
        raise s3.RemoteStoreError("\x9b31m\u202e" + "A" * 99999)

    assert store._succeeds("write", "b", "k\n\x1b[31m\u2028", fail) is False
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 700
