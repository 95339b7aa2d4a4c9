"""The answer to the request for a hash, in the forms that servers have."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.sftp.hashes import check_file, parse_answer

DIGEST = bytes(range(32))


def string(value: bytes) -> bytes:
    """As SSH has strings."""
    return struct.pack(">I", len(value)) + value


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (string(b"check-file") + string(b"sha256") + DIGEST, DIGEST.hex()),
        (string(b"sha256") + DIGEST, DIGEST.hex()),
        (string(b"sha256") + DIGEST[:-1], ""),
        (string(b"sha256") + DIGEST + b"x", ""),
        (string(b"md5") + DIGEST[:16], ""),
        (string(b"check-file") + string(b"md5") + DIGEST[:16], ""),
        (b"", ""),
        (b"\xff\xff\xff\xff" + DIGEST, ""),
    ],
)
def test_forms(payload: bytes, found: str) -> None:
    """With the extension's name before it or without; anything else is no hash."""
    assert parse_answer(payload) == found


@given(st.binary(max_size=200))
def test_nonsense(payload: bytes) -> None:
    """Whatever comes, it is a digest or nothing."""
    assert len(parse_answer(payload)) in (0, 64)


def test_another_library() -> None:
    """Should the library change inside, there are no hashes, and nothing else."""
    work = check_file(object(), b"path")
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    assert ended.value.value == ""
