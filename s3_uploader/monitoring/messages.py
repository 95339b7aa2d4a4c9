"""Turns the events of a run into log messages and their levels.

Pure functions of events. The lines of an upload and of a failed upload keep their form, because scripts read them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from s3_uploader.core.events import (
    DirectoryPruned,
    Event,
    FileLeft,
    LocalTrouble,
    Notice,
    RunFinished,
    RunStarted,
    StrangersFound,
    Uploaded,
    UploadFailed,
    UploadStarted,
)
from s3_uploader.core.model import Left, RunEnd, RunReport
from s3_uploader.core.text import counted, ended, shown_duration, shown_name, shown_size, shown_text, with_hint
from s3_uploader.monitoring.words import LEFT_WORDS, end_words, left_words


class Level(enum.IntEnum):
    """The level of a line; the values are those of the standard library's ``logging``."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


_NOTICE_LEVELS = {"info": Level.INFO, "warning": Level.WARNING, "error": Level.ERROR}

# The summary counts these as failed already.
_FAILED_TOO = (Left.UNREADABLE, Left.UNDECODABLE)
_NOT_FILES = (Left.UNMATCHED, Left.EXCLUDED, Left.SPECIAL)


def level_and_sentence(event: Event) -> tuple[Level, str]:
    """The level and the line of an event, with everything escaped that could break the line."""
    return _WORDING[type(event)](event)


def is_idle(report: RunReport) -> bool:
    """Whether a run finished, moved nothing and failed nothing."""
    is_done = report.ended_by == RunEnd.DONE.value
    return is_done and not report.shipped and not report.failed and not report.pruned_directories


def summary(report: RunReport, *, all_kept: bool = True) -> str:
    """Sum up a run in one sentence: ``12 files (3.4 MB) shipped to bucket in 0.4 s; left: 3 fresh; 2 failed, kept …``.

    :param all_kept: whether every file that failed is still in the spool.
    """
    duration = shown_duration(report.duration)
    destination = shown_text(report.destination)
    if report.shipped:
        files = f"{counted(report.shipped, 'file')} ({shown_size(report.shipped_bytes)})"
        parts = [f"{files} shipped to {destination} in {duration}"]
        if report.already_there:
            parts[0] += f", {report.already_there:,} of them {_was(report.already_there)} there already"
    else:
        parts = [f"No file shipped to {destination} in {duration}"]
    left = [
        f"{number:,} {left_words(reason)}" for reason, number in _left_in_order(report) if reason not in _FAILED_VALUES
    ]
    if left:
        parts.append("left: " + ", ".join(left))
    if report.failed:
        parts.append(f"{report.failed:,} failed" + (", kept for the next run" if all_kept else ""))
    if report.ended_by != RunEnd.DONE.value:
        parts.append(f"ended early: {shown_text(end_words(report.ended_by))}")
    return "; ".join(parts) + "."


def why_nothing_moved(
    report: RunReport, examples: dict[Left, tuple[str, str]], *, strangers_told: bool = False
) -> list[str]:
    """Explain to a person who runs the program by hand why nothing moved: one sentence for each reason.

    :param examples: path and detail of one entry for each reason.
    :param strangers_told: another line has reported the files that are outside the layout.
    """
    sentences = []
    is_told = False
    for value, number in _left_in_order(report):
        reason = _REASONS.get(value)
        if reason is None or reason in _FAILED_TOO:
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


_FAILED_VALUES = {reason.value for reason in _FAILED_TOO}
_REASONS = {reason.value: reason for reason in Left}
_ORDER = {reason.value: number for number, reason in enumerate(Left)}


def _left_in_order(report: RunReport) -> list[tuple[str, int]]:
    present = ((reason, number) for reason, number in report.left.items() if number)
    return sorted(present, key=lambda item: _ORDER.get(item[0], len(_ORDER)))


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _with_hint(message: str, hint: str) -> str:
    return shown_text(with_hint(message, hint))


def _run_started(event: RunStarted) -> tuple[Level, str]:
    return Level.DEBUG, f"Shipping {shown_name(event.base_dir)} to {shown_text(event.destination)}."


def _upload_started(event: UploadStarted) -> tuple[Level, str]:
    return Level.DEBUG, f"Uploading {shown_name(event.path)} ({shown_size(event.size)})."


def _uploaded(event: Uploaded) -> tuple[Level, str]:
    text = f"{shown_name(event.path)} has been uploaded to {shown_name(event.store_name)}"
    if event.receipt.already_there:
        text = f"{shown_name(event.path)} was in {shown_name(event.store_name)} already, as {shown_name(event.address)}"
    elif event.derived_key:
        text += f" as {shown_name(event.address)}"
    return Level.INFO, text + "."


def _upload_failed(event: UploadFailed) -> tuple[Level, str]:
    reason = _with_hint(event.message, event.hint)
    text = f"Failed to upload {shown_name(event.path)} to {shown_name(event.address)}: {reason}"
    if event.disposition != "kept":
        text = f"{ended(text)} The file was {shown_text(event.disposition)}."
    return Level.WARNING, text


def _file_left(event: FileLeft) -> tuple[Level, str]:
    detail = f" ({shown_text(event.detail)})" if event.detail else ""
    return Level.DEBUG, f"{shown_name(event.path)} was left: {left_words(event.reason.value)}{detail}."


def _local_trouble(event: LocalTrouble) -> tuple[Level, str]:
    return Level.WARNING, ended(
        f"Could not {event.action} {shown_name(event.path)}: {_with_hint(event.message, event.hint)}"
    )


def _directory_pruned(event: DirectoryPruned) -> tuple[Level, str]:
    return Level.DEBUG, f"Removed the empty directory {shown_name(event.path)}."


def _notice(event: Notice) -> tuple[Level, str]:
    return _NOTICE_LEVELS[event.level], shown_text(event.message)


def _strangers_found(event: StrangersFound) -> tuple[Level, str]:
    from s3_uploader.spool.layouts.strangers import in_words, remedy

    sentence = in_words(event.found, layout=event.layout, matching=event.matching, base_dir=event.base_dir)
    return _NOTICE_LEVELS[event.level], f"{ended(sentence)} {remedy(event.found)}"


def _run_finished(event: RunFinished) -> tuple[Level, str]:
    return Level.DEBUG if is_idle(event.report) else Level.INFO, summary(event.report)


_WORDING: dict[type, Callable[[Any], tuple[Level, str]]] = {
    RunStarted: _run_started,
    UploadStarted: _upload_started,
    Uploaded: _uploaded,
    UploadFailed: _upload_failed,
    FileLeft: _file_left,
    LocalTrouble: _local_trouble,
    DirectoryPruned: _directory_pruned,
    Notice: _notice,
    StrangersFound: _strangers_found,
    RunFinished: _run_finished,
}
