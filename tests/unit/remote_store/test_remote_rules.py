"""The object API: headers, names, endpoints and local files, without a server."""

from __future__ import annotations

import os
import threading
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import s3_uploader as s3
from s3_uploader.core.errors import ConfigError
from s3_uploader.remote_store import headers
from s3_uploader.remote_store.connection import Endpoint, parse_endpoint
from s3_uploader.remote_store.copy_requests import source_header, unmet_condition
from s3_uploader.remote_store.local_files import written_whole
from s3_uploader.remote_store.writing import sendable, whole_file


@pytest.mark.parametrize(
    ("endpoint", "tls", "expected"),
    [
        (None, True, Endpoint(None, None)),
        ("s3-us-west-2.amazonaws.com", True, Endpoint(None, "us-west-2")),
        ("s3.eu-central-1.amazonaws.com", True, Endpoint(None, "eu-central-1")),
        ("s3.cn-north-1.amazonaws.com.cn", True, Endpoint(None, "cn-north-1")),
        ("s3.amazonaws.com", True, Endpoint(None, "us-east-1")),
        ("https://s3.eu-west-1.amazonaws.com/", True, Endpoint("https://s3.eu-west-1.amazonaws.com", "eu-west-1")),
        ("http://S3-us-west-2.amazonaws.com:80", True, Endpoint("http://S3-us-west-2.amazonaws.com:80", "us-west-2")),
        (
            "s3.dualstack.eu-west-1.amazonaws.com",
            True,
            Endpoint("https://s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"),
        ),
        (
            "s3-fips.dualstack.us-gov-west-1.amazonaws.com",
            True,
            Endpoint("https://s3-fips.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ),
        (
            "https://bucket.vpce-1a2b-5678.s3.us-east-2.vpce.amazonaws.com",
            True,
            Endpoint("https://bucket.vpce-1a2b-5678.s3.us-east-2.vpce.amazonaws.com", "us-east-2"),
        ),
        ("https://s3.amazonaws.com", True, Endpoint("https://s3.amazonaws.com", None)),
        ("https://s3.eu-west-1.amazonaws.com.evil", True, Endpoint("https://s3.eu-west-1.amazonaws.com.evil", None)),
        ("https://x/s3.eu-west-1.amazonaws.com", True, Endpoint("https://x/s3.eu-west-1.amazonaws.com", None)),
        ("localhost:9000", False, Endpoint("http://localhost:9000", None)),
        ("storage.example.org", True, Endpoint("https://storage.example.org", None)),
        ("http://127.0.0.1:9000/", True, Endpoint("http://127.0.0.1:9000", None)),
        ("https://example.org/s3", False, Endpoint("https://example.org/s3", None)),
    ],
)
def test_endpoints(endpoint: str | None, tls: bool, expected: Endpoint) -> None:
    """An endpoint is a host name, with or without a port, or a URL; AWS's own names tell the region."""
    assert parse_endpoint(endpoint, tls=tls) == expected


@pytest.mark.parametrize("endpoint", ["", "ftp://host", "host name", "user@host", "host?x"])
def test_endpoints_that_are_none(endpoint: str) -> None:
    """What is no endpoint is refused at once, not by a failing request."""
    with pytest.raises(ValueError, match="endpoint"):
        s3.S3Connection(endpoint=endpoint)


def test_names() -> None:
    """A name without a bucket has the default one; without that it is an error."""
    connection = s3.S3Connection(default_bucket="default")
    assert connection.resolve("key") == ("default", "key")
    assert connection.resolve(s3.S3Name("key")) == ("default", "key")
    assert connection.resolve(s3.S3Name("key", bucket="other")) == ("other", "key")
    assert connection.resolve(s3.S3Name("key", "other")) == ("other", "key")
    for without, name in (
        (s3.S3Connection(), "key"),
        (s3.S3Connection(default_bucket=""), "key"),
        (connection, s3.S3Name("key", "")),
    ):
        with pytest.raises(ValueError, match="no bucket"):
            without.resolve(name)


@pytest.mark.parametrize("method", ["read", "write", "copy", "delete", "exists", "update_metadata"])
def test_no_bucket_is_a_value_error(method: str, tmp_path: Path) -> None:
    """Every method raises ValueError where there is no bucket, before it does anything."""
    store = s3.RemoteStore(s3.S3Connection())
    (tmp_path / "file").write_bytes(b"x")
    arguments: dict[str, tuple[object, ...]] = {
        "read": ("key", str(tmp_path / "new")),
        "write": (str(tmp_path / "file"), "key"),
        "copy": ("key", "other"),
        "update_metadata": ("key", {}),
    }
    with pytest.raises(ValueError, match="no bucket"):
        getattr(store, method)(*arguments.get(method, ("key",)))
    assert not (tmp_path / "new").exists()


def test_missing_local_file_is_raised() -> None:
    """A local file that is not there is the caller's error, raised as open() does."""
    store = s3.RemoteStore(s3.S3Connection(default_bucket="b"))
    with pytest.raises(FileNotFoundError):
        store.write("/nonexistent/file", "key")


def test_settings_that_contradict() -> None:
    """Settings that cannot both be meant are refused."""
    with pytest.raises(ValueError, match="mean the same"):
        s3.S3Connection(default_bucket="a", bucket="b")
    with pytest.raises(ValueError, match="must be given together"):
        s3.S3Connection(access_key_id="a")
    assert s3.S3Connection(bucket="a").default_bucket == "a"


def test_secrets_are_not_shown() -> None:
    """A connection shows where it goes, not its credentials."""
    shown = repr(s3.S3Connection("key-id", "very-secret", "bucket", "localhost:9000", False))
    assert shown == "S3Connection(endpoint='http://localhost:9000', default_bucket='bucket')"


def test_settings_from_yaml(tmp_path: Path) -> None:
    """The settings may come from a YAML file of the form that the package s3 had."""
    path = tmp_path / "s3.yaml"
    path.write_text(
        '---\ns3: \n    access_key_id: "XXXXX"\n    secret_access_key: "YYYYYYY"\n'
        '    default_bucket: "ZZZZZZZ"\n    endpoint: "s3-us-west-2.amazonaws.com"\n'
    )
    connection = s3.RemoteStore.from_yaml(str(path)).connection
    assert connection.default_bucket == "ZZZZZZZ"
    assert connection.endpoint.region == "us-west-2"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("other: {}", "has no section s3"),
        ("- a", "has no section s3"),
        ("s3: {colour: blue}", "colour"),
        ("s3: {access_key_id: a}", "must be given together"),
        ("s3: [", "is not valid YAML"),
        ("s3: " + "[" * 5000, "is not valid YAML"),
        ("s3: {default_bucket: 2016-13-40}", "is not valid YAML"),
        ("s3: {default_bucket: 2016}", "default_bucket must be text, not int; in YAML, put it between quotes"),
        ("s3: {default_bucket: yes}", "default_bucket must be text, not bool"),
        ("s3: {default_bucket: 2016-01-01}", "default_bucket must be text, not date"),
        ("s3: {endpoint: 5}", "endpoint must be text"),
        ("s3: {access_key_id: 0123, secret_access_key: b}", "access_key_id must be text, not int; "),
        ("s3: {endpoint: localhost, tls: }", "tls must be true or false, not NoneType"),
        ("s3: {endpoint: localhost, tls: 'no'}", "tls must be true or false, not str"),
    ],
)
def test_wrong_yaml(tmp_path: Path, text: str, problem: str) -> None:
    """A settings file that does not fit is one clear sentence."""
    path = tmp_path / "s3.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        s3.RemoteStore.from_yaml(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        s3.RemoteStore.from_yaml(str(tmp_path / "missing"))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_values_come_back(value: str) -> None:
    """Every text that is no control character survives as metadata, and what is sent is plain ASCII."""
    encoded = headers.encoded_value(value)
    assert encoded.isascii()
    assert headers.decoded_value(encoded) == value


def test_headers_that_cannot_be_sent() -> None:
    """A header that would break the request, or is the request's own, is refused."""
    for name, value in [
        ("x-amz-meta-a", "line\nbreak"),
        ("x amz", "a"),
        ("", "a"),
        ("Host", "a"),
        ("content-length", 5),
    ]:
        with pytest.raises(ValueError, match="header"):
            headers.normalised({name: value})
    assert headers.normalised({"X-Amz-Meta-State": 5}) == {"x-amz-meta-state": "5"}
    assert headers.normalised(None) == {}


def test_undecodable_values_stay() -> None:
    """What looks encoded and is not comes back as it is."""
    for value in ("=?x", "=?nonsense?B?####?=", "=?utf-8?q?ok?="):
        assert isinstance(headers.decoded_value(value), str)
    assert headers.decoded_value("=?nonsense?B?AAAA?=") == "=?nonsense?B?AAAA?="


EARLIER, SEEN = "Mon, 01 Jan 2001 00:00:00 GMT", "Sun, 29 Nov 2026 12:00:00 GMT"
SOURCE = {
    "content-type": "text/plain",
    "x-amz-meta-a": "1",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-server-side-encryption": "AES256",
    "etag": '"x"',
}


def test_plain_copy_leaves_everything_to_the_server() -> None:
    """A copy without headers needs none."""
    assert headers.for_copy({}, SOURCE, onto_itself=False) == {}
    assert headers.for_copy({"x-amz-acl": "private"}, SOURCE, onto_itself=False) == {"x-amz-acl": "private"}


def test_copy_with_other_metadata() -> None:
    """New metadata replaces the old; the content type, which S3 would drop, is sent along."""
    assert headers.for_copy({"x-amz-meta-b": "2"}, SOURCE, onto_itself=False) == {
        "x-amz-metadata-directive": "REPLACE",
        "x-amz-meta-b": "2",
        "content-type": "text/plain",
    }


def test_copy_with_another_content_type() -> None:
    """A new content type does not cost the metadata."""
    assert headers.for_copy({"content-type": "image/png"}, SOURCE, onto_itself=False) == {
        "x-amz-metadata-directive": "REPLACE",
        "x-amz-meta-a": "1",
        "content-type": "image/png",
    }


def test_copy_onto_itself() -> None:
    """A copy onto itself keeps what S3 would reset: storage class and encryption."""
    assert headers.for_copy({}, SOURCE, onto_itself=True) == {
        "x-amz-metadata-directive": "REPLACE",
        "x-amz-meta-a": "1",
        "content-type": "text/plain",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "AES256",
    }
    kept = headers.for_copy(
        {"x-amz-storage-class": "GLACIER", "x-amz-server-side-encryption": "aws:kms"}, SOURCE, onto_itself=True
    )
    assert kept["x-amz-storage-class"] == "GLACIER"
    assert kept["x-amz-server-side-encryption"] == "aws:kms"


def test_metadata_that_are_not_encoded() -> None:
    """Values that a server returns as they were given, in UTF-8, are read as such, and survive a copy onto itself."""
    received = {
        "x-amz-meta-a": "größe".encode().decode("latin-1"),
        "x-amz-meta-b": "\xe9",
        "x-amz-meta-c": "=?UTF-8?B?4oKs?=",
    }
    known = {"x-amz-meta-a": "größe", "x-amz-meta-b": "é", "x-amz-meta-c": "€"}
    assert headers.metadata_of(received) == known
    sent = headers.for_copy({}, received, onto_itself=True)
    assert all(value.isascii() for value in sent.values())
    assert headers.metadata_of(sent) == known
    disposition = {"content-disposition": "größe".encode().decode("latin-1")}
    assert headers.for_copy({}, disposition, onto_itself=True)["content-disposition"] == "größe"


def test_directives_of_the_caller_win() -> None:
    """Who gives a directive means it."""
    given_headers = {"x-amz-metadata-directive": "COPY", "x-amz-meta-b": "2"}
    assert headers.for_copy(given_headers, SOURCE, onto_itself=False) == given_headers
    assert headers.for_copy({"x-amz-tagging": "a=b"}, SOURCE, onto_itself=False) == {
        "x-amz-tagging": "a=b",
        "x-amz-tagging-directive": "REPLACE",
    }


def test_directives_of_a_copy_in_parts() -> None:
    """S3 knows none there, so that what they ask for is done with the headers themselves."""
    tags = {"x-amz-tagging": "a=b", "x-amz-tagging-directive": "REPLACE", "x-amz-copy-source-if-match": "e"}
    replace = {"x-amz-metadata-directive": "REPLACE"}
    assert headers.directed({"x-amz-meta-b": "2", **tags}) == {"x-amz-meta-b": "2", "x-amz-tagging": "a=b"}
    assert headers.directed({"content-type": "text/x", **replace}) == {"content-type": "text/x", **replace}
    ignored = {"x-amz-meta-b": "2", "content-type": "text/x", "x-amz-metadata-directive": "COPY"}
    assert headers.directed({"x-amz-acl": "private", **ignored}) == {"x-amz-acl": "private"}


def test_source_of_a_copy() -> None:
    """The key after the bucket's name; an access point's ARN has slashes of its own, so a word stands between."""
    assert source_header("bucket", "a%20b/c") == "bucket/a%20b/c"
    access_point = "arn:aws:s3:eu-west-1:111122223333:accesspoint/name"
    assert source_header(access_point, "a/b") == f"{access_point}/object/a/b"


@pytest.mark.parametrize(
    ("given_headers", "unmet"),
    [
        ({}, ""),
        ({"if-match": '"x"'}, ""),
        ({"if-match": '"a", "x"'}, ""),
        ({"if-match": "*"}, ""),
        ({"if-match": '"a"'}, "if-match"),
        ({"if-none-match": '"x"'}, "if-none-match"),
        ({"if-none-match": '"a"'}, ""),
        ({"if-unmodified-since": EARLIER}, "if-unmodified-since"),
        ({"if-unmodified-since": SEEN}, ""),
        ({"if-modified-since": SEEN}, "if-modified-since"),
        ({"if-modified-since": EARLIER}, ""),
        ({"if-match": '"x"', "if-unmodified-since": EARLIER}, ""),
        ({"if-none-match": '"a"', "if-modified-since": SEEN}, ""),
        ({"if-unmodified-since": "yesterday"}, ""),
    ],
)
def test_conditions_on_the_source(given_headers: dict[str, str], unmet: str) -> None:
    """Conditions on the source of a copy are evaluated as in S3: one on the ETag counts more than one on the time."""
    prefix = "x-amz-copy-source-"
    found = unmet_condition(
        {prefix + name: value for name, value in given_headers.items()}, {"etag": '"x"', "last-modified": SEEN}
    )
    assert found == (prefix + unmet if unmet else "")


def test_rights_as_headers() -> None:
    """The permissions of an object become headers, unless they are what every object has."""
    owner: dict[str, object] = {"Grantee": {"Type": "CanonicalUser", "ID": "me"}, "Permission": "FULL_CONTROL"}
    everybody: dict[str, object] = {
        "Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"},
        "Permission": "READ",
    }
    assert headers.for_grants("me", [owner]) == {}
    assert headers.for_grants("me", [owner, everybody]) == {
        "x-amz-grant-full-control": 'id="me"',
        "x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    }


def test_headers_of_parts() -> None:
    """In a multipart upload each header goes where S3 expects it."""
    given_headers = {
        "x-amz-meta-a": "1",
        "if-none-match": "*",
        "x-amz-server-side-encryption-customer-key": "k",
        "x-amz-request-payer": "requester",
    }
    assert "if-none-match" not in headers.for_create(given_headers)
    assert set(headers.for_part(given_headers)) == {"x-amz-server-side-encryption-customer-key", "x-amz-request-payer"}
    assert headers.for_completion(given_headers)["if-none-match"] == "*"
    assert "x-amz-meta-a" not in headers.for_completion(given_headers)


def test_pipe_as_source(tmp_path: Path) -> None:
    """What is no regular file is read to its end first, for its size is needed."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(b"through a pipe"))
    writer.start()
    with open(fifo, "rb") as file, sendable(file) as source:
        assert source.size == 14
        assert os.pread(source.descriptor, 100, 0) == b"through a pipe"
    writer.join()


@pytest.mark.parametrize("buffering", [0, -1])
def test_open_pipe_as_source(buffering: int) -> None:
    """A pipe, such as standard input or that of another process, is read to its end."""
    read_from, write_to = os.pipe()
    os.write(write_to, b"through a pipe")
    os.close(write_to)
    with open(read_from, "rb", buffering=buffering) as file, whole_file(file) as source:
        assert os.pread(source.descriptor, 100, 0) == b"through a pipe"


@pytest.mark.parametrize("buffering", [0, -1])
def test_pipe_that_does_not_wait(buffering: int) -> None:
    """A pipe that has nothing more for now has not ended: what it had is not taken for everything."""
    read_from, write_to = os.pipe()
    os.set_blocking(read_from, False)
    os.write(write_to, b"the first half")
    with (
        open(read_from, "rb", buffering=buffering) as file,
        pytest.raises(BlockingIOError, match="has not ended"),
        whole_file(file),
    ):
        pass
    os.close(write_to)


@pytest.mark.parametrize("key", [None, 5, b"key", PureWindowsPath("a/b")])
@pytest.mark.parametrize("named", [False, True])
def test_what_is_no_key(key: Any, named: bool) -> None:
    """Only text is a key: anything else would be stored under the way in which Python shows it."""
    with pytest.raises(TypeError, match="a key is a str or a pure POSIX path, not "):
        s3.RemoteStore("bucket").write_bytes(b"x", s3.S3Name(key) if named else key)


@pytest.mark.parametrize("data", [5, [1, 2], "text"])
def test_what_is_no_bytes(data: Any) -> None:
    """Only bytes are bytes: a number would become as many zeros."""
    with pytest.raises(TypeError):
        s3.RemoteStore("bucket").write_bytes(data, "key")


def test_file_of_no_length_as_source() -> None:
    """A file whose length the system does not tell, as in /proc, is sent with its content."""
    with open("/proc/version", "rb", buffering=0) as file, sendable(file) as source:
        assert os.pread(source.descriptor, source.size, 0) == Path("/proc/version").read_bytes()


def test_download_keeps_the_owner(tmp_path: Path) -> None:
    """A file keeps its owner when root reads a newer state of it, so that its owner can still read it."""
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o600)
    os.chown(path, 1234, 2345)
    with written_whole(str(path)) as consume:
        consume(b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 2345, 0o600)


def test_download_into_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file that was asked for, not the temporary one beside it."""
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as caught, written_whole(str(path)):
        raise AssertionError
    assert caught.value.filename == str(path)


def test_download_appears_whole(tmp_path: Path) -> None:
    """A file appears under its name when it is complete; a failure leaves what was there, and nothing else."""
    path = tmp_path / "file"

    def fail_in_the_middle() -> None:
        with written_whole(str(path)) as consume:
            consume(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    path.chmod(0o640)
    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert path.read_bytes() == b"old"
    with written_whole(str(path)) as consume:
        consume(b"new")
        assert path.read_bytes() == b"old"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_download_through_a_link(tmp_path: Path) -> None:
    """A link is followed as open() does: the file behind it is replaced, the link stays."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with written_whole(str(tmp_path / "link")) as consume:
        consume(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_download_into_a_device(tmp_path: Path) -> None:
    """A device is written to, never replaced by a file."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    with written_whole(str(fifo)) as consume:
        consume(b"data")
    reader.join()
    assert received == [b"data"]
    assert fifo.is_fifo()


def test_download_into_a_missing_directory(tmp_path: Path) -> None:
    """A directory that is not there is raised as open() does."""
    with pytest.raises(FileNotFoundError), written_whole(str(tmp_path / "missing" / "file")):
        pass


def test_download_under_a_long_name(tmp_path: Path) -> None:
    """The temporary name fits even where the name itself is as long as a name can be."""
    name = "é" * 127
    with written_whole(str(tmp_path / name)) as consume:
        consume(b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_password_in_an_endpoint_is_not_repeated() -> None:
    """An endpoint that is refused is shown without its password."""
    with pytest.raises(ValueError, match="endpoint") as caught:
        s3.S3Connection(endpoint="https://user:HUSH@host")
    assert "HUSH" not in str(caught.value)
