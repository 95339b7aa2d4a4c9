"""Whether a bucket keeps unusual names as they are, and apart from those that they resemble."""

from __future__ import annotations

from s3_uploader.stores.s3.checks.trial import NOTE, OK, WARNING, Trial
from s3_uploader.stores.s3.names import kinds_of
from s3_uploader.stores.s3.requests import UNCONDITIONAL

_UNUSUAL = (
    ("upper case", "-Name", "-name"),
    ("accents", "-\u00e9", "-e\u0301"),
    ("combining accents", "-ae\u0301", "-a\u00e9"),
    ("empty steps", "-steps//name", "-steps/name"),
    ("escapes", "-100%25", "-100%"),
)
"""What is unusual about a name, its ending, and that of another which some server takes for it."""


def check_names(trial: Trial, body: bytes) -> None:
    """Whether names are kept as they are, and apart from those that they resemble."""
    refused, changed = [], []
    for words, ending, twin in _UNUSUAL:
        key = trial.key + ending
        if trial.put(key, body, UNCONDITIONAL, caller=trial.impatient).error is not None:
            refused.append(words)
            continue
        trial.left_behind.append(key)
        mine, other = (trial.wait(trial.head(name), expected=frozenset((404,))) for name in (key, trial.key + twin))
        if mine.error is not None or other.error is not None:
            return  # Looking is not permitted, which is said elsewhere.
        if mine.status == 200 and other.status == 404:
            trial.capabilities.keeps_names(kinds_of("name" + ending))
        else:
            changed.append(words)
    if changed:
        trial.tell(
            WARNING,
            "names",
            f"not kept apart from others that they resemble: names with {', '.join(changed)}",
            "Of two files whose names differ in nothing else only one is uploaded; the other is kept, and fails.",
        )
    if refused:
        trial.tell(
            NOTE,
            "refused names",
            f"names with {', '.join(refused)}",
            "Files with such names are kept and fail; the others go.",
        )
    if not changed and not refused:
        trial.tell(OK, "names", "upper and lower case, accents, empty steps and escapes are kept as they are")
