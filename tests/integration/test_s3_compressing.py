"""Compressed objects in S3: what a reader gets, what is known about the original, and what a second try finds."""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_uploader.core.errors import ConflictError
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import Compression, PutOptions, Source
from s3_uploader.stores.wrappers.compressing import CompressingStore
from tests.integration.s3_support import PART, PATIENCE, Station
from tests.servers.fault_server import FaultServer

SIZES = {"whole": 100_000, "parts": PART + 1000}


class Bench:
    """A compressing store before a server."""

    def __init__(self, server: FaultServer, store: CompressingStore) -> None:
        self.server = server
        self.store = store

    def put(self, key: str, data: bytes, *, level: int = 6, on_conflict: OnConflict = OnConflict.FAIL) -> Receipt:
        """Compress, upload, wait."""
        options = PutOptions(compression=Compression("gzip", level, ".gz"), on_conflict=on_conflict)
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            source, deadline = Source(file.fileno(), len(data)), time.monotonic() + PATIENCE
            return self.store.put(key, source, options=options, deadline=deadline).result(PATIENCE)


@pytest.fixture
def bench(
    make_fault_server: Callable[..., FaultServer], engine: str, station: Station, tmp_path: Path
) -> Iterator[Bench]:
    """One for each engine."""
    server = make_fault_server()
    store = CompressingStore(station.store(server.endpoint, engine), directory=str(tmp_path), formats={"gzip"})
    yield Bench(server, store)
    store.close(timeout=5)


@pytest.fixture(params=SIZES)
def data(request: pytest.FixtureRequest) -> bytes:
    """Bytes that compress to less than a part, or, being random, to several."""
    size = SIZES[request.param]
    return os.urandom(size) if request.param == "parts" else (b"21.5 C\n" * size)[:size]


def test_a_reader_gets_the_file_and_learns_of_the_original(bench: Bench, data: bytes) -> None:
    """The object is proven as it was sent; headers say how it is compressed and what the original was."""
    receipt = bench.put("a/b.csv.gz", data)
    stored = bench.server.objects()["a/b.csv.gz"]
    assert gzip.decompress(stored) == data
    assert (receipt.size, receipt.stored_size, receipt.proof) == (len(data), len(stored), Proof.CHECKSUM)
    head = bench.server.endpoint.client().head_object(Bucket=bench.server.endpoint.bucket, Key="a/b.csv.gz")
    assert head["ContentEncoding"] == "gzip"
    assert head["ContentType"] == "text/csv"
    assert head["Metadata"] == {"original-sha256": hashlib.sha256(data).hexdigest(), "original-size": str(len(data))}


def test_after_a_crash_the_same_file_is_there_already(bench: Bench, data: bytes) -> None:
    """Between upload and removal everything can end; the next run finds its own object."""
    first = bench.put("key.gz", data)
    again = bench.put("key.gz", data)
    assert (again.already_there, again.stored_size) == (True, first.stored_size)


def test_other_bytes_prove_nothing_whatever_the_metadata_says(bench: Bench, data: bytes) -> None:
    """The metadata came with the request and tells nothing of the bytes that are stored; only those are a proof."""
    bench.put("key.gz", data, level=1)
    stored = bench.server.objects()["key.gz"]
    with pytest.raises(ConflictError):
        bench.put("key.gz", data, level=9)
    assert bench.server.objects()["key.gz"] == stored


def test_another_file_under_the_key_is_a_conflict(bench: Bench, data: bytes) -> None:
    """Compressed or not, other content is never replaced unasked."""
    bench.put("key.gz", data)
    with pytest.raises(ConflictError):
        bench.put("key.gz", data[:-1] + b"X")
    assert gzip.decompress(bench.server.objects()["key.gz"]) == data
    both = bench.put("key.gz", data[:-1] + b"X", on_conflict=OnConflict.KEEP_BOTH)
    assert both.key != "key.gz"
    assert gzip.decompress(bench.server.objects()[both.key]) == data[:-1] + b"X"
