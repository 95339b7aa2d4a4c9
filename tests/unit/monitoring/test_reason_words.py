"""Identifiers of reasons and ends, and their words."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator
from pathlib import Path

import pytest

import s3_uploader
from s3_uploader.core.model import Left, RunEnd
from s3_uploader.monitoring.words import END_WORDS, LEFT_WORDS, end_words, left_words

PACKAGE = Path(s3_uploader.__file__).parent
WORDS = PACKAGE / "monitoring" / "words.py"


@pytest.mark.parametrize("member", [*Left, *RunEnd], ids=str)
def test_identifiers(member: enum.Enum) -> None:
    """What the ledger, JSON and the metrics hold is an identifier: the member's own name."""
    assert member.value == member.name.lower()


def test_every_identifier_has_words() -> None:
    """No reason and no end is without words, and no two have the same."""
    assert set(LEFT_WORDS) == set(Left)
    assert set(END_WORDS) == set(RunEnd)
    assert len({words[0] for words in LEFT_WORDS.values()}) == len(Left)
    assert len(set(END_WORDS.values())) == len(RunEnd)
    assert all(all(words) for words in LEFT_WORDS.values())


def test_words_of_an_identifier() -> None:
    """An identifier that a newer version has written is shown as it is."""
    assert (left_words("unmatched"), left_words("other")) == ("outside the layout", "other")
    assert (end_words("budget"), end_words("other")) == ("time budget", "other")


def _literals(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_words_stand_in_one_place() -> None:
    """The words of reasons and ends stand in one module; no other holds them, so none can compare or store them."""
    words = {words[0] for words in LEFT_WORDS.values()} | set(END_WORDS.values())
    words -= {member.value for member in (*Left, *RunEnd)}
    elsewhere = {
        (str(path.relative_to(PACKAGE)), text)
        for path in PACKAGE.rglob("*.py")
        if path != WORDS
        for text in words.intersection(_literals(path))
    }
    assert elsewhere == set()
