"""In which ways a name is unusual, and which other name a server may take it for on account of each.

Terms
-----
kind
    One way in which servers change names. A server that keeps names of one kind may change those of another, so each
    is found out by itself.
twin
    What a name becomes where a server folds one kind and nothing else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from s3_uploader.stores.s3.requests import MAXIMUM_KEY_BYTES

_USUAL = re.compile("[a-z0-9_-][a-z0-9_.-]*(/[a-z0-9_-][a-z0-9_.-]*)*")
_STEPS = re.compile(r"[/\\]+")
_UPPER = re.compile("[A-Z]+")
_BEYOND_ASCII = re.compile("[^\0-\x7f]+")
_PARAMETERS = re.compile("[;?#][^/]*")
_OTHER_SIGNS = re.compile("[^a-z0-9_./-]")
_SLASHES = re.compile("(?<=[^/])//+(?=[^/])")
SIGNS = "signs"
"""Beyond ASCII. No fold belongs to it: a name that is found under itself is kept."""
ALL = "all"
"""Every kind at once, for names of several. Nothing is learned by it."""


def is_usual(key: str) -> bool:
    """Whether no server takes this name for another: lower case, no accents, no empty or dotted steps."""
    return _USUAL.fullmatch(key) is not None and "./" not in key and not key.endswith(".")


def folded(key: str) -> str:
    """The name that all those have in common which some server takes for one."""
    if is_usual(key):
        return key
    import unicodedata
    from urllib.parse import unquote

    decoded = _no_dotted_steps(unquote(key).replace("\\", "/"))
    steps = (step.strip(" .") for step in _STEPS.split(unicodedata.normalize("NFKC", decoded).casefold()))
    return "/".join(step for step in steps if step)


def shared(key: str) -> str:
    """What all names have in common that must not be under way at once: those of :func:`folded`, and some more.

    Gateways cut a name where they believe that parameters begin, or put one sign for all that they cannot store. There
    an object is found under each of its names, so that a look before the write suffices, if the writes do not cross.
    """
    if is_usual(key):
        return key
    steps = _PARAMETERS.sub("", folded(key)).split("/")
    return _OTHER_SIGNS.sub("_", "/".join(step for step in steps if step))


def kinds_of(key: str) -> frozenset[str]:
    """In which ways a name is unusual."""
    if is_usual(key):
        return frozenset()
    kinds = {kind for kind, fold in _FOLDS.items() if fold(key) != key}
    if not key.isascii():
        kinds.add(SIGNS)
    return frozenset(kinds)


def twins_of(key: str, kinds: frozenset[str]) -> dict[str, str]:
    """Under which other names the object may lie, by the kind for which it would; at most once each.

    What all of them together make of it comes last, under ``ALL``.
    """
    candidates = [(kind, fold(key)) for kind, fold in _FOLDS.items() if kind in kinds]
    if len(candidates) > 1:
        candidates.append((ALL, folded(key)))
    twins: dict[str, str] = {}
    for kind, twin in candidates:
        is_another = twin not in ("", key) and twin not in twins.values()
        if is_another and len(twin.encode("utf-8", "replace")) <= MAXIMUM_KEY_BYTES:
            twins[kind] = twin
    return twins


# What a server that folds one kind makes of a name.


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
    """Ligatures, circled digits and others; what is composed stays so, and what is decomposed too."""
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
    """Change all steps but those that would vanish: what becomes of these nobody can guess."""
    return "/".join(change(step) or step for step in key.split("/"))


def _no_ends(key: str) -> str:
    """Blanks at either end of a step, and dots at its end: Windows drops them."""
    return _in_each_step(lambda step: step.lstrip(" ").rstrip(" ."), key)


def _no_first_dots(key: str) -> str:
    return _in_each_step(lambda step: step.lstrip("."), key)


def _slashes_for_backslashes(key: str) -> str:
    return key.replace("\\", "/")


def _decoded(key: str) -> str:
    from urllib.parse import unquote

    return unquote(key) if "%" in key else key


def _encoded(key: str) -> str:
    """What stands for nothing else may be what is left of an escape."""
    return key.replace("%", "%25") if "%" in key and _decoded(key) == key else key


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
}
