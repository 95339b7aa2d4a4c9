"""Requests of an upload in parts: how large the parts are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.s3.multipart_requests import part_size_for


@given(st.integers(1, 5 * 2**40))
def test_parts_are_never_more_than_ten_thousand(size: int) -> None:
    """The part size grows with the file where it must."""
    part = part_size_for(size, 8 * 2**20)
    assert part >= 8 * 2**20
    assert -(-size // part) <= 10_000
