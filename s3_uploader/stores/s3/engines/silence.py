"""When a connection of the native engine has been silent for too long, and the failure that this is."""

from __future__ import annotations

from s3_uploader.stores.s3.engines.base import NO_HANDSHAKE, Failure, TransportFailure
from s3_uploader.stores.s3.engines.connection import Connection
from s3_uploader.stores.s3.engines.states import CONNECTING, HANDSHAKE, PROXY, State

_TOO_LONG = {
    CONNECTING: (TransportFailure.CONNECT_TIMEOUT, "no answer"),
    PROXY: (TransportFailure.PROXY, "no answer"),
    # Not a failure of TLS: an overloaded server or a lossy network is silent, too.
    HANDSHAKE: (TransportFailure.CONNECT_TIMEOUT, NO_HANDSHAKE),
}
"""By state of a connection: the reason why it was not ready in time."""


def unready_for_too_long(state: State, seconds: float) -> Failure:
    """The failure of a connection that has not become ready in so many seconds."""
    kind, silence = _TOO_LONG[state]
    return Failure(kind, f"{silence} in {seconds:g} s")


def busy_for_too_long(connection: Connection, *, seconds: float, now: float) -> Failure | None:
    """The failure of a connection with an exchange that has been silent for more than so many seconds, if it has."""
    if connection.is_leaving():
        connection.progress_at = now
        return None
    silent = now - connection.progress_at
    exchange = connection.exchange
    if exchange is None or silent <= seconds + exchange.request.allowance_seconds:
        return None
    return Failure(TransportFailure.TIMEOUT, f"for {silent:.0f} s")
