"""The search of the documentation leads to the page that answers."""

from __future__ import annotations

from typing import Any

import pytest

from docs.site_search import SOUGHT, Words, hits, missed

WORDS = Words(stem=lambda word: word.removesuffix("s"), stopwords=frozenset({"is", "not"}))


def index_of(pages: dict[str, tuple[str, list[str], str]], *, objects: dict[str, Any] | None = None) -> dict[str, Any]:
    """An index as Sphinx makes it, of pages with a title, headings and text."""
    index: dict[str, Any] = {
        "docnames": list(pages),
        "titles": [title for title, _, _ in pages.values()],
        "alltitles": {},
        "terms": {},
        "titleterms": {},
        "objects": objects or {},
        "objnames": {"0": ["py", "attribute", "Python attribute"]},
    }
    for number, (title, headings, text) in enumerate(pages.values()):
        for heading in (title, *headings):
            index["alltitles"].setdefault(heading, []).append([number, None])
            for word in heading.lower().split():
                index["titleterms"].setdefault(WORDS.stem(word), []).append(number)
        for word in text.lower().split():
            index["terms"].setdefault(WORDS.stem(word), []).append(number)
    return index


def test_a_heading_with_the_words_comes_before_a_page_that_only_has_them() -> None:
    """What stands in a heading as it is typed outranks words that are spread over a page."""
    index = index_of(
        {
            "docs/permissions": ("Permissions", [], "a wrong policy a secret"),
            "docs/stuck": ("Stuck", ["A wrong secret"], "correct it"),
        }
    )
    assert next(hit.page for hit in hits(index, "wrong secret", WORDS)) == "docs/stuck"


def test_small_words_and_numbers_are_passed_over() -> None:
    """Words that every page has do not keep a page from being found."""
    index = index_of({"docs/codes": ("Codes", [], "exit code")})
    assert [hit.page for hit in hits(index, "exit code 3", WORDS)] == ["docs/codes"]
    assert [hit.page for hit in hits(index, "the exit is not a code", WORDS)] == []


def test_an_attribute_of_the_library_is_a_hit_too() -> None:
    """A name of the Python reference is found by its last part."""
    objects = {"s3_uploader": [[0, 0, 1, "", "exit_code"]]}
    index = index_of({"docs/python": ("Python", [], "")}, objects=objects)
    assert [(hit.title, hit.score) for hit in hits(index, "exit_code", WORDS)] == [("s3_uploader.exit_code", 16)]


@pytest.mark.parametrize("query", SOUGHT)
def test_a_page_that_is_not_among_the_first_is_missed(query: str) -> None:
    """A page that many others outrank counts as not found."""
    page = min(SOUGHT[query])
    others: dict[str, tuple[str, list[str], str]] = {
        f"docs/{number}": (f"{query} {number}", [], query) for number in range(5)
    }
    alone = index_of({page: (query, [], query)})
    crowded = index_of({**others, page: ("Elsewhere", [], query)})
    assert not [problem for problem in missed(alone, WORDS) if f'"{query}"' in problem]
    assert [problem for problem in missed(crowded, WORDS) if f'"{query}"' in problem]
