"""The report of many uploaders, whose ledgers are read one after the other; one that cannot be read is left out."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Sequence

from s3_uploader.core.errors import StateError
from s3_uploader.core.text import counted, shown_name
from s3_uploader.inspection.report.data import MOST_FAILING, Instance, Report, Standing, numbers, standing_of
from s3_uploader.inspection.share_status import unheard_in_words
from s3_uploader.ledger import LedgerReader
from s3_uploader.ledger import found as ledgers
from s3_uploader.ledger.gathered import GatheredSurvey
from s3_uploader.ledger.together import open_instance
from s3_uploader.ledger.trouble import of_copy

_DESTINATIONS_NAMED = 3


def gather_of_many(
    instances: Sequence[ledgers.Instance],
    *,
    since: float | None,
    until: float | None,
    now: float,
    notice: Callable[[str], None],
) -> Report:
    """Read the numbers from the ledgers of these uploaders.

    :param since: only events at this time or later; ``until``: only events before.
    :param notice: called with a sentence about each ledger that cannot be read or is missing.
    :raises StateError: if none of them can be read, or there is no room for a sorted copy.
    """
    end = now if until is None else min(until, now)
    begin = float("-inf") if since is None else since
    together = Standing(files={}, failing_files=0, unmatched_files=0, failing=[])
    destinations: dict[str, None] = {}
    left_out: list[str] = []
    names: dict[str, str] = {}
    survey = GatheredSurvey(of=len(instances), opened=lambda place: open_instance(instances[place]))
    with contextlib.closing(survey):
        for place, each in enumerate(instances):
            try:
                with open_instance(each) as ledger:
                    standing, named = standing_of(ledger), ledger.destinations()
                    standing.instances = [_instance(each.name, ledger, since=since, until=end)]
                    unheard = unheard_in_words(ledger)
                    identity = ledger.recall("identity", now=now, max_age=float("inf"))
                    survey.add(ledger.survey(since=begin, until=end), place)
            except StateError as error:
                if error.is_full or len(left_out) == len(instances) - 1:
                    raise of_copy(error) from error
                left_out.append(each.paths[0])
                notice(f"{shown_name(each.name)} is not included: {of_copy(error)}")
                continue
            if unheard:
                notice(f"{shown_name(each.name)}: {unheard}")
            if identity is not None and names.setdefault(identity, each.name) != each.name:
                # Of a cloned machine both may have gone on since, so that neither can be left out.
                both = f"{shown_name(names[identity])} and {shown_name(each.name)}"
                notice(
                    f"{both} are copies of one ledger: what both have recorded is counted twice. Leave one of them "
                    "out, unless they are of two clones of a machine."
                )
            _add(together, standing)
            destinations |= dict.fromkeys(named)
        together.instances.sort(key=lambda one: one.name)
        told = counted(len(instances), "uploader"), _some_of(list(destinations))
        report = numbers(survey, together, base_dir=told[0], destination=told[1], end=end, now=now)
    report.left_out = left_out
    return report


def _add(together: Standing, one: Standing) -> None:
    for location, files in one.files.items():
        together.files[location] = together.files.get(location, 0) + files
    together.failing_files += one.failing_files
    together.unmatched_files += one.unmatched_files
    together.failing = heapq.nsmallest(
        MOST_FAILING, [*together.failing, *one.failing], key=lambda row: (row.next_try_at, row.path)
    )
    together.instances += one.instances


def _instance(name: str, ledger: LedgerReader, *, since: float | None, until: float) -> Instance:
    """One of the uploaders."""
    sums = next(ledger.history_totals(by_day=False, by_location=False, since=since, until=until), None)
    last = next(iter(ledger.runs(limit=1)), None)
    ended = None if last is None or last.finished_at is None else last
    waiting_since = None if ended is None else ended.oldest_waiting
    return Instance(
        name=name,
        files=0 if sums is None else sums.files,
        bytes=0 if sums is None else sums.bytes,
        last_shipped_at=None if sums is None else sums.last_shipped_at,
        last_run_at=None if last is None else last.finished_at or last.started_at,
        exit_code=None if ended is None else ended.exit_code,
        backlog=None if ended is None else ended.backlog,
        backlog_bytes=None if ended is None else ended.backlog_bytes,
        oldest_waiting=None if waiting_since is None else max(until - waiting_since, 0.0),
        failing_files=ledger.failing_count(attempts=1),
    )


def _some_of(names: Sequence[str]) -> str:
    more = len(names) - _DESTINATIONS_NAMED
    return ", ".join(names[:_DESTINATIONS_NAMED]) + (f" and {more:,} more" if more > 0 else "")
