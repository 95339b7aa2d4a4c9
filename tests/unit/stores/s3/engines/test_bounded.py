"""The bounds of the boto3 engine's connections: a request that the server stopped accepting."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from s3_uploader.stores.s3.engines.base import Answer, Failure
from s3_uploader.stores.s3.engines.boto3 import _Received
from s3_uploader.stores.s3.engines.bounded import BOUNDS, read_body, send


class _ClosedSocket:
    """A socket whose other end has closed the connection."""

    def settimeout(self, seconds: float) -> None:
        """Accept any timeout."""

    def send(self, data: memoryview) -> int:
        """Send nothing."""
        raise BrokenPipeError


@pytest.mark.parametrize(("status", "is_believed"), [(200, False), (403, True)])
def test_an_answer_before_the_whole_body(status: int, is_believed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server that stopped reading a body, a refusal is believed, and a success is not."""
    monkeypatch.setattr(BOUNDS, "silence", 1.0)
    monkeypatch.setattr(BOUNDS, "is_unsent", False)
    monkeypatch.setattr(BOUNDS, "is_cut", False)
    connection = SimpleNamespace(sock=_ClosedSocket())
    with pytest.raises(BrokenPipeError):
        send(connection, b"body", lambda _: None)
    received = _Received()
    received.status = status
    assert isinstance(received.answer(b"", limit=100), Answer if is_believed else Failure)


def test_an_object_is_read_in_pieces() -> None:
    """``http.client`` keeps each chunk of what it reads at once, and a chunk may have a single byte."""

    class Stream(io.BytesIO):
        """What is read at once."""

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= 2**20
            return super().read(size)

    content = bytes(3 * 2**20 + 1)
    assert read_body(Stream(content)) == content
