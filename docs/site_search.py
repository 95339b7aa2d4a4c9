"""Asks the built site's search what people type, and says whether the right page is among the first hits.

``python -m docs.site_search build/site/searchindex.js``; ``make docs`` does so. The rules are those of Sphinx's
``searchtools.js``, which has no other form than JavaScript for browsers.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FIRST = 3
SOUGHT: dict[str, frozenset[str]] = {
    "wrong secret": frozenset({"docs/troubleshooting"}),
    "exit code 3": frozenset({"docs/troubleshooting", "docs/reference/exit-codes"}),
    "file is not uploaded": frozenset({"docs/why-a-file-waits", "docs/troubleshooting"}),
    "stopped timer": frozenset({"docs/troubleshooting"}),
    "disk full": frozenset({"docs/troubleshooting"}),
    "access denied": frozenset({"docs/troubleshooting"}),
    "permission denied": frozenset({"docs/troubleshooting"}),
    "taken by other content": frozenset({"docs/troubleshooting"}),
}
"""What people type, and the pages that answer it; one of them has to be among the first hits."""

_TITLE, _PARTIAL_TITLE, _TERM, _PARTIAL_TERM = 15, 7, 5, 2
_OBJECT, _PARTIAL_OBJECT = 11, 6
_OBJECT_PRIORITY = {0: 15, 1: 5, 2: -5}


class Hit(NamedTuple):
    """A line of the list of results."""

    page: str
    title: str
    score: int


class Words(NamedTuple):
    """How Sphinx treats the words of the language."""

    stem: Callable[[str], str]
    stopwords: frozenset[str]


def hits(index: dict[str, Any], query: str, words: Words) -> list[Hit]:
    """What the search shows for a query, best first."""
    typed = [word for word in re.split(r"\W+", query.lower()) if word]
    terms = {words.stem(word) for word in typed if word not in words.stopwords and not word.isdigit()}
    found = [
        *_by_heading(index, query.lower().strip()),
        *(hit for word in dict.fromkeys(typed) for hit in _by_object(index, word, set(typed))),
        *_by_terms(index, terms),
    ]
    return list(dict.fromkeys(sorted(found, key=lambda hit: (-hit.score, hit.title.lower()))))


def _by_heading(index: dict[str, Any], query: str) -> Iterator[Hit]:
    titles = index["titles"]
    for title, places in index["alltitles"].items():
        if query not in title.lower() or len(query) < len(title) / 2:
            continue
        for number, _ in places:
            is_page = titles[number] == title
            score = int(_TITLE * len(query) / len(title) + 0.5) + is_page
            yield Hit(index["docnames"][number], title if is_page else f"{titles[number]} > {title}", score)


def _by_object(index: dict[str, Any], word: str, typed: set[str]) -> Iterator[Hit]:
    for prefix, objects in index["objects"].items():
        for number, kind, priority, _, name in objects:
            full = f"{prefix}.{name}".lower() if prefix else name.lower()
            if word not in full:
                continue
            last = full.rpartition(".")[2]
            score = _OBJECT if word in (full, last) else _PARTIAL_OBJECT if word in last else 0
            title = index["titles"][number]
            haystack = f"{prefix} {name} {index['objnames'][str(kind)][2]} {title}".lower()
            if all(other in haystack for other in typed - {word}):
                yield Hit(index["docnames"][number], full, score + _OBJECT_PRIORITY.get(priority, 0))


def _by_terms(index: dict[str, Any], terms: set[str]) -> Iterator[Hit]:
    scores: dict[int, dict[str, int]] = {}
    for term in terms:
        for files, score in _places(index, term):
            for number in [files] if isinstance(files, int) else files:
                scores.setdefault(number, {})[term] = score
    for number, of_terms in scores.items():
        if len(of_terms) in (len(terms), sum(len(term) > 2 for term in terms)):
            yield Hit(index["docnames"][number], index["titles"][number], max(of_terms.values()))


def _places(index: dict[str, Any], term: str) -> Iterable[tuple[Any, int]]:
    """Where a word stands, and what that is worth; of words that no page has, those that contain it."""
    for table, whole, partial in (("terms", _TERM, _PARTIAL_TERM), ("titleterms", _TITLE, _PARTIAL_TITLE)):
        if term in index[table]:
            yield index[table][term], whole
        elif len(term) > 2:
            yield from ((files, partial) for other, files in index[table].items() if term in other)


def missed(index: dict[str, Any], words: Words) -> list[str]:
    """A sentence for each query that leads to none of its pages soon enough."""
    problems = []
    for query, pages in SOUGHT.items():
        first = [hit.page for hit in hits(index, query, words)[:FIRST]]
        if not pages.intersection(first):
            problems.append(f'"{query}" finds {", ".join(first) or "nothing"}, and not {" or ".join(sorted(pages))}')
    return problems


def main(arguments: list[str]) -> int:
    """Ask the index of a built site; returns 1 if a query misses its page."""
    from sphinx.search.en import SearchEnglish  # only in the environment of the documentation

    text = Path(arguments[0]).read_text(encoding="utf-8")
    index = json.loads(text.partition("(")[2].rpartition(")")[0])
    language = SearchEnglish({})
    problems = missed(index, Words(language.stem, frozenset(language.stopwords)))
    for problem in problems:
        print(f"search: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
