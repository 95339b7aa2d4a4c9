"""The errors of the program: each states what happened, how far it reaches and what a person can do.

Terms
-----
scope
    How far an error reaches. ``FILE``: only the file at hand. ``DESTINATION``: every file would meet it, so the run
    ends instead of failing file by file.
retryable
    Whether the same request may succeed a moment later. A store retries such an error by itself, bounded in count and
    time, before it raises it; a raised one has used up its retries.
hint
    A second sentence that says what a person can do. Empty if there is nothing to do.
"""

from __future__ import annotations

import enum
import errno
import os
from typing import Any

from s3_uploader.core.files import OUT_OF_DESCRIPTORS
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import with_hint, without_passwords

DEADLINE_EXCEEDED = "DeadlineExceeded"
"""The code of an upload that exceeded its deadline."""
SIMULATED = "(simulated)"
"""Part of the message of every simulated error."""
FAILING_DISK = (
    "Its disk or network share may be failing: see what the kernel says (`dmesg`), and save what can still be read."
)
"""The hint if the kernel does not deliver the bytes of a file."""
DEAD_MOUNT = "Mount its file system again, or repair its disk or server: the kernel says more (`dmesg`)"
"""The beginning of the hint about a directory of this program whose file system does not answer."""
_OF_A_FAILING_DISK = frozenset(
    {
        *(errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENOMEDIUM, errno.ESHUTDOWN, errno.EREMOTEIO),
        # The errors of mounts from other machines (NFS, SMB) and programs (FUSE) while these do not answer.
        *(
            errno.ENOTCONN,
            errno.ESTALE,
            errno.ENODEV,
            errno.ENXIO,
            errno.ETIMEDOUT,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
        ),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
    }
)


def is_of_a_failing_disk(error: OSError) -> bool:
    """Whether an error of a file says that its disk, or the server that it is mounted from, does not work."""
    return error.errno in _OF_A_FAILING_DISK


def remedy_of(error: OSError, *, denied: str) -> str:
    """The remedy for an operation that failed in the spool; empty if none is known.

    :param denied: the remedy for missing permissions.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        return denied
    if is_of_a_failing_disk(error):
        return FAILING_DISK
    if error.errno == errno.EROFS:
        return "Mount its file system writable."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make some room there."
    if error.errno == errno.EFBIG:
        from s3_uploader.core.limits import RAISE_SIZE_LIMIT, is_of_the_size_limit  # rarely needed

        return RAISE_SIZE_LIMIT if is_of_the_size_limit(error) else ""
    return ""


WITHOUT_MEMORY = (
    "MemoryError",
    "Cannot allocate memory",
    "failed to map segment",
    "can't start new thread",
    "can't allocate lock",
    "no memory for it",
    "without exception set",
    "without setting an exception",
)
"""Messages of Python and the loader of libraries when no memory is left, not even for an error of its own."""


def lacks_memory(error: BaseException) -> bool:
    """Whether the system has refused memory, or a thread."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    is_vague = isinstance(error, (ImportError, RuntimeError, SystemError))
    return is_vague and any(words in str(error) for words in WITHOUT_MEMORY)


def lacks_descriptors(error: BaseException) -> bool:
    """Whether this process or the whole machine can open no more files, not even a module."""
    if isinstance(error, OSError):
        return error.errno in OUT_OF_DESCRIPTORS
    return isinstance(error, ImportError) and any(os.strerror(number) in str(error) for number in OUT_OF_DESCRIPTORS)


class Scope(enum.Enum):
    """How far an error reaches."""

    FILE = "file"
    DESTINATION = "destination"


class UploaderError(Exception):
    """Root of every error that this package raises on purpose. Passwords in URLs are removed.

    :param message: one sentence that states the fact.
    :param hint: one sentence that says what to do, or empty.

    ``is_repeated`` is set if an earlier run has reported it recently.
    """

    is_repeated = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        message = without_passwords(message)
        super().__init__(message)
        self.message = message
        self.hint = without_passwords(hint)

    def __str__(self) -> str:
        return with_hint(self.message, self.hint)

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, unpickling passes only the message to the constructor. If that needs more, a pool of processes
        # that receives such an error from one of them breaks, or waits for ever.
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[UploaderError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> UploaderError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class ConfigError(UploaderError):
    """The configuration cannot be used; ``problems`` holds one sentence for each thing that is wrong with it."""

    def __init__(self, source: str, problems: list[str], *, hint: str = "") -> None:
        self.source = source
        self.problems = problems = [without_passwords(problem) for problem in problems]
        super().__init__(f"{source}: " + "; ".join(problems), hint=hint)


class SpoolError(UploaderError):
    """The spool itself cannot be used: it is missing, unreadable, a link, or a directory that must never be emptied."""


class SpoolDenied(SpoolError):
    """The spool may not be read by this user; the one that runs the program may be another."""


class NotMounted(SpoolError):
    """A directory is not on its usual file system: its disk is not mounted, or another one is.

    ``is_spool`` tells the spool from the other directories.
    """

    def __init__(self, message: str, *, hint: str = "", is_spool: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.is_spool = is_spool


class StateError(UploaderError):
    """The state directory or the ledger in it cannot be used, so nothing may be deleted.

    :param code: a short name where it matters: ``DiskFull``, ``Denied`` (this user may not), ``Damaged``.
    """

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code

    @property
    def is_full(self) -> bool:
        """Whether there is no room for it."""
        return self.code == "DiskFull"

    @property
    def is_denied(self) -> bool:
        """Whether this user may not read or write it."""
        return self.code == "Denied"

    @property
    def is_damaged(self) -> bool:
        """Whether the ledger is damaged; the next run starts a new one."""
        return self.code == "Damaged"


class LockHeld(UploaderError):
    """Another run has the spool. ``holder`` describes it as far as known.

    :param pid: its process, 0 if unknown.
    :param held_since: seconds since the epoch, ``None`` if unknown.
    :param is_stranger: the holder does not look like a run of this program.
    :param is_refusal: it has a share of another division of the files, so waiting for it is pointless.
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
    """A part that the configuration names is not installed or cannot honour another setting."""


class StoreError(UploaderError):
    """A request to a store failed.

    :param code: the destination's own name of the error (``"SlowDown"``, ``"530"``), or a short name of this program.
    :param retryable: the same request may succeed a moment later.
    :param scope: whether every other file would meet the same error.
    :param retry_after: seconds that the destination asked to wait, if it did.
    :param origin: its cause; by default the file, or an unreachable destination if every file would meet it.
    :param never_connected: there was no connection, so nothing of the file can be the cause.
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
        never_connected: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.never_connected = never_connected
        self.origin = origin or (Origin.UNREACHABLE if scope is Scope.DESTINATION else Origin.FILE)
        self.code = code
        self.retryable = retryable
        self.scope = scope
        self.retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same upload may succeed a moment later: it can be retried, or it only exceeded its deadline."""
        return self.retryable


class OutOfResources(StoreError):
    """There is no descriptor, thread or memory left on this machine for a step of an upload.

    No file is the cause, so none is recorded as failing: the next run tries again.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(
            message,
            code="OutOfResources",
            retryable=True,
            scope=Scope.DESTINATION,
            hint=hint,
            origin=Origin.MACHINE,
            never_connected=True,
        )


def lacking(fact: str, error: BaseException) -> OutOfResources | None:
    """The error of a step that failed for lack of descriptors or memory; ``None`` if it failed for another reason.

    :param fact: what failed, as the beginning of a sentence.
    """
    if lacks_descriptors(error):
        hint = "Raise this user's limit of open files (ulimit -n), or lower max_concurrency."
        return OutOfResources(f"{fact}: too many open files, by this program or on this machine.", hint=hint)
    if lacks_memory(error):
        hint = "Allow the program more memory and threads (ulimit -v and -u, MemoryMax=), or end what uses them up."
        return OutOfResources(f"{fact}: there is no memory left, or no thread.", hint=hint)
    return None


class ConflictError(StoreError):
    """The key is taken by other content, or by content that could not be examined.

    ``existing`` is its ETag, as a receipt spells it; empty if unknown. ``age`` is how old it is, in seconds.
    """

    def __init__(self, message: str, *, hint: str = "", existing: str = "", age: float | None = None) -> None:
        super().__init__(message, code="Conflict", hint=hint, origin=Origin.CONFLICT)
        self.existing = existing
        self.age = age


class ProofError(StoreError):
    """The destination accepted the bytes, but its answer does not prove that it has them."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="NotProven", hint=hint)


class ObjectGone(StoreError):
    """The object of a receipt is no longer under its key, or cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="Gone")


class SameAsSpool(StoreError):
    """The destination leads back to the spool: the stored object is the local file itself."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="SameAsSpool", scope=Scope.DESTINATION, hint=hint, origin=Origin.SETTING)


class SourceChanged(StoreError):
    """The source has fewer bytes than before: it shrank."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="SourceChanged")


class SourceUnreadable(StoreError):
    """The kernel does not deliver the bytes of the source, as on a disk that fails."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="SourceUnreadable", hint=FAILING_DISK, origin=Origin.SOURCE)


def failed_read(offset: int, error: OSError) -> SourceChanged | SourceUnreadable:
    """The error of a read of the source that the kernel refused. A file that was removed on its server has changed."""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.ESTALE:
        return SourceChanged(f"The source is gone: {reason}.")
    return SourceUnreadable(f"the local file cannot be read at byte {offset:,}: {reason}")


class KeyRefused(StoreError):
    """The destination cannot take this key (too long, not text, or a name it forbids)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="KeyRefused", hint=hint)


class NameTaken(KeyRefused):
    """For the destination this is the name of another object that exists; as in a conflict, no file is deleted."""


class UploadCancelled(StoreError):
    """The upload was cancelled by this program: the run was interrupted or the deadline passed."""

    def __init__(self, message: str, *, code: str = "Cancelled") -> None:
        super().__init__(message, code=code)

    @classmethod
    def late(cls) -> UploadCancelled:
        """Of an upload whose deadline passed."""
        return cls("The upload was cancelled because its deadline passed.", code=DEADLINE_EXCEEDED)

    @classmethod
    def interrupted(cls) -> UploadCancelled:
        """Of an upload in flight when the run was interrupted."""
        return cls("The upload was cancelled because the run was interrupted.")

    @property
    def is_late(self) -> bool:
        """Whether the deadline had passed, which is a failure; an interruption is not."""
        return self.code == DEADLINE_EXCEEDED

    @property
    def may_pass(self) -> bool:
        """Whether to try again: a passed deadline says nothing about the next one."""
        return self.is_late


class DestinationBusy(UploaderError):
    """Another client holds the destination's own lock. The run ends without uploading, which is not a failure."""


class UsageProblem(UploaderError):
    """A value on the command line is invalid."""
