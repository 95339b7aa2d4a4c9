"""The program's own engine and what the kernel refuses it."""

from __future__ import annotations

import selectors
import socket
from types import SimpleNamespace
from typing import Any

from s3_uploader.stores.s3.engines.native import NativeEngine


def test_a_connection_that_the_selector_has_dropped_can_be_closed() -> None:
    """After a change of events that failed, the selector knows the socket no more; that stops no shutdown."""
    engine: Any = NativeEngine.__new__(NativeEngine)
    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        engine._selector = selector
        connection: Any = SimpleNamespace(sock=ours, events=0)
        engine.watch(connection, selectors.EVENT_READ)
        selector.unregister(ours)
        engine.unwatch(connection)
        assert connection.events == 0
        engine.watch(connection, selectors.EVENT_READ)
        assert selector.get_key(ours).data is connection
