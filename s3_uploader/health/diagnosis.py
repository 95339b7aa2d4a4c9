"""From what is known of a spool to why it is not emptied: causes, since when, and what to do about each.

Pure functions of values. A run asks at its end, for the metrics and the log; ``status`` asks at any time, and knows
more: what waits now, who has the lock, which disk is full.

Since when something is wrong comes from what was recorded (the first failure of a file, the first of an unbroken row of
runs that ended alike, the moment a lock was taken), so that it outlives every process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, pairwise, takewhile

import msgspec

from s3_uploader.core.causes import cause_of_failing, meaning_of
from s3_uploader.core.counters import RunEnd
from s3_uploader.core.errors import SpoolError, StateError, UploaderError
from s3_uploader.core.model import Cause, Left, Problem, Severity
from s3_uploader.core.text import counted, shown_duration, shown_name, shown_text
from s3_uploader.health.observations import HUNG_SECONDS, Observations
from s3_uploader.ledger.rows import FailingGroup, RunRow

LONG_OPEN_SECONDS = 3600.0
"""Seconds after which a file that is still open, or still growing, is a problem and not a writer at work."""
_HUNG_MARGIN = 300.0
_PASSING_SECONDS = 600.0
"""Seconds for which a destination may be out of reach before that counts as stuck: a router restarts in less."""
FUTURE_SECONDS = 300.0
"""Seconds by which a time must lie in the future to count as wrong."""
_AGAIN = 2
"""Attempts from which on a file fails "again"."""
_DEAD_RUNS = 3
"""Runs in a row that did not come to their end until that is no accident."""
LONG_READY_SECONDS = 3600.0
"""Seconds after which a file that is ready, and that a run has left, is a problem whatever the reason."""
_UNKNOWN_PACE_SECONDS = 25 * 3600.0
"""The same while there is no telling how often runs come: they may come once a day."""
_BEHIND_RUNS = 3
"""Runs in a row that leave more than the one before until the spool counts as falling behind."""
_LATE_FACTOR = 3.0
_LATE_SECONDS = 600.0
_LOOKED_AT_RUNS = 5000
_STEADY_GAPS = 4
_STEADY_FACTOR = 1.5
_STEADY_SHARE = 0.7
"""So many gaps between runs, and such a share of them within this factor of the usual one, make a rhythm."""
_LONG_ENOUGH_SECONDS = 86400.0
"""Seconds for which runs must have come until one is missed after the longest gap that there was between them."""

_OWN_DISK = {"DiskFull", "CannotMove"}

_ELSEWHERE = " If there were runs, they have another state directory: name it with state_dir in the configuration."
_REMEDY = {
    Cause.CREDENTIALS: "Renew or correct them; `check` tells which right is missing.",
    Cause.DESTINATION: "Look at the network and at the destination; `check` tries each step.",
    Cause.DISK_FULL: "Make room there, or make it writable for the user that runs this program.",
    Cause.CLOCK: "Set this machine's clock and let it be kept right (NTP).",
    Cause.FAILING_FILE: "Look at the file and at its message; `run --retry` tries it at once.",
    Cause.CONFLICT: "Compare both. If the local file is right set on_conflict to overwrite, if both are to keep-both.",
    Cause.OPEN_WRITER: "Let the program that writes it close it, or end that program.",
    Cause.HUNG_RUN: "Look at what that process waits for; if it does nothing, end it: the next run finishes its work.",
    Cause.UNREADABLE: "Let the user that runs this program read the files and write their directories.",
    Cause.NOT_RUN: "Look at the timer, at cron or at the service that starts the runs.",
    Cause.FALLING_BEHIND: "Give runs more time (max_runtime_seconds), a faster line, or look at what is slow.",
}


def diagnose(facts: Observations) -> tuple[Problem, ...]:
    """Everything that is wrong, the worst first; at most one problem of each cause."""
    runs = list(islice(facts.runs, _LOOKED_AT_RUNS))
    found = [
        *_prevented(facts, runs),
        *_full(facts, runs),
        *_destination(facts, runs),
        *_ledger_failed(facts, runs),
        *_hung(facts),
        *_not_run(facts, runs),
        *_dying(facts, runs),
        *_unreadable(facts, runs),
        *_clock(facts, runs),
        *_failing(facts),
        *_open_writer(facts),
        *_falling_behind(runs),
    ] or _left_behind(facts, runs)
    found += _unmatched(facts)
    first: dict[Cause, Problem] = {}
    for problem in found:
        first.setdefault(problem.cause, problem)
    return tuple(sorted(first.values(), key=lambda problem: problem.severity is not Severity.ERROR))


def hung_after(*, max_runtime_seconds: float | None, drain_seconds: float) -> float:
    """Seconds after which a run that still has the lock is suspected to hang."""
    if max_runtime_seconds is None:
        return HUNG_SECONDS
    return max_runtime_seconds + drain_seconds + _HUNG_MARGIN


class Pace(msgspec.Struct, frozen=True):
    """How runs have come so far: seconds from one to the next, and whether that is a rhythm or only the longest gap."""

    seconds: float
    is_steady: bool


def pace_of(runs: Sequence[RunRow]) -> Pace | None:
    """How runs come; ``None`` while there is no telling, as after a few that somebody started by hand.

    :param runs: the latest first. A row of ticks stands for many runs.
    """
    starts: list[tuple[float, int]] = []  # from one start to the next, and how often
    pauses: list[tuple[float, int]] = []  # from one end to the next start
    for row in runs:
        if row.ticks > 1 and row.finished_at is not None:
            gap = (_last_start(row) - row.started_at) / (row.ticks - 1)
            starts.append((gap, row.ticks - 1))
            pauses.append((max(gap - row.duration, 0.0), row.ticks - 1))
    for later, earlier in pairwise(runs):
        starts.append((later.started_at - _last_start(earlier), 1))
        pauses.append((later.started_at - (earlier.finished_at or earlier.started_at), 1))
    for gaps in (starts, pauses):
        usual = _usual(gaps)
        if usual is not None:
            return Pace(usual, is_steady=True)
    if runs and _last_start(runs[0]) - runs[-1].started_at >= _LONG_ENOUGH_SECONDS:
        return Pace(max(gap for gap, _ in starts), is_steady=False)
    return None


def _usual(gaps: Sequence[tuple[float, int]]) -> float | None:
    """The gap that most of them are alike to; ``None`` if they are too few, or too different."""
    number = sum(times for _, times in gaps)
    if number < _STEADY_GAPS:
        return None
    usual, passed = 0.0, 0
    for gap, times in sorted(gaps):
        if passed * 2 < number:
            usual = gap
        passed += times
    alike = sum(times for gap, times in gaps if usual / _STEADY_FACTOR <= gap <= usual * _STEADY_FACTOR)
    return usual if usual > 0 and alike >= _STEADY_SHARE * number else None


def next_start(runs: Sequence[RunRow], *, now: float) -> float | None:
    """When the next run is to be expected; ``None`` unless they have come in a steady rhythm up to now.

    :param runs: the latest first.
    """
    pace = pace_of(runs)
    if pace is None or not pace.is_steady:
        return None
    expected = _last_start(runs[0]) + pace.seconds
    # What should have come long ago is not to be expected any more.
    return expected if now - expected <= pace.seconds else None


def _last_start(row: RunRow) -> float:
    """When the last of the runs began that a row stands for."""
    return row.started_at if row.finished_at is None else max(row.finished_at - row.duration, row.started_at)


# -------------------------------------------------------------------------------------------------- nothing goes


def _prevented(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    error = facts.prevented
    if error is None:
        return []
    # A run that could not begin leaves no row; so it has been like this since the last that could, or a little less.
    since = _last_moment(runs)
    cause = _cause_of_prevented(error)
    return [
        Problem(
            cause=cause,
            severity=Severity.ERROR,
            sentence=shown_text(error.message),
            next="Each run tries again and ships nothing until then.",
            remedy=error.hint or _REMEDY[cause],
            since=since,
            path=facts.base_dir if isinstance(error, SpoolError) else None,
        )
    ]


def _cause_of_prevented(error: UploaderError) -> Cause:
    if isinstance(error, SpoolError):
        return Cause.UNREADABLE
    code = error.code if isinstance(error, StateError) else ""
    return {"DiskFull": Cause.DISK_FULL, "Denied": Cause.UNREADABLE}.get(code, Cause.NOT_RUN)


def _full(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    problems = []
    for disk in facts.full:
        is_state = disk.purpose == "state directory"
        kept = "what cannot be recorded is not deleted" if is_state else "what cannot be moved stays in the spool"
        problems.append(
            Problem(
                cause=Cause.DISK_FULL,
                severity=Severity.ERROR,
                sentence=f"the disk of the {disk.purpose} {shown_name(disk.directory)} {disk.why}",
                next=f"Each run tries again; {kept}.",
                remedy=f"Make room in {shown_name(disk.directory)}.",
                since=_last_moment(runs) if is_state else _first_failure(facts, _OWN_DISK),
                path=disk.directory,
            )
        )
    return problems


def _destination(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    ended = _finished(runs)
    if not ended:
        return []
    last = ended[0]
    if last.ended_by == RunEnd.DESTINATION.value:
        return [_unusable(facts, last, _since(ended, lambda row: row.ended_by == last.ended_by))]
    if last.ended_by == RunEnd.DESTINATION_BUSY.value:
        since = _since(ended, lambda row: row.ended_by == last.ended_by)
        if facts.now - since > _PASSING_SECONDS:
            return [
                Problem(
                    cause=Cause.DESTINATION,
                    severity=Severity.ERROR,
                    sentence=f"the destination has been busy all the time: {shown_text(last.message)}",
                    next="Each run tries again.",
                    remedy="Look at who holds the destination's lock; set lock_stale_seconds to have old ones removed.",
                    since=since,
                )
            ]
    return []


def _unusable(facts: Observations, last: RunRow, since: float) -> Problem:
    meaning = meaning_of(last.code)
    cause = meaning.cause
    what = {
        Cause.CREDENTIALS: "the destination refuses the credentials",
        Cause.CLOCK: "this machine's clock is wrong, so that the destination refuses every request",
        Cause.DISK_FULL: "the destination's disk is full",
    }.get(cause, "the destination cannot be used")
    passing = meaning.passes and facts.now - since < _PASSING_SECONDS
    return Problem(
        cause=cause,
        severity=Severity.WARNING if passing else Severity.ERROR,
        sentence=f"{what}: {shown_text(last.message)}",
        next="Each run tries again; all files are kept until one succeeds.",
        remedy=meaning.remedy or _REMEDY[cause],
        since=since,
    )


def _ledger_failed(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    ended = _finished(runs)
    if not ended or ended[0].ended_by != RunEnd.STATE.value:
        return []
    return [
        Problem(
            cause=Cause.DISK_FULL,
            severity=Severity.ERROR,
            sentence=f"the ledger could not be written: {shown_text(ended[0].message)}",
            next="Each run tries again; what cannot be recorded is not deleted.",
            remedy=_REMEDY[Cause.DISK_FULL],
            since=_since(ended, lambda row: row.ended_by == RunEnd.STATE.value),
        )
    ]


def _hung(facts: Observations) -> list[Problem]:
    holder = facts.holder
    if holder is None or holder.since is None:
        return []
    held = facts.now - holder.since
    is_working = holder.shipped_at is not None and facts.now - holder.shipped_at < facts.hung_after
    if held <= facts.hung_after or is_working:
        return []
    doing = f"; it is {holder.state}" if holder.state else ""
    return [
        Problem(
            cause=Cause.HUNG_RUN,
            severity=Severity.ERROR,
            sentence=f"another run has had the spool for {shown_duration(held)} and ships nothing: "
            f"{holder.words}{doing}",
            next="Every other run steps aside as long as that one has the spool.",
            remedy=_REMEDY[Cause.HUNG_RUN],
            since=holder.since,
        )
    ]


def _not_run(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    if facts.holder is not None or facts.is_watched or facts.prevented is not None:
        return []
    last = _last_moment(runs)
    if last is None:
        if not facts.waiting:
            return []
        sentence = "no run is recorded in this ledger, and files wait"
    else:
        pace = pace_of(runs[:50])
        # After a few runs there is no telling when the next is due.
        if pace is None or facts.now - last <= _LATE_FACTOR * pace.seconds + _LATE_SECONDS:
            return []
        ago, usual = shown_duration(facts.now - last), shown_duration(pace.seconds)
        before = (
            f"they used to come every {usual}" if pace.is_steady else f"there were never more than {usual} between two"
        )
        sentence = f"the last run was {ago} ago, and {before}"
    return [
        Problem(
            cause=Cause.NOT_RUN,
            severity=Severity.WARNING if facts.waiting == 0 or last is None else Severity.ERROR,
            sentence=sentence,
            next="Nothing, until something starts a run.",
            remedy=_REMEDY[Cause.NOT_RUN] + (_ELSEWHERE if last is None else ""),
            since=last,
        )
    ]


def _dying(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    if facts.holder is not None or facts.prevented is not None:
        return []
    dead = list(takewhile(_did_not_end, runs))
    if len(dead) < _DEAD_RUNS:
        return []
    since = dead[-1].started_at
    before = next(iter(_finished(runs[len(dead) :])), None)
    if before is not None and before.finished_at is not None:
        # Where several share a spool the others may well be at work.
        if before.finished_at > since:
            return []
        since = before.finished_at
    is_harmless = facts.waiting == 0 or any(row.shipped for row in dead)
    return [
        Problem(
            cause=Cause.NOT_RUN,
            severity=Severity.WARNING if is_harmless else Severity.ERROR,
            sentence=f"no run has come to its end: the last {len(dead):,} were killed or interrupted",
            next="Each run begins anew, and ships what it can until it is ended.",
            remedy="Look at what ends them: the kernel's log (out of memory), the journal (time-outs), a power supply.",
            since=since,
        )
    ]


# -------------------------------------------------------------------------------------------------- something stays


def _failing(facts: Observations) -> list[Problem]:
    by_cause: dict[Cause, list[FailingGroup]] = {}
    for kind in facts.failing:
        cause = cause_of_failing(kind.code)
        if kind.attempts >= _AGAIN or cause is not Cause.FAILING_FILE:
            by_cause.setdefault(cause, []).append(kind)
    return [_failing_problem(facts, cause, kinds) for cause, kinds in by_cause.items()]


def _failing_problem(facts: Observations, cause: Cause, kinds: list[FailingGroup]) -> Problem:
    oldest = min(kinds, key=lambda kind: kind.first_failed_at)
    files = sum(kind.files for kind in kinds)
    what = {
        Cause.CONFLICT: "cannot be shipped, since there is other content under its key",
        Cause.UNREADABLE: "is shipped and cannot be removed",
        Cause.DISK_FULL: "is shipped and cannot be moved away"
        if oldest.code in _OWN_DISK
        else "cannot be shipped for want of room",
        Cause.CREDENTIALS: "is refused for want of a right",
    }.get(cause, f"has failed {oldest.attempts} times while others go")
    due = min(kind.next_try_at for kind in kinds)
    wait = due - facts.now
    return Problem(
        cause=cause,
        severity=Severity.WARNING,
        sentence=f"{_shown(facts, oldest.path)} {what}{_others(files)}: {shown_text(oldest.message)}",
        next="It is tried again at the next run."
        if wait <= 0
        else f"It is tried again in {shown_duration(wait)}; the pauses grow to six hours.",
        remedy=_REMEDY[cause],
        since=oldest.first_failed_at,
        path=_absolute(facts, oldest.path),
        files=files,
    )


def _open_writer(facts: Observations) -> list[Problem]:
    late = [file for file in facts.not_finished if facts.now - file.since > LONG_OPEN_SECONDS]
    if not late:
        return []
    oldest = min(late, key=lambda file: file.since)
    by = f", by {oldest.by}" if oldest.by else ""
    duration = shown_duration(facts.now - oldest.since)
    what = f"has been held open for writing for {duration}{by}" if oldest.is_open else f"still changes after {duration}"
    return [
        Problem(
            cause=Cause.OPEN_WRITER,
            severity=Severity.WARNING,
            sentence=f"{_shown(facts, oldest.path)} {what}{_others(len(late))}",
            next="It is shipped by the first run after its writer has closed it.",
            remedy=_REMEDY[Cause.OPEN_WRITER],
            since=oldest.since,
            path=_absolute(facts, oldest.path),
            files=len(late),
        )
    ]


def _unreadable(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    ended = _finished(runs)
    if not ended or not ended[0].left.get(Left.UNREADABLE.value):
        return []
    number = ended[0].left[Left.UNREADABLE.value]
    return [
        Problem(
            cause=Cause.UNREADABLE,
            severity=Severity.WARNING,
            sentence=f"{counted(number, 'entry', 'entries')} of {shown_name(facts.base_dir)} cannot be read",
            next="Each run tries again.",
            remedy=_REMEDY[Cause.UNREADABLE],
            since=_since(ended, lambda row: bool(row.left.get(Left.UNREADABLE.value))),
            path=facts.base_dir,
            files=number,
        )
    ]


def _clock(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    future = facts.future
    if future is not None:
        path: str | None = _absolute(facts, future.path)
        sentence = (
            f"{_shown(facts, future.path)} was written {shown_duration(future.seconds)} in the future"
            f"{_others(future.files)}: the clock of this machine, or of the one that wrote it, is wrong"
        )
    elif runs and runs[0].started_at > facts.now + FUTURE_SECONDS:
        path = None
        ahead = shown_duration(runs[0].started_at - facts.now)
        sentence = f"the last run was {ahead} in the future: this machine's clock was wrong then, or is now"
    else:
        return []
    return [
        Problem(
            cause=Cause.CLOCK,
            severity=Severity.WARNING,
            sentence=sentence,
            next="A time in the future holds no file back; times in reports and in the history are wrong.",
            remedy=_REMEDY[Cause.CLOCK],
            since=future.since if future is not None else None,
            path=path,
            files=future.files if future is not None else 0,
        )
    ]


def _falling_behind(runs: list[RunRow]) -> list[Problem]:
    ended = _finished(runs)
    behind = []
    for later, earlier in pairwise(ended):
        if later.ended_by != RunEnd.BUDGET.value or later.backlog <= earlier.backlog:
            break
        behind.append(later)
    if len(behind) < _BEHIND_RUNS:
        return []
    return [
        Problem(
            cause=Cause.FALLING_BEHIND,
            severity=Severity.WARNING,
            sentence=f"the last {len(behind)} runs used up their time and left more than the one before, "
            f"at last {counted(behind[0].backlog, 'file')}",
            next="Each run ships the oldest files first, as many as its time allows.",
            remedy=_REMEDY[Cause.FALLING_BEHIND],
            since=behind[-1].started_at,
            files=behind[0].backlog,
        )
    ]


def _unmatched(facts: Observations) -> list[Problem]:
    found = facts.strangers
    if found is None or found.oldest is None or not (found.old or facts.are_all_strangers):
        return []
    from s3_uploader.spool.layouts.strangers import FORMS, remedy

    files = found.old or found.files
    path = f"{facts.base_dir.rstrip('/')}/{found.oldest.path}"
    layout = f"the layout {facts.layout} ({FORMS[facts.layout]})" if facts.layout else "the layout"
    return [
        Problem(
            cause=Cause.UNMATCHED,
            severity=Severity.WARNING,
            sentence=f"{shown_text(path)} does not match {layout}{_others(files)}: {found.oldest.why}",
            next="Nothing: no run ships what does not match the layout.",
            remedy=remedy(found),
            since=found.oldest.mtime,
            path=path,
            files=files,
        )
    ]


def _left_behind(facts: Observations, runs: list[RunRow]) -> list[Problem]:
    """What no other cause explains: files that could have been shipped long ago."""
    ready = facts.ready
    if ready is None or not runs:
        return []
    waited = facts.now - ready.since
    # Of several ticks the row's start is that of the first.
    was_left = any(row.finished_at - row.duration > ready.since for row in runs[:50] if row.finished_at is not None)
    is_unknown_pace = facts.holder is None and pace_of(runs[:50]) is None
    is_late = was_left and waited > LONG_READY_SECONDS
    if not is_late and not (is_unknown_pace and waited > _UNKNOWN_PACE_SECONDS):
        return []
    return [
        Problem(
            cause=Cause.FALLING_BEHIND,
            severity=Severity.WARNING,
            sentence=f"{_shown(facts, ready.path)} has been ready for {shown_duration(waited)}{_others(ready.files)}, "
            "and no run has shipped it",
            next="Each run ships the oldest files first, as many as its time allows.",
            remedy="Look at how the last runs ended, and at whether they come often enough and have time enough.",
            since=ready.since,
            path=_absolute(facts, ready.path),
            files=ready.files,
        )
    ]


# -------------------------------------------------------------------------------------------------- rows of runs


def _did_not_end(row: RunRow) -> bool:
    return row.finished_at is None or row.ended_by == RunEnd.SIGNAL.value


def _finished(runs: list[RunRow]) -> list[RunRow]:
    # A run that is still at work, or was killed, has nothing to say about what is wrong.
    return [row for row in runs if row.finished_at is not None]


def _since(ended: list[RunRow], alike: Callable[[RunRow], bool]) -> float:
    """When the first of the unbroken row of runs began that ended like the last one."""
    since = ended[0].started_at
    for row in ended:
        if not alike(row):
            break
        since = row.started_at
    return since


def _first_failure(facts: Observations, codes: set[str]) -> float | None:
    return min((kind.first_failed_at for kind in facts.failing if kind.code in codes), default=None)


def _last_moment(runs: list[RunRow]) -> float | None:
    """When there was last a run, whatever came of it."""
    if not runs:
        return None
    return runs[0].finished_at if runs[0].finished_at is not None else runs[0].started_at


# -------------------------------------------------------------------------------------------------- words


def _absolute(facts: Observations, path: str) -> str:
    return f"{facts.base_dir.rstrip('/')}/{path}"


def _shown(facts: Observations, path: str) -> str:
    return shown_name(_absolute(facts, path))


def _others(files: int) -> str:
    return f" ({counted(files - 1, 'other file')} too)" if files > 1 else ""
