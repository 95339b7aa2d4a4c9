"""The ways in which a name is unusual, and the other names that a server may treat as the same for each of them.

Terms
-----
kind
    One way in which servers change names. A server that keeps names of one kind may change those of another, so each is
    tested separately.
twin
    The name that results if a server folds one kind and nothing else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from s3_uploader.stores.s3.requests import MAXIMUM_KEY_BYTES

_STEPS = re.compile(r"[/\\]+")
_UPPER = re.compile("[A-Z]+")
_BEYOND_ASCII = re.compile("[^\0-\x7f]+")
_OTHER_SIGNS = re.compile("[^a-z0-9_./-]")
_SLASHES = re.compile("(?<=[^/])//+(?=[^/])")
SIGNS = "signs"
"""Non-ASCII characters. No fold belongs to this kind: a name that is found under itself is kept."""
ALL = "all"
"""All kinds at once, for names with several of them. Nothing is learned from it."""


def folded(key: str) -> str:
    """The common form of all names that some server treats as the same."""
    import unicodedata
    from urllib.parse import unquote

    decoded = _no_dotted_steps(unquote(key).replace("\\", "/"))
    steps = (step.strip(" .") for step in _STEPS.split(unicodedata.normalize("NFKC", decoded).casefold()))
    return "/".join(step for step in steps if step)


def shared(key: str) -> str:
    """The common form of all names that must not be uploaded at the same time: those of :func:`folded`, and some more.

    Gateways cut a name where they assume that parameters begin, or replace every character that they cannot store by
    the same one. There an object is found under each of its names. So a lookup before the write is enough, as long as
    no two of these writes overlap.
    """
    return _OTHER_SIGNS.sub("_", _cut(folded(key)))


def kinds_of(key: str) -> frozenset[str]:
    """The ways in which a name is unusual."""
    kinds = {kind for kind, fold in _FOLDS.items() if fold(key) != key}
    if not key.isascii():
        kinds.add(SIGNS)
    return frozenset(kinds)


def twins_of(key: str, kinds: frozenset[str]) -> dict[str, str]:
    """The other names that the object may be stored under, by kind, without duplicates, and only if S3 supports them.

    The result of all folds together comes last, under ``ALL``.
    """
    candidates = [(kind, fold(key)) for kind, fold in _FOLDS.items() if kind in kinds]
    if len(candidates) > 1:
        candidates.append((ALL, folded(key) if kinds.isdisjoint(_CUTS) else _cut(folded(key))))
    twins: dict[str, str] = {}
    for kind, twin in candidates:
        is_another = twin not in ("", key) and twin not in twins.values() and "\0" not in twin
        if is_another and len(twin.encode("utf-8", "replace")) <= MAXIMUM_KEY_BYTES:
            twins[kind] = twin
    return twins


def _cut(key: str) -> str:
    """The name up to where some server believes that a query, a fragment or the parameters of a step begin."""
    steps = (step.partition(";")[0] for step in _no_fragment(_no_query(key)).split("/"))
    return "/".join(step for step in steps if step)


# The folds: what a server makes of a name.


def _lower(key: str) -> str:
    return _UPPER.sub(lambda found: found[0].lower(), key)


def _other_letters(key: str) -> str:
    return _BEYOND_ASCII.sub(lambda found: found[0].casefold(), key)


def _normalized(form: str, key: str) -> str:
    if key.isascii():
        return key
    import unicodedata

    return unicodedata.normalize(form, key)  # type: ignore[arg-type]


def _look_alikes(key: str) -> str:
    """Ligatures, circled digits and similar characters. Composition and decomposition do not change."""
    composed = _normalized("NFC", key)
    plain = _normalized("NFKC", key)
    return key if plain == composed else plain


def _no_empty_steps(key: str) -> str:
    return _SLASHES.sub("/", key)


def _no_first_slash(key: str) -> str:
    return key.lstrip("/")


def _no_last_slash(key: str) -> str:
    return key.rstrip("/")


def _no_dotted_steps(key: str) -> str:
    steps = key.split("/")
    if "." not in steps and ".." not in steps:
        return key
    kept: list[str] = []
    for step in steps:
        if step == "..":
            if kept:
                kept.pop()
        elif step != ".":
            kept.append(step)
    return "/".join(kept)


def _in_each_step(change: Callable[[str], str], key: str) -> str:
    """Change all steps except those that would vanish, because their result is unpredictable."""
    return "/".join(change(step) or step for step in key.split("/"))


def _no_ends(key: str) -> str:
    """Blanks at either end of a step, and dots at its end, which Windows drops."""
    return _in_each_step(lambda step: step.lstrip(" ").rstrip(" ."), key)


def _no_first_dots(key: str) -> str:
    return _in_each_step(lambda step: step.lstrip("."), key)


def _slashes_for_backslashes(key: str) -> str:
    return key.replace("\\", "/")


def _decoded(key: str) -> str:
    from urllib.parse import unquote

    return unquote(key) if "%" in key else key


def _encoded(key: str) -> str:
    """Decode an escape again, as servers do that decode a path twice."""
    return key.replace("%", "%25") if "%" in key and _decoded(key) == key else key


def _no_parameters(key: str) -> str:
    """The path without the parameters of its steps (RFC 3986, section 3.3)."""
    return _in_each_step(lambda step: step.partition(";")[0], key)


def _no_query(key: str) -> str:
    return key.partition("?")[0]


def _no_fragment(key: str) -> str:
    return key.partition("#")[0]


_CUTS: dict[str, Callable[[str], str]] = {
    "parameters": _no_parameters,
    "query": _no_query,
    "fragment": _no_fragment,
}
_FOLDS: dict[str, Callable[[str], str]] = {
    "case": _lower,
    "letters": _other_letters,
    "composed": functools.partial(_normalized, "NFD"),
    "decomposed": functools.partial(_normalized, "NFC"),
    "look-alikes": _look_alikes,
    "empty-steps": _no_empty_steps,
    "first-slash": _no_first_slash,
    "last-slash": _no_last_slash,
    "dotted-steps": _no_dotted_steps,
    "ends": _no_ends,
    "first-dots": _no_first_dots,
    "backslashes": _slashes_for_backslashes,
    "escapes": _decoded,
    "percent-signs": _encoded,
    **_CUTS,
}
