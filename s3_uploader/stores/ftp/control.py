"""The control connection to an FTP server: commands and replies, both bounded in bytes and in time.

Text is read and written as Latin-1, which maps every byte to one character, because names are bytes. The connection
follows Telnet (RFC 959, 3.1): the byte 255 is its escape, so it is doubled in names in both directions.

:mod:`ftplib` is not used: its replies have any number of lines, each with its own timeout, it supports only one way to
ask for the address of a data connection, and after the start of TLS it uses bytes that an attacker sent before.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time

from s3_uploader.core.text import host_to_look_up
from s3_uploader.stores.file_servers.password import without_password
from s3_uploader.stores.ftp.replies import Lost, Refused, os_reason, shown_reply

MOST_REPLY_BYTES = 1 << 16
"""A longer reply is invalid. The longest in use, ProFTPD's list of features, has about 1 KiB."""

_ESCAPE = b"\xff"
_CODE = re.compile("[1-5][0-9]{2}")
_KEEPALIVE_IDLE_SECONDS = 30
_KEEPALIVE_INTERVAL_SECONDS = 10
_KEEPALIVE_PROBES = 6


class Control:
    """A connection for commands and replies. Only :meth:`interrupt` may be called from another thread.

    :ivar password: hidden in refusals and invalid answers.
    :raises OSError: if the server cannot be reached.
    """

    def __init__(self, host: str, port: int, *, seconds: float) -> None:
        self.usable = True
        self.password = ""
        self._socket = _connect(host, port, seconds)
        self._received = bytearray()
        with contextlib.suppress(OSError):
            # Keeps firewalls from dropping the idle connection while a large file is sent over another one.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_SECONDS),
                ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_SECONDS),
                ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
            ):
                if hasattr(socket, option):
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    @property
    def peer(self) -> str:
        """The address of the server."""
        return str(self._socket.getpeername()[0])

    @property
    def is_ipv6(self) -> bool:
        """Whether the server was reached over IPv6."""
        return self._socket.family == socket.AF_INET6

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The connection if it is encrypted."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    def send(self, line: str, *, seconds: float) -> None:
        """Send one command.

        :raises Lost: if it cannot be sent before the timeout.
        """
        if "\r" in line or "\n" in line:
            raise Lost("no command can hold a line break")
        if not self.usable:
            raise Lost("it was closed")
        try:
            self._socket.settimeout(max(0.05, seconds))
            self._socket.sendall(line.encode("latin-1").replace(_ESCAPE, _ESCAPE * 2) + b"\r\n")
        except (OSError, ValueError) as error:
            # ValueError is raised by ssl for a socket that was shut down by interrupt().
            raise self._lost(os_reason(error)) from error

    def skip_strays(self) -> None:
        """Skip what arrived before a command is sent: it is no reply to that.

        Some servers confirm a transfer twice, or long after it was cancelled. A 421 stays: it announces that the
        server closes the connection.
        """
        with contextlib.suppress(OSError, ValueError):  # most often nothing is there
            self._socket.settimeout(0)
            self._received += self._socket.recv(1 << 14)
        while (end := self._received.find(b"\n")) >= 0 and not self._received.startswith(b"421"):
            del self._received[: end + 1]

    def reply(self, *, seconds: float) -> str:
        """The next reply of any kind. The lines of a longer one are separated by newlines.

        :param seconds: timeout for the whole reply.
        :raises Lost: if it does not arrive in time, or is invalid.
        """
        ends_at = time.monotonic() + seconds
        room = MOST_REPLY_BYTES
        lines: list[str] = []
        while True:
            line = self._line(ends_at, room)
            room -= len(line) + 2
            lines.append(line)
            if len(lines) == 1 and not _CODE.fullmatch(line[:3]):
                raise self.out_of_step(line)
            if line[:3] == lines[0][:3] and line[3:4] != "-":
                reply = "\n".join(lines)
                return reply[:4] + without_password(reply[4:], self.password) if reply[0] in "45" else reply

    def start_tls(self, context: ssl.SSLContext, host: str, *, seconds: float) -> None:
        """Encrypt everything from here on.

        :raises Lost: if that fails.
        """
        if self._received:
            # An attacker on the network could have inserted a plain-text reply.
            raise self.out_of_step(self._received[:100].decode("latin-1"))
        try:
            self._socket.settimeout(max(0.05, seconds))
            self._socket = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
            self._socket.do_handshake()
        except (OSError, ValueError) as error:
            raise self._lost(os_reason(error)) from error

    def out_of_step(self, reply: str) -> Lost:
        """The error for an invalid answer; the connection is no longer usable."""
        said = shown_reply(without_password(reply, self.password))[:200]
        return self._lost(f"it does not speak FTP as expected ({said})")

    def interrupt(self) -> None:
        """Make every blocking call fail now. May be called on any thread."""
        shut_down(self._socket)
        self.usable = False

    def close(self) -> None:
        """Close the connection."""
        self.usable = False
        with contextlib.suppress(OSError):
            self._socket.close()

    def _line(self, ends_at: float, room: int) -> str:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > room:
                raise self.out_of_step(f"a reply of more than {MOST_REPLY_BYTES} bytes")
            self._receive(ends_at)
        if end > room:
            raise self.out_of_step(f"a reply of more than {MOST_REPLY_BYTES} bytes")
        line = bytes(self._received[:end]).removesuffix(b"\r")
        del self._received[: end + 1]
        return line.replace(_ESCAPE * 2, _ESCAPE).decode("latin-1")

    def _receive(self, ends_at: float) -> None:
        if not self.usable:
            raise Lost("it was closed")
        try:
            remaining = ends_at - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            chunk = self._socket.recv(1 << 14)
        except (OSError, ValueError) as error:
            raise self._lost(os_reason(error)) from error
        if not chunk:
            raise self._lost("the server hung up")
        self._received += chunk

    def _lost(self, reason: str) -> Lost:
        self.usable = False
        return Lost(reason)


def raise_for(reply: str, verb: str) -> str:
    """Return the reply, unless it is a refusal.

    :raises Refused: if it is a refusal.
    """
    if reply[0] in "45":
        raise Refused(reply, verb)
    return reply


def shut_down(connection: socket.socket) -> None:
    """End a connection that another thread may be waiting for."""
    with contextlib.suppress(OSError):
        # Of the plain class, because an SSLSocket's own shutdown() removes its TLS state while the other thread uses
        # it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _connect(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address that answers. The timeout is for all addresses together."""
    ends_at = time.monotonic() + seconds
    addresses = socket.getaddrinfo(host_to_look_up(host), port, type=socket.SOCK_STREAM)
    failed: OSError = OSError("the host name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        # An unreachable first address leaves time for the others.
        share = max(0.05, (ends_at - time.monotonic()) / (len(addresses) - number))
        connection = None
        try:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(share)
            connection.connect(address)
        except OSError as error:
            failed = error
            if connection is not None:
                connection.close()
        else:
            return connection
    raise failed
