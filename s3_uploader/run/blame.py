"""Decides whose error a failed upload is: that of its file, that of the destination, or for the moment nobody's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from s3_uploader.core.control import Clock
from s3_uploader.core.errors import ConflictError, Scope, SourceChanged, SourceUnreadable, StoreError, UploadCancelled
from s3_uploader.core.model import Candidate, Left, RunEnd
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import is_plain
from s3_uploader.run.in_flight import Evidence, FileTask, UploadsInFlight
from s3_uploader.run.scan import Ending
from s3_uploader.run.settlement import Settlement

_PROBES = 8
"""The run ends when this many files in a row fail quickly."""
_SLOW_PROBES = 4
"""The run ends when this many files in a row fail slowly, if the destination worked in this run."""
_DOUBT_SECONDS = 5.0
"""Seconds of doubt after which failures count as slow, and uploads in flight are no longer waited for."""
_REFUSED_EVERYWHERE = 4
"""The run ends when files of this many locations, and :data:`_PROBES` of each on average, are refused in a row."""
_LONGEST_GAP = 64
"""Most files that are left between two samples, so that a few that would be accepted are not missed for long."""
_MOST_LOCATIONS = 1000
_OF_NO_FILE = (Origin.CREDENTIALS, Origin.CREDENTIAL_SOURCE, Origin.CLOCK, Origin.BUCKET)

_T = TypeVar("_T")


class Blame:
    """Decides about failed uploads: whether a file is recorded as failing, sent once more, or the run is ended.

    :param wait: waits for an answer.
    :param submit: passes a file to the store again.
    :param struggled: called when the destination asks for a slower pace, or stops answering.
    :param saw_failure: called with key and file of each failed upload (:class:`s3_uploader.run.flow_control.Deferral`).
    :param may_be_its_name: whether the failure of a key proves nothing yet.
    """

    def __init__(
        self,
        flight: UploadsInFlight,
        settlement: Settlement,
        evidence: Evidence,
        *,
        ending: Ending,
        clock: Clock,
        wait: Callable[[], None],
        submit: Callable[[FileTask], None],
        struggled: Callable[[], None],
        saw_failure: Callable[[str, Candidate], None],
        may_be_its_name: Callable[[str], bool],
    ) -> None:
        self._flight = flight
        self._settlement = settlement
        self._evidence = evidence
        self._ending = ending
        self._clock = clock
        self._wait = wait
        self._submit = submit
        self._struggled = struggled
        self._saw_failure = saw_failure
        self._may_be_its_name = may_be_its_name
        self._breaker: CircuitBreaker[FileTask] = CircuitBreaker(evidence)
        self._refusals = Refusals()

    @property
    def has_enough_of_old_failures(self) -> bool:
        """See :attr:`CircuitBreaker.has_enough_of_old_failures`."""
        return self._breaker.has_enough_of_old_failures

    def must_wait(self) -> bool:
        """Whether to send nothing more before an upload in flight has answered."""
        return self._breaker.must_wait(in_flight=len(self._flight.under_way), now=self._clock.monotonic())

    def may_repeat(self, key: str) -> bool:
        """Whether an upload to a key has failed and may be sent once more."""
        return any(upload.key == key for upload in self._breaker.doubtful())

    def leaves_for_others(self, location: str) -> bool:
        """Whether a file is left because others of its location are refused. The answer to a sample is waited for."""
        if not self._refusals.are_known:
            return False
        while (
            self._refusals.needs_answer(location)
            and self._flight.is_sending_from(location)
            and not self._ending.is_due()
        ):
            self._wait()
        return self._refusals.leaves(location)

    def take(self, upload: FileTask, error: StoreError) -> None:
        """Deal with a failed upload."""
        if self._may_replace(upload, error):
            self._submit(upload)
            return
        if isinstance(error, SourceUnreadable) and not upload.file.has_new_content():
            # The destination is not the cause, however many files are affected.
            self._settlement.fail(upload, error)
            return
        changed = upload.file.why_changed()
        if isinstance(error, SourceChanged) or (changed is not None and error.scope is Scope.FILE):
            self._settlement.leave(upload, changed or Left.CHANGED, "it changed while it was uploaded")
        elif isinstance(error, UploadCancelled) and not error.is_late:
            self._settlement.leave(upload, Left.POSTPONED)
        elif not self._is_in_doubt(upload, error):
            self._blame_file(upload, error)

    def saw_success(self, location: str) -> None:
        """Decide about the failures in doubt, now that an upload has succeeded."""
        if self._refusals.are_known:
            self._refusals.accepted(location)
        for doubtful, error in self._breaker.succeeded():
            self._try_again_or_blame(doubtful, error)

    def heed_doubts(self) -> None:
        """End the run if failures in doubt are too many, or last too long."""
        if self._breaker.must_trip(in_flight=len(self._flight.under_way), now=self._clock.monotonic()):
            self._blame_destination()

    def close_doubts(self) -> None:
        """Decide at the end of the run who caused the failures in doubt: their files if another upload succeeded.

        A destination that is unreachable at the end, or refuses the credentials that it has accepted, as when they
        expire, became so during the run. Then no file is blamed.
        """
        if not self._evidence.successes or self._breaker.is_out_of_order(has_plain_name=_has_plain_name):
            self._blame_destination()
        for upload, error in self._breaker.take_doubts():
            self._blame_file(upload, error)

    def abandon_doubts(self) -> list[FileTask]:
        """Take out the uploads whose failures are in doubt."""
        return [upload for upload, _ in self._breaker.take_doubts()]

    def _is_in_doubt(self, upload: FileTask, error: StoreError) -> bool:
        """Whether it is unknown if the file or the destination caused the error."""
        if not isinstance(error, ConflictError):
            self._saw_failure(upload.key, upload.file.candidate)
        return self._breaker.failed(
            upload,
            error,
            successes_before=upload.successes_before,
            failed_before=upload.failed_before,
            now=self._clock.monotonic(),
            may_be_its_name=self._may_be_its_name(upload.key),
        )

    def _may_replace(self, upload: FileTask, error: StoreError) -> bool:
        """Whether the key is taken by an older version of this file, uploaded by this program."""
        if self._ending.is_due() or upload.replaces or not isinstance(error, ConflictError):
            return False
        if self._settlement.superseded.has(upload.key, error):
            upload.replaces = error.existing
        return bool(upload.replaces)

    def _try_again_or_blame(self, upload: FileTask, error: StoreError) -> None:
        """Decide about a failure in doubt, now that the destination works."""
        if error.never_connected and not upload.is_second_try and not self._ending.is_due():
            # An outage that has ended says nothing about a file that failed during it.
            upload.is_second_try = True
            self._submit(upload)
        else:
            self._blame_file(upload, error)

    def _blame_file(self, upload: FileTask, error: StoreError) -> None:
        if error.may_pass:
            self._struggled()
        location = upload.file.candidate.location
        if self._refusals.refused(location, error, failed_before=upload.failed_before):
            self._ending.abandon(RunEnd.DESTINATION, error)
        self._settlement.fail(upload, error)

    def _blame_destination(self) -> None:
        doubts = self._breaker.take_doubts()
        if self._ending.error is None:
            self._settlement.failures.tell(*doubts[0])
            self._ending.abandon(RunEnd.DESTINATION, doubts[0][1])
        for upload, error in doubts:
            self._settlement.failures.suspect(upload, error)
            upload.end()


def _has_plain_name(upload: FileTask) -> bool:
    return is_plain(upload.key)


class CircuitBreaker(Generic[_T]):
    """Distinguishes an error of one file from an error of the destination. Times are those of the monotonic clock.

    An error alone hardly ever shows that. A refusal may be about one key, a timeout about one large file, and a
    connection may break because something on the way rejects these bytes. What decides is whether other files succeed.
    So an error that could be the destination's is held in doubt. Nothing more is sent until the uploads in flight have
    answered, and then one file at a time:

    * another file succeeds: then it was the file's error, unless there was no connection at all (the outage is over,
      and the file is sent once more);
    * too many fail, or it takes too long: then it is the destination's error, and the run ends.

    A name that is not plain (accents, blanks, length) may be refused by a destination that takes all others, with
    whatever error. So as long as there are plain names, the others prove nothing
    (:class:`s3_uploader.run.flow_control.Deferral`).

    A file that an earlier run could not ship proves nothing against a destination that has accepted others in this run.
    So a handful of bad files, which are the oldest and come first, cannot end every run.

    :param evidence: gets to know whether there are failures in doubt.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._in_a_row = 0
        self._old_in_a_row = 0
        self._doubts: list[tuple[_T, StoreError]] = []
        self._doubts_since = 0.0

    @property
    def has_enough_of_old_failures(self) -> bool:
        """Whether enough files that failed before have failed again in a row, so that no more of them are tried."""
        return self._old_in_a_row >= _PROBES

    def succeeded(self) -> list[tuple[_T, StoreError]]:
        """Take note of a successful upload. Returns the failures that are now known to be errors of their files."""
        self._in_a_row = self._old_in_a_row = 0
        return self.take_doubts() if self._doubts else []

    def failed(
        self,
        upload: _T,
        error: StoreError,
        *,
        successes_before: int,
        failed_before: bool,
        now: float,
        may_be_its_name: bool = False,
    ) -> bool:
        """Take note of a failed upload. Returns whether the failure is in doubt; otherwise it concerns this file only.

        :param successes_before: how many uploads had succeeded when it began.
        :param failed_before: an earlier run could not ship the file.
        :param may_be_its_name: its name is not plain, and files with plain names are still to come.
        """
        passing = error.may_pass
        if not passing and error.scope is Scope.FILE:
            return False
        if failed_before and self._evidence.successes:
            self._old_in_a_row += 1
            return False
        self._in_a_row += not may_be_its_name
        # An error that may pass was retried for a while. If other files succeeded in that time, it concerns this file;
        # that there was no connection concerns none.
        if passing and not error.never_connected and self._evidence.successes > successes_before:
            return False
        if not self._doubts:
            self._doubts_since = now
        self._doubts.append((upload, error))
        self._evidence.is_in_doubt = True
        return True

    def must_wait(self, *, in_flight: int, now: float) -> bool:
        """Whether to send nothing more before an upload in flight has answered."""
        return bool(self._doubts) and in_flight > 0 and now - self._doubts_since < _DOUBT_SECONDS

    def must_trip(self, *, in_flight: int, now: float) -> bool:
        """Whether to abandon the destination."""
        if not self._doubts or self.must_wait(in_flight=in_flight, now=now):
            return False
        if now - self._doubts_since < _DOUBT_SECONDS:
            return self._in_a_row >= _PROBES
        return self._in_a_row >= _SLOW_PROBES or (self._in_a_row > 0 and not self._evidence.successes)

    def is_out_of_order(self, *, has_plain_name: Callable[[_T], bool]) -> bool:
        """Whether no file can be the cause of any failure in doubt: no connection, or credentials that are not valid.

        :param has_plain_name: whether an upload has such a name. A signature may fit all others.
        """
        return bool(self._doubts) and all(
            error.never_connected
            or (error.scope is Scope.DESTINATION and error.origin in _OF_NO_FILE and has_plain_name(upload))
            for upload, error in self._doubts
        )

    def doubtful(self) -> Iterator[_T]:
        """The uploads whose failures are in doubt."""
        return (upload for upload, _ in self._doubts)

    def take_doubts(self) -> list[tuple[_T, StoreError]]:
        """Take out the failures in doubt."""
        doubts, self._doubts = self._doubts, []
        self._evidence.is_in_doubt = False
        return doubts


class _Refused:
    """What is known of a location in which files are refused."""

    __slots__ = ("gap", "in_a_row", "left")

    def __init__(self) -> None:
        self.in_a_row = 0
        self.gap = 1
        """How many files are left before the next one is tried."""
        self.left = 0


class Refusals:
    """Tries fewer and fewer files of a location whose files are refused, one after the other, for lack of a permission.

    Such a refusal is an error of one file, because a permission may be missing for some keys while others are accepted
    (:class:`CircuitBreaker`). But a permission that is withdrawn during a run is missing for all, and each waiting file
    would cost a request and an entry in the ledger. So after some refusals in a row one file is tried as a sample, and
    each time more are left before the next one. The first one that is accepted ends this.

    If this happens in several locations and no file is accepted in between, the destination refuses everything.

    :ivar are_known: whether there was any refusal; if not, nothing else needs to be asked.
    """

    def __init__(self) -> None:
        self._by_location: dict[str, _Refused] = {}
        self._since_success: Counter[str] = Counter()
        self.are_known = False

    def accepted(self, location: str) -> None:
        """Take note of a successful upload."""
        self._since_success.clear()
        self._by_location.pop(location, None)

    def refused(self, location: str, error: StoreError, *, failed_before: bool) -> bool:
        """Take note of a failed upload. Returns whether the destination refuses everything.

        :param failed_before: an earlier run could not ship the file, so it shows nothing about the others.
        """
        if error.origin is not Origin.FILE_RIGHT:
            return False
        if location in self._by_location or len(self._by_location) < _MOST_LOCATIONS:
            self._by_location.setdefault(location, _Refused()).in_a_row += 1
            self.are_known = True
        if failed_before:
            return False
        self._since_success[location] += 1
        locations, files = len(self._since_success), sum(self._since_success.values())
        return locations >= _REFUSED_EVERYWHERE and files >= _REFUSED_EVERYWHERE * _PROBES

    def needs_answer(self, location: str) -> bool:
        """Whether to wait for the uploads of this location before its next file is considered."""
        refused = self._by_location.get(location)
        return refused is not None and refused.in_a_row >= _PROBES and refused.left == 0

    def leaves(self, location: str) -> bool:
        """Whether the next file of a location is left."""
        refused = self._by_location.get(location)
        if refused is None or refused.in_a_row < _PROBES:
            return False
        if refused.left < refused.gap:
            refused.left += 1
            return True
        refused.left = 0
        refused.gap = min(2 * refused.gap, _LONGEST_GAP)
        return False
