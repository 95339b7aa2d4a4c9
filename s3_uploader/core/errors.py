"""The errors of the program: each says what happened, how far it reaches and what a person can do.

Terms
-----
scope
    How far an error reaches. ``FILE``: only the file at hand. ``DESTINATION``: every file would meet it, so the run
    ends instead of failing file by file.
retryable
    Whether the same request may succeed a moment later. A store retries such an error by itself, bounded in count and
    time, before it lets it out; one that comes out has used up its retries.
hint
    A second sentence for a person: what to do about it. Empty where there is nothing to do.
"""

from __future__ import annotations

import enum

from s3_uploader.core.origins import Origin
from s3_uploader.core.text import with_hint, without_passwords

DEADLINE_EXCEEDED = "DeadlineExceeded"
"""The code of an upload that was not done in time."""
SIMULATED = "(simulated)"
"""Stands in the message of every error that is made up for a rehearsal."""


class Scope(enum.Enum):
    """How far an error reaches."""

    FILE = "file"
    DESTINATION = "destination"


class UploaderError(Exception):
    """Root of every error that this package raises on purpose. Passwords in URLs do not get into it.

    :param message: one sentence that states the fact.
    :param hint: one sentence that says what to do, or empty.

    ``is_repeated`` is set where a run that was started by a timer has told it not long ago.
    """

    is_repeated = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        message = without_passwords(message)
        super().__init__(message)
        self.message = message
        self.hint = without_passwords(hint)

    def __str__(self) -> str:
        return with_hint(self.message, self.hint)


class ConfigError(UploaderError):
    """The configuration cannot be used; ``problems`` holds one sentence for each thing that is wrong with it."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems = [without_passwords(problem) for problem in problems]
        super().__init__(f"{source}: " + "; ".join(problems))


class SpoolError(UploaderError):
    """The spool itself cannot be used: it is missing, unreadable, a link, or a directory that must never be emptied."""


class NotMounted(SpoolError):
    """A directory is not on the file system on which it belongs: its disk is not mounted, or another one is."""


class StateError(UploaderError):
    """The state directory or the ledger in it cannot be written, so nothing may be deleted on its word.

    :param code: a short name of ours where it matters: ``DiskFull``, ``Denied`` (this user may not), ``Damaged``.
    """

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code

    @property
    def is_full(self) -> bool:
        """There is no room for it."""
        return self.code == "DiskFull"

    @property
    def is_denied(self) -> bool:
        """It is not for this user to read, or to write."""
        return self.code == "Denied"

    @property
    def is_damaged(self) -> bool:
        """What is there is of no use any more; the next run begins anew."""
        return self.code == "Damaged"


class LockHeld(UploaderError):
    """Another run has the spool. ``holder`` describes it as far as it is known.

    :param pid: its process, 0 if unknown.
    :param held_since: seconds since the epoch, ``None`` if unknown.
    :param is_stranger: who has it does not look like a run of this program.
    :param is_refusal: it has a share of another division of the files, so that this is no run for which to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        holder: str,
        pid: int = 0,
        held_since: float | None = None,
        is_stranger: bool = False,
        is_refusal: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.holder = holder
        self.pid = pid
        self.held_since = held_since
        self.is_stranger = is_stranger
        self.is_refusal = is_refusal


class EngineUnavailable(UploaderError):
    """A part that the configuration asks for by name is not installed or cannot honour another setting."""


class StoreError(UploaderError):
    """A store could not do what it was asked to.

    :param code: the destination's own name of the error (``"SlowDown"``, ``"530"``), or a short name of ours.
    :param retryable: the same request may succeed a moment later.
    :param scope: whether every other file would meet the same error.
    :param retry_after: seconds that the destination asked us to wait, if it did.
    :param origin: what it comes from; if it is not given, the file, or where every file would meet it a destination
        that is out of reach.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retryable: bool = False,
        scope: Scope = Scope.FILE,
        hint: str = "",
        retry_after: float | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.origin = origin or (Origin.UNREACHABLE if scope is Scope.DESTINATION else Origin.FILE)
        self.code = code
        self.retryable = retryable
        self.scope = scope
        self.retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same upload may succeed a moment later: it is worth a retry, or only ran out of time."""
        return self.retryable


class ConflictError(StoreError):
    """The key is taken by other content, or by content that could not be examined.

    ``existing`` is the ETag of what is there, as a receipt would spell it; empty if it is not known.
    """

    def __init__(self, message: str, *, hint: str = "", existing: str = "") -> None:
        super().__init__(message, code="Conflict", hint=hint, origin=Origin.CONFLICT)
        self.existing = existing


class ProofError(StoreError):
    """The destination accepted the bytes but its answer does not prove that it holds them."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="NotProven", hint=hint)


class ObjectGone(StoreError):
    """What a receipt was given for is not under its key any more, or cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="Gone")


class SameAsSpool(StoreError):
    """The destination leads back to the spool: what it shows as stored is the local file itself."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="SameAsSpool", scope=Scope.DESTINATION, hint=hint, origin=Origin.SETTING)


class SourceChanged(StoreError):
    """The source no longer had the bytes that it promised (it shrank, or a read failed half way)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="SourceChanged")


class KeyRefused(StoreError):
    """The destination cannot take this key (too long, not text, or a name it forbids)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="KeyRefused", hint=hint)


class UploadCancelled(StoreError):
    """The upload was cancelled on our side: the run was interrupted or its deadline passed."""

    def __init__(self, message: str, *, code: str = "Cancelled") -> None:
        super().__init__(message, code=code)

    @property
    def is_late(self) -> bool:
        """Whether the deadline had passed, which is a failure; an interrupted upload is none."""
        return self.code == DEADLINE_EXCEEDED

    @property
    def may_pass(self) -> bool:
        """A deadline that has passed says nothing about the next one."""
        return self.is_late


class DestinationBusy(UploaderError):
    """Somebody else holds the destination's own lock; the run leaves without uploading and that is no failure."""


class UsageProblem(UploaderError):
    """A value on the command line makes no sense."""
