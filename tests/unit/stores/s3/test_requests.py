"""Requests: keys, headers, types of content."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

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
    """The URL is ASCII and represents exactly the bytes of the key."""
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


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("a/b.json", "application/json"),
        ("a/b.JPG", "image/jpeg"),
        ("a/b.dat", "application/octet-stream"),
        ("a/b", "application/octet-stream"),
        ("a/b.tar.gz", "application/octet-stream"),
        ("a/.json", "application/octet-stream"),
        (".json", "application/octet-stream"),
        ("a/..json", "application/octet-stream"),
        ("a.json/b", "application/octet-stream"),
    ],
)
def test_a_content_type_is_guessed_from_the_ending(key: str, kind: str) -> None:
    """What the ending does not tell is application/octet-stream."""
    assert requests.content_type_of(key) == kind


@pytest.mark.parametrize("content", [b"image/x-caf\xe9 cafe\n", None], ids=["not in UTF-8", "cannot be read"])
def test_a_list_of_types_that_cannot_be_read_costs_no_file(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's own lists of content types may be damaged or unreadable; those that Python knows are there."""
    # Nobody can read the beginning of a process's memory, not even root.
    damaged = Path("/proc/self/mem")
    if content is not None:
        damaged = tmp_path / "mime.types"
        damaged.write_bytes(content)
    for name, value in (("knownfiles", [str(damaged)]), ("inited", False), ("_db", None)):
        monkeypatch.setattr(mimetypes, name, value)
    monkeypatch.setattr(requests, "_CONTENT_TYPES", {})
    assert requests.content_type_of("a/b.json") == "application/json"
    assert requests.content_type_of("a/b.nothing") == "application/octet-stream"
