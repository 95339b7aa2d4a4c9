"""What an upload says about its object (storage class, tags, metadata) arrives with every engine, in parts too."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytest

from s3_uploader.stores.base import PutOptions, Source
from tests.integration.s3_support import PART, PATIENCE, Station
from tests.servers.fault_server import FaultServer

GENERAL: dict[str, Any] = {"storage_class": "STANDARD_IA", "tags": {"team": "sea & sky"}, "metadata": {"site": "7"}}


@pytest.mark.parametrize("size", [10, 2 * PART + 1], ids=["whole", "parts"])
def test_storage_class_tags_and_metadata(
    make_fault_server: Callable[..., FaultServer], engine: str, station: Station, size: int
) -> None:
    """What is set for all objects holds unless an upload's own options say otherwise; both may be mixed."""
    server = make_fault_server()
    store = station.store(server.endpoint, engine, **GENERAL)
    own = PutOptions(storage_class="GLACIER", tags={"room": "a+b"}, metadata={"camera": "front"})
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), size)
        for key, options in (("general", PutOptions()), ("own", own), ("general-again", PutOptions())):
            source = Source(file.fileno(), size)
            store.put(key, source, options=options, deadline=time.monotonic() + PATIENCE).result(PATIENCE)
    operation = "PutObject" if size < PART else "CreateMultipartUpload"
    for key in ("general", "general-again"):
        request = server.requests_of(operation, key)[0]
        assert request.headers["x-amz-storage-class"] == "STANDARD_IA"
        assert request.headers["x-amz-tagging"] == "team=sea%20%26%20sky"
        assert request.headers["x-amz-meta-site"] == "7"
        assert "x-amz-meta-camera" not in request.headers
    request = server.requests_of(operation, "own")[0]
    assert request.headers["x-amz-storage-class"] == "GLACIER"
    assert request.headers["x-amz-tagging"] == "room=a%2Bb"
    assert (request.headers["x-amz-meta-site"], request.headers["x-amz-meta-camera"]) == ("7", "front")


def test_a_requester_that_pays(make_fault_server: Callable[..., FaultServer], engine: str, station: Station) -> None:
    """Every request says who pays, in the words of boto3; without the setting none does."""
    server = make_fault_server()
    boto3 = server.client()
    boto3.put_object(Bucket=server.bucket, Key="theirs", Body=b"x", RequestPayer="requester")
    said_by_boto3 = server.requests[-1].headers["x-amz-request-payer"]
    began = len(server.requests)
    store = station.store(server.endpoint, engine, requester_pays=True)
    store.check(now=time.time())
    for key, content in (("small", b"x"), ("large", b"x" * (2 * PART + 1)), ("small", b"x")):
        station.put(store, key, content)
    asked = server.requests[began:]
    operations = {request.operation for request in asked}
    assert operations >= {
        "HeadObject",
        "PutObject",
        "UploadPart",
        "CompleteMultipartUpload",
        "DeleteObject",
    }
    assert {request.headers.get("x-amz-request-payer") for request in asked} == {said_by_boto3}
    station.put(station.store(server.endpoint, engine), "other", b"x")
    assert "x-amz-request-payer" not in server.requests[-1].headers
