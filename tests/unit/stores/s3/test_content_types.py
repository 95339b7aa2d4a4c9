"""What kind of content an object has, by its key."""

from __future__ import annotations

import pytest

from s3_uploader.stores.s3.content_types import content_type_of


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
    assert content_type_of(key) == kind
