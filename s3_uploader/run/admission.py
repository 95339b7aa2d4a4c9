"""Admits files to the store: decides whether a candidate is shipped, in runs and dry runs, and takes in what fits."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from s3_uploader.core.control import Clock, why_settling
from s3_uploader.core.errors import DestinationBusy, StoreError, lacks_memory
from s3_uploader.core.files import OUT_OF_DESCRIPTORS
from s3_uploader.core.model import Candidate, Fingerprint, Left, OnConflict, RunEnd
from s3_uploader.core.text import counted, names_are_utf8
from s3_uploader.run.in_flight import FileTask, open_store
from s3_uploader.spool.layouts.base import OlderFiles
from s3_uploader.spool.open_file import LONGEST_TICK, TICK, OpenFile, Reason, Removable, Sightings, open_candidate
from s3_uploader.spool.root import SpoolRoot, original_name

if TYPE_CHECKING:
    from s3_uploader.ledger.rows import FailingRow
    from s3_uploader.run.flow_control import AdaptiveLimit, Answers, Deferral
    from s3_uploader.run.in_flight import Evidence, UploadsInFlight
    from s3_uploader.run.routing import Routes, Target
    from s3_uploader.run.scan import Ending
    from s3_uploader.run.settlement import Settlement
    from s3_uploader.spool.claims import Claims
    from s3_uploader.stores.base import Store

_HAS_OLDER = Left.POSTPONED, "an older one of its name or key goes first"
_NOT_UTF8 = (
    "this program reads names of files in an encoding other than UTF-8, so the key would not have the bytes of the "
    "name; start it with PYTHONUTF8=1 or under a UTF-8 locale"
)


class Admission:
    """Decides about candidates and opens those that are ready.

    :param known_failure: returns the record of a file that failed before, if there is one.
    :param is_remembered: returns whether this file was shipped before and kept; ``None`` where none is kept.
    :param sightings: what earlier runs have seen of files whose writers may be on other hosts.
    :param removable: checks whether a file could be removed afterwards; ``None`` if files stay.
    :param claims: where ready files are taken by rename, if several uploaders share the spool.
    :param may_replace: whether the upload of a file may replace an object.
    :param is_done: see :class:`s3_uploader.spool.layouts.base.OlderFiles`.
    :param reads_utf8: whether names of files are read as UTF-8; ``None``: as this process does.
    """

    def __init__(
        self,
        root: SpoolRoot,
        *,
        settle_seconds: float,
        known_failure: Callable[[str], FailingRow | None],
        is_remembered: Callable[[OpenFile], bool] | None,
        claims: Claims | None = None,
        may_replace: Callable[[Candidate], bool] = lambda candidate: False,
        is_done: Callable[[str, Fingerprint], bool] = lambda path, fingerprint: False,
        sleep: Callable[[float], None] = time.sleep,
        removable: Removable | None = None,
        sightings: Sightings | None = None,
        reads_utf8: bool | None = None,
    ) -> None:
        self.root = root
        self._settle_seconds = settle_seconds
        self._known_failure = known_failure
        self._is_remembered = is_remembered
        self._claims = claims
        self._may_replace = may_replace
        self._is_done = is_done
        self._sleep = sleep
        self._removable = removable
        self._sightings = sightings
        self.stuck: Reason | None = None
        self._only_ascii = not (names_are_utf8() if reads_utf8 is None else reads_utf8)

    @functools.cached_property
    def older_files(self) -> OlderFiles:
        """The older files that go before others."""
        return OlderFiles(self.root, is_done=self._is_done)

    def decide(self, candidate: Candidate, *, now: float) -> OpenFile | tuple[Left, str]:
        """Return the open file if it is ready, else the reason why it is left, with a detail for people.

        :attr:`stuck` says more about a file that could not be removed afterwards.
        """
        self.stuck = None
        detail = why_settling(candidate, candidate.mtime_ns, now, self._settle_seconds)
        if detail:
            return Left.FRESH, detail
        if self._only_ascii and not (candidate.path.isascii() and candidate.key.isascii()):
            # Its key would have other bytes than its name.
            return Left.UNDECODABLE, _NOT_UTF8
        failing = self._known_failure(candidate.path)
        if failing is not None and failing.waits(size=candidate.size, mtime_ns=candidate.mtime_ns, now=now):
            return Left.WAITING, f"failed {counted(failing.attempts, 'time')}, last with: {failing.message}"
        file = open_candidate(self.root, candidate)
        if not isinstance(file, OpenFile):
            return file
        try:
            left = self._refuse_unremovable(file) or self._second_look(file, now)
            if left is None and self._claims is not None:
                left = self._claim(file, self._claims)
        except BaseException:
            file.close()
            raise
        if left is None:
            return file
        file.close()
        return left

    def _claim(self, file: OpenFile, claims: Claims) -> tuple[Left, str] | None:
        """Claim a file, unless an older one of its name has to go first; returns why it is left."""
        may_replace = self._may_replace(file.candidate)
        if may_replace and self.older_files.exist(file.candidate):
            return _HAS_OLDER
        return claims.take_open(file, may_replace=may_replace)

    def _refuse_unremovable(self, file: OpenFile) -> tuple[Left, str] | None:
        """Do not send a file that cannot be removed: it would be sent again and again."""
        if self._removable is None:
            return None
        self.stuck = self._removable.why_not(file.candidate.directory, owner=file.owner)
        return None if self.stuck is None else (Left.UNREADABLE, self.stuck[0])

    def _second_look(self, file: OpenFile, now: float) -> tuple[Left, str] | None:
        """Check an open file again, because time has passed since the scan; returns why it is left."""
        if file.fingerprint.mtime_ns != file.candidate.mtime_ns:
            detail = why_settling(file.candidate, file.fingerprint.mtime_ns, now, self._settle_seconds)
            if detail:
                return Left.FRESH, detail
        # Two changes within one tick of the clock leave the same times. So a fingerprint is not trusted while its last
        # change may be in the current tick.
        ago = abs(now - file.fingerprint.ctime_ns / 1e9)
        if ago < LONGEST_TICK and file.fingerprint.counts_seconds:
            return Left.FRESH, "it was changed a moment ago, and its file system counts whole seconds"
        if ago < TICK:
            self._sleep(TICK)
            try:
                if not file.look_again():
                    return Left.FRESH, "it is being changed"
            except OSError as error:
                return Left.UNREADABLE, error.strerror or str(error)
        if self._is_remembered is not None and self._is_remembered(file):
            return Left.REMEMBERED, ""
        return self._unseen(file, now)

    def _unseen(self, file: OpenFile, now: float) -> tuple[Left, str] | None:
        """Why a file has to be seen once more, because the kernel may not see its writers."""
        sightings = self._sightings
        if sightings is None:
            return None
        found = sightings.file_system(file.fingerprint.device, file.descriptor)
        if not found and file.writers_are_seen:
            return None
        path = file.candidate.path
        detail = sightings.why_wait(path, file.fingerprint, file.descriptor, now=now)
        if detail:
            return Left.FRESH, detail
        sightings.unseen.setdefault(found, path)
        return None


class Intake:
    """Takes in candidates while there is room for them.

    :param submit: submits a file to the store.
    :param max_open_files: fewer are open once the kernel gives no more descriptors.
    :ivar store_is_open: the store is opened only when the first file is ready.
    :ivar passed_over: paths of files that were in flight when this scan began.
    """

    def __init__(
        self,
        store: Store,
        *,
        admission: Admission,
        flight: UploadsInFlight,
        settlement: Settlement,
        answers: Answers,
        window: AdaptiveLimit,
        evidence: Evidence,
        deferral: Deferral,
        ending: Ending,
        routes: Routes,
        clock: Clock,
        beat: Callable[[], None],
        submit: Callable[[FileTask], None],
        max_open_files: int,
        max_bytes_in_flight: int,
    ) -> None:
        self._store = store
        self._admission = admission
        self._flight = flight
        self._settlement = settlement
        self._answers = answers
        self._window = window
        self._evidence = evidence
        self._deferral = deferral
        self._ending = ending
        self._routes = routes
        self._clock = clock
        self._beat = beat
        self._submit = submit
        self._most_open = max_open_files
        self._max_bytes_in_flight = max_bytes_in_flight
        self.store_is_open = False
        self.passed_over: set[str] = set()
        self._counted_until = self._divided_at = clock.now()
        self._is_uncounted: Callable[[str], bool] = lambda key: False

    def is_full(self) -> bool:
        """Whether no more files may be in flight now."""
        count = len(self._flight.under_way)
        if count >= self._window.width or count >= self._most_open or self._flight.bytes >= self._max_bytes_in_flight:
            return True
        return self._evidence.is_in_doubt and self._answers.blame.must_wait()

    def narrow(self, parts: int, *, is_uncounted: Callable[[str], bool]) -> None:
        """Reduce the limits to this process's part: from now on others ship theirs.

        :param is_uncounted: whether a worker that died had the file of a key, so that nobody has counted its failures.
        """
        self._max_bytes_in_flight //= parts
        self._divided_at = self._clock.now()
        self._is_uncounted = is_uncounted

    def begin_again(self) -> None:
        """Prepare for another scan in the same run: pass over the files that are in flight."""
        self.passed_over = self._flight.paths()
        self._settlement.heed_others()
        self._deferral.begin_again()
        self._counted_until = self._clock.now()

    def has_many_open(self) -> bool:
        """Whether too many files are open, and some can be settled first."""
        proven = self._settlement.open_files
        return proven > 0 and len(self._flight.under_way) + proven >= self._most_open

    def consider(self, candidate: Candidate, *, may_defer: bool = True) -> None:
        """Send, defer or leave a candidate.

        :param may_defer: it may be deferred until others have shown whether the destination works.
        """
        # Most files of a spool may be too young, so nothing is computed before it is needed.
        if self.passed_over and candidate.path in self.passed_over:
            return
        if candidate.name.startswith(".") and self._settlement.is_taken(candidate.path):
            return
        if self._answers.any_failed and self._answers.blame.leaves_for_others(candidate.location):
            self._settlement.leftovers.leave(candidate, Left.WAITING, "others beside it have just been refused")
            return
        target = self._routes(candidate) if self._flight.under_way or self._evidence.is_in_doubt else None
        if target is not None and self._is_in_use(target.key):
            self._settlement.leftovers.leave(candidate, Left.POSTPONED, "an older file of the same key is in flight")
            return
        file = self._decide(candidate)
        if not isinstance(file, OpenFile):
            reason, detail = file
            if reason is Left.WAITING:
                self._hold(candidate)
            if self._admission.stuck is not None:
                self._settlement.leftovers.cannot_remove(candidate, *self._admission.stuck)
            elif reason is Left.UNREADABLE:
                self._settlement.leftovers.cannot_read(candidate, detail)
            elif reason is Left.VANISHED and original_name(candidate.name) != candidate.name:
                pass  # removed since it was listed, by this run or another share
            elif reason is Left.WAITING and self._was_counted(candidate):
                self._settlement.counters.count_waiting(candidate)
            elif reason is Left.UNDECODABLE:
                self._settlement.leftovers.skip(candidate.directory, candidate.name, reason, detail)
            else:
                self._settlement.leftovers.leave(candidate, reason, detail)
            return
        task = None
        try:
            task = self._task(file, target, may_defer=may_defer)
        finally:
            # From here on the task owns the descriptor.
            if task is None:
                file.close()
        if task is not None:
            self._submit(task)

    def _was_counted(self, candidate: Candidate) -> bool:
        """Whether a file that waits for its next try has failed in this run, and was counted then."""
        failing = self._settlement.failed_now(candidate.path)
        until = self._divided_at if self._is_uncounted(candidate.key) else self._counted_until
        return failing is not None and failing.last_failed_at < until

    def _is_in_use(self, key: str) -> bool:
        """Whether an upload to a key is in flight, or has failed and may be repeated."""
        return self._flight.is_sending(key) or (self._evidence.is_in_doubt and self._answers.blame.may_repeat(key))

    def _task(self, file: OpenFile, target: Target | None, *, may_defer: bool) -> FileTask | None:
        """Make the task for the store; ``None`` if the file is deferred or left.

        :param target: its key and options, if they are known already.
        """
        candidate = file.candidate
        settlement = self._settlement
        failed_before = settlement.any_failing and settlement.known_failure(candidate.path) is not None
        if failed_before and may_defer and not self._evidence.successes and self._deferral.has_room_for_failed():
            self._deferral.failed.append(candidate)
            self._hold(candidate)
            return None
        if may_defer and self._deferral.waits(candidate.path, in_doubt=self._evidence.is_in_doubt):
            # A file with a plain name shows whether the error is the destination's.
            self._deferral.unplain.append(candidate)
            self._hold(candidate)
            return None
        if not self.store_is_open and not self._open_store():
            self._settlement.leftovers.leave(candidate, Left.POSTPONED, "")
            return None
        target = target or self._routes(candidate)
        task = FileTask(
            file,
            target.key,
            self._clock.monotonic(),
            successes_before=self._evidence.successes,
            failed_before=failed_before,
            options=target.options,
        )
        return None if (failed_before and self._is_still_stuck(task)) or not self._may_send(task) else task

    def _hold(self, candidate: Candidate) -> None:
        self._deferral.hold(self._routes(candidate).key, candidate)

    def _is_still_stuck(self, task: FileTask) -> bool:
        """Whether a file that was shipped and could not be removed, or moved, still cannot be.

        It is not sent again to find that out.
        """
        failures = self._settlement.failures
        error = failures.why_still_stuck(task.file)
        if error is None:
            return False
        self._settlement.fail(task, failures.undisposed(error))
        return True

    def _may_send(self, task: FileTask) -> bool:
        """Whether a file may be sent: it is no object of the destination, and its upload replaces none of the spool."""
        copies, file, leftovers = self._settlement.second_copies, task.file, self._settlement.leftovers
        copies.suspect(file)
        if task.options.on_conflict is OnConflict.OVERWRITE and file.descriptor >= 0:
            # A claimed file was asked about before, but meanwhile another uploader may have put an older one back.
            if self._admission.older_files.exist(file.candidate) or self._deferral.overtakes(task.key, file.candidate):
                leftovers.leave(file.candidate, *_HAS_OLDER)
                return False
            copies.protect(file, task.key)
        if file.descriptor >= 0 and copies.refusal is None:
            return True
        self._answers.heed_refusal()
        leftovers.leave(file.candidate, Left.POSTPONED, "")
        return False

    def _decide(self, candidate: Candidate) -> OpenFile | tuple[Left, str]:
        """Ask the admission; closes some files first if too many are open."""
        while True:
            try:
                return self._admission.decide(candidate, now=self._clock.now())
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                if not self._close_some():
                    return Left.UNREADABLE, f"{error.strerror}, by this program or on this machine"

    def _close_some(self) -> bool:
        """Allow fewer open files from now on; returns ``False`` if none is open."""
        count = len(self._flight.under_way) + self._settlement.open_files
        self._most_open = max(1, min(self._most_open, count * 3 // 4))
        self._window.narrow(max(1, min(self._window.width, self._most_open // 2)))
        if self._settlement.open_files:
            self._settlement.commit()
        elif len(self._flight.under_way):
            self._answers.wait()
        return count > 0 and not self._ending.is_due()

    def _open_store(self) -> bool:
        try:
            if not open_store(self._store, must_end=self._ending.is_due, beat=self._beat):
                return False
        except DestinationBusy as error:
            self._ending.abandon(RunEnd.DESTINATION_BUSY, error)
            return False
        except StoreError as error:
            self._ending.abandon(RunEnd.DESTINATION, error)
            return False
        except Exception as error:
            if not lacks_memory(error):
                raise
            from s3_uploader.stores.threads import no_memory

            self._ending.abandon(RunEnd.DESTINATION, no_memory())
            return False
        self.store_is_open = True
        self._flight.take_over_loop()
        return True
