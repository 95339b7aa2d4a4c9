"""Programs that are tested under moto's ``mock_aws``: what they write goes to moto, and never to the network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import boto3
import pytest

import s3_uploader
from s3_uploader.core.errors import EngineUnavailable

MockAws = Callable[[], AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection: a test that got past moto fails instead of asking Amazon."""

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a request went past moto")

    def no_name(*arguments: object, **settings: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "there is no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", no_name)


@pytest.fixture(scope="module")
def mock_aws() -> MockAws:
    """What moto calls so. To import it here spares every process that only reads these tests half a second."""
    from moto import mock_aws

    return mock_aws


@pytest.fixture
def bucket(mock_aws: MockAws) -> Iterator[str]:
    """A bucket in moto."""
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
        yield "bucket"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A local file that is written in parts."""
    path = tmp_path / "example"
    path.write_bytes(os.urandom(6 * 2**20))
    return path


def test_the_object_api(bucket: str, example: Path, tmp_path: Path) -> None:
    """Everything that the object API does is done by moto, with whatever credentials moto has set."""
    store = s3_uploader.RemoteStore(
        s3_uploader.S3Connection(default_bucket=bucket),
        multipart_threshold=5 * 2**20,
        part_size=5 * 2**20,
        copy_threshold=5 * 2**20,
        copy_part_size=5 * 2**20,
    )
    headers = {"x-amz-meta-a": "1", "cache-control": "no-store"}
    assert store.write(example, "key", headers)
    assert store.exists("key") == (True, {"x-amz-meta-a": "1"})
    assert store.copy("key", "copy")
    assert store.read("copy", tmp_path / "back") == (True, {"x-amz-meta-a": "1"})
    assert (tmp_path / "back").read_bytes() == example.read_bytes()
    assert boto3.client("s3").head_object(Bucket=bucket, Key="key")["CacheControl"] == "no-store"
    assert store.update_metadata("key", {"x-amz-meta-b": "2"})
    assert store.delete("key")
    assert store.exists("key") == (False, {})


def test_a_store_that_is_older_than_the_mock(mock_aws: MockAws, example: Path) -> None:
    """A store that a module made before the test began goes to moto too, and back again afterwards."""
    store = s3_uploader.RemoteStore(s3_uploader.S3Connection("key", "secret", "bucket", max_attempts=1))
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
        assert store.write(example, "key")
        assert store.exists("key")[0]
    # Nobody stands in for anything now: it asks the network, which this test has not.
    assert not store.write(example, "key")
    assert store.last_error is not None
    assert store.last_error.code == "NameResolutionFailed"


def test_a_run(bucket: str, tmp_path: Path) -> None:
    """One pass over a spool ships to moto."""
    spool = tmp_path / "spool" / "bedroom" / "2020" / "11" / "29" / "20"
    spool.mkdir(parents=True)
    (spool / "46-topic.dat").write_bytes(b"content")
    report = s3_uploader.upload_once(
        {
            "base_dir": str(tmp_path / "spool"),
            "bucket": bucket,
            "settle_seconds": 0,
            "state_dir": str(tmp_path / "state"),
        }
    )
    assert (report.shipped, report.failed, report.message) == (1, 0, "")
    answer = boto3.client("s3").get_object(Bucket=bucket, Key="bedroom/2020/11/29/20/46-topic.dat")
    assert answer["Body"].read() == b"content"


def test_the_own_engine_says_that_it_cannot(bucket: str, example: Path) -> None:
    """Whoever asks for the program's own engine under ``mock_aws`` is told in one sentence, and nothing is sent."""
    store = s3_uploader.RemoteStore(s3_uploader.S3Connection(default_bucket=bucket, engine="native"))
    with pytest.raises(EngineUnavailable, match=r"The engine native cannot be used: moto's mock_aws is active"):
        store.write(example, "key")
