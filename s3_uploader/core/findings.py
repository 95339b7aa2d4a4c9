"""Findings: of a check before a run, about a spool that is not emptied, about files that match no layout."""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.Enum):
    """The severity of a finding of ``check``."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One finding of ``check``: the subject, the fact, and what it means for the user's data."""

    severity: Severity
    subject: str
    fact: str
    meaning: str = ""


class Cause(enum.Enum):
    """Why a spool is not emptied: the identifiers in ``status``, the metrics and the alerts."""

    CREDENTIALS = "credentials"
    """They are wrong, have expired, or lack a permission."""
    DESTINATION = "destination"
    """It is missing, cannot be reached, or does not answer."""
    DISK_FULL = "disk_full"
    """There is no room in the state directory, in the target of a ``move_to`` or at the destination."""
    CLOCK = "clock"
    """This machine's time is wrong."""
    FAILING_FILE = "failing_file"
    """Some files fail again and again while others are shipped."""
    CONFLICT = "conflict"
    """The key is taken by other content."""
    OPEN_WRITER = "open_writer"
    """A file has been open or written to for long."""
    HUNG_RUN = "hung_run"
    """Another run has had the lock for too long."""
    UNREADABLE = "unreadable"
    """This user may not read or write the spool, something in it, or the state directory."""
    NOT_RUN = "not_run"
    """There has been no run for too long, or none that could begin or finish."""
    FALLING_BEHIND = "falling_behind"
    """More arrives than the runs ship."""
    UNMATCHED = "unmatched"
    """Files do not match the layout, so that no run ever ships them."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem that keeps files in the spool, or soon will.

    :param severity: ``ERROR`` if nothing is shipped, ``WARNING`` if some files are not, or soon will not be.
    :param sentence: what is wrong.
    :param next: what the program will do about it, and when.
    :param remedy: what a person can do.
    :param since: seconds since the epoch; ``None`` if unknown.
    :param path: the affected file or directory, absolute; ``None`` if all are affected.
    :param files: number of affected files; 0 if not counted.
    """

    cause: Cause
    severity: Severity
    sentence: str
    next: str = ""
    remedy: str = ""
    since: float | None = None
    path: str | None = None
    files: int = 0


class Stranger(msgspec.Struct, frozen=True):
    """A file that the layout does not recognise: its relative path in its printable form, why, and its mtime."""

    path: str
    why: str
    mtime: float


class Strangers(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a spool that the layout does not recognise.

    :param files: how many were found.
    :param is_complete: whether all were examined; there are more if not.
    :param old: number of those that are older than a day.
    :param oldest: the one that was written first.
    :param examples: a few of them, with different reasons if there are several.
    :param proposal: the configuration that would ship them, as members of a JSON object; empty if none would.
    :param proposed: number of files that it would ship.
    """

    files: int = 0
    is_complete: bool = True
    old: int = 0
    oldest: Stranger | None = None
    examples: tuple[Stranger, ...] = ()
    proposal: str = ""
    proposed: int = 0
