"""Bodies of answers: whole objects instead of ranges, objects that look like errors, errors with a success."""

from __future__ import annotations

import time

import pytest

from s3_uploader.core.errors import ObjectGone
from s3_uploader.core.model import Proof
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import PART, PATIENCE, Station
from tests.servers.fault_script import Exchange, Fault, no_proof
from tests.servers.fault_server import FaultServer
from tests.servers.fault_wire import Answer


def test_a_large_file_that_was_there_is_confirmed(fault_server: FaultServer, engine: str, station: Station) -> None:
    """One byte is asked for and five million come: the object is there, and when it is not, that is seen."""
    content = pattern(PART + 9)

    def whole(_: Exchange) -> Answer:
        return Answer(status=200, headers={"ETag": '"x"'}, body=content)

    store = station.store(fault_server.endpoint, engine)
    station.put(store, "large.dat", content)
    receipt = station.put(store, "large.dat", content)
    assert receipt.already_there
    fault_server.faults.add(Fault(name="whole", operations=("GetObject",), times=None, instead=whole))
    assert store.confirm(receipt, deadline=time.monotonic() + PATIENCE).result(PATIENCE) == receipt
    fault_server.faults.clear()
    fault_server.client().delete_object(Bucket=fault_server.bucket, Key="large.dat")
    with pytest.raises(ObjectGone):
        store.confirm(receipt, deadline=time.monotonic() + PATIENCE).result(PATIENCE)


def test_an_object_that_is_a_stored_error(fault_server: FaultServer, engine: str, station: Station) -> None:
    """A file may itself be an error document: it is read back and proven like any other."""
    content = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Archived.</Message></Error>"
    fault_server.faults.add(no_proof().only(operations=("PutObject", "HeadObject")).repeated())
    store = station.store(fault_server.endpoint, engine)
    receipt = station.put(store, "errors/1.xml", content)
    assert (receipt.size, receipt.proof) == (len(content), Proof.CHECKSUM)


@pytest.mark.parametrize(
    "document",
    [
        b"<?xml version='1.0'?>" + b" \r\n" * 2000 + b"<Error><Code>InternalError</Code></Error>",
        b"<Error xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Code>InternalError</Code></Error>",
    ],
    ids=["after blanks", "with a namespace"],
)
def test_parts_that_could_not_be_joined(
    fault_server: FaultServer, engine: str, station: Station, document: bytes
) -> None:
    """An error that comes with a success is found behind blanks and namespaces, and the parts are joined again."""

    def failed(_: Exchange) -> Answer:
        return Answer(status=200, headers={}, body=document)

    fault_server.faults.add(Fault(name="failed", operations=("CompleteMultipartUpload",), instead=failed))
    store = station.store(fault_server.endpoint, engine)
    content = pattern(PART + 9)
    assert station.put(store, "large.dat", content).size == len(content)
    assert fault_server.objects()["large.dat"] == content
