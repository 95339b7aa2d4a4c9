"""Reads several ledgers as one: those of all shares of a spool.

Every share writes its own ledger, in its own directory beside the ledger of runs that ship all files. A query goes to
all of them, and the answers are merged in the order of time. Memory stays as bounded as with one ledger.

The number of shares may change from one day to the next. Records of shipped files stay true, but only the ledgers of
the last division know which files fail and which wait.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.core.events import LocationTotals, Totals
from s3_uploader.core.files import free_descriptors
from s3_uploader.core.model import NOT_JSON, FailureBucket, Fingerprint
from s3_uploader.core.shares import Share, of_directory
from s3_uploader.ledger.ledger import Ledger
from s3_uploader.ledger.pages import merged_pieces
from s3_uploader.ledger.queries import MAX_AGE, EndpointMemory, LedgerReader
from s3_uploader.ledger.read_only import OpenFiles
from s3_uploader.ledger.rows import FailingGroup, FailingRow, HistoryTotals, RunRow, ShippedRow
from s3_uploader.ledger.state_directory import LEDGER_NAME
from s3_uploader.ledger.survey import Delivery, PastRun, Survey

if TYPE_CHECKING:
    from s3_uploader.ledger.found import Instance

_MOST_OPEN = 512
_DESCRIPTORS = 6
"""What an open ledger may need, so that as many are left for other purposes."""


def ledgers_of_shares(path: str) -> dict[Share, str]:
    """Find the ledgers of a spool's shares.

    :param path: the ledger of runs that ship all files; it need not be there.
    """
    state_dir = os.path.dirname(path)
    try:
        names = os.listdir(state_dir)
    except OSError:
        return {}
    shares = sorted(share for name in names if (share := of_directory(name)) is not None)
    paths = {share: os.path.join(state_dir, share.name, LEDGER_NAME) for share in shares}
    return {share: path for share, path in paths.items() if os.path.exists(path)}


def shares_without_ledger(ledger: LedgerReader) -> list[Share]:
    """The shares of the last division that have no ledger here. What they shipped is missing from all answers."""
    if not isinstance(ledger, LedgerOfShares) or ledger.division == 1:
        return []
    return [share for index in range(ledger.division) if (share := Share(index, ledger.division)) not in ledger.current]


def open_together(path: str, *, clock: Callable[[], float] = time.time) -> LedgerReader:
    """Open the ledger at ``path`` for queries, together with those of the shares if there are any.

    :raises StateError: see :meth:`Ledger.open_readonly`.
    """
    of_shares = ledgers_of_shares(path)
    if not of_shares:
        return Ledger.open_readonly(path, clock=clock)
    paths: dict[Share | None, str] = {None: path} if os.path.exists(path) else {}
    paths.update(of_shares.items())
    return _opened(paths, clock)


def open_instance(instance: Instance, *, clock: Callable[[], float] = time.time) -> LedgerReader:
    """Open the ledgers of one uploader for queries.

    :raises StateError: see :meth:`Ledger.open_readonly`.
    """
    return _opened(instance.ledgers, clock)


def _opened(paths: Mapping[Share | None, str], clock: Callable[[], float]) -> LedgerReader:
    if len(paths) == 1 and None in paths:
        return Ledger.open_readonly(paths[None], clock=clock)
    among = OpenFiles(min(_MOST_OPEN, max(1, free_descriptors() // _DESCRIPTORS)))
    with contextlib.ExitStack() as opened:
        ledgers = {
            share: opened.enter_context(Ledger.open_readonly(path, clock=clock, among=among))
            for share, path in paths.items()
        }
        together = LedgerOfShares(ledgers)
        opened.pop_all()
    return together


class SeveralLedgers(LedgerReader):
    """Several ledgers, for reading. The number of a run or a file also identifies its ledger.

    :param ledgers: all of them.
    :param live: the ledgers that know which files wait and fail now.
    """

    def __init__(self, ledgers: Sequence[LedgerReader], live: Sequence[LedgerReader]) -> None:
        self._ledgers = ledgers
        self._live = live
        self._memories: dict[tuple[str, float], dict[str, str]] = {}
        for ledger in ledgers:
            ledger.hold_less(of=len(ledgers))

    def close(self) -> None:
        """See :meth:`LedgerReader.close`."""
        for ledger in self._ledgers:
            ledger.close()

    # Files that fail, files that were kept

    def failing_count(self, *, attempts: int = 0) -> int:
        """See :meth:`LedgerReader.failing_count`."""
        return sum(ledger.failing_count(attempts=attempts) for ledger in self._live)

    def failing(self, path: str) -> FailingRow | None:
        """See :meth:`LedgerReader.failing`."""
        return next((row for ledger in self._live if (row := ledger.failing(path)) is not None), None)

    def failing_rows(self, *, overdue_at: float | None = None) -> Iterator[FailingRow]:
        """See :meth:`LedgerReader.failing_rows`."""
        return heapq.merge(
            *(ledger.failing_rows(overdue_at=overdue_at) for ledger in self._live),
            key=lambda row: (row.next_try_at, row.path),
        )

    def failing_kinds(self) -> list[FailingGroup]:
        """See :meth:`LedgerReader.failing_kinds`."""
        groups = chain.from_iterable(ledger.failing_kinds() for ledger in self._live)
        groups_by_code = groupby(sorted(groups, key=lambda one: one.code), key=lambda one: one.code)
        return [reduce(_both_groups, alike) for _, alike in groups_by_code]

    @property
    def any_failing(self) -> bool:
        """See :attr:`LedgerReader.any_failing`."""
        return any(ledger.any_failing for ledger in self._live)

    def remembers(self, path: str, fingerprint: Fingerprint, *, destination: str | None = None) -> bool:
        """See :meth:`LedgerReader.remembers`."""
        return any(ledger.remembers(path, fingerprint, destination=destination) for ledger in self._live)

    # Runs

    def runs(self, *, limit: int = 10, since: float | None = None) -> list[RunRow]:
        """See :meth:`LedgerReader.runs`."""
        return list(islice(self._latest(lambda ledger: ledger.runs(limit=limit, since=since)), limit))

    def latest_runs(self, *, most: int) -> Iterator[RunRow]:
        """See :meth:`LedgerReader.latest_runs`."""
        return islice(self._latest(lambda ledger: ledger.latest_runs(most=most)), most)

    def failed_runs(self, *, since: float | None = None, until: float | None = None) -> Iterator[RunRow]:
        """See :meth:`LedgerReader.failed_runs`."""
        parts = (self._numbered(n, each.failed_runs(since=since, until=until)) for n, each in enumerate(self._ledgers))
        return heapq.merge(*parts, key=lambda run: run.started_at)

    def shipped_in(self, run: int, *, since: float) -> tuple[int, int, float | None]:
        """See :meth:`LedgerReader.shipped_in`."""
        number, place = divmod(run, len(self._ledgers))
        return self._ledgers[place].shipped_in(number, since=since)

    def _latest(self, ask: Callable[[LedgerReader], Iterable[RunRow]]) -> Iterator[RunRow]:
        parts = (self._numbered(place, ask(ledger)) for place, ledger in enumerate(self._ledgers))
        return heapq.merge(*parts, key=_moment, reverse=True)

    def _numbered(self, place: int, runs: Iterable[RunRow]) -> Iterator[RunRow]:
        for run in runs:
            yield msgspec.structs.replace(run, id=run.id * len(self._ledgers) + place)

    # History

    def history(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        match: str | None = None,
        location: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[ShippedRow]:
        """See :meth:`LedgerReader.history`."""
        parts = [
            ledger.history(
                since=since, until=until, match=match, location=location, limit=limit, newest_first=newest_first
            )
            for ledger in self._ledgers
        ]
        return islice(heapq.merge(*parts, key=lambda row: row.shipped_at, reverse=newest_first), limit)

    def survey(self, *, since: float = float("-inf"), until: float = float("inf")) -> Survey:
        """See :meth:`LedgerReader.survey`."""
        return SurveyOfSeveral([ledger.survey(since=since, until=until) for ledger in self._ledgers])

    def history_totals(
        self,
        *,
        by_day: bool,
        by_location: bool,
        since: float | None = None,
        until: float | None = None,
        match: str | None = None,
        location: str | None = None,
    ) -> Iterator[HistoryTotals]:
        """See :meth:`LedgerReader.history_totals`."""
        parts = [
            ledger.history_totals(
                by_day=by_day, by_location=by_location, since=since, until=until, match=match, location=location
            )
            for ledger in self._ledgers
        ]
        sums = sorted(chain.from_iterable(parts), key=_place_of)
        return (reduce(_both_sums, alike) for _, alike in groupby(sums, key=_place_of))

    def totals(self) -> Totals:
        """See :meth:`LedgerReader.totals`."""
        return reduce(_both_totals, (ledger.totals() for ledger in self._ledgers))

    def location_totals(self, *, limit: int | None = None) -> list[LocationTotals]:
        """See :meth:`LedgerReader.location_totals`."""
        parts = (ledger.location_totals(limit=limit) for ledger in self._ledgers)
        rows = sorted(chain.from_iterable(parts), key=lambda row: os.fsencode(row.location))
        grouped = groupby(rows, key=lambda row: row.location)
        return list(islice((reduce(_both_locations, alike) for _, alike in grouped), limit))

    def destinations(self) -> list[str]:
        """See :meth:`LedgerReader.destinations`."""
        return list(dict.fromkeys(chain.from_iterable(ledger.destinations() for ledger in self._ledgers)))

    # What was noted

    def recall(self, name: str, *, now: float, max_age: float = MAX_AGE) -> str | None:
        """See :meth:`LedgerReader.recall`."""
        found = (ledger.recall(name, now=now, max_age=max_age) for ledger in self._live)
        return reduce(_both_notes, (text for text in found if text is not None), None)

    def endpoint_memory(self, *, prefix: str = "", max_age: float = MAX_AGE) -> EndpointMemory:
        """See :meth:`LedgerReader.endpoint_memory`; it is read once, and what is added to it is not kept."""
        known = self._memories.get((prefix, max_age))
        if known is None:
            known = self._memories[prefix, max_age] = {}
            for ledger in self._live:
                for name, text in ledger.endpoint_memory(prefix=prefix, max_age=max_age).all().items():
                    known[name] = _both_notes(known.get(name), text)
        return EndpointMemory(dict(known), prefix=prefix)


class LedgerOfShares(SeveralLedgers):
    """The ledgers of the shares of one spool.

    :ivar current: the ledgers of the last division: its shares, or the ledger of all files (``None``).
    :ivar division: how many shares that division has; 1 for all files.
    :ivar last_runs: the last run in each ledger, at the time when they were opened.
    """

    def __init__(self, ledgers: Mapping[Share | None, LedgerReader]) -> None:
        self.last_runs = {share: next(iter(ledger.runs(limit=1)), None) for share, ledger in ledgers.items()}
        last = max(ledgers, key=lambda share: 0.0 if (run := self.last_runs[share]) is None else _moment(run))
        self.division = 1 if last is None else last.count
        self.current = {
            share: ledger for share, ledger in ledgers.items() if (share.count if share else 1) == self.division
        }
        super().__init__(list(ledgers.values()), list(self.current.values()))


class SurveyOfSeveral(Survey):
    """Surveys of several ledgers as one."""

    def __init__(self, surveys: Sequence[Survey]) -> None:
        self._surveys = surveys

    def first_moment(self) -> float | None:
        """See :meth:`Survey.first_moment`."""
        moments = (survey.first_moment() for survey in self._surveys)
        return min((moment for moment in moments if moment is not None), default=None)

    def pieces(self, *, of: int = 1, place: int = 0) -> Iterator[list[Delivery]]:
        """See :meth:`Survey.pieces`."""
        count = len(self._surveys)
        parts = [survey.pieces(of=of * count, place=number * of + place) for number, survey in enumerate(self._surveys)]
        return merged_pieces(parts)

    def files(self, numbers: Sequence[int]) -> list[ShippedRow]:
        """See :meth:`Survey.files`."""
        found: list[ShippedRow] = []
        for each in numbers:
            number, place = divmod(each, len(self._surveys))
            found += self._surveys[place].files([number])
        return found

    def runs(self) -> Iterator[PastRun]:
        """See :meth:`Survey.runs`."""
        return heapq.merge(
            *(survey.runs() for survey in self._surveys),
            key=lambda run: run.started_at if run.finished_at is None else run.finished_at,
        )

    def last_runs(self, limit: int) -> list[RunRow]:
        """See :meth:`Survey.last_runs`."""
        runs = heapq.merge(*(survey.last_runs(limit) for survey in self._surveys), key=_moment, reverse=True)
        return list(islice(runs, limit))

    def failures(self) -> dict[FailureBucket, int]:
        """See :meth:`Survey.failures`."""
        together: dict[FailureBucket, int] = {}
        for survey in self._surveys:
            for bucket, uploads in survey.failures().items():
                together[bucket] = together.get(bucket, 0) + uploads
        return dict(sorted(together.items()))


def _moment(run: RunRow) -> float:
    return run.started_at if run.finished_at is None else run.finished_at


def _place_of(sums: HistoryTotals) -> tuple[str, bytes]:
    return sums.day, os.fsencode(sums.location)


def _latest_of(*moments: float | None) -> float | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _both_groups(one: FailingGroup, other: FailingGroup) -> FailingGroup:
    first = min(one, other, key=lambda group: group.first_failed_at)
    return msgspec.structs.replace(
        first, files=one.files + other.files, next_try_at=min(one.next_try_at, other.next_try_at)
    )


def _both_sums(one: HistoryTotals, other: HistoryTotals) -> HistoryTotals:
    return msgspec.structs.replace(
        one,
        files=one.files + other.files,
        bytes=one.bytes + other.bytes,
        already_there=one.already_there + other.already_there,
        first_shipped_at=min(one.first_shipped_at, other.first_shipped_at),
        last_shipped_at=max(one.last_shipped_at, other.last_shipped_at),
    )


def _both_totals(one: Totals, other: Totals) -> Totals:
    return Totals(
        shipped_files=one.shipped_files + other.shipped_files,
        shipped_bytes=one.shipped_bytes + other.shipped_bytes,
        already_there=one.already_there + other.already_there,
        failed_uploads=one.failed_uploads + other.failed_uploads,
        runs=one.runs + other.runs,
        last_run_at=_latest_of(one.last_run_at, other.last_run_at),
        last_success_at=_latest_of(one.last_success_at, other.last_success_at),
        last_shipped_at=_latest_of(one.last_shipped_at, other.last_shipped_at),
    )


def _both_locations(one: LocationTotals, other: LocationTotals) -> LocationTotals:
    return LocationTotals(
        location=one.location,
        files=one.files + other.files,
        bytes=one.bytes + other.bytes,
        last_shipped_at=max(one.last_shipped_at, other.last_shipped_at),
        last_period_begin=_latest_of(one.last_period_begin, other.last_period_begin),
    )


def _both_notes(one: str | None, other: str) -> str:
    """Merge two notes: the members of both if they are JSON objects, else the later note."""
    if one is None:
        return other
    try:
        values = msgspec.json.decode(one), msgspec.json.decode(other)
    except NOT_JSON:
        return other
    return msgspec.json.encode(_merged(*values)).decode()


def _merged(one: object, other: object, name: str = "") -> object:
    if isinstance(one, dict) and isinstance(other, dict):
        both = one.keys() & other.keys()
        return {**one, **other, **{key: _merged(one[key], other[key], key) for key in both}}
    if name == "files" and isinstance(one, int) and isinstance(other, int):
        return one + other
    return other
