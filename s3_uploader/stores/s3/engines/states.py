"""The states of a connection of the native engine, and the allowed transitions."""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    """The current activity of a connection."""

    CONNECTING = enum.auto()
    """Waits for an address to answer."""
    PROXY = enum.auto()
    """Waits for the proxy's permission."""
    HANDSHAKE = enum.auto()
    """Performs the TLS handshake."""
    IDLE = enum.auto()
    """Ready for a request."""
    SENDING = enum.auto()
    """A part of the request is still to be written."""
    THROTTLED = enum.auto()
    """The same, but the bandwidth limit makes it wait."""
    RECEIVING = enum.auto()
    """The request is written; the answer is awaited."""
    DRAINING = enum.auto()
    """The server accepts no more bytes, but it may have answered before, and then it closes."""
    CLOSED = enum.auto()
    """No longer usable."""


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
"""States before the connection is ready."""
BUSY = frozenset((SENDING, THROTTLED, RECEIVING, DRAINING))
"""States with an exchange."""
