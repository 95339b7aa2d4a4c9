"""The verdict on a spool: one word, and one sentence."""

from __future__ import annotations

from s3_uploader.cli.output import zoned_time
from s3_uploader.core.findings import Problem, Severity
from s3_uploader.core.model import Left
from s3_uploader.core.text import counted, shown_duration
from s3_uploader.inspection.status import SpoolStatus
from s3_uploader.ledger import RunRow

OK, ATTENTION, STUCK, UNKNOWN = "ok", "attention", "stuck", "unknown"
"""The verdicts."""
WORST_FIRST = (STUCK, UNKNOWN, ATTENTION, OK)


def verdict(standing: SpoolStatus) -> str:
    """The verdict in one word."""
    severities = {problem.severity for problem in standing.problems}
    if Severity.ERROR in severities:
        return STUCK
    if standing.ledger_error is not None and not standing.ledger_error.is_damaged:
        return UNKNOWN
    if standing.spool_error is not None:
        return UNKNOWN
    return ATTENTION if severities or standing.ledger_error is not None else OK


def first_line(standing: SpoolStatus) -> str:
    """The verdict in one sentence."""
    word = verdict(standing)
    if word == OK:
        return "OK: " + calm(standing)
    if standing.problems and word != UNKNOWN:
        problem = standing.problems[0]
        return f"{word.upper()}{since(problem, standing.now)} because {problem.sentence}"
    return f"{word.upper()}: {standing.hidden_by}"


def calm(standing: SpoolStatus) -> str:
    """The sentence for a spool without problems."""
    waiting = standing.waiting
    if waiting is not None and not waiting.files and not waiting.is_complete:
        text = "the spool was not looked through in time"
    elif waiting is None or not waiting.files:
        text = "nothing waits"
    else:
        text = f"{'' if waiting.is_complete else 'more than '}{counted(waiting.files, 'file')}"
        text += " waits" if waiting.files == 1 else " wait"
        if waiting.oldest is not None:
            text += f", the oldest from {zoned_time(waiting.oldest)}"
    hidden = 0 if waiting is None else waiting.foreign.get(Left.UNREADABLE.value, 0)
    if hidden:
        text += f"; {counted(hidden, 'entry', 'entries')} cannot be read by this user"
    if standing.failing_count:
        text += f"; {counted(standing.failing_count, 'file')} failed once"
    if standing.at_work is not None:
        return f"{text}; a run is at work."
    if standing.watcher is not None:
        return f"{text}; the spool is watched."
    if not standing.runs:
        return f"{text}; no run is recorded yet."
    return f"{text}; the last run was {_ago(standing.runs[0], standing.now)} ago."


def since(problem: Problem, now: float) -> str:
    """Since when a problem lasts, as part of a sentence; empty if unknown."""
    if problem.since is None:
        return ""
    return f" since {zoned_time(problem.since)} ({shown_duration(now - problem.since)})"


def _ago(row: RunRow, now: float) -> str:
    return shown_duration(now - (row.finished_at or row.started_at))
