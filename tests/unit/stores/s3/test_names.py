"""Names that a server may take for one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.s3.names import folded, is_usual, kinds_of, twin_of

NFC, NFD = unicodedata.normalize("NFC", "d/café"), unicodedata.normalize("NFD", "d/café")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("d/A.dat", "d/a.dat"),
        (NFC, NFD),
        ("d//a", "d/a"),
        ("/d/a", "d/a"),
        ("d/./a", "d/a"),
        ("d/a.", "d/a"),
        ("d/a ", "d/a"),
        ("d\\a", "d/a"),
        ("straße", "STRASSE"),
        ("d/100%25", "d/100%"),
        ("d/a%20b", "d/a b"),
        ("d%2Fa", "d/a"),
    ],
)
def test_names_that_some_server_takes_for_one(first: str, second: str) -> None:
    """Two such names have one common name, and at least one of them is not a usual one."""
    assert folded(first) == folded(second)
    assert kinds_of(first) | kinds_of(second)


@pytest.mark.parametrize(
    ("key", "kinds", "twin"),
    [
        ("bedroom/2020/11/29/20/46-topic.dat", set(), ""),
        ("a/.hidden", {"path"}, "a/hidden"),
        ("d/A.dat", {"case"}, "d/a.dat"),
        (NFC, {"composed"}, NFD),
        (NFD, {"decomposed"}, NFC),
        ("日本", {"composed"}, ""),
        ("a//B", {"case", "path"}, "a/b"),
        ("a b", set(), ""),
        ("a%20b", {"escapes"}, "a b"),
        ("100%", {"escapes"}, "100%25"),
        ("%c3%28", {"escapes"}, "\ufffd("),
        ("%2f", {"escapes"}, "%252f"),
    ],
)
def test_what_is_unusual_about_a_name(key: str, kinds: set[str], twin: str) -> None:
    """It is known in which ways a name is unusual, and under which other name its object might lie."""
    assert kinds_of(key) == kinds
    assert twin_of(key) == twin


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_a_common_name_is_its_own(key: str) -> None:
    """A usual name is its own common name and has no kind that would have to be learned."""
    if is_usual(key):
        assert folded(key) == key
        assert kinds_of(key) == frozenset()
