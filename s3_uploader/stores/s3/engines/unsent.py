"""What is unfinished on a socket: written bytes that have not arrived, as far as the kernel knows, and TLS."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios

from s3_uploader.stores.s3.engines.base import Answer, Failure, Outcome, TransportFailure


def unsent(sock: socket.socket) -> int:
    """The number of written bytes that the other end has not acknowledged, -1 if it is unknown."""
    try:
        left: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    except OSError:
        return -1
    return left


def is_within_tls(error: OSError) -> bool:
    """Whether an operation on a socket is unfinished because TLS has to read or write something else first.

    Without TLS ``ssl`` is not loaded: that would be a twentieth of a run with few files.
    """
    ssl = sys.modules.get("ssl")
    return ssl is not None and isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError))


def unless_early(outcome: Outcome, sock: socket.socket, *, all_is_written: bool) -> Outcome:
    """Do not believe a success that comes before the server can have received the whole body."""
    if not isinstance(outcome, Answer) or outcome.status >= 300:
        return outcome
    # The segments of an answer also acknowledge all that has arrived at the server.
    if all_is_written and unsent(sock) <= 0:
        return outcome
    return Failure(TransportFailure.INVALID, "a success before the whole body was sent")
