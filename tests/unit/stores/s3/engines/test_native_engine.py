"""What becomes of a request to the native engine when its connections are not its own any more."""

from __future__ import annotations

import socket

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Access, locate
from s3_uploader.stores.s3.engines.base import Failure, Outcome, TransportFailure
from s3_uploader.stores.s3.engines.connection import Connection
from s3_uploader.stores.s3.engines.native import NativeEngine
from s3_uploader.stores.s3.engines.states import IDLE
from s3_uploader.stores.s3.requests import delete_object


def test_a_request_in_a_forked_child_fails_at_once() -> None:
    """The connections belong to the parent: a call in the child fails and waits for no answer."""
    endpoint = locate(
        bucket="bucket",
        endpoint_url="http://127.0.0.1:9",
        region=None,
        addressing_style="path",
        ca_bundle=None,
        special="",
        environment={},
    )
    engine = NativeEngine(
        access=Access(endpoint, lambda: Credentials("A", "B")), max_connections=1, connect_timeout_seconds=1
    )
    engine.open()
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
