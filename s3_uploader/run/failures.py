"""Handles files that could not be shipped: records them with their pause, reports them, and applies ``on_failure``."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from s3_uploader.core.control import Clock
from s3_uploader.core.errors import SIMULATED, NameTaken, OutOfResources, ProofError, StoreError, lacking, remedy_of
from s3_uploader.core.events import Emit, LocalTrouble, UploadFailed
from s3_uploader.core.model import FailureBucket, Fingerprint, Left, RunCounters
from s3_uploader.core.origins import Origin, recalled
from s3_uploader.core.text import shown_name
from s3_uploader.ledger.rows import FailingRow, ShippedRow, after_failure
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.run.in_flight import FileTask
from s3_uploader.run.scan import Leftovers
from s3_uploader.run.superseded import FactMemory
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.removal import Detached, give_back, move, remove, take
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.stores.base import Store

_MAY_NOT_REMOVE = (
    "Let the user that runs this program write to its directory, and remove `chattr +i` and foreign sticky bits."
)
_MAY_NOT_MOVE = "Let the user that runs this program write there and here."
_CORRECT_TARGET = "Correct move_to, or rename what is in the way there."
_NOT_DISPOSED = (Origin.NOT_REMOVED, Origin.NOT_MOVED, Origin.NO_ROOM_TO_MOVE)


class Records(FactMemory, Protocol):
    """The methods of the ledger that a run needs."""

    def commit_batch(
        self,
        *,
        shipped: Sequence[ShippedRow] = (),
        failed: Sequence[FailingRow] = (),
        recovered: Sequence[str] = (),
        failures: Mapping[FailureBucket, int] | None = None,
    ) -> None:
        """Record files in one transaction that is durable when this returns. Raises ``StateError``."""

    def failing_count(self) -> int:
        """The number of files that keep failing."""

    def failing(self, path: str) -> FailingRow | None:
        """The record of a failing file."""

    def remembers(self, path: str, fingerprint: Fingerprint, *, destination: str) -> bool:
        """Whether this file was shipped to that destination before and kept."""


class Failures:
    """Handles every file whose upload failed.

    :param unrecorded: gets the rows that the next batch records.
    :param counted: gets the number of failed uploads, by kind.
    :param random: returns a float in [0, 1), which spreads the retries of files that failed together.
    :param is_rehearsal: failures are simulated.
    """

    def __init__(
        self,
        root: SpoolRoot,
        store: Store,
        records: Records,
        leftovers: Leftovers,
        *,
        unrecorded: list[FailingRow],
        counted: Counter[FailureBucket],
        counters: RunCounters,
        on_success: SuccessPolicy,
        on_failure: FailurePolicy,
        clock: Clock,
        emit: Emit,
        random: Callable[[], float],
        is_rehearsal: bool,
    ) -> None:
        self._root = root
        self._store = store
        self._records = records
        self._leftovers = leftovers
        self._counters = counters
        self._on_success = on_success
        self._on_failure = on_failure
        self._clock = clock
        self._emit = emit
        self._random = random
        self._is_rehearsal = is_rehearsal
        self._unrecorded = unrecorded
        self._counted = counted

    def known(self, path: str) -> FailingRow | None:
        """The record of a file that failed before."""
        row = self._records.failing(path)
        # A failure that was simulated in a rehearsal is ignored by a real run.
        return row if row is None or self._is_rehearsal or SIMULATED not in row.message else None

    def record(self, upload: FileTask, error: StoreError) -> None:
        """Record the failure of a file: it waits, longer each time, and then ``on_failure`` applies.

        ``on_failure`` does not apply if the error is not about the file, because it is uploaded already, or this
        machine or program failed. A file for which this machine had no descriptor or memory waits for no pause.
        """
        if isinstance(error, OutOfResources):  # and so nothing more can be imported
            self._counters.failures += 1
            self._counters.count_waiting(upload.file.candidate)
            self.tell(upload, error)
            return
        from s3_uploader.core.meanings import meaning_of

        candidate = upload.file.candidate
        row = self._failing_row(upload, error)
        disposition = "kept"
        if meaning_of(error.origin).blames_file:
            # Only what the destination refuses about the file itself is deleted. Other errors may pass (a lost
            # connection, a deadline) or can be put right (a permission, a setting, an object that cannot be read back).
            may_change = error.may_pass or isinstance(error, (ProofError, NameTaken))
            is_refused = error.origin is Origin.FILE and not may_change and _names_a_reason(error.code)
            disposition = self._dispose(upload, row.attempts, may_delete=is_refused)
        if disposition == "kept":
            self._counters.count_waiting(candidate)
            self._unrecorded.append(row)
        self._counters.failures += 1
        self._count(upload, error.code)
        self._emit(
            UploadFailed(
                self._leftovers.shown(candidate),
                candidate.location,
                self._store.address(upload.key),
                error.code,
                error.message,
                error.hint,
                row.attempts,
                row.next_try_at if disposition == "kept" else None,
                disposition,
            )
        )

    def undisposed(self, error: OSError) -> StoreError:
        """The error of a file that is uploaded but cannot be removed or moved, for lack of permission or space."""
        reason = error.strerror or str(error)
        target = self._on_success.move_to
        what = "removed" if target is None else f"moved to {target.path}"
        fact = f"it is uploaded, but the local file cannot be {what}"
        if out_of_resources := lacking(fact, error):
            return out_of_resources
        if target is None:
            return StoreError(
                f"{fact}: {reason}",
                code="CannotRemove",
                hint=remedy_of(error, denied=_MAY_NOT_REMOVE),
                origin=Origin.NOT_REMOVED,
            )
        lacks_room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        return StoreError(
            f"{fact}: {reason}",
            code="CannotMove",
            hint=remedy_of(error, denied=_MAY_NOT_MOVE) or _CORRECT_TARGET,
            origin=Origin.NO_ROOM_TO_MOVE if lacks_room else Origin.NOT_MOVED,
        )

    def why_still_stuck(self, file: OpenFile) -> OSError | None:
        """Check, without side effects, whether a file still cannot be removed or moved."""
        row = self.known(file.candidate.path)
        if row is None or self._on_success.keep or recalled(row.origin, Origin.FILE) not in _NOT_DISPOSED:
            return None
        try:
            taken = take(file.home, file)
            if isinstance(taken, Detached):
                give_back(self._root, file, taken)
                file.look_again()
            if self._on_success.move_to is not None:
                self._on_success.move_to.try_out(file)
        except OSError as error:
            return error
        return None

    def suspect(self, upload: FileTask, error: StoreError) -> None:
        """Mark a file whose upload failed together with the run: the next run begins with others.

        It counts as no attempt and causes no pause. A file for which this machine had no descriptor is like the others.
        """
        if not isinstance(error, OutOfResources):
            row = self._failing_row(upload, error)
            self._unrecorded.append(
                msgspec.structs.replace(row, attempts=row.attempts - 1, next_try_at=row.last_failed_at)
            )
        self._leftovers.leave(upload.file.candidate, Left.POSTPONED, "")

    def tell(self, upload: FileTask, error: StoreError) -> None:
        """Report a failed upload whose cause is not the file: it is not recorded as failing."""
        self._count(upload, error.code)
        self._emit(
            UploadFailed(
                self._leftovers.shown(upload.file.candidate),
                upload.file.candidate.location,
                self._store.address(upload.key),
                error.code,
                error.message,
                error.hint,
                1,
                None,
            )
        )

    def _failing_row(self, upload: FileTask, error: StoreError) -> FailingRow:
        from s3_uploader.core.findings import Cause
        from s3_uploader.core.meanings import meaning_of

        # What to do about an error of this file alone is known here only; other causes have a remedy of their own.
        is_of_this_kind = meaning_of(error.origin).cause is Cause.FAILING_FILE
        path, fingerprint = upload.file.candidate.path, upload.file.fingerprint
        return after_failure(
            self.known(path),
            path=path,
            key=upload.key,
            size=fingerprint.size,
            mtime_ns=fingerprint.mtime_ns,
            code=error.code,
            message=str(error) if is_of_this_kind else error.message,
            origin=error.origin.value,
            now=self._clock.now(),
            random=self._random,
        )

    def _dispose(self, upload: FileTask, attempts: int, *, may_delete: bool) -> str:
        policy = self._on_failure
        deletes = policy.delete and may_delete
        if attempts < policy.attempts or (policy.move_to is None and not deletes):
            return "kept"
        # What failed is the content that was opened: whatever has its name by now is a different matter.
        self._root.refresh()
        try:
            if policy.move_to is not None:
                reason, path = move(upload.file.home, upload.file, policy.move_to)
                return f"moved to {path}" if reason is None else "kept"
            return "deleted" if remove(upload.file.home, upload.file) is None else "kept"
        except OSError as error:
            shown, fact = self._leftovers.shown(upload.file.candidate), error.strerror or str(error)
            if policy.move_to is None:
                trouble = LocalTrouble(shown, "remove", fact, remedy_of(error, denied=_MAY_NOT_REMOVE))
            else:
                hint = remedy_of(error, denied=_MAY_NOT_MOVE) or _CORRECT_TARGET
                trouble = LocalTrouble(shown, "move", f"{fact}: {shown_name(policy.move_to.path)}", hint)
            self._emit(trouble)
            return "kept"

    def _count(self, upload: FileTask, code: str) -> None:
        if not self._is_rehearsal:
            self._counted[FailureBucket(int(self._clock.now() // 3600), code, upload.file.candidate.location)] += 1


def _names_a_reason(code: str) -> bool:
    """Whether the code of an error says what is wrong with a file.

    HTTP's 400, FTP's 550 and SFTP's "failure" stand for a disk that fails, too; 413 is about the file's size.
    """
    return code == "413" or not (code == "Failure" or code.removeprefix("Status").isdigit())
