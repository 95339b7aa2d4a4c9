"""Whether a bucket keeps unusual names unchanged and distinct from similar ones."""

from __future__ import annotations

from s3_uploader.stores.s3 import requests
from s3_uploader.stores.s3.capabilities import NAMES
from s3_uploader.stores.s3.checks.trial import NOTE, OK, Trial
from s3_uploader.stores.s3.client import PendingRequest
from s3_uploader.stores.s3.requests import UNCONDITIONAL

UNUSUAL = (
    ("case", "upper case", "-Name", "-name"),
    ("letters", "upper case beyond ASCII", "-\u0416", "-\u0436"),
    ("composed", "accents", "-\u00e9", "-e\u0301"),
    ("decomposed", "combining accents", "-ae\u0301", "-a\u00e9"),
    ("look-alikes", "signs that resemble others", "-\u2460", "-1"),
    ("empty-steps", "empty steps", "-steps//name", "-steps/name"),
    ("last-slash", "a slash at the end", "-ends/", "-ends"),
    ("dotted-steps", "dotted steps", "-dots/./name", "-dots/name"),
    ("ends", "a dot at the end", "-end.", "-end"),
    ("first-dots", "a dot at the beginning", "-hidden/.name", "-hidden/name"),
    ("backslashes", "backslashes", "-back\\slash", "-back/slash"),
    ("escapes", "escapes", "-100%25", "-100%"),
    ("parameters", "semicolons", "-step;1", "-step"),
    ("query", "question marks", "-what?1", "-what"),
    ("fragment", "number signs", "-no#1", "-no"),
)
"""A kind of name, in words; the ending of one such name, and of another that some server treats as the same."""
_LOOKED = frozenset((403, 404))


def check_names(trial: Trial, body: bytes) -> None:
    """Whether names are stored unchanged and kept distinct from similar ones."""
    refused, changed, merged = [], [], []
    for kind, words, ending, twin in UNUSUAL:
        key = trial.key + ending
        if trial.put(key, body, UNCONDITIONAL, client=trial.impatient).error is not None:
            refused.append(words)
            continue
        trial.left_behind.append(key)
        kinds, verdict = frozenset((kind,)), _verdict(trial, key, trial.key + twin, body)
        if not verdict:
            return  # a lookup is not permitted, which another finding reports
        if verdict == "kept":
            trial.capabilities.keeps_names(kinds)
        elif verdict == "merged":
            trial.capabilities.merges_names(kinds)
            merged.append(words)
        else:
            trial.capabilities.forgets_names(kinds)
            changed.append(words)
    if merged:
        trial.tell_limit(
            NAMES,
            "names that merge",
            f"two are one object, and each seems to be there: names with {', '.join(merged)}",
            "Files with such names fail and are kept. Rename them.",
        )
    if changed:
        trial.tell_limit(
            NAMES,
            "names",
            f"not kept apart from others that they resemble: names with {', '.join(changed)}",
            "Of two files whose names differ in nothing else only one is uploaded. The other fails and is kept. With "
            "on_conflict: overwrite it replaces the first.",
        )
    if refused:
        trial.tell(
            NOTE,
            "refused names",
            f"names with {', '.join(refused)}",
            "Files with such names fail and are kept. The others are uploaded.",
        )
    if not changed and not refused and not merged:
        trial.tell(
            OK, "names", "upper and lower case, accents, empty steps, escapes and parameters are kept as they are"
        )


def _verdict(trial: Trial, key: str, twin: str, body: bytes) -> str:
    """Whether an object is only under its own name, and survives a write to the other name.

    :returns: ``kept``, ``changed``, ``merged`` if only the second write has shown it; empty if unknown.
    """
    mine, other = (trial.wait(trial.head(name), expected=_LOOKED) for name in (key, twin))
    if {mine.status, other.status} - {200, 404}:
        return ""
    if mine.status != 200 or other.status != 404:
        return "changed"
    if trial.capabilities.trusted:
        return "kept"
    if trial.put(twin, body[::-1], UNCONDITIONAL, client=trial.impatient).error is not None:
        return "kept"  # no file can have that name, so none can overwrite this one
    trial.left_behind.append(twin)
    read = _read(trial, key, len(body))
    if read.error is not None or read.status not in (200, 206, 404):
        return ""
    return "kept" if read.status != 404 and read.body.body == body else "merged"


def _read(trial: Trial, key: str, size: int) -> PendingRequest:
    request = requests.get_object(key, requests.encode_key(key), first=0, last=size - 1, etag="", size=size)
    return trial.wait(request, expected=_LOOKED)
