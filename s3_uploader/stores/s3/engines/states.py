"""The states of a connection of the native engine, and which may follow which."""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    """What a connection does."""

    CONNECTING = enum.auto()
    """It waits for an address to answer."""
    PROXY = enum.auto()
    """It waits for the proxy to let it through."""
    HANDSHAKE = enum.auto()
    """TLS."""
    IDLE = enum.auto()
    """It is ready for a request."""
    SENDING = enum.auto()
    """Some of a request is still to be written."""
    THROTTLED = enum.auto()
    """The same, and it is not its turn: a bandwidth limit."""
    RECEIVING = enum.auto()
    """All is written; the answer is awaited."""
    DRAINING = enum.auto()
    """The server takes nothing more; it may have answered before, and then it closes."""
    CLOSED = enum.auto()
    """It is of no use any more."""


CONNECTING, PROXY, HANDSHAKE, IDLE, SENDING, THROTTLED, RECEIVING, DRAINING, CLOSED = State

TRANSITIONS: dict[State, frozenset[State]] = {
    CONNECTING: frozenset((CONNECTING, PROXY, HANDSHAKE, IDLE, CLOSED)),
    PROXY: frozenset((HANDSHAKE, CLOSED)),
    HANDSHAKE: frozenset((IDLE, CLOSED)),
    IDLE: frozenset((SENDING, CLOSED)),
    SENDING: frozenset((THROTTLED, RECEIVING, DRAINING, CLOSED)),
    THROTTLED: frozenset((SENDING, CLOSED)),
    RECEIVING: frozenset((IDLE, CLOSED)),
    DRAINING: frozenset((CLOSED,)),
    CLOSED: frozenset((CLOSED,)),
}

UNREADY = frozenset((CONNECTING, PROXY, HANDSHAKE))
"""It is not connected yet."""
BUSY = frozenset((SENDING, THROTTLED, RECEIVING, DRAINING))
"""There is an exchange on it."""
