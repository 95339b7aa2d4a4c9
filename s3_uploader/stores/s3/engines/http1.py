"""The part of HTTP/1.1 that an S3 client needs: an exchange, its request's head, and a parser for answers (RFC 9112).

Whatever a server sends, an answer takes bounded memory, and time that is linear in its bytes: each byte is moved once
and searched once.
"""

from __future__ import annotations

import functools
import re
from typing import Protocol

from s3_uploader.core.text import is_number
from s3_uploader.stores.s3.engines.base import DOCUMENT_BYTES, Answer, Done, Outcome, Request

RECEIVE = 64 * 1024
"""Most bytes that are received at once."""
MAXIMUM_HEAD = 32 * 1024
"""Bytes of an answer's head, of all interim answers before it, and of the framing of its chunks."""
_MAXIMUM_LINE = 8 * 1024
_MAXIMUM_HEADERS = 256
_MAXIMUM_CHUNK_LINE = 1024

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?", re.A)
_CHUNK_SIZE = rb"(?s)([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?"
_BODILESS = frozenset((204, 304))
_MOST_NAMES = 500
_LONGEST_NAME = 64
_NAMES: dict[str, str] = {}
"""Names of headers as received, in lower case. A server writes the same ones in each answer."""


class InvalidAnswer(Exception):
    """The received bytes are not an HTTP answer."""


class Cancels(Protocol):
    """The part of the engine that an exchange uses."""

    def cancel(self, exchange: Exchange) -> None:
        """Cancel one exchange. May be called on any thread."""


class Exchange:
    """One request in flight; a :class:`~s3_uploader.stores.s3.engines.base.Sending`."""

    __slots__ = (
        "_engine", "body", "connection", "done", "finished", "head", "repeated", "request"
    )  # fmt: skip

    def __init__(self, engine: Cancels, request: Request, head: bytes, done: Done) -> None:
        self._engine = engine
        self.head = head
        self.body = request.body
        self.request = request
        self.done = done
        self.connection: object = None
        """The connection that carries it."""
        self.finished = False
        self.repeated = False

    def cancel(self) -> None:
        """Cancel it."""
        self._engine.cancel(self)

    @property
    def promised(self) -> int | None:
        """See :class:`~s3_uploader.stores.s3.engines.base.Sending`."""
        parser = getattr(self.connection, "parser", None)
        return None if parser is None else parser.promised

    def finish(self, outcome: Outcome) -> None:
        """Report the outcome, once, and drop the body, so that it does not wait for the garbage collector."""
        if not self.finished:
            self.finished = True
            done, self.done = self.done, _nothing
            self.head = self.body = b""
            self.connection = None
            try:  # noqa: SIM105 - contextlib.suppress would cost three calls for each file
                done(outcome)
            except Exception:
                pass


def _nothing(outcome: Outcome) -> None:
    """The callback of an exchange that is over."""


def request_head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """The head of a request, including its empty line."""
    lines = ""
    for name, value in headers.items():
        lines += f"{name}: {value}\r\n"
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode()


def _has_controls(head: str) -> bool:
    """Whether there are control characters that are dangerous in a header (RFC 9110, 5.5), or incomplete line ends."""
    # Called for each answer: a regular expression takes ten times as long.
    ends = head.count("\r\n")
    return "\0" in head or "\x0b" in head or "\x0c" in head or head.count("\n") != ends or head.count("\r") != ends


@functools.lru_cache(maxsize=64)
def _status(line: str) -> tuple[str, int]:
    """The minor version and the status in a status line."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise InvalidAnswer(repr(line[:60]))
    return found[1], int(found[2])


def _lowered(line: str, name: str, colon: str) -> str:
    if not colon or name != name.strip():
        raise InvalidAnswer(repr(line[:60]))
    if len(_NAMES) < _MOST_NAMES and len(name) <= _LONGEST_NAME:
        _NAMES[name] = name.lower()
    return name.lower()


class AnswerParser:
    """Parses one answer from pieces of bytes.

    The document of an error is cut at its limit, because its beginning has the reason; the connection is not used
    again.
    A success that is too long is invalid.

    :param to_head: the request's method was HEAD, so there is no body whatever the headers say.
    :param limit: most bytes of the body.
    """

    __slots__ = (
        "_body", "_buffer", "_framing", "_keep_alive", "_limit", "_mode", "_remaining", "_searched", "_to_head",
        "answer", "heads", "started",
    )  # fmt: skip

    def __init__(self, *, to_head: bool = False, limit: int = DOCUMENT_BYTES) -> None:
        self._to_head = to_head
        self._limit = limit
        self._buffer = b""
        """Bytes that were not processed yet: an incomplete head, or an incomplete line before a chunk."""
        self._searched = 0
        self._framing = 0
        """The number of bytes so far that are neither head nor body."""
        self._mode = "head"
        self._remaining = 0
        self._body: bytearray | None = None
        self._keep_alive = True
        self.heads = 0
        """The number of complete heads, including those of interim answers."""
        self.started = False
        self.answer: Answer | None = None

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request after this answer."""
        return self._keep_alive and self._mode == "done" and not self._buffer

    @property
    def promised(self) -> int:
        """The bytes of the body if the head tells their number, else those that have arrived. On any thread."""
        body, remaining = self._body, self._remaining
        return len(body or b"") + (remaining if self._mode == "length" else 0)

    def feed(self, data: bytes) -> bool:
        """Process the next bytes. Returns whether the answer is complete.

        :raises InvalidAnswer: if it is invalid.
        """
        self.started = True
        position = 0
        if self._buffer:
            # Short: at most a head or a line.
            data = self._buffer + data
            self._buffer = b""
        while self._mode != "done":
            after = self._read_head(data, position) if self._mode == "head" else self._step(data, position)
            if after < 0:
                break
            position = after
        # After the end only their existence matters.
        self._buffer = data[position:] if self._mode != "done" else data[position : position + 1]
        return self._mode == "done"

    def end(self) -> bool:
        """Process the end of the connection. Returns whether it completes the answer."""
        if self._mode == "until-close":
            self._keep_alive = False
            self._finish()
            return True
        return False

    def _step(self, data: bytes, position: int) -> int:
        """Process one element. Returns the position of the next one, or -1 if more bytes are needed."""
        mode = self._mode
        if position >= len(data):
            return -1
        if mode == "length":
            position = self._read_piece(data, position)
            if not self._remaining:
                self._finish()
            return position
        if mode == "chunk-data":
            position = self._read_piece(data, position)
            if not self._remaining and self._mode == mode:
                self._mode = "chunk-end"
            return position
        if mode == "until-close":
            self._keep(data, position, len(data))
            return len(data)
        return self._read_line(data, position)

    def _read_head(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n\r\n", max(position, self._searched - 3))
        if end < 0:
            left = len(data) - position
            if self._framing + left > MAXIMUM_HEAD:
                raise InvalidAnswer("a head that does not end")
            if left and not b"HTTP/1.".startswith(data[position : position + 7]):
                raise InvalidAnswer(repr(data[position : position + 60]))
            self._searched = left
            return -1
        self._searched = 0
        if self._framing + end - position > MAXIMUM_HEAD:
            raise InvalidAnswer("a head that does not end")
        # As RFC 9110 (5.5) has it, and no byte is without a character.
        head = data[position:end].decode("latin-1")
        position = end + 4
        if _has_controls(head):
            # An ETag is sent in later requests, where it must not become a line of its own.
            raise InvalidAnswer("control characters in a header")
        minor, status, headers = _parsed(head)
        self.heads += 1
        if status < 200:
            if status == 101:
                raise InvalidAnswer("101 Switching Protocols")
            # 100 Continue and the like precede the real answer, but not forever.
            self._framing += len(head) + 4
            return position
        self._framing = 0
        connection = headers.get("connection", "").lower()
        self._keep_alive = "close" not in connection and (minor == "1" or "keep-alive" in connection)
        self.answer = Answer(status=status, headers=headers)
        if self._to_head or status in _BODILESS:
            self._mode = "done"
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            self._mode = "chunk-size"
        elif "content-length" in headers:
            length = headers["content-length"]
            if "," in length and len({each.strip() for each in length.split(",")}) == 1:
                # One value that a proxy has joined with itself (RFC 9112, 6.3).
                length = length.partition(",")[0].strip()
            if not is_number(length):
                raise InvalidAnswer(f"Content-Length: {length[:40]}")
            self._remaining = int(length)
            self._mode = "length" if self._remaining else "done"
        else:
            self._mode = "until-close"
        return position

    def _read_piece(self, data: bytes, position: int) -> int:
        """Process the available bytes of a body or chunk of known length."""
        end = min(len(data), position + self._remaining)
        self._remaining -= end - position
        self._keep(data, position, end)
        return end

    def _read_line(self, data: bytes, position: int) -> int:
        """Process a line of the chunked coding: a chunk's size, the end of one, or a trailer."""
        end = data.find(b"\r\n", position)
        if end < 0:
            if len(data) - position > _MAXIMUM_CHUNK_LINE:
                raise InvalidAnswer("a chunk without a size")
            return -1
        line = data[position:end]
        if self._mode == "chunk-end":
            if line:
                raise InvalidAnswer("a chunk without an end")
            self._mode = "chunk-size"
            return end + 2
        if self._mode == "trailer":
            self._count_framing(len(line) + 2)
            if not line:
                self._finish()
            return end + 2
        found = re.fullmatch(_CHUNK_SIZE, line)
        if found is None:
            raise InvalidAnswer(repr(line[:60]))
        # Chunks of one byte each are a valid body; extensions are never needed.
        self._count_framing(len(line) - len(found[1]))
        self._remaining = int(found[1], 16)
        self._mode = "chunk-data" if self._remaining else "trailer"
        return end + 2

    def _count_framing(self, count: int) -> None:
        self._framing += count
        if self._framing > MAXIMUM_HEAD:
            raise InvalidAnswer("chunks without an end")

    def _keep(self, data: bytes, first: int, last: int) -> None:
        """Keep a piece of the body, or cut it at the limit."""
        if self._body is None:
            self._body = bytearray()
        room = self._limit - len(self._body)
        if last - first <= room:
            self._body += memoryview(data)[first:last]
            return
        if self.answer is None or self.answer.status < 300:
            raise InvalidAnswer("a body that does not end")
        self._body += memoryview(data)[first : first + room]
        self._keep_alive = False
        self._finish()

    def _finish(self) -> None:
        self._mode = "done"
        if self.answer is not None and self._body is not None:
            self.answer.body = bytes(self._body)
            self._body = None


def _parsed(head: str) -> tuple[str, int, dict[str, str]]:
    """The minor version, the status and the headers of a head."""
    lines = head.split("\r\n")
    if len(lines) > _MAXIMUM_HEADERS:
        raise InvalidAnswer("too many headers")
    if len(lines[0]) > _MAXIMUM_LINE:
        raise InvalidAnswer(repr(lines[0][:60]))
    minor, status = _status(lines[0])
    if "\r\n " in head or "\r\n\t" in head:
        lines = _unfolded(lines)
    headers: dict[str, str] = {}
    may_have_long_ones = len(head) > _MAXIMUM_LINE
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        lowered = _NAMES.get(name)
        if lowered is None or not colon:
            lowered = _lowered(line, name, colon)
        if may_have_long_ones and len(value) > _MAXIMUM_LINE:
            raise InvalidAnswer(f"a header that does not end: {name[:60]!r}")
        headers[lowered] = value.strip()
    if len(headers) < len(lines) - 1 and "content-length" in headers:
        headers["content-length"] = _only_length(lines)
    return minor, status, headers


def _unfolded(lines: list[str]) -> list[str]:
    """Join a header that goes on in the next line (RFC 9112, 5.2): old servers and proxies still do that."""
    joined = lines[:1]
    for line in lines[1:]:
        if line[:1] in (" ", "\t") and len(joined) > 1:
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
    return joined


def _only_length(lines: list[str]) -> str:
    """The value of a header Content-Length that may be repeated. With different values nobody knows where it ends."""
    values = {
        value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
        if name.lower() == "content-length"
    }
    if len(values) > 1:
        raise InvalidAnswer(f"Content-Length: {', '.join(sorted(values))[:40]}")
    return values.pop()
