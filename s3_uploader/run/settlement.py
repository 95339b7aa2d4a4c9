"""Settles files that the store has proven: checks them again, records them, removes them.

This is the half of the coordinator that changes the spool and the ledger; :mod:`s3_uploader.run.pipeline` is the half
that keeps uploads in flight. Both run on the same thread. Failed files and files that are left are handled by
:mod:`s3_uploader.run.failures` and :mod:`s3_uploader.run.scan`.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from s3_uploader.core.control import FUTURE_TOLERANCE, Clock
from s3_uploader.core.errors import StateError, StoreError, UploadCancelled
from s3_uploader.core.events import Emit
from s3_uploader.core.model import FailureBucket, Fingerprint, Left, Receipt
from s3_uploader.ledger.records import OUTDATED_OBJECTS
from s3_uploader.ledger.rows import FailingRow
from s3_uploader.run.disposition import FailurePolicy, SuccessPolicy
from s3_uploader.run.failures import Failures, Records
from s3_uploader.run.in_flight import FileTask
from s3_uploader.run.scan import SpoolScan
from s3_uploader.run.second_copy import SecondCopies
from s3_uploader.run.superseded import Superseded, is_outdated
from s3_uploader.spool.open_file import Closing, OpenFile
from s3_uploader.spool.removal import Detached, RemovalBatch, give_back
from s3_uploader.spool.root import original_name
from s3_uploader.stores.base import PendingReceipt, Store

_BATCH = 200
_BATCH_SECONDS = 0.25

_Proven: TypeAlias = tuple[FileTask, Receipt, float]
"""A file, its receipt, and the duration of its upload."""


class Settlement:
    """Records, removes, moves, prunes and counts. Belongs to the thread that owns the spool.

    :param scan: the scan of the spool; shipped and failed files are counted together with those that it leaves.
    :param run: the number of the run in the ledger.
    :param random: returns a float in [0, 1), to spread the retries of files that failed together.
    :param is_rehearsal: whether simulated failures count.
    :param confirm_lock: raises ``StateError`` if another run may have the spool by now; asked before each batch.
    :ivar counters: the counts of the run.
    :ivar leftovers: handles files that stay.
    :ivar failed_uploads: the number of failed uploads, by kind, that no batch has recorded yet.
    :ivar any_failing: whether any file may be failing, in this run or since an earlier one.
    :ivar directories: counts files in flight by directory.
    """

    def __init__(
        self,
        *,
        scan: SpoolScan,
        store: Store,
        records: Records,
        run: int | None,
        emit: Emit,
        clock: Clock,
        on_success: SuccessPolicy,
        on_failure: FailurePolicy,
        random: Callable[[], float],
        is_rehearsal: bool = False,
        confirm_lock: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = scan.root
        self._ending = scan.ending
        self._store = store
        self._records = records
        self._run = run
        self._emit = emit
        self._clock = clock
        self._on_success = on_success
        self._on_failure = on_failure
        self._random = random
        self._is_rehearsal = is_rehearsal
        self._confirm_lock = confirm_lock
        self.counters = scan.counters
        self.leftovers = scan.leftovers
        self.directories = scan.directories
        self.failed_uploads: Counter[FailureBucket] = Counter()
        self.any_failing = records.failing_count() > 0
        self._unrecorded: list[FailingRow] = []
        self._superseded: Superseded | None = None
        self._any_superseded: bool | None = None
        """Whether any object may be outdated; ``None`` while unknown. If not, there is nothing to forget."""
        self.second_copies = SecondCopies(self._root, store, clock=clock)
        self._proven: list[tuple[FileTask, Receipt]] = []
        self._batch: list[tuple[FileTask, Receipt]] = []
        self._due_at = 0.0
        self._looks: dict[int, PendingReceipt] = {}
        self._leaving: RemovalBatch[_Proven] = RemovalBatch(
            self._root, clock=clock, keep=on_success.keep, move_to=on_success.move_to
        )

    @functools.cached_property
    def failures(self) -> Failures:
        """Handles files whose upload failed; most runs have none."""
        self.any_failing = True
        return Failures(
            self._root,
            self._store,
            self._records,
            self.leftovers,
            unrecorded=self._unrecorded,
            counted=self.failed_uploads,
            counters=self.counters,
            on_success=self._on_success,
            on_failure=self._on_failure,
            clock=self._clock,
            emit=self._emit,
            random=self._random,
            is_rehearsal=self._is_rehearsal,
        )

    def heed_others(self) -> None:
        """Take note of what other processes of this run have recorded: failing files, outdated objects."""
        self.any_failing = self.any_failing or self._records.failing_count() > 0
        self._any_superseded = self._any_superseded or None

    def known_failure(self, path: str) -> FailingRow | None:
        """The record of a file that failed before."""
        return self.failures.known(path) if self.any_failing else None

    def failed_now(self, path: str) -> FailingRow | None:
        """The record of a file that has failed in this run."""
        failing = self.known_failure(path)
        return failing if failing is not None and failing.last_failed_at >= self._ending.started_at else None

    @property
    def superseded(self) -> Superseded:
        """The outdated objects of the destination; nearly all runs have none."""
        if self._superseded is None:
            self._superseded = Superseded(self._records, address=self._store.address, now=self._clock.now)
        return self._superseded

    @property
    def keeps(self) -> bool:
        """Whether shipped files stay in the spool."""
        return self._on_success.keep

    def is_remembered(self, file: OpenFile) -> bool:
        """Whether files are kept and this file was shipped before."""
        return self.remembers(file.candidate.path, file.fingerprint)

    def remembers(self, path: str, fingerprint: Fingerprint) -> bool:
        """The same for a file that is not open."""
        return self._on_success.keep and self._records.remembers(path, fingerprint, destination=self._store.name)

    # ---------------------------------------------------------------------------------------------- two of three ends

    def leave(self, upload: FileTask, reason: Left, detail: str = "") -> None:
        """Leave a file in the spool without counting a failure."""
        upload.end()
        self.leftovers.leave(upload.file.candidate, reason, detail)

    def fail(self, upload: FileTask, error: StoreError) -> None:
        """Record that a file could not be shipped, for a reason that concerns only this file."""
        # This comes first, because on_failure acts on the file that was opened.
        self.failures.record(upload, error)
        upload.end()

    # ---------------------------------------------------------------------------------------------- what was proven

    def add(self, upload: FileTask, receipt: Receipt) -> None:
        """Take a file that the store has proven; it is recorded and removed with the next batch."""
        if not self._proven:
            self._due_at = self._clock.monotonic() + _BATCH_SECONDS
        self._proven.append((upload, receipt))
        if self._any_superseded is None:
            self._any_superseded = self._records.knows_any(OUTDATED_OBJECTS)
        if self._any_superseded:
            # At once, not only when the batch is recorded: before that, another file of the same key may be uploaded (a
            # leftover and the new file of its name, for example), and must not replace the object that proves this one.
            # A new object counts too: somebody may have deleted the outdated one before this upload.
            self.superseded.forget(receipt.key)

    @property
    def open_files(self) -> int:
        """The number of proven files that may still be open."""
        return len(self._proven) + len(self._batch) + self._leaving.disposed

    def seconds_until_due(self) -> float | None:
        """Seconds until the batch should be committed; ``None`` while there is none."""
        if len(self._proven) >= _BATCH or len(self._unrecorded) >= _BATCH:
            return 0.0
        if not (self._proven or self._leaving.has_taken or self._leaving.disposed):
            return None
        return max(0.0, self._due_at - self._clock.monotonic())

    def commit(self) -> None:
        """Check the proven files again, record them durably, and only then remove them.

        :raises StateError: if they cannot be recorded; then none is removed.
        """
        # A file that cannot be removed becomes a failing one while its batch is settled.
        while self._proven or self._unrecorded or self._leaving.has_taken or self._leaving.disposed:
            self.commit_batch()
        self._batch = []

    def commit_batch(self) -> None:
        """Like :meth:`commit`, but recorded files are only renamed. The next batch removes them, the one after reports.

        So some time passes between the rename of a file and its last check, and the files of one batch are closed
        while those of the next are on their way.

        :raises StateError: as :meth:`commit`.
        """
        self._conclude_disposed()
        self._dispose_of_taken()
        if self._proven or self._unrecorded:
            self._confirm_lock()
            self._commit_batch()

    def _commit_batch(self) -> None:
        proven, self._proven = self._proven, []
        self._batch = proven
        failed = list(self._unrecorded)
        self._unrecorded.clear()
        unsettled = {id(upload): upload for upload, _ in proven}
        try:
            unchanged = self._unchanged(proven, unsettled)
            now, monotonic, destination = self._clock.now(), self._clock.monotonic(), self._store.name
            self._records.commit_batch(
                shipped=[
                    upload.shipped_row(
                        receipt,
                        run=self._run,
                        destination=destination,
                        now=now,
                        seconds=monotonic - upload.began,
                        is_kept=self._on_success.keep,
                    )
                    for upload, receipt in unchanged
                ],
                failed=failed,
                recovered=[upload.file.candidate.path for upload, _ in unchanged] if self.any_failing else (),
                failures=self.failed_uploads,
            )
            self.failed_uploads.clear()
            unsettled.clear()
            self._due_at = monotonic + _BATCH_SECONDS
            leaving = [(upload.file, (upload, receipt, monotonic - upload.began)) for upload, receipt in unchanged]
            for upload, receipt, _ in self._leaving.take(leaving):
                self._note_outdated(upload, receipt)
            for file, (_, receipt, _), has_lost_its_name in self._leaving.detached():
                if (receipt.already_there or receipt.after_lost_answer) and has_lost_its_name:
                    self._looks[id(file)] = self.second_copies.ask(receipt)
        except StateError:
            for upload in unsettled.values():
                self.leave(upload, Left.POSTPONED)
            raise
        finally:
            theirs = self._leaving.identities()
            Closing(upload.file for upload, _ in proven if id(upload.file) not in theirs).finish()

    def _unchanged(
        self, proven: list[tuple[FileTask, Receipt]], unsettled: dict[int, FileTask]
    ) -> list[tuple[FileTask, Receipt]]:
        """Select the files of a batch to be recorded and removed.

        :param unsettled: files without an outcome yet; a file that gets one is taken out.
        """
        unchanged: list[tuple[FileTask, Receipt]] = []
        now = self._clock.now()
        for upload, receipt in proven:
            reason = upload.file.why_changed()
            # This precedes the search for a second copy, which may rename the file that has the name by now.
            is_obstacle = reason is not None and is_outdated(upload.file, receipt)
            self.second_copies.look_for(upload.file, receipt, changed=reason is not None)
            withheld = self._withheld(upload, receipt) if reason is None else None
            if reason is None and self._on_success.keep and receipt.may_be_the_file:
                # It had another name while the destination was asked, and nobody looked at its content.
                reason = upload.file.why_changed()
                is_obstacle = reason is not None and is_outdated(upload.file, receipt)
            if withheld is not None:
                del unsettled[id(upload)]
                self._withhold(upload, withheld)
            elif reason is None:
                ahead = upload.file.fingerprint.mtime_ns / 1e9 - now
                if ahead > FUTURE_TOLERANCE:
                    self.counters.count_future(upload.file.candidate, ahead)
                unchanged.append((upload, receipt))
            else:
                if is_obstacle:
                    self._supersede(upload, receipt)
                del unsettled[id(upload)]
                self.leave(upload, reason, "it changed while it was uploaded")
        return unchanged

    def is_settling(self, path: str) -> bool:
        """Whether the upload of the file is done and its settlement is pending."""
        return any(upload.file.candidate.path == path for upload, _ in (*self._proven, *self._batch))

    def is_taken(self, path: str) -> bool:
        """See :meth:`s3_uploader.spool.removal.RemovalBatch.is_taken`."""
        return self._leaving.is_taken(path)

    # ---------------------------------------------------------------------------------------------- second copies

    def _withheld(self, upload: FileTask, receipt: Receipt) -> StoreError | None:
        """Why a file that stays in the spool may not be recorded: the object may be the file itself."""
        copies = self.second_copies
        if copies.refusal is None and receipt.may_be_the_file and self._on_success.keep:
            copies.by_its_own_name(upload.file, receipt)
        return copies.refusal

    def _withhold(self, upload: FileTask, error: StoreError) -> None:
        if error is self.second_copies.refusal or isinstance(error, UploadCancelled):
            self.leave(upload, Left.POSTPONED)
        else:
            self.fail(upload, error)

    def _look_for_second_copies(self) -> None:
        """Keep files whose objects turn out to be missing after the rename."""
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
                return error or copies.by_a_probe(file, receipt, was_there=True)
            return copies.by_a_probe(file, receipt) if receipt.already_there or receipt.after_lost_answer else None

        self._leaving.withhold(why_not)
        # The others have the same cause, or the next run finds their cause.
        for file, receipt in missing[:1]:
            copies.judge(file, receipt)
        if copies.refusal is not None:
            refusal = copies.refusal
            self._leaving.withhold(lambda file, what: refusal)

    def _dispose_of_taken(self) -> None:
        self._look_for_second_copies()
        self._leaving.dispose(changed=lambda what: self._note_outdated(what[0], what[1]))

    def _note_outdated(self, upload: FileTask, receipt: Receipt) -> None:
        """Handle a changed file: if its content changed, its object is outdated."""
        if is_outdated(upload.file, receipt):
            self._supersede(upload, receipt)

    def _supersede(self, upload: FileTask, receipt: Receipt) -> None:
        if any(each.key == receipt.key and other is not upload for other, each in (*self._proven, *self._batch)):
            return  # a file of another name was found to be there already: the object is its only copy
        self._any_superseded = True
        self.superseded.add(receipt)

    def _conclude_disposed(self) -> None:
        """Count and report the outcomes of the last batch; called again after an error it continues with the next file.

        :raises StateError: if a file that could not be removed cannot be looked up.
        """
        for (upload, receipt, seconds), outcome in self._leaving.conclude():
            if isinstance(outcome, StoreError):
                self._withhold(upload, self.second_copies.refusal or outcome)
            elif isinstance(outcome, OSError):
                self.fail(upload, self.failures.undisposed(outcome))
            elif outcome is not None and outcome is not Left.VANISHED:
                self.leave(upload, outcome, "it changed before it was removed")
            else:
                self.counters.count_shipped(receipt)
                self._emit(upload.uploaded(receipt, spool=self._root, store=self._store, seconds=seconds))
                if self._on_success.keep:
                    self._give_back(upload.file)
                upload.end(removed=not self._on_success.keep)

    def _give_back(self, file: OpenFile) -> None:
        """Give a kept file its name if an earlier run was killed while it looked for a second copy."""
        if original_name(file.candidate.name) != file.candidate.name:
            with contextlib.suppress(OSError):
                give_back(self._root, file, Detached(file.candidate.name, file.fingerprint))

    def abandon(self) -> None:
        """Release proven files that cannot be recorded; the files stay."""
        # Recorded files are still removed.
        while self._leaving.has_taken or self._leaving.disposed:
            with contextlib.suppress(StateError):
                self._conclude_disposed()
                self._dispose_of_taken()
        for upload, _ in self._proven:
            self.leave(upload, Left.POSTPONED)
        self._proven.clear()
        self._unrecorded.clear()
