"""Requests: keys, headers, parts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.core.errors import KeyRefused, Scope, StoreError
from s3_uploader.stores.base import PutOptions
from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.checksums import digest_of

BODY = b"the bytes that were sent"
DIGEST = digest_of(BODY)
MD5 = hashlib.md5(BODY).hexdigest()
OTHER_MD5 = hashlib.md5(b"other bytes").hexdigest()
KMS = {"x-amz-server-side-encryption": "aws:kms"}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("bedroom/2020/11/29/20/46-topic.dat", "bedroom/2020/11/29/20/46-topic.dat"),
        ("a b+c%20d", "a%20b%2Bc%2520d"),
        ("~tilde*star'quote(1)", "~tilde%2Astar%27quote%281%29"),
        ("line\nbreak", "line%0Abreak"),
        ("ü/日", "%C3%BC/%E6%97%A5"),
        ("//a/../b/.", "//a/../b/."),
    ],
)
def test_a_key_is_encoded_once_and_never_normalised(key: str, path: str) -> None:
    """Every byte but the unreserved ones and the slash is percent-encoded, and nothing else happens to a key."""
    assert requests.encode_key(key) == path


@pytest.mark.parametrize("key", ["", "a\0b", "latin-\udce9", "x" * 1025, "é" * 513])
def test_a_key_that_s3_cannot_have_is_refused(key: str) -> None:
    """Empty, NUL, undecodable bytes and more than 1,024 bytes are refused with a sentence that can be printed."""
    with pytest.raises(KeyRefused) as caught:
        requests.encode_key(key)
    caught.value.message.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_an_encoded_key_decodes_to_the_key(key: str) -> None:
    """What goes into the URL is ASCII and stands for exactly the key's bytes."""
    from urllib.parse import unquote

    if "\0" not in key:
        path = requests.encode_key(key)
        assert path.isascii()
        assert unquote(path) == key


def test_metadata_that_no_header_can_carry_is_an_error() -> None:
    """A line break in a value cannot smuggle in a header, and other than ASCII is refused, not mangled."""
    for value in ("a\r\nx-amz-acl: public-read", "ü", " padded "):
        headers = requests.ObjectHeaders(
            storage_class=None,
            acl=None,
            sse=None,
            sse_kms_key_id=None,
            metadata={"m": value},
            tags={},
            content_type=None,
        )
        with pytest.raises(StoreError) as caught:
            headers.of("key", PutOptions())
        assert caught.value.scope is Scope.DESTINATION


@given(st.integers(1, 5 * 2**40))
def test_parts_are_never_more_than_ten_thousand(size: int) -> None:
    """The part size grows with the file where it must."""
    part = requests.part_size_for(size, 8 * 2**20)
    assert part >= 8 * 2**20
    assert -(-size // part) <= 10_000
