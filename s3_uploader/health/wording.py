"""The words of problems: the remedy of each cause, and the affected file."""

from __future__ import annotations

from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.core.text import counted, shown_name
from s3_uploader.health.observations import Observations

_REMEDY = {
    Cause.CREDENTIALS: "Renew or correct the credentials; `check` names the missing permission.",
    Cause.DESTINATION: "Run `check`: it tries each step, and says whether the network or the destination fails.",
    Cause.DISK_FULL: "Make room there, or make it writable for the user that runs this program.",
    Cause.CLOCK: "Set this machine's clock and keep it right with NTP.",
    Cause.FAILING_FILE: "Correct what its message names; then `run --retry` retries it at once.",
    Cause.CONFLICT: "Compare both. Set on_conflict to overwrite if the local file is right, or to keep-both.",
    Cause.OPEN_WRITER: "Let the program that writes it close it, or end that program.",
    Cause.HUNG_RUN: "If that process does nothing, end it (kill, then kill -9). The next run finishes its work.",
    Cause.UNREADABLE: "Let the user that runs this program read the files and write their directories.",
    Cause.NOT_RUN: "Start the timer or service again (`systemctl list-timers`), or see that cron runs.",
    Cause.FALLING_BEHIND: "Give runs more time (max_runtime_seconds) or a faster link; `report` shows what is slow.",
}

_FIRST_WORDS = ("A", "An", "Another", "It", "No", "Nothing", "The", "This")


def problem(
    cause: Cause,
    sentence: str,
    *,
    severity: Severity = Severity.WARNING,
    then: str,
    remedy: str = "",
    since: float | None,
    path: str | None = None,
    files: int = 0,
) -> Problem:
    """Make a problem, with the remedy of its cause unless a better one is given.

    :param then: what the program will do by itself.
    """
    return Problem(
        cause=cause,
        severity=severity,
        sentence=sentence,
        next=then,
        remedy=remedy or remedy_of(cause),
        since=since,
        path=path,
        files=files,
    )


def remedy_of(cause: Cause) -> str:
    """The general remedy for a cause."""
    return _REMEDY.get(cause, "")


def absolute(facts: Observations, path: str) -> str:
    """The absolute path of a file of the spool."""
    return f"{facts.base_dir.rstrip('/')}/{path}"


def shown(facts: Observations, path: str) -> str:
    """The same in its printable form."""
    return shown_name(absolute(facts, path))


def as_clause(message: str) -> str:
    """The message of an error as it follows ``because``: an article or pronoun that begins it in small letters."""
    first, space, rest = message.partition(" ")
    return (first.lower() if first in _FIRST_WORDS else first) + space + rest


def others(files: int) -> str:
    """The number of files besides the one that is named."""
    return f" ({counted(files - 1, 'other file')} too)" if files > 1 else ""
