"""What is found to be wrong: by a check before a run, with a spool that is not emptied, with files of no layout."""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.Enum):
    """How much a finding of ``check`` matters."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing that ``check`` found out: the subject, the fact, and what it means for the user's data."""

    severity: Severity
    subject: str
    fact: str
    meaning: str = ""


class Cause(enum.Enum):
    """Why a spool is not emptied as it should be: the words of ``status``, of the metrics and of the alerts."""

    CREDENTIALS = "credentials"
    """They are wrong, have expired, or lack a right."""
    DESTINATION = "destination"
    """It is missing, cannot be reached, or does not answer."""
    DISK_FULL = "disk_full"
    """There is no room in the state directory, in the target of a ``move_to`` or at the destination."""
    CLOCK = "clock"
    """This machine's time is wrong."""
    FAILING_FILE = "failing_file"
    """Some files fail again and again while others go."""
    CONFLICT = "conflict"
    """The key is taken by other content."""
    OPEN_WRITER = "open_writer"
    """A file is held open, or written to, for long."""
    HUNG_RUN = "hung_run"
    """Another run has had the lock for too long."""
    UNREADABLE = "unreadable"
    """The spool, something in it, or the state directory is not for this user to read or write."""
    NOT_RUN = "not_run"
    """There has been no run for too long, or none that could begin, or come to its end."""
    FALLING_BEHIND = "falling_behind"
    """More arrives than the runs ship."""
    UNMATCHED = "unmatched"
    """Files match nothing that the layout expects, so that no run ever ships them."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that keeps files in the spool, or soon will.

    :param severity: ``ERROR`` if nothing is shipped, ``WARNING`` if something is not, or soon will not be.
    :param sentence: what is wrong.
    :param next: what the program will do about it by itself, and when.
    :param remedy: what a person can do.
    :param since: seconds since the epoch, ``None`` if it cannot be known.
    :param path: the file or directory that it is about, absolute; ``None`` where it is about all of them.
    :param files: how many files it is about, 0 where that is not counted.
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
    :param is_complete: whether all of them were looked at; there are more if not.
    :param old: how many of them have been there for more than a day.
    :param oldest: the one that was written first.
    :param examples: a few of them, with different reasons where there are several.
    :param proposal: the members of the configuration that would ship them, as JSON; empty if none would.
    :param proposed: how many of them it would ship.
    """

    files: int = 0
    is_complete: bool = True
    old: int = 0
    oldest: Stranger | None = None
    examples: tuple[Stranger, ...] = ()
    proposal: str = ""
    proposed: int = 0
