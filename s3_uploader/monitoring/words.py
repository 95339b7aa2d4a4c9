"""The words of reasons and ends, for people, and why a run moved nothing. Everything else has the identifiers."""

from __future__ import annotations

from s3_uploader.core.model import Left, RunEnd, RunReport
from s3_uploader.core.text import counted, shown_name, shown_text

FAILED_TOO = (Left.UNREADABLE, Left.UNDECODABLE)
"""Reasons of entries that a run counts as failed, too."""
_NOT_FILES = (Left.UNMATCHED, Left.EXCLUDED, Left.SPECIAL)

LEFT_WORDS: dict[Left, tuple[str, str, str]] = {
    Left.FRESH: (
        "fresh",
        "is too young, so that a later run ships it",
        "are too young, so that a later run ships them",
    ),
    Left.BUSY: (
        "busy",
        "is still open in a program that writes it",
        "are still open in a program that writes them",
    ),
    Left.CHANGED: (
        "changed",
        "changed while it was uploaded",
        "changed while they were uploaded",
    ),
    Left.WAITING: (
        "waiting",
        "failed before and waits for its next try",
        "failed before and wait for their next try",
    ),
    Left.UNMATCHED: (
        "outside the layout",
        "does not match the layout and is not shipped",
        "do not match the layout and are not shipped",
    ),
    Left.EXCLUDED: (
        "excluded",
        "is excluded by the configuration and is not shipped",
        "are excluded by the configuration and are not shipped",
    ),
    Left.SPECIAL: (
        "not a regular file",
        "is not a regular file and is not shipped",
        "are not regular files and are not shipped",
    ),
    Left.VANISHED: (
        "vanished",
        "was gone before it could be opened",
        "were gone before they could be opened",
    ),
    Left.UNDECODABLE: (
        "no key",
        "has a name that is not a key",
        "have names that are not keys",
    ),
    Left.UNREADABLE: (
        "unreadable",
        "cannot be read",
        "cannot be read",
    ),
    Left.REMEMBERED: (
        "already shipped",
        "was shipped before and is kept",
        "were shipped before and are kept",
    ),
    Left.POSTPONED: (
        "not reached",
        "was not reached",
        "were not reached",
    ),
}
"""Why entries were left: in a few words, then as a predicate for one entry and for several."""

END_WORDS: dict[RunEnd, str] = {
    RunEnd.DONE: "done",
    RunEnd.BUDGET: "time budget",
    RunEnd.SIGNAL: "signal",
    RunEnd.DESTINATION: "destination unusable",
    RunEnd.DESTINATION_BUSY: "destination busy",
    RunEnd.STATE: "ledger unusable",
    RunEnd.LOCKED: "another run has the spool",
}


def left_words(identifier: str) -> str:
    """A reason in a few words; one that this version does not know stays as it is."""
    try:
        return LEFT_WORDS[Left(identifier)][0]
    except ValueError:
        return identifier


def end_words(identifier: str) -> str:
    """What ended a run, in a few words; an end that this version does not know stays as it is."""
    try:
        return END_WORDS[RunEnd(identifier)]
    except ValueError:
        return identifier


def why_nothing_moved(
    report: RunReport, examples: dict[Left, tuple[str, str]], *, strangers_told: bool = False
) -> list[str]:
    """Explain to a person who runs the program by hand why nothing moved: one sentence for each reason.

    :param examples: path and detail of one entry for each reason.
    :param strangers_told: another line has reported the files that are outside the layout.
    """
    sentences = []
    is_told = False
    for reason, number in report.reasons.items():
        if reason in FAILED_TOO:
            continue
        if reason is Left.UNMATCHED and strangers_told:
            is_told = True
            continue
        noun = "entry" if reason in _NOT_FILES else "file"
        _, one, several = LEFT_WORDS[reason]
        text = f"{counted(number, noun, 'entries' if noun == 'entry' else '')} {one if number == 1 else several}"
        path, detail = examples.get(reason, ("", ""))
        if path:
            text += f"; {'it is' if number == 1 else 'the first is'} {shown_name(path)}"
        if detail:
            text += f" ({shown_text(detail)})"
        sentences.append(text + ".")
    if sentences or is_told:
        return sentences
    return [f"There is no file in {shown_name(report.base_dir)}."]
