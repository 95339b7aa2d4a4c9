"""Names that a server may take for one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_uploader.stores.s3.checks.names import UNUSUAL
from s3_uploader.stores.s3.folding import ALL, folded, kinds_of, shared, twins_of
from s3_uploader.stores.s3.requests import is_usual

NFC, NFD = unicodedata.normalize("NFC", "d/café"), unicodedata.normalize("NFD", "d/café")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("d/A.dat", "d/a.dat"),
        (NFC, NFD),
        ("d//a", "d/a"),
        ("d///a", "d//a"),
        ("/d/a", "d/a"),
        ("d/a/", "d/a"),
        ("d/./a", "d/a"),
        ("d/x/../a", "d/a"),
        ("d/a.", "d/a"),
        ("d/a ", "d/a"),
        ("d\\a", "d/a"),
        ("straße", "STRASSE"),
        ("①", "1"),
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
    ("first", "second"),
    [
        ("d/a;1", "d/a;2"),
        ("d/a;1", "d/a"),
        ("d/a?1", "d/a#2"),
        ("d/a?1/x", "d/a"),
        ("d/é", "d/ü"),
        ("d/a:b", "d/a_b"),
        ("d/a+b", "d/a b"),
    ],
)
def test_names_that_are_not_under_way_at_once(first: str, second: str) -> None:
    """Names that some server cuts, or of which it changes signs, have something in common, too."""
    assert shared(first) == shared(second)


@pytest.mark.parametrize(
    ("key", "twins"),
    [
        ("bedroom/2020/11/29/20/46-topic.dat", {}),
        ("a b", {}),
        ("日本", {}),
        ("a/.hidden", {"first-dots": "a/hidden"}),
        ("d/A.dat", {"case": "d/a.dat"}),
        ("d/Ж", {"letters": "d/ж"}),
        (NFC, {"composed": NFD}),
        (NFD, {"decomposed": NFC}),
        ("①", {"look-alikes": "1"}),
        ("in//side", {"empty-steps": "in/side"}),
        ("//both/", {"first-slash": "both/", "last-slash": "//both", ALL: "both"}),
        ("a/./b", {"dotted-steps": "a/b"}),
        ("a/x/../b", {"dotted-steps": "a/b"}),
        ("d/a. ", {"ends": "d/a"}),
        ("d\\a", {"backslashes": "d/a"}),
        ("a//B", {"case": "a//b", "empty-steps": "a/B", ALL: "a/b"}),
        ("a%20b", {"escapes": "a b"}),
        ("100%", {"percent-signs": "100%25"}),
        ("%c3%28", {"escapes": "\ufffd("}),
        ("d;v=1/a;1", {"parameters": "d/a"}),
        ("d/a?b/c", {"query": "d/a"}),
        ("d/a#1", {"fragment": "d/a"}),
        ("d/a#1?2", {"query": "d/a#1", "fragment": "d/a"}),
        ("d/A;1", {"case": "d/a;1", "parameters": "d/A", ALL: "d/a"}),
        (";1", {}),
        ("/", {}),
        ("A" * 1024, {"case": "a" * 1024}),
        ("%" * 1024, {}),
        ("a%00b", {}),
        ("A%00b", {"case": "a%00b"}),
    ],
)
def test_what_a_name_may_be_taken_for(key: str, twins: dict[str, str]) -> None:
    """There is one other name for each way in which it is unusual: what a server makes of it that folds that alone."""
    assert twins_of(key, kinds_of(key)) == twins


def test_only_what_is_in_doubt_is_looked_for() -> None:
    """A kind of names that the server is known to keep has no other name."""
    assert twins_of("a//B", frozenset({"case"})) == {"case": "a//b"}


@pytest.mark.parametrize(("kind", "ending", "twin"), [(kind, ending, twin) for kind, _, ending, twin in UNUSUAL])
def test_what_check_tries(kind: str, ending: str, twin: str) -> None:
    """The check tries two names that differ in the kind that is learned by them, and in nothing else."""
    twins = twins_of(f"name{ending}", frozenset({kind}))
    assert twins == {kind: f"name{twin}"}


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_a_common_name_is_its_own(key: str) -> None:
    """A usual name is its own common name, has no kind that would have to be learned, and no twin."""
    if is_usual(key):
        assert folded(key) == key
        assert kinds_of(key) == frozenset()
        assert twins_of(key, kinds_of(key)) == {}
