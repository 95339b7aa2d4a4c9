"""Servers that take the checksum of a large file for another one than it is."""

from __future__ import annotations

import dataclasses

import pytest

from s3_uploader.core.errors import ProofError
from s3_uploader.core.model import Proof
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import PART, Station, pending_uploads
from tests.servers.dialects import AWS, ECHO, NEW, OLD, Dialect
from tests.servers.fault_script import Exchange, Fault
from tests.servers.fixtures import MakeFaultServer


def test_a_checksum_of_the_whole_that_is_held_against_the_parts(
    make_fault_server: MakeFaultServer, engine: str, station: Station
) -> None:
    """Where each part was taken and the checksum of the whole is refused, the parts' checksums prove the file."""
    for dialect in (AWS, NEW):
        server = make_fault_server(dialect=dataclasses.replace(dialect, knows_whole_checksums=False))
        store = station.store(server.endpoint, engine)
        content = pattern(2 * PART + 9)
        receipt = station.put(store, "large.dat", content)
        assert receipt.proof >= Proof.MD5
        assert server.objects() == {"large.dat": content}
        parts = [request for request in server.requests if request.operation == "UploadPart"]
        assert len(parts) == 3, "the file was sent more than once"
        completions = sum(request.operation == "CompleteMultipartUpload" for request in server.requests)
        station.put(store, "next.dat", content)
        again = sum(request.operation == "CompleteMultipartUpload" for request in server.requests)
        assert again == completions + 1, "what was learned was forgotten"
        assert pending_uploads(server.endpoint) == []


@pytest.mark.parametrize("dialect", [NEW, OLD, ECHO], ids=lambda dialect: dialect.name)
def test_a_part_that_is_not_joined(
    make_fault_server: MakeFaultServer, engine: str, station: Station, dialect: Dialect
) -> None:
    """A server that leaves out a part, and answers as if it had not, has not stored the file."""
    server = make_fault_server(dialect=dialect)

    def forget_last_part(exchange: Exchange) -> None:
        parts = server.store.uploads[exchange.request.upload_id or ""].parts
        parts[3] = dataclasses.replace(parts[3], body=b"")

    fault = Fault(name="lose a part", operations=("CompleteMultipartUpload",), after_body=forget_last_part)
    server.faults.add(fault)
    store = station.store(server.endpoint, engine)
    station.put(store, "first.dat", b"first")
    assert isinstance(station.error(store, "large.dat", pattern(2 * PART + 9)), ProofError)
    server.assert_all_used()
