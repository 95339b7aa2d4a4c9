"""A server that knows no ranges answers with whole objects."""

from __future__ import annotations

import time

import pytest

from s3_uploader.core.errors import ObjectGone
from tests.contracts.store_contract import pattern
from tests.integration.s3_support import PART, PATIENCE, Station
from tests.servers.fault_script import Exchange, Fault
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
