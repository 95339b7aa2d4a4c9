"""What kind of content an object has, by its key."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import pytest

from s3_uploader.stores.s3 import content_types
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
    monkeypatch.setattr(content_types, "_CONTENT_TYPES", {})
    assert content_type_of("a/b.json") == "application/json"
    assert content_type_of("a/b.nothing") == "application/octet-stream"
