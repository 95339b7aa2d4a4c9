"""Diagnoses why some files stay in the spool while others are shipped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from s3_uploader.core.findings import Cause, Problem
from s3_uploader.core.meanings import meaning_of, of_one_file
from s3_uploader.core.model import Left, RunEnd
from s3_uploader.core.origins import Origin, recalled
from s3_uploader.core.text import counted, ended, shown_duration, shown_name, shown_text
from s3_uploader.health.observations import Observations
from s3_uploader.health.run_history import alike_since, finished, pace_of
from s3_uploader.health.wording import absolute, others, problem, shown
from s3_uploader.ledger.rows import FailingGroup, RunRow

LONG_OPEN_SECONDS = 3600.0
"""Seconds after which a file that is still open or growing is a problem, and no longer a writer at work."""
FUTURE_SECONDS = 300.0
"""Seconds by which a time must lie in the future to count as wrong."""
LONG_READY_SECONDS = 3600.0
"""Seconds after which a ready file that a run has left is a problem, whatever the reason."""
_UNKNOWN_PACE_SECONDS = 25 * 3600.0
"""The same while the rhythm of runs is unknown: they may come once a day."""
_AGAIN = 2
"""Number of attempts from which a file counts as failing again and again."""
_BEHIND_RUNS = 3
"""The spool is falling behind when this many runs in a row leave more than the one before."""
_NOT_MOVED = "is shipped and cannot be moved away"
_OLDEST_FIRST = "Each run ships the oldest files first, as many as its time allows."


def failing(facts: Observations) -> Iterator[Problem]:
    """Diagnose files that fail again and again, by cause."""
    by_cause: dict[Cause, list[FailingGroup]] = {}
    for kind in facts.failing:
        cause = meaning_of(_origin(kind)).cause
        if kind.attempts >= _AGAIN or cause is not Cause.FAILING_FILE:
            by_cause.setdefault(cause, []).append(kind)
    for cause, kinds in by_cause.items():
        yield _failing_problem(facts, cause, kinds)


def _failing_problem(facts: Observations, cause: Cause, kinds: list[FailingGroup]) -> Problem:
    oldest = min(kinds, key=lambda kind: kind.first_failed_at)
    origin = _origin(oldest)
    files = sum(kind.files for kind in kinds)
    what = {
        Cause.CONFLICT: "cannot be shipped",  # The message says by what its key is taken.
        Cause.UNREADABLE: {
            Origin.SOURCE: "cannot be shipped",
            Origin.NOT_MOVED: _NOT_MOVED,
        }.get(origin, "is shipped and cannot be removed"),
        Cause.DISK_FULL: _NOT_MOVED
        if origin is Origin.NO_ROOM_TO_MOVE
        else "cannot be shipped, because there is no room",
        Cause.CREDENTIALS: "is refused, because a permission is missing",
    }.get(cause, f"has failed {counted(oldest.attempts, 'time')}")
    wait = min(kind.next_try_at for kind in kinds) - facts.now
    return problem(
        cause,
        f"{shown(facts, oldest.path)} {what}{others(files)}: {shown_text(oldest.message)}",
        then="It is tried again at the next run."
        if wait <= 0
        else f"It is tried again in {shown_duration(wait)}. The pauses grow to six hours.",
        remedy=meaning_of(origin).remedy,
        since=oldest.first_failed_at,
        path=absolute(facts, oldest.path),
        files=files,
    )


def _origin(kind: FailingGroup) -> Origin:
    return of_one_file(recalled(kind.origin, Origin.FILE))


def open_writer(facts: Observations) -> Iterator[Problem]:
    """Diagnose files that their writers do not close."""
    late = [file for file in facts.not_finished if facts.now - file.since > LONG_OPEN_SECONDS]
    if not late:
        return
    oldest = min(late, key=lambda file: file.since)
    by = f", by {oldest.by}" if oldest.by else ""
    duration = shown_duration(facts.now - oldest.since)
    what = f"has been held open for writing for {duration}{by}" if oldest.is_open else f"still changes after {duration}"
    yield problem(
        Cause.OPEN_WRITER,
        f"{shown(facts, oldest.path)} {what}{others(len(late))}",
        then="The first run after its writer has closed it ships it.",
        since=oldest.since,
        path=absolute(facts, oldest.path),
        files=len(late),
    )


def unreadable(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose entries of the spool that this user may not read."""
    ended_runs = finished(runs)
    number = ended_runs[0].left.get(Left.UNREADABLE.value, 0) if ended_runs else 0
    if not number:
        return
    example = facts.untouchable
    if example is None:
        sentence = f"{counted(number, 'entry', 'entries')} of {shown_name(facts.base_dir)} cannot be read"
    else:
        more = f" ({counted(number - 1, 'other entry', 'other entries')} too)" if number > 1 else ""
        verb = {"remove": "removed", "return": "returned to the spool"}.get(example.action, "read")
        why = ended(shown_text(example.why)).removesuffix(".")
        sentence = f"{shown_text(example.path)} cannot be {verb}{more}: {why[:1].lower()}{why[1:]}"
    yield problem(
        Cause.UNREADABLE,
        sentence,
        then="Each run tries again.",
        remedy="" if example is None else example.hint,
        since=alike_since(ended_runs, lambda row: bool(row.left.get(Left.UNREADABLE.value))),
        path=facts.base_dir if example is None else example.path,
        files=number,
    )


def clock(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose times in the future."""
    future = facts.future
    if future is not None:
        path: str | None = absolute(facts, future.path)
        sentence = (
            f"{shown(facts, future.path)} was written {shown_duration(future.seconds)} in the future"
            f"{others(future.files)}: the clock of this machine, or of the one that wrote it, is wrong"
        )
    elif runs and runs[0].started_at > facts.now + FUTURE_SECONDS:
        path = None
        ahead = shown_duration(runs[0].started_at - facts.now)
        sentence = f"the last run was {ahead} in the future: this machine's clock was wrong then, or is now"
    else:
        return
    yield problem(
        Cause.CLOCK,
        sentence,
        then="Files are shipped all the same. Times in reports and in the history are wrong.",
        since=future.since if future is not None else None,
        path=path,
        files=future.files if future is not None else 0,
    )


def falling_behind(runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose runs that each leave more than the one before."""
    behind = []
    for later, earlier in pairwise(finished(runs)):
        if later.ended_by != RunEnd.BUDGET.value or later.backlog <= earlier.backlog:
            break
        behind.append(later)
    if len(behind) >= _BEHIND_RUNS:
        yield problem(
            Cause.FALLING_BEHIND,
            f"the last {len(behind)} runs used up their time and left more than the one before, "
            f"at last {counted(behind[0].backlog, 'file')}",
            then=_OLDEST_FIRST,
            since=behind[-1].started_at,
            files=behind[0].backlog,
        )


def unmatched(facts: Observations) -> Iterator[Problem]:
    """Diagnose files that the layout does not recognise."""
    found = facts.strangers
    if found is None or found.oldest is None or not (found.old or facts.are_all_strangers):
        return
    from s3_uploader.spool.layouts.strangers import FORMS, remedy

    files = found.old or found.files
    path = absolute(facts, found.oldest.path)
    layout = f"the layout {facts.layout} ({FORMS[facts.layout]})" if facts.layout else "the layout"
    if facts.are_all_strangers and found.files > 1:
        files = found.files
        sentence = f"none of the {files:,} files matches {layout}: {shown_text(path)} ({found.oldest.why})"
    else:
        sentence = f"{shown_text(path)} does not match {layout}{others(files)}: {found.oldest.why}"
    yield problem(
        Cause.UNMATCHED,
        sentence,
        then="Nothing: runs do not ship files that do not match the layout.",
        remedy=remedy(found, facts.layout),
        since=found.oldest.mtime,
        path=path,
        files=files,
    )


def left_behind(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose files that could have been shipped long ago, if no other cause explains them."""
    ready = facts.ready
    if ready is None or not runs:
        return
    waited = facts.now - ready.since
    # Of several ticks the row's start is that of the first.
    was_left = any(row.finished_at - row.duration > ready.since for row in runs[:50] if row.finished_at is not None)
    is_unknown_pace = facts.holder is None and pace_of(runs[:50]) is None
    is_late = was_left and waited > LONG_READY_SECONDS
    if is_late or (is_unknown_pace and waited > _UNKNOWN_PACE_SECONDS):
        yield problem(
            Cause.FALLING_BEHIND,
            f"{shown(facts, ready.path)} has been ready for {shown_duration(waited)}{others(ready.files)}, "
            "and no run has shipped it",
            then=_OLDEST_FIRST,
            remedy="Start runs more often, or give them more time (max_runtime_seconds).",
            since=ready.since,
            path=absolute(facts, ready.path),
            files=ready.files,
        )
