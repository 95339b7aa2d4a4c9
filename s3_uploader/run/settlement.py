"""What becomes of a file after its upload: looked at again, recorded, removed; or recorded as failing, and left.

This is the half of the coordinator that changes the spool and the ledger; :mod:`s3_uploader.run.pipeline` is the half
that keeps uploads in flight. Both run on the same thread.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from s3_uploader.core.control import Clock
from s3_uploader.core.counters import RunCounters
from s3_uploader.core.errors import SIMULATED, StateError, StoreError
from s3_uploader.core.events import DirectoryPruned, Emit, FileLeft, LocalTrouble, Uploaded, UploadFailed
from s3_uploader.core.model import Candidate, FailureBucket, Fingerprint, Left, Receipt
from s3_uploader.ledger.rows import FailingRow, ShippedRow, after_failure
from s3_uploader.run.second_copy import NOT_CONFIRMED, SecondCopies
from s3_uploader.run.superseded import FactMemory, Superseded, is_outdated
from s3_uploader.spool.layouts.base import Layout, is_stranger, original_name
from s3_uploader.spool.open_file import Closing, OpenFile
from s3_uploader.spool.readiness import FUTURE_TOLERANCE
from s3_uploader.spool.removable import remedy
from s3_uploader.spool.removal import Detached, MoveTarget, give_back, move, prune_upwards, remove, take
from s3_uploader.spool.removal_batch import Outcome, RemovalBatch
from s3_uploader.spool.root import Names, SpoolRoot
from s3_uploader.stores.base import PutOptions, Store

if TYPE_CHECKING:
    from concurrent.futures import Future

CANNOT_REMOVE = "CannotRemove"
CANNOT_MOVE = "CannotMove"
_NOT_OF_THE_FILE = frozenset(
    (CANNOT_REMOVE, CANNOT_MOVE, NOT_CONFIRMED, "NoRoomToCompress", "InternalError", "Unexpected")
)
"""Failures that say nothing about the file: it is uploaded already, or this machine or program is what failed. Whatever
``on_failure`` says, such a file stays."""

_MOST_SAID = 1000
_BATCH = 200
_BATCH_SECONDS = 0.25


class Records(FactMemory, Protocol):
    """What a run needs of the ledger."""

    def commit_batch(
        self,
        *,
        shipped: Sequence[ShippedRow] = (),
        failed: Sequence[FailingRow] = (),
        recovered: Sequence[str] = (),
    ) -> None:
        """Record files in one transaction that is durable when this returns. Raises ``StateError``."""

    def failing_count(self) -> int:
        """How many files keep failing."""

    def failing(self, path: str) -> FailingRow | None:
        """The record of a file that keeps failing."""

    def remembers(self, path: str, fingerprint: Fingerprint, *, destination: str) -> bool:
        """Whether this very file was shipped to that destination before and kept."""


class FailurePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a file that cannot be shipped: after ``attempts`` it is moved or deleted, else it stays."""

    move_to: MoveTarget | None = None
    delete: bool = False
    attempts: int = 1


class SuccessPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a file that was shipped: it is deleted, kept, or moved."""

    move_to: MoveTarget | None = None
    keep: bool = False


class FileTask(msgspec.Struct):
    """A file under way to the store.

    :param began: monotonic time at which it was handed over.
    :param successes_before: how many uploads had succeeded by then.
    :param failed_before: an earlier run could not ship it.
    :param replaces: see :meth:`s3_uploader.stores.base.Store.put`.
    """

    file: OpenFile
    key: str
    began: float
    successes_before: int
    failed_before: bool = False
    replaces: str = ""
    options: PutOptions = PutOptions()


_Proven: TypeAlias = tuple[FileTask, Receipt, float]
"""A file, what it was proven by, and for how long it was under way."""


class Settlement:
    """Records, removes, moves, prunes and counts. Belongs to the thread that owns the spool.

    :param run: the number of the run in the ledger.
    :param random: a float in [0, 1), spreads the tries of files that failed together.
    :param is_rehearsal: whether failures that were made up count.
    :param confirm_lock: raises ``StateError`` if another run may have the spool by now; asked before each batch.

    ``tally`` and ``failures`` hold what was counted.
    """

    def __init__(
        self,
        *,
        root: SpoolRoot,
        layout: Layout,
        store: Store,
        records: Records,
        run: int | None,
        emit: Emit,
        clock: Clock,
        on_success: SuccessPolicy,
        on_failure: FailurePolicy,
        prune: bool,
        random: Callable[[], float],
        is_rehearsal: bool = False,
        confirm_lock: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._layout = layout
        self._store = store
        self._records = records
        self._run = run
        self._emit = emit
        self._clock = clock
        self._on_success = on_success
        self._on_failure = on_failure
        self._prune = prune
        self._random = random
        self._is_rehearsal = is_rehearsal
        self._confirm_lock = confirm_lock
        self.counters = RunCounters()
        self.superseded = Superseded(records, address=store.address, now=clock.now)
        self._any_failing = records.failing_count() > 0
        self._proven: list[tuple[FileTask, Receipt]] = []
        self._batch: list[tuple[FileTask, Receipt]] = []
        self._due_at = 0.0
        self.second_copies = SecondCopies(root, store, clock=clock)
        self._looks: dict[int, Future[Receipt]] = {}
        self._leaving: RemovalBatch[_Proven] = RemovalBatch(
            root, clock=clock, keep=on_success.keep, move_to=on_success.move_to
        )
        self._failed: list[FailingRow] = []
        self._said_stuck: set[Names] = set()
        self._pending_in: Counter[Names] = Counter()
        self.failures: Counter[FailureBucket] = Counter()

    @property
    def keeps(self) -> bool:
        """Whether files stay in the spool when they are shipped."""
        return self._on_success.keep

    def known_failure(self, path: str) -> FailingRow | None:
        """The record of a file that failed before."""
        if not self._any_failing:
            return None
        row = self._records.failing(path)
        # What failed in a rehearsal does not wait, and does not count, when it is meant in earnest.
        return row if row is None or self._is_rehearsal or SIMULATED not in row.message else None

    def is_remembered(self, file: OpenFile) -> bool:
        """Whether files are kept and this very file was shipped before."""
        return self._on_success.keep and self._records.remembers(
            file.candidate.path, file.fingerprint, destination=self._store.properties.name
        )

    # ---------------------------------------------------------------------------------------------- what was proven

    def add(self, upload: FileTask, receipt: Receipt) -> None:
        """The store has the file and proved it; it is recorded and removed with the next batch."""
        if not self._proven:
            self._due_at = self._clock.monotonic() + _BATCH_SECONDS
        self._proven.append((upload, receipt))

    @property
    def open_files(self) -> int:
        """How many proven files are still open, until they are removed."""
        return len(self._proven) + len(self._batch)

    def seconds_until_due(self) -> float | None:
        """Seconds until the batch should be committed; ``None`` while there is none."""
        if len(self._proven) >= _BATCH or len(self._failed) >= _BATCH:
            return 0.0
        if not self._proven and not self._leaving.has_taken:
            return None
        return max(0.0, self._due_at - self._clock.monotonic())

    def commit(self) -> None:
        """Look at the proven files again, record them durably, and only then remove them.

        :raises StateError: if they cannot be recorded; then none is removed.
        """
        # A file that cannot be removed becomes a failing one while its batch is settled.
        while self._proven or self._failed or self._leaving.has_taken:
            self.commit_batch()

    def commit_batch(self) -> None:
        """Like :meth:`commit`, but what was recorded is only taken; it is removed and told with the next batch.

        So there is a moment between a file's losing its name and the last look at it. The files of one batch are
        closed while the next one is recorded.

        :raises StateError: as there.
        """
        self._dispose_of_taken()
        try:
            if self._proven or self._failed:
                self._confirm_lock()
                self._commit_batch()
        finally:
            self._conclude_disposed()

    def _commit_batch(self) -> None:
        proven, self._proven = self._proven, []
        self._batch = proven
        failed, self._failed = self._failed, []
        unsettled = {id(upload): upload for upload, _ in proven}
        try:
            unchanged: list[tuple[FileTask, Receipt]] = []
            for upload, receipt in proven:
                reason = why_changed(upload.file)
                # Before the look for a second copy, which may rename what has the file's name by now.
                is_obstacle = reason is not None and is_outdated(upload.file, receipt)
                self.second_copies.look_for(upload.file, receipt, changed=reason is not None)
                withheld = self._withheld(upload, receipt) if reason is None else None
                if withheld is not None:
                    del unsettled[id(upload)]
                    self.settled_in(upload.file.candidate.directory, removed=False)
                    self._withhold(upload, withheld)
                elif reason is None:
                    if receipt.already_there or upload.replaces:
                        self.superseded.forget(receipt.key)
                    unchanged.append((upload, receipt))
                else:
                    if is_obstacle:
                        self.superseded.add(receipt)
                    del unsettled[id(upload)]
                    self.settled_in(upload.file.candidate.directory, removed=False)
                    self.leave(upload.file.candidate, reason, "it changed while it was uploaded")
            now = self._clock.now()
            monotonic = self._clock.monotonic()
            self._records.commit_batch(
                shipped=[
                    self._shipped_row(upload, receipt, now, monotonic - upload.began) for upload, receipt in unchanged
                ],
                failed=failed,
                recovered=[upload.file.candidate.path for upload, _ in unchanged] if self._any_failing else (),
            )
            unsettled.clear()
            self._due_at = monotonic + _BATCH_SECONDS
            leaving = [(upload.file, (upload, receipt, monotonic - upload.began)) for upload, receipt in unchanged]
            for upload, receipt, _ in self._leaving.take(leaving):
                self._note_outdated(upload, receipt)
            for file, (_, receipt, _), has_lost_its_name in self._leaving.detached():
                if receipt.already_there and has_lost_its_name:
                    self._looks[id(file)] = self.second_copies.ask(receipt)
        except StateError:
            for upload in unsettled.values():
                self.leave(upload.file.candidate, Left.POSTPONED, "")
            raise
        finally:
            theirs = self._leaving.identities()
            Closing(upload.file for upload, _ in proven if id(upload.file) not in theirs).finish()

    def is_settling(self, path: str) -> bool:
        """Whether that is a file whose upload is done and that is about to be dealt with."""
        return any(upload.file.candidate.path == path for upload, _ in (*self._proven, *self._batch))

    def is_taken(self, path: str) -> bool:
        """See :meth:`s3_uploader.spool.removal_batch.RemovalBatch.is_taken`."""
        return self._leaving.is_taken(path)

    # ---------------------------------------------------------------------------------------------- second copies

    def _withheld(self, upload: FileTask, receipt: Receipt) -> StoreError | None:
        """Why a file that stays in the spool may not even be recorded: what proves it may be the file itself."""
        copies = self.second_copies
        if copies.refusal is None and receipt.already_there and self._on_success.keep:
            copies.by_its_own_name(upload.file, receipt)
        return copies.refusal

    def _withhold(self, upload: FileTask, error: StoreError) -> None:
        if error is self.second_copies.refusal:
            self.leave(upload.file.candidate, Left.POSTPONED, "")
        else:
            self.record_failure(upload, code=error.code, message=error.message, hint=error.hint)

    def _look_for_second_copies(self) -> None:
        """Withhold from removal what turns out not to be at the destination once its file has lost its name."""
        copies = self.second_copies
        looks, self._looks = self._looks, {}
        if looks:
            copies.wait(list(looks.values()))
        answers = {file: copies.answer(look) for file, look in looks.items()}
        missing: list[tuple[OpenFile, Receipt]] = []

        def why_not(file: OpenFile, what: _Proven) -> StoreError | None:
            receipt = what[1]
            if id(file) in looks:
                error = answers[id(file)]
                if error is not None:
                    missing.append((file, receipt))
                return error
            return copies.by_a_probe(file, receipt) if receipt.already_there else None

        self._leaving.withhold(why_not)
        # The others have the same reason, or are asked for their own next time.
        for file, receipt in missing[:1]:
            copies.judge(file, receipt)
        if copies.refusal is not None:
            refusal = copies.refusal
            self._leaving.withhold(lambda file, what: refusal)

    def _dispose_of_taken(self) -> None:
        self._look_for_second_copies()
        self._leaving.dispose(changed=lambda what: self._note_outdated(what[0], what[1]))

    def _note_outdated(self, upload: FileTask, receipt: Receipt) -> None:
        """A file has changed: if that was its content, the object that it left behind is out of date."""
        if is_outdated(upload.file, receipt):
            self.superseded.add(receipt)

    def _conclude_disposed(self) -> None:
        """Count and tell what became of the last batch; called again after an error it goes on with the next file.

        :raises StateError: if a file that could not be removed cannot be looked up.
        """
        for (upload, receipt, seconds), outcome in self._leaving.conclude():
            self._conclude(upload, receipt, outcome, seconds)

    def _shipped_row(self, upload: FileTask, receipt: Receipt, now: float, seconds: float) -> ShippedRow:
        candidate, fingerprint = upload.file.candidate, upload.file.fingerprint
        ahead = fingerprint.mtime_ns / 1e9 - now
        if ahead > FUTURE_TOLERANCE:
            self.counters.count_future(candidate, ahead)
        return ShippedRow(
            run=self._run,
            # What a killed run has left under a private name is its producer's file all the same.
            path="/".join((*candidate.directory, original_name(candidate.name))),
            location=candidate.location,
            destination=self._store.properties.name,
            key=receipt.key,
            size=receipt.size,
            mtime_ns=fingerprint.mtime_ns,
            period_begin=candidate.period_begin,
            shipped_at=now,
            seconds=seconds,
            proof=receipt.proof,
            checksum=receipt.checksum,
            etag=receipt.etag,
            version_id=receipt.version_id,
            already_there=receipt.already_there,
            stored_size=receipt.stored_size,
            encoding=receipt.encoding,
            kept=fingerprint if self._on_success.keep else None,
        )

    # ---------------------------------------------------------------------------------------------- disposition

    def _conclude(self, upload: FileTask, receipt: Receipt, outcome: Outcome, seconds: float) -> None:
        """Count and tell what became of a file that was proven."""
        candidate = upload.file.candidate
        if isinstance(outcome, StoreError):
            self.settled_in(candidate.directory, removed=False)
            self._withhold(upload, self.second_copies.refusal or outcome)
            return
        if isinstance(outcome, OSError):
            self.settled_in(candidate.directory, removed=False)
            self.record_undisposed(upload, outcome)
            return
        if outcome is not None and outcome is not Left.VANISHED:
            self.settled_in(candidate.directory, removed=False)
            self.leave(candidate, outcome, "it changed before it was removed")
            return
        self.counters.count_shipped(receipt)
        self._emit(
            Uploaded(
                self._root.shown(candidate.directory, original_name(candidate.name)),
                candidate.location,
                self._store.properties.name,
                self._store.address(receipt.key),
                receipt,
                seconds,
                derived_key=receipt.key != upload.key,
            )
        )
        if self._on_success.keep and original_name(candidate.name) != candidate.name:
            # A run that was killed while it looked for a second copy has not given it back.
            with contextlib.suppress(OSError):
                give_back(upload.file.home, upload.file, Detached(candidate.name, upload.file.fingerprint))
        self.settled_in(candidate.directory, removed=not self._on_success.keep)

    def record_undisposed(self, upload: FileTask, error: OSError) -> None:
        """Take note of a file that is at the destination and has to stay here for want of a right, or of room."""
        reason = error.strerror or str(error)
        target = self._on_success.move_to
        if target is None:
            self.record_failure(
                upload,
                code=CANNOT_REMOVE,
                message=f"it is uploaded, but the local file cannot be removed: {reason}",
                hint=remedy(error),
            )
        else:
            self.record_failure(
                upload,
                code=CANNOT_MOVE,
                message=f"it is uploaded, but the local file cannot be moved to {target.path}: {reason}",
                hint="Make room there, and let the user that runs this program write there and here.",
            )

    def why_still_stuck(self, file: OpenFile) -> OSError | None:
        """Why a file that failed for it before still cannot be removed, or moved; tried without harm."""
        row = self.known_failure(file.candidate.path)
        if row is None or row.code not in (CANNOT_REMOVE, CANNOT_MOVE) or self._on_success.keep:
            return None
        try:
            taken = take(file.home, file)
            if isinstance(taken, Detached):
                give_back(file.home, file, taken)
                file.look_again()
            if self._on_success.move_to is not None:
                self._on_success.move_to.try_out(file)
        except OSError as error:
            return error
        return None

    # ---------------------------------------------------------------------------------------------- directories

    def begun_in(self, names: Names) -> None:
        """A file of that directory is under way."""
        self._pending_in[names] += 1

    def settled_in(self, names: Names, *, removed: bool) -> None:
        """One file less is under way in a directory; the last one to be removed takes the empty directory with it."""
        self._pending_in[names] -= 1
        if self._pending_in[names] <= 0:
            del self._pending_in[names]
            if removed:
                self.prune_upwards(names)

    def prune_upwards(self, names: Names) -> None:
        """Remove a directory if it is empty and may go, and what becomes empty by that."""
        if not self._prune or names in self._pending_in:
            return
        error = prune_upwards(self._root, self._layout, names, now=self._clock.now(), pruned=self._pruned_directory)
        if error is not None:
            self._emit(LocalTrouble(self._root.shown(names), "prune", error.strerror or str(error)))

    def _pruned_directory(self, names: Names) -> None:
        self.counters.pruned += 1
        self._emit(DirectoryPruned(self._root.shown(names)))

    # ---------------------------------------------------------------------------------------------- what is left

    def skipped(self, names: Names, name: str, reason: Left, detail: str) -> None:
        """Count an entry that the layout does not make a candidate (:data:`~s3_uploader.spool.layouts.base.Skip`)."""
        self.counters.count_left(reason)
        if is_stranger(reason, detail):
            self.counters.note_stranger(names, name)
        path = self._root.shown(names, name)
        if reason in (Left.UNREADABLE, Left.UNDECODABLE):
            self.counters.troubles += 1
            action = "read" if reason is Left.UNREADABLE else "ship"
            self._emit(LocalTrouble(path, action, detail))
        else:
            self._emit(FileLeft(path, reason, detail, 0))

    def leave(self, candidate: Candidate, reason: Left, detail: str) -> None:
        """Take note of a candidate that stays where it is, without that being a failure."""
        self.counters.count_left(reason, candidate)
        self._emit(FileLeft(self.shown(candidate), reason, detail, candidate.size))

    def local_trouble(self, candidate: Candidate, action: str, message: str) -> None:
        """Take note of a candidate that this machine does not let us ship."""
        self.counters.count_left(Left.UNREADABLE, candidate)
        self.counters.troubles += 1
        self._emit(
            LocalTrouble(
                self.shown(candidate), action, message, "Let the user that runs this program read and remove it."
            )
        )

    def cannot_go(self, candidate: Candidate, why: str, hint: str) -> None:
        """Take note of a candidate that could not be removed after its upload; it is said once for its directory."""
        self.counters.count_left(Left.UNREADABLE, candidate)
        self.counters.troubles += 1
        if candidate.directory not in self._said_stuck:
            if len(self._said_stuck) < _MOST_SAID:
                self._said_stuck.add(candidate.directory)
            message = f"{why}; so it is not uploaded, and neither is what lies beside it"
            self._emit(LocalTrouble(self.shown(candidate), "remove", message, hint))

    def record_failure(
        self, upload: FileTask, *, code: str, message: str, hint: str, is_conflict: bool = False
    ) -> None:
        """A file of its own kind of trouble: it waits, longer each time, and then meets ``on_failure``.

        :param is_conflict: other content has its key; so nothing is wrong with the file, and it is never deleted.
        """
        candidate = upload.file.candidate
        row = self._failing_row(upload, code, message)
        disposition = "kept"
        if code not in _NOT_OF_THE_FILE:
            disposition = self._dispose_of_failure(upload, row.attempts, is_conflict=is_conflict)
        if disposition == "kept":
            self.counters.count_waiting(candidate)
            self._note_failed(row)
        self.counters.failures += 1
        self._count_failure(upload, code)
        self._emit(
            UploadFailed(
                self.shown(candidate),
                candidate.location,
                self._store.address(upload.key),
                code,
                message,
                hint,
                row.attempts,
                row.next_try_at if disposition == "kept" else None,
                disposition,
            )
        )

    def _note_failed(self, row: FailingRow) -> None:
        self._failed.append(row)
        self._any_failing = True

    def _failing_row(self, upload: FileTask, code: str, message: str) -> FailingRow:
        path, fingerprint = upload.file.candidate.path, upload.file.fingerprint
        return after_failure(
            self.known_failure(path),
            path=path,
            key=upload.key,
            size=fingerprint.size,
            mtime_ns=fingerprint.mtime_ns,
            code=code,
            message=message,
            now=self._clock.now(),
            random=self._random,
        )

    def record_suspicion(self, upload: FileTask, error: StoreError) -> None:
        """An upload failed and so did the run: perhaps it was the file after all, so the next run begins with others.

        It counts as no attempt and makes no pause.
        """
        row = self._failing_row(upload, error.code, error.message)
        self._note_failed(msgspec.structs.replace(row, attempts=row.attempts - 1, next_try_at=row.last_failed_at))
        self.leave(upload.file.candidate, Left.POSTPONED, "")

    def _dispose_of_failure(self, upload: FileTask, attempts: int, *, is_conflict: bool) -> str:
        policy = self._on_failure
        deletes = policy.delete and not is_conflict
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
            action = "move" if policy.move_to is not None else "remove"
            self._emit(LocalTrouble(self.shown(upload.file.candidate), action, error.strerror or str(error)))
            return "kept"

    def emit_failure(self, upload: FileTask, error: StoreError) -> None:
        """Say that an upload failed, for a reason that is not the file's: it is not recorded as failing."""
        self._count_failure(upload, error.code)
        self._emit(
            UploadFailed(
                self.shown(upload.file.candidate),
                upload.file.candidate.location,
                self._store.address(upload.key),
                error.code,
                error.message,
                error.hint,
                1,
                None,
            )
        )

    def _count_failure(self, upload: FileTask, code: str) -> None:
        if not self._is_rehearsal:
            self.failures[FailureBucket(int(self._clock.now() // 3600), code, upload.file.candidate.location)] += 1

    def shown(self, candidate: Candidate) -> str:
        """The absolute path of a candidate, for messages."""
        return self._root.shown(candidate.directory, candidate.name)

    def abandon(self) -> None:
        """Let go of what was proven but cannot be recorded; the files stay."""
        # What is recorded is removed all the same.
        while self._leaving.has_taken or self._leaving.has_disposed:
            with contextlib.suppress(StateError):
                self._dispose_of_taken()
                self._conclude_disposed()
        for upload, _ in self._proven:
            self.leave(upload.file.candidate, Left.POSTPONED, "")
            upload.file.close()
        self._proven.clear()
        self._failed.clear()


def why_changed(file: OpenFile) -> Left | None:
    """:meth:`OpenFile.why_changed`; a file that cannot even be asked counts as changed."""
    try:
        return file.why_changed()
    except OSError:
        return Left.CHANGED
