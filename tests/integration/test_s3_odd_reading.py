"""Objects that cannot be looked at as usual: a server without HEAD, and one that compresses or decompresses answers."""

from __future__ import annotations

import dataclasses
import gzip

import pytest

from s3_uploader.core.errors import ConflictError, ProofError
from s3_uploader.core.model import Proof
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import PART, Known, Station
from tests.servers.dialects import AWS
from tests.servers.fault_script import Exchange, Fault
from tests.servers.fault_server import FaultServer
from tests.servers.fault_wire import Answer
from tests.servers.fixtures import MakeFaultServer

UNPROVEN = dataclasses.replace(
    AWS, name="unproven", answers_checksums=False, etags_are_md5=False, completion_has_etag=False
)
"""Its answers prove nothing, so that every object is read back."""
FORMS = [pytest.param(200, id="small"), pytest.param(PART + 7, id="parts")]


def refuse_head(server: FaultServer, status: int) -> None:
    """Answer every HEAD of an object with this status."""
    answer = Answer(status=status)
    server.faults.add(Fault(name="no HEAD", operations=("HeadObject",), times=None, instead=lambda _: answer))


def requests_of(server: FaultServer, operation: str) -> int:
    """How many requests of this operation there were."""
    return sum(request.operation == operation for request in server.requests)


@pytest.mark.parametrize("size", FORMS)
@pytest.mark.parametrize("status", [405, 501])
def test_without_head(
    make_fault_server: MakeFaultServer, engine: str, station: Station, status: int, size: int
) -> None:
    """Where HEAD is not supported, an object is looked at with GET and proven in the first try, of any size."""
    server = make_fault_server(dialect=UNPROVEN)
    refuse_head(server, status)
    store = station.store(server.endpoint, engine)
    receipt = station.put(store, "a.dat", pattern(size), minimum_proof=Proof.CHECKSUM)
    assert (receipt.proof, receipt.already_there) == (Proof.CHECKSUM, False)
    assert server.objects()["a.dat"] == pattern(size)
    before = requests_of(server, "HeadObject")
    station.put(store, "b.dat", pattern(size), minimum_proof=Proof.CHECKSUM)
    assert requests_of(server, "HeadObject") == before  # it is asked once


@pytest.mark.parametrize("size", FORMS)
def test_a_conflict_without_head(make_fault_server: MakeFaultServer, engine: str, station: Station, size: int) -> None:
    """Where HEAD is not supported, the same content under the key is recognised, and other content is kept."""
    server = make_fault_server(dialect=UNPROVEN)
    server.client().put_object(Bucket=server.bucket, Key="same.dat", Body=pattern(size))
    server.client().put_object(Bucket=server.bucket, Key="other.dat", Body=b"of another writer")
    refuse_head(server, 405)
    store = station.store(server.endpoint, engine)
    assert station.put(store, "same.dat", pattern(size)).already_there
    assert isinstance(station.error(store, "other.dat", pattern(size)), ConflictError)
    assert server.objects()["other.dat"] == b"of another writer"


def decompress(server: FaultServer, *, always: bool = False) -> None:
    """Answer with decompressed objects, unless gzip is accepted."""

    def read(exchange: Exchange) -> Answer:
        request = exchange.request
        body = server.objects().get(request.key)
        if body is None:
            return Answer(status=404)
        if body[:2] == b"\x1f\x8b" and (always or "gzip" not in request.headers.get("accept-encoding", "")):
            body = gzip.decompress(body)
        return Answer(status=200, headers={"ETag": '"opaque"', "Content-Length": str(len(body))}, body=body)

    server.faults.add(Fault(name="decompresses", operations=("HeadObject", "GetObject"), times=None, instead=read))


def test_a_compressed_file_that_is_decompressed(
    make_fault_server: MakeFaultServer, engine: str, station: Station
) -> None:
    """A compressed file is read as stored from a server that decompresses: it is proven, and later recognised."""
    server = make_fault_server(dialect=UNPROVEN)
    decompress(server)
    content = gzip.compress(b"line\n" * 1000)
    store = station.store(server.endpoint, engine)
    assert station.put(store, "log.gz", content).proof is Proof.CHECKSUM
    assert server.objects()["log.gz"] == content
    assert station.put(store, "log.gz", content).already_there
    assert isinstance(station.error(store, "log.gz", gzip.compress(b"other")), ConflictError)


def test_a_compressed_file_that_nobody_gets_as_stored(
    make_fault_server: MakeFaultServer, engine: str, station: Station
) -> None:
    """A server that gives only the decompressed bytes has not shown that it has ours: the file is kept."""
    server = make_fault_server(dialect=UNPROVEN)
    decompress(server, always=True)
    store = station.store(server.endpoint, engine, memory=Known())
    assert isinstance(station.error(store, "log.gz", gzip.compress(b"line\n" * 1000)), ProofError)


def test_answers_that_are_compressed_on_the_way(
    make_fault_server: MakeFaultServer, engine: str, station: Station
) -> None:
    """A proxy that compresses answers, unless the request declines it, hinders no proof."""
    server = make_fault_server(dialect=UNPROVEN)

    def read(exchange: Exchange) -> Answer:
        request = exchange.request
        body = server.objects().get(request.key)
        if body is None:
            return Answer(status=404)
        headers = {"ETag": '"opaque"'}
        if request.headers.get("accept-encoding") != "identity":
            body, headers = gzip.compress(body), {"ETag": 'W/"opaque"', "Content-Encoding": "gzip"}
        return Answer(status=200, headers={**headers, "Content-Length": str(len(body))}, body=body)

    server.faults.add(Fault(name="compresses", operations=("HeadObject", "GetObject"), times=None, instead=read))
    store = station.store(server.endpoint, engine)
    assert station.put(store, "a.txt", b"line\n" * 1000).proof is Proof.CHECKSUM
