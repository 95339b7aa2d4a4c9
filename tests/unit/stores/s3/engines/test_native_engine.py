"""The native engine: where its connections lead, and what becomes of a request when they are not its own any more."""

from __future__ import annotations

import socket

import pytest

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Access, locate
from s3_uploader.stores.s3.engines.base import EngineSettings, Failure, Outcome, TransportFailure
from s3_uploader.stores.s3.engines.connection import Address, Connection
from s3_uploader.stores.s3.engines.native import NativeEngine
from s3_uploader.stores.s3.engines.states import IDLE
from s3_uploader.stores.s3.requests import delete_object


def engine_for(url: str) -> NativeEngine:
    """An open engine of a bucket there."""
    endpoint = locate(
        bucket="bucket",
        endpoint_url=url,
        region=None,
        addressing_style="path",
        ca_bundle=None,
        special="",
        environment={},
    )
    settings = EngineSettings(max_connections=1, connect_timeout_seconds=1)
    engine = NativeEngine(access=Access(endpoint, lambda: Credentials("A", "B")), settings=settings)
    engine.open()
    return engine


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 9))),
        ("[::1]", (socket.AF_INET6, ("::1", 9))),
        ("host.example", None),
        ("host1", None),
    ],
)
def test_an_address_is_not_looked_up(host: str, address: Address | None) -> None:
    """Where the endpoint is an address there is nothing to look up, so no thread is started for it."""
    engine = engine_for(f"http://{host}:9")
    try:
        assert engine._literal == address
        assert (engine._addresses is None) == (address is not None)
    finally:
        engine.close(timeout=1)


def test_a_request_in_a_forked_child_fails_at_once() -> None:
    """The connections belong to the parent: a call in the child fails and waits for no answer."""
    engine = engine_for("http://127.0.0.1:9")
    ours, theirs = socket.socketpair()
    with theirs:
        connection = Connection(engine, [], 0.0, connect_seconds=1)
        connection.sock, connection.state = ours, IDLE
        engine._connections.add(connection)
        engine._idle.append(connection)
        engine.leave_to_parent()
        outcomes: list[Outcome] = []
        engine.send(delete_object("key", "key"), outcomes.append)
        assert outcomes == [Failure(TransportFailure.CANCELLED)]
