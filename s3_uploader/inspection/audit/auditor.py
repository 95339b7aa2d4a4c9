"""The audit: pairs rows with entries, judges each pair, checks single keys again, and reports findings."""

from __future__ import annotations

import concurrent.futures
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.inspection.audit.discrepancies import Discrepancy, Judgement, Kind, Summary, is_comparable, judge
from s3_uploader.inspection.audit.merging import Unordered, Wanted, common_directory, pairs, sorted_on_disk
from s3_uploader.ledger import ShippedRow
from s3_uploader.ledger.snapshot import Bounds
from s3_uploader.stores.listing import CannotList, Entry, Inventory, LookDenied
from s3_uploader.stores.threads import ThreadPool

_MOST_DENIALS = 100
_CLOSE_SECONDS = 2.0

Tell = Callable[[Discrepancy], None]
Progress = Callable[[int], None]
"""Called often with the number of rows that are done."""


class _OutOfTime(Exception):
    """The time of the audit is over."""


class _Looking(msgspec.Struct):
    """A row in progress: judged, or waiting for the answer to a request."""

    row: ShippedRow
    judgement: Judgement | None
    entry: Entry | None
    answer: Future[Entry | None] | None = None


class Audit:
    """Compares rows with an inventory, which must be open.

    :param deep: check the content of every key, even where the listing is enough.
    :param tell: called with each finding, in the order of the keys.
    :param notice: called with a sentence about anything unusual.
    :param progress: called with the progress.
    :param until: the end of the audit by ``clock``; what is not audited by then is counted in the summary.
    """

    def __init__(
        self,
        inventory: Inventory,
        *,
        deep: bool,
        tell: Tell,
        notice: Callable[[str], None],
        progress: Progress = lambda rows: None,
        until: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._until = until
        self._clock = clock
        self._current = ""
        self._inventory = inventory
        self._deep = deep
        self._tell = tell
        self._notice = notice
        self._progress = progress
        self._queue: deque[_Looking] = deque()
        self._denied: list[tuple[ShippedRow, LookDenied]] | None = []
        self._listed = True
        self.summary = Summary(is_deep=deep)

    def run(self, rows: Iterator[ShippedRow], bounds: Bounds) -> Summary:
        """Audit all rows, which are in the order of their keys' bytes.

        :raises StoreError: if the destination cannot be read.
        """
        if not bounds.rows:
            return self.summary
        pool = ThreadPool(name="audit", count=self._inventory.concurrency)
        try:
            self._audit(pool, rows, common_directory(bounds.first, bounds.last))
            self._stop_after_denials(at_least=1)
        except BaseException as error:
            for looking in self._queue:
                if looking.answer is not None:
                    looking.answer.cancel()
            # Requests in flight fail at once; otherwise an interrupted audit would wait for a server that hangs.
            self._inventory.close()
            if not self._is_end_of_time(error):
                raise
            self._stop_after_denials(at_least=1)
            self.summary.not_audited = bounds.rows - self.summary.keys
            self.summary.first_not_audited = self._queue[0].row.key if self._queue else self._current
        finally:
            pool.close(timeout=_CLOSE_SECONDS)
        return self.summary

    def _audit(self, pool: ThreadPool, rows: Iterator[ShippedRow], prefix: str) -> None:
        for row, entry in self._pairs(self._in_time(rows), prefix):
            judgement = judge(row, entry)
            if not self._needs_look(row, judgement):
                if not self._queue:  # as it is with most of millions of rows
                    self._conclude(row, entry, judgement)
                    continue
                self._queue.append(_Looking(row, judgement, entry))
            else:
                self._queue.append(self._look(pool, row, entry, judgement))
            # What is already judged is reported at once, in its turn; a bounded number of lookups is awaited.
            while self._queue and (self._queue[0].answer is None or len(self._queue) > 8 * self._inventory.concurrency):
                self._finish_first()
        while self._queue:
            self._finish_first()

    # Time

    def _in_time(self, rows: Iterator[ShippedRow]) -> Iterator[ShippedRow]:
        for row in rows:
            self._current = row.key
            self._insist_on_time()
            yield row

    def _entries(self, prefix: str, wanted: Wanted) -> Iterator[Entry]:
        for entry in self._inventory.entries(prefix, wanted=wanted):
            self._insist_on_time()
            yield entry

    def _seconds_left(self) -> float | None:
        return None if self._until == math.inf else max(0.0, self._until - self._clock())

    def _insist_on_time(self) -> None:
        if self._clock() >= self._until:
            raise _OutOfTime

    def _is_end_of_time(self, error: BaseException) -> bool:
        """Whether an audit has ended because its time was over.

        A destination that answered nothing at all in that time cannot be read.
        """
        if isinstance(error, StoreError):
            return self._clock() >= self._until and self.summary.keys > 0
        return isinstance(error, _OutOfTime)

    # Pairs

    def _pairs(self, rows: Iterator[ShippedRow], prefix: str) -> Iterator[tuple[ShippedRow, Entry | None]]:
        following = _Following(rows)
        try:
            if self._inventory.lists_in_order:
                wanted = Wanted(following.peek().key)
                try:
                    yield from pairs(following, self._entries(prefix, wanted), wanted)
                except Unordered:
                    self._notice("The destination lists its keys in no order. They are sorted on this machine.")
                else:
                    return
            # Each key without a partner so far was looked up on its own.
            everything = self._entries(prefix, Wanted())
            yield from pairs(following.again(), sorted_on_disk(everything), Wanted())
        except CannotList as error:
            self._listed = False
            self._notice(f"{error} Each key is asked for on its own instead, which takes longer.")
            for row in following.again():
                yield row, None

    # Judgement

    def _look(self, pool: ThreadPool, row: ShippedRow, entry: Entry | None, judgement: Judgement) -> _Looking:
        self.summary.looks += 1
        # To see whether anything is there, nobody has to read all of it.
        content = self._deep or self._inventory.looks_are_cheap or judgement.kind is Kind.REPLACED
        look = functools.partial(self._inventory.look, row.key, content=content)
        return _Looking(row, None, entry, pool.submit(look))

    def _needs_look(self, row: ShippedRow, judgement: Judgement) -> bool:
        if self._deep or not self._listed:
            return True
        if judgement.kind not in (None, Kind.REWRITTEN):
            # No finding is based on a listing alone: an inventory may be from yesterday.
            return True
        return judgement.same is None and self._inventory.looks_are_cheap and is_comparable(row)

    def _finish_first(self) -> None:
        self._finish(self._queue[0])
        self._queue.popleft()

    def _finish(self, looking: _Looking) -> None:
        row, judgement, entry = looking.row, looking.judgement, looking.entry
        if looking.answer is not None:
            try:
                entry = looking.answer.result(timeout=self._seconds_left())
            except concurrent.futures.TimeoutError:
                raise _OutOfTime from None
            except StoreError as error:
                if self.summary.keys:
                    self._insist_on_time()
                self._conclude_unanswered(row, entry, error)
                return
            if self._denied:
                self._tell_denials()
            self._denied = None
            judgement = judge(row, entry)
        assert judgement is not None
        self._conclude(row, entry, judgement)

    def _conclude(self, row: ShippedRow, entry: Entry | None, judgement: Judgement, detail: str = "") -> None:
        summary = self.summary
        summary.keys += 1
        self._progress(summary.keys)
        if judgement.same:
            summary.same += 1
        elif judgement.kind is None:
            summary.size_only += 1
        if judgement.kind is not None:
            summary.count(judgement.kind)
            self._tell(
                Discrepancy(
                    kind=judgement.kind,
                    row=row,
                    address=self._inventory.address(row.key),
                    entry=entry,
                    detail=detail,
                )
            )

    # Looks without an answer

    def _conclude_unanswered(self, row: ShippedRow, entry: Entry | None, error: StoreError) -> None:
        if error.scope is Scope.DESTINATION:
            raise error
        if entry is not None and not self._deep:
            # The listing has it, and that is all that can be said.
            self._conclude(row, entry, judge(row, entry))
        elif self._listed and entry is None and isinstance(error, LookDenied):
            self._conclude(row, None, Judgement(Kind.MISSING, None))
        elif isinstance(error, LookDenied) and self._denied is not None:
            self._denied.append((row, error))
            self._stop_after_denials(at_least=_MOST_DENIALS)
        else:
            self._tell_unreadable(row, error)

    def _tell_unreadable(self, row: ShippedRow, error: StoreError) -> None:
        detail = error.message
        if isinstance(error, LookDenied) and not self._listed:
            detail = f"missing or not readable: without permission to list, the two look alike ({error.message})"
        self._conclude(row, None, Judgement(Kind.UNREADABLE, None), detail)

    def _tell_denials(self) -> None:
        denied, self._denied = self._denied or [], None
        for row, error in denied:
            self._tell_unreadable(row, error)

    def _stop_after_denials(self, *, at_least: int) -> None:
        """Raise if there were only refusals: they do not show that everything is missing."""
        if self._denied and len(self._denied) >= at_least:
            error = self._denied[0][1]
            raise StoreError(error.message, code=error.code, scope=Scope.DESTINATION, hint=error.hint)


class _Following:
    """Iterates over rows; :meth:`again` starts with the last one again."""

    def __init__(self, rows: Iterator[ShippedRow]) -> None:
        self._rows = rows
        self._last: ShippedRow | None = None
        self._pending = False

    def __iter__(self) -> Iterator[ShippedRow]:
        return self

    def __next__(self) -> ShippedRow:
        if self._pending:
            self._pending = False
            assert self._last is not None
            return self._last
        self._last = next(self._rows)
        return self._last

    def peek(self) -> ShippedRow:
        """The next row, without taking it."""
        row = next(self)
        self._pending = True
        return row

    def again(self) -> Iterator[ShippedRow]:
        """Iterate from the last row on."""
        self._pending = self._last is not None
        return self
