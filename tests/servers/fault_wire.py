"""The HTTP side of the fault server: requests read from a socket, answers written to it.

It is written by hand, not on `http.server`, because the tests need what that hides: the moment before `100 Continue`,
a stop after exactly N bytes of a body, an answer cut at a given byte, a reset instead of a close. It is also several
times faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

_MAX_HEAD_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024


class Disconnected(Exception):
    """The client closed the connection before its request was complete."""


class HangUp(Exception):
    """The server is to close the connection now; `reset` sends RST, so that the client sees ECONNRESET."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


@dataclass(slots=True)
class Request:
    """One request, and afterwards the record of how it was answered.

    Times are those of `time.monotonic`. `body_bytes` and `body_md5` describe the payload without any framing;
    `wire_bytes` counts what came over the wire as body so far. `answer_status` stays 0 when no answer was sent.
    """

    method: str
    target: str
    headers: dict[str, str]
    host: str
    path: bytes
    query: dict[str, str]
    connection: int
    started: float
    number: int = 0
    operation: str = ""
    bucket: str = ""
    key: str = ""
    trailers: dict[str, str] = field(default_factory=dict)
    wire_bytes: int = 0
    body_bytes: int = 0
    body_md5: str = ""
    body: bytes | None = None
    fault: str = ""
    answer_status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    ended: float = 0.0

    @property
    def part_number(self) -> int | None:
        """The number of the part, of an UploadPart request."""
        number = self.query.get("partNumber", "")
        return int(number) if number.isdigit() else None

    @property
    def upload_id(self) -> str | None:
        """The id of the multipart upload that the request belongs to."""
        return self.query.get("uploadId")

    @property
    def access_key(self) -> str | None:
        """The access key that signed the request; None when it is not signed."""
        _, _, credential = self.headers.get("authorization", "").partition("Credential=")
        if not credential:
            credential = self.query.get("X-Amz-Credential", "")
        return credential.split("/", 1)[0].strip() or None


@dataclass(slots=True)
class Answer:
    """An answer to be sent. `cut_after` sends only so many bytes of head and body together and closes then."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    close: bool = False


_REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    304: "Not Modified",
    307: "Temporary Redirect",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    412: "Precondition Failed",
    416: "Requested Range Not Satisfiable",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class Wire:
    """One connection: reads requests and bodies, writes answers."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.connection = connection
        self.number = number
        self._buffer = bytearray()

    def has_no_client(self) -> bool:
        """Whether the client has closed the connection, perhaps in the middle of a request."""
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        return bool(poll.poll(0))

    def _fill(self) -> None:
        data = self.connection.recv(_READ_BYTES)
        if not data:
            raise Disconnected
        self._buffer += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Disconnected
            self._fill()
        return self._take(end + 2)[:-2]

    def read_request(self) -> Request:
        """Read the next request up to the empty line; raise `Disconnected` when the client has no more."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Disconnected
            self._fill()
        lines = self._take(end + 4)[:-4].decode("latin-1").split("\r\n")
        try:
            method, target, _ = lines[0].split(" ", 2)
        except ValueError:
            raise Disconnected from None
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        absolute = target.partition("://")[2]
        path, _, raw_query = (target if not absolute else "/" + absolute.partition("/")[2]).partition("?")
        query = {}
        for pair in raw_query.split("&") if raw_query else ():
            name, _, value = pair.partition("=")
            query[unquote_to_bytes(name).decode("utf-8", "replace")] = unquote_to_bytes(value.replace("+", " ")).decode(
                "utf-8", "surrogateescape"
            )
        return Request(
            method=method,
            target=target,
            headers=headers,
            host=headers.get("host", ""),
            path=unquote_to_bytes(path.encode("latin-1")),
            query=query,
            connection=self.number,
            started=time.monotonic(),
        )

    def continue_request(self) -> None:
        """Tell a client that waits with `Expect: 100-continue` to send its body."""
        self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def read_body(
        self, request: Request, progress: Callable[[Request, int], int], *, partial: bytearray | None = None
    ) -> bytes:
        """Read the body and take off its framing.

        `progress` is called with the bytes that came so far, first with 0, and returns at which number it wants to be
        called next. `partial` receives the bytes as they come, for who wants them when `Disconnected` is raised.
        """
        received = bytearray() if partial is None else partial
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            self._read_chunked(request, progress, received)
        else:
            length = int(request.headers.get("content-length", "0") or 0)
            self._read_bytes(request, length, progress, received, progress(request, 0))
        return _without_aws_framing(request, received)

    def _read_bytes(
        self,
        request: Request,
        count: int,
        progress: Callable[[Request, int], int],
        received: bytearray,
        stop_at: int,
    ) -> int:
        while count > 0:
            if request.wire_bytes >= stop_at:
                stop_at = progress(request, request.wire_bytes)
            want = min(count, max(stop_at - request.wire_bytes, 1))
            if self._buffer:
                data = self._take(min(want, len(self._buffer)))
            else:
                data = self.connection.recv(min(want, 1024 * 1024))
                if not data:
                    raise Disconnected
            received += data
            request.wire_bytes += len(data)
            count -= len(data)
        if request.wire_bytes >= stop_at:
            stop_at = progress(request, request.wire_bytes)
        return stop_at

    def _read_chunked(self, request: Request, progress: Callable[[Request, int], int], received: bytearray) -> None:
        stop_at = progress(request, 0)
        while size := int(self._line().split(b";", 1)[0], 16):
            stop_at = self._read_bytes(request, size, progress, received, stop_at)
            self._line()
        while line := self._line():
            _add_trailer(request, line)

    def send(self, request: Request, answer: Answer) -> None:
        """Send an answer; raise `HangUp` when it was to be cut."""
        body = b"" if answer.status in (204, 304) else answer.body
        lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}"]
        headers = dict(answer.headers)
        if answer.status not in (204, 304):
            headers.setdefault("Content-Length", str(len(body)))
        if answer.close:
            headers["Connection"] = "close"
        lines += [f"{name}: {value}" for name, value in headers.items()]
        data = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")
        if request.method != "HEAD":
            data += body
        if answer.cut_after is not None:
            self.connection.sendall(data[: answer.cut_after])
            raise HangUp
        self.connection.sendall(data)

    def close(self, *, reset: bool = False) -> None:
        """Close the connection: with FIN, or with RST."""
        with contextlib.suppress(OSError):
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                # Unread bytes would turn the close into a reset, which could overtake the answer just sent.
                self.connection.shutdown(socket.SHUT_WR)
                deadline = time.monotonic() + 0.5
                while (left := deadline - time.monotonic()) > 0 and select.select([self.connection], [], [], left)[0]:
                    if not self.connection.recv(1024 * 1024):
                        break
        with contextlib.suppress(OSError):
            self.connection.close()


def _add_trailer(request: Request, line: bytes) -> None:
    name, _, value = line.decode("latin-1").partition(":")
    if value:
        request.trailers[name.strip().lower()] = value.strip()


def is_aws_chunked(request: Request) -> bool:
    """Tell whether the body carries the framing of aws-chunked."""
    return "aws-chunked" in request.headers.get("content-encoding", "") or request.headers.get(
        "x-amz-content-sha256", ""
    ).startswith("STREAMING-")


def _without_aws_framing(request: Request, received: bytearray) -> bytes:
    """Return the payload of an aws-chunked body and note its trailers.

    With `Transfer-Encoding: chunked` botocore sends one layer of chunks that is both HTTP's and aws-chunked's, so that
    nothing is left to take off here; other clients send two.
    """
    length = request.headers.get("x-amz-decoded-content-length")
    if not is_aws_chunked(request) or (length is not None and int(length) == len(received)):
        return bytes(received)
    payload = bytearray()
    position = 0
    try:
        while True:
            end = received.index(b"\r\n", position)
            size = int(received[position:end].split(b";", 1)[0], 16)
            position = end + 2
            if size == 0:
                break
            payload += received[position : position + size]
            position += size + 2
    except ValueError:
        raise Disconnected from None
    for line in bytes(received[position:]).split(b"\r\n"):
        _add_trailer(request, line)
    return bytes(payload)


def payload_md5(payload: bytes) -> str:
    """Return the MD5 of a payload in hexadecimal."""
    return hashlib.md5(payload).hexdigest()
