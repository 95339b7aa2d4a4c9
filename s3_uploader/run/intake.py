"""Chooses the next files for the store: each candidate is opened, deferred, left or sent."""

from __future__ import annotations

import threading
from collections.abc import Callable

from s3_uploader.core.control import Clock, start_thread
from s3_uploader.core.errors import DestinationBusy, StoreError
from s3_uploader.core.files import OUT_OF_DESCRIPTORS
from s3_uploader.core.model import Candidate, Left, OnConflict, RunEnd
from s3_uploader.run.admission import Admission
from s3_uploader.run.answers import Answers
from s3_uploader.run.ending import Ending
from s3_uploader.run.flow_control import AdaptiveLimit, CircuitBreaker, Deferral
from s3_uploader.run.in_flight import FileTask, UploadsInFlight
from s3_uploader.run.routing import Routes, Target
from s3_uploader.run.settlement import Settlement
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.stores.base import Store

_LOOK_SECONDS = 0.1


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
        breaker: CircuitBreaker[FileTask],
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
        self._breaker = breaker
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

    def is_full(self) -> bool:
        """Whether no more files may be in flight now."""
        count = len(self._flight.under_way)
        if count >= self._window.width or count >= self._most_open or self._flight.bytes >= self._max_bytes_in_flight:
            return True
        return self._breaker.is_in_doubt and self._breaker.must_wait(in_flight=count, now=self._clock.monotonic())

    def narrow(self, parts: int) -> None:
        """Reduce the limits to this process's part."""
        self._max_bytes_in_flight //= parts

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
        target = self._routes(candidate) if self._flight.under_way else None
        if target is not None and self._flight.is_sending(target.key):
            self._settlement.leftovers.leave(candidate, Left.POSTPONED, "an older file of the same key is in flight")
            return
        file = self._decide(candidate)
        if not isinstance(file, OpenFile):
            reason, detail = file
            if self._admission.stuck is not None:
                self._settlement.leftovers.cannot_remove(candidate, *self._admission.stuck)
            elif reason is Left.UNREADABLE:
                self._settlement.leftovers.cannot_read(candidate, detail)
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

    def _task(self, file: OpenFile, target: Target | None, *, may_defer: bool) -> FileTask | None:
        """Make the task for the store; ``None`` if the file is deferred or left.

        :param target: its key and options, if they are known already.
        """
        candidate = file.candidate
        settlement = self._settlement
        failed_before = settlement.any_failing and settlement.known_failure(candidate.path) is not None
        if failed_before and may_defer and not self._breaker.successes and self._deferral.has_room_for_failed():
            self._deferral.failed.append(candidate)
            return None
        if may_defer and self._deferral.waits(candidate.path, in_doubt=self._breaker.is_in_doubt):
            # A file with a plain name shows whether the error is the destination's.
            self._deferral.unplain.append(candidate)
            return None
        if not self.store_is_open and not self._open_store():
            self._settlement.leftovers.leave(candidate, Left.POSTPONED, "")
            return None
        if target is None:
            target = self._routes(candidate)
        task = FileTask(
            file,
            target.key,
            self._clock.monotonic(),
            successes_before=self._breaker.successes,
            failed_before=failed_before,
            options=target.options,
        )
        if (failed_before and self._is_still_stuck(task)) or not self._may_send(task):
            return None
        return task

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
        copies, file = self._settlement.second_copies, task.file
        copies.suspect(file)
        if task.options.on_conflict is OnConflict.OVERWRITE and file.descriptor >= 0:
            copies.protect(file, task.key)
        if file.descriptor >= 0 and copies.refusal is None:
            return True
        self._answers.heed_refusal()
        self._settlement.leftovers.leave(file.candidate, Left.POSTPONED, "")
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
        self.store_is_open = True
        self._flight.take_over_loop()
        return True


def open_store(store: Store, *, must_end: Callable[[], bool], beat: Callable[[], None]) -> bool:
    """Open ``store``; returns ``False`` if the run had to end meanwhile. The store must then still be closed.

    :param must_end: whether the run has to end; called several times a second.
    :param beat: heartbeat, called as often.
    :raises Exception: what :meth:`Store.open` raises.
    """
    raised: list[BaseException] = []
    is_over = threading.Event()

    def work() -> None:
        try:
            store.open()
        except BaseException as error:
            raised.append(error)
        finally:
            is_over.set()

    thread = threading.Thread(target=work, name="open-store", daemon=True)
    try:
        start_thread(thread)
    except RuntimeError:
        # No further thread can be started, so this one opens the store.
        store.open()
        return True
    while not is_over.wait(_LOOK_SECONDS):
        beat()
        if must_end():
            return False
    if raised:
        raise raised[0]
    return True
