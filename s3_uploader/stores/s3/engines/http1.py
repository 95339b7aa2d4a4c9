"""HTTP/1.1 as far as an S3 client needs it: the head of a request, and a parser for answers (RFC 9112)."""

from __future__ import annotations

import functools
import re

from s3_uploader.stores.s3.engines.base import Answer

MAXIMUM_HEAD = 64 * 1024
MAXIMUM_BODY = 256 * 1024 * 1024
"""An answer with a longer body is no answer to anything that is asked here."""

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?")
_LENGTH = re.compile("[0-9]{1,18}")
_BODILESS = frozenset((204, 304))
_MOST_NAMES = 500
_NAMES: dict[str, str] = {}
"""Names of headers as they came, in lower case: a server writes the same ones in each answer."""


class InvalidAnswer(Exception):
    """What came is no HTTP answer."""


def request_head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """The head of a request, its empty line included."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode()


def _has_controls(head: bytes) -> bool:
    """Whether there are control characters that are dangerous in a header (RFC 9110, 5.5), or half ends of lines."""
    # For each answer: a regular expression takes ten times as long.
    ends = head.count(b"\r\n")
    return b"\0" in head or b"\x0b" in head or b"\x0c" in head or head.count(b"\n") != ends or head.count(b"\r") != ends


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
    if len(_NAMES) < _MOST_NAMES:
        _NAMES[name] = name.lower()
    return name.lower()


class AnswerParser:
    """Reads one answer out of pieces of bytes.

    :param to_head: the request's method was HEAD, so there is no body whatever the headers say.
    """

    __slots__ = ("_buffer", "_chunks", "_keep_alive", "_mode", "_remaining", "_to_head", "answer", "started")

    def __init__(self, *, to_head: bool = False) -> None:
        self._to_head = to_head
        self._buffer = b""
        self._mode = "head"
        self._remaining = 0
        self._chunks: list[bytes] = []
        self._keep_alive = True
        self.started = False
        self.answer: Answer | None = None

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request after this answer."""
        return self._keep_alive and self._mode == "done" and not self._buffer

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; returns whether the answer is complete.

        :raises InvalidAnswer: if it is none.
        """
        self.started = True
        self._buffer = self._buffer + data if self._buffer else data
        while self._mode != "done" and self._step():
            pass
        return self._mode == "done"

    def end(self) -> bool:
        """The connection ended; returns whether that completes the answer."""
        if self._mode == "until-close":
            self._keep_alive = False
            self._finish()
            return True
        return False

    def _step(self) -> bool:
        """Take one thing out of the buffer; ``False`` if more bytes are needed."""
        mode = self._mode
        if mode == "head":
            return self._read_head()
        if mode == "length":
            return self._read_length()
        if mode == "until-close":
            self._keep(self._buffer)
            self._buffer = b""
            return False
        return self._read_chunked(mode)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAXIMUM_HEAD or (self._buffer and not b"HTTP/1.".startswith(self._buffer[:7])):
                raise InvalidAnswer(repr(self._buffer[:60]))
            return False
        head = self._buffer[:end]
        if _has_controls(head):
            # An ETag goes into later requests, where it must not become a line of its own.
            raise InvalidAnswer("control characters in a header")
        self._buffer = self._buffer[end + 4 :]
        lines = head.decode("latin-1").split("\r\n")
        minor, status = _status(lines[0])
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            lowered = _NAMES.get(name)
            if lowered is None or not colon:
                lowered = _lowered(line, name, colon)
            headers[lowered] = value.strip()
        if status < 200:
            if status == 101:
                raise InvalidAnswer("101 Switching Protocols")
            return True  # 100 Continue and its like announce the real answer.
        connection = headers.get("connection", "").lower()
        self._keep_alive = "close" not in connection and (minor == "1" or "keep-alive" in connection)
        self.answer = Answer(status=status, headers=headers)
        if self._to_head or status in _BODILESS:
            self._mode = "done"
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            self._mode = "chunk-size"
        elif "content-length" in headers:
            length = headers["content-length"]
            # int() refuses thousands of digits with an exception of its own.
            if not _LENGTH.fullmatch(length) or int(length) > MAXIMUM_BODY:
                raise InvalidAnswer(f"Content-Length: {length[:40]}")
            self._remaining = int(length)
            self._mode = "length" if self._remaining else "done"
        else:
            self._mode = "until-close"
        return True

    def _read_length(self) -> bool:
        if not self._buffer:
            return False
        piece = self._buffer[: self._remaining]
        self._buffer = self._buffer[len(piece) :]
        self._remaining -= len(piece)
        self._keep(piece)
        if self._remaining:
            return False
        self._finish()
        return True

    def _read_chunked(self, mode: str) -> bool:
        if mode == "chunk-data":
            if len(self._buffer) < self._remaining + 2:
                return False
            self._keep(self._buffer[: self._remaining])
            if self._buffer[self._remaining : self._remaining + 2] != b"\r\n":
                raise InvalidAnswer("a chunk without an end")
            self._buffer = self._buffer[self._remaining + 2 :]
            self._mode = "chunk-size"
            return True
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            if len(self._buffer) > MAXIMUM_HEAD:
                raise InvalidAnswer("a chunk without a size")
            return False
        self._buffer = rest
        if mode == "trailer":
            if not line:
                self._finish()
            return True
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise InvalidAnswer(repr(line[:60]))
        self._remaining = int(found[1], 16)
        if self._remaining > MAXIMUM_BODY:
            raise InvalidAnswer("a chunk that is too large")
        self._mode = "chunk-data" if self._remaining else "trailer"
        return True

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._chunks.append(piece)
            if len(self._chunks) % 64 == 0 and sum(map(len, self._chunks)) > MAXIMUM_BODY:
                raise InvalidAnswer("a body that does not end")

    def _finish(self) -> None:
        self._mode = "done"
        if self.answer is not None:
            self.answer.body = b"".join(self._chunks)
