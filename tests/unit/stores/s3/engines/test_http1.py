"""HTTP answers, however they are cut, and what is none."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.s3.endpoint import Credentials
from s3_uploader.stores.s3.engines.http1 import AnswerParser, InvalidAnswer, request_head

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_TIME = 1369353600.0  # Fri, 24 May 2013 00:00:00 GMT


ANSWERS = [
    b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 5\r\n\r\nhello',
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello",
    b"HTTP/1.1 200\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
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
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    ],
)
def test_what_is_no_http_is_said_to_be_none(data: bytes) -> None:
    """Another protocol, or nonsense, ends the exchange."""
    with pytest.raises(InvalidAnswer):
        AnswerParser().feed(data)


def test_the_head_of_a_request_is_what_was_signed() -> None:
    """Target and headers go out as they are."""
    assert request_head("PUT", "/b/a%20b?x=", {"host": "h"}) == b"PUT /b/a%20b?x= HTTP/1.1\r\nhost: h\r\n\r\n"
