"""HTTP answers, however they are cut, and what is none."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.engines.base import DOCUMENT_BYTES
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer, request_head

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1369353600.0  # Fri, 24 May 2013 00:00:00 GMT


ANSWERS = [
    b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 5\r\n\r\nhello',
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello",
    b"HTTP/1.1 200\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n  b\r\n\tc\r\nContent-Length: 5\r\n\r\nhello",
]


@pytest.mark.parametrize("data", ANSWERS)
@given(cuts=st.lists(st.integers(0, 120), max_size=6))
def test_an_answer_is_read_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    """The pieces in which an answer arrives make no difference."""
    parser = AnswerParser()
    borders = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    complete = [parser.feed(data[a:b]) for a, b in itertools.pairwise(borders)]
    assert complete == [False] * (len(complete) - 1) + [True]
    assert parser.answer is not None
    assert (parser.answer.status, parser.answer.body) == (200, b"hello")
    assert parser.reusable == (b"close" not in data)


def test_an_answer_to_head_has_no_body() -> None:
    """A length in the answer to HEAD is that of the object, not of a body to wait for."""
    parser = AnswerParser(to_head=True)
    assert parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    assert parser.reusable


def test_an_answer_that_ends_with_the_connection() -> None:
    """Without a length the end of the connection is the end of the body, and the connection is not used again."""
    parser = AnswerParser()
    assert not parser.feed(b"HTTP/1.0 200 OK\r\n\r\nhel")
    assert not parser.feed(b"lo")
    assert parser.end()
    assert parser.answer is not None
    assert parser.answer.body == b"hello"
    assert not parser.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"",
    ],
)
def test_an_answer_cut_short_is_none(data: bytes) -> None:
    """What ends before its end is never taken for an answer."""
    parser = AnswerParser()
    assert not parser.feed(data)
    assert not parser.end()


@pytest.mark.parametrize(
    "data",
    [
        b"220 ftp.example.com ready\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n folded: onto nothing\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    ],
)
def test_what_is_no_http_is_said_to_be_none(data: bytes) -> None:
    """Another protocol, or nonsense, ends the exchange."""
    with pytest.raises(InvalidAnswer):
        AnswerParser().feed(data)


def test_the_head_of_a_request_is_what_was_signed() -> None:
    """Target and headers are sent unchanged."""
    assert request_head("PUT", "/b/a%20b?x=", {"host": "h"}) == b"PUT /b/a%20b?x= HTTP/1.1\r\nhost: h\r\n\r\n"


CHUNKED = b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a head": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\na: ", b"b" * 1000),
    "a reason": (b"HTTP/1.1 200 ", b"b" * 1000),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000),
    "a body with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", b"x" * 1000),
    "chunks of one byte": (CHUNKED.replace(b"500", b"200"), b"1\r\nx\r\n"),
    "one chunk": (CHUNKED.replace(b"500", b"200") + b"fffffffff\r\n", b"x" * 1000),
    "the size of a chunk": (CHUNKED, b"1" * 1000),
    "the extension of a chunk": (CHUNKED + b"1;", b"x" * 1000),
    "extensions of chunks": (CHUNKED, b"1;" + b"x" * 500 + b"\r\nx\r\n"),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n"),
    "one trailer": (CHUNKED + b"0\r\na: ", b"b" * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("at_once", [1, 64 * 1024])
def test_an_answer_that_does_not_end_is_none(name: str, at_once: int) -> None:
    """Whatever part of an answer never ends, it is given up after some bytes, in whatever pieces they come."""
    begin, more = ENDLESS[name]
    piece = more * max(1, at_once // len(more))
    with pytest.raises(InvalidAnswer):
        _feed(AnswerParser(), [begin, *[piece] * (1_000_000 // len(piece))])


def _feed(parser: AnswerParser, pieces: list[bytes]) -> None:
    for piece in pieces:
        assert not parser.feed(piece)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 X\r\nContent-Length: 20000000\r\n\r\n<Error><Code>AccessDenied</Code><Message>",
        b"HTTP/1.1 403 X\r\n\r\n<Error><Code>AccessDenied</Code><Message>",
        b"HTTP/1.1 403 X\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n<Error><Code>AccessDenied</Code><Message>",
    ],
)
def test_the_document_of_an_error_is_cut_off(answer: bytes) -> None:
    """A message of any length costs no memory; what the error is stands at its beginning."""
    parser = AnswerParser()
    complete = parser.feed(answer)
    while not complete:
        complete = parser.feed(b"A" * 10_000)
    assert parser.answer is not None
    assert parser.answer.status == 403
    assert parser.answer.field("Code") == "AccessDenied"
    assert len(parser.answer.body) == DOCUMENT_BYTES
    assert not parser.reusable


def test_an_answer_may_be_as_long_as_what_was_asked_for() -> None:
    """Where an object is read or keys are listed, the limit is another one."""
    body = b"x" * 1_000_000
    parser = AnswerParser(limit=len(body))
    assert parser.feed(b"HTTP/1.1 206 X\r\nContent-Length: 1000000\r\n\r\n" + body)
    assert parser.answer is not None
    assert parser.answer.body == body
    assert parser.reusable


def test_many_small_chunks_are_a_body() -> None:
    """Chunks of a byte each are no reason to refuse an answer, and take no more than their time."""
    body = b"x" * DOCUMENT_BYTES
    parser = AnswerParser()
    assert parser.feed(
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * len(body) + b"0\r\n\r\n"
    )
    assert parser.answer is not None
    assert parser.answer.body == body
    assert parser.reusable


@given(st.lists(st.sampled_from([*ANSWERS, *(piece for pair in ENDLESS.values() for piece in pair)]), max_size=8))
def test_any_bytes_are_an_answer_or_none(pieces: list[bytes]) -> None:
    """Whatever comes, in whatever order: an answer, the wish for more, or "this is no answer"."""
    parser = AnswerParser()
    with contextlib.suppress(InvalidAnswer):
        for piece in pieces:
            if parser.feed(piece):
                assert parser.answer is not None
                break
