"""Diagnoses why nothing is shipped: the destination, a full disk, the ledger, a run that hangs, missing runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from s3_uploader.core.errors import SpoolError, StateError, UploaderError
from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.core.meanings import meaning_of
from s3_uploader.core.model import RunEnd
from s3_uploader.core.origins import Origin, recalled
from s3_uploader.core.text import shown_duration, shown_name, shown_text
from s3_uploader.health.observations import SPOOL, STATE_DIRECTORY, Observations, Starter, WatchSeen
from s3_uploader.health.run_history import Pace, alike_since, did_not_end, finished, last_moment, pace_of
from s3_uploader.health.wording import absolute, as_clause, others, problem, remedy_of, shown
from s3_uploader.ledger.rows import RunRow

_PASSING_SECONDS = 600.0
"""Seconds for which a destination may be unreachable before the spool counts as stuck: a router restarts in less."""
_DEAD_RUNS = 3
"""Number of unfinished runs in a row that is no coincidence."""
_LATE_FACTOR = 3.0
_LATE_SECONDS = 600.0
_STOPPED_SECONDS = 120.0
_WATCH_SECONDS = 60.0
"""How long a watch pauses in trouble, if its interval is shorter."""
_MOUNT_WRITABLE = "Mount it writable (a disk with errors is made read-only: `dmesg` shows them)."
_ELSEWHERE = (
    " If there were runs, they have another state directory, or its disk is not mounted: name it with state_dir in the "
    "configuration, or mount it."
)


def prevented(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose why no run can begin."""
    error = facts.prevented
    if error is not None:
        yield problem(
            _cause_of_prevented(error),
            as_clause(shown_text(error.message)),
            severity=Severity.ERROR,
            then="Each run tries again and ships nothing until then.",
            remedy=error.hint,
            # A run that could not begin leaves no row; so it has been like this since the last that could, or a little
            # less.
            since=last_moment(runs),
            path=facts.base_dir if isinstance(error, SpoolError) else None,
        )


def _cause_of_prevented(error: UploaderError) -> Cause:
    if isinstance(error, SpoolError):
        return Cause.UNREADABLE
    if isinstance(error, StateError) and (error.is_full or error.is_denied):
        return Cause.DISK_FULL if error.is_full else Cause.UNREADABLE
    return Cause.NOT_RUN


def full(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose a full disk that a run must write to."""
    for disk in facts.full:
        if disk.purpose == SPOOL:
            continue
        is_state = disk.purpose == STATE_DIRECTORY
        kept = "what cannot be recorded is not deleted" if is_state else "what cannot be moved stays in the spool"
        not_moved = [kind.first_failed_at for kind in facts.failing if kind.origin == Origin.NO_ROOM_TO_MOVE.value]
        first = min(not_moved, default=None)
        yield problem(
            Cause.DISK_FULL,
            f"the disk of the {disk.purpose} {shown_name(disk.directory)} {disk.why}",
            severity=Severity.ERROR,
            then=f"Each run tries again; {kept}.",
            remedy=_MOUNT_WRITABLE if disk.is_read_only else f"Make room in {shown_name(disk.directory)}.",
            since=last_moment(runs) if is_state else first,
            path=disk.directory,
        )


def full_spool(facts: Observations) -> Iterator[Problem]:
    """Diagnose a spool without room. A run needs none there, but producers lose what they cannot write."""
    for disk in facts.full:
        if disk.purpose == SPOOL:
            yield problem(
                Cause.DISK_FULL,
                f"the disk of the spool {shown_name(disk.directory)} {disk.why}: producers cannot write there",
                then="Files that are shipped make room.",
                remedy="Make room on that disk, and see why the files that wait are not shipped.",
                since=None,
                path=disk.directory,
            )


def abandoned(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose a last run that failed, because of its destination or its ledger."""
    ended = finished(runs)
    if not ended:
        return
    last = ended[0]
    since = alike_since(ended, lambda row: row.ended_by == last.ended_by)
    if last.ended_by == RunEnd.DESTINATION.value:
        yield _unusable(facts, last, since)
    elif last.ended_by == RunEnd.DESTINATION_BUSY.value and facts.now - since > _PASSING_SECONDS:
        yield problem(
            Cause.DESTINATION,
            f"the destination has been busy all the time: {shown_text(last.message)}",
            severity=Severity.ERROR,
            then="Each run tries again.",
            remedy="End what holds the destination's lock. With lock_stale_seconds old locks are removed.",
            since=since,
        )
    elif last.ended_by == RunEnd.STATE.value:
        yield problem(
            Cause.DISK_FULL,
            f"the ledger could not be written: {shown_text(last.message)}",
            severity=Severity.ERROR,
            then="Each run tries again. Files that cannot be recorded are not deleted.",
            remedy="Do what the message says: make room there, or let the user that runs this program write there.",
            since=since,
        )


def _unusable(facts: Observations, last: RunRow, since: float) -> Problem:
    origin = recalled(last.origin, Origin.UNREACHABLE)
    meaning = meaning_of(origin)
    # Without credentials nothing has been sent that could be refused.
    without = "there are no usable credentials" if origin is Origin.CREDENTIAL_SOURCE else ""
    what = without or {
        Cause.CREDENTIALS: "the destination refuses the credentials",
        Cause.CLOCK: "this machine's clock is wrong, and the destination refuses every request",
        Cause.DISK_FULL: "the destination's disk is full",
    }.get(meaning.cause, "the destination cannot be used")
    passing = meaning.passes and facts.now - since < _PASSING_SECONDS
    return problem(
        meaning.cause,
        f"{what}: {shown_text(last.message)}",
        severity=Severity.WARNING if passing else Severity.ERROR,
        then="Each run tries again. All files are kept until one succeeds.",
        remedy=meaning.remedy,
        since=since,
    )


def hung(facts: Observations) -> Iterator[Problem]:
    """Diagnose another run that has had the spool for too long, or another program that has it."""
    holder = facts.holder
    if holder is not None and holder.is_stranger:
        yield problem(
            Cause.HUNG_RUN,
            f"the spool is locked by {holder.words}, which does not look like a run of this program",
            severity=Severity.ERROR,
            then="Nothing is shipped until it releases the lock.",
            remedy="Find out what it is, and end it.",
            since=holder.since,
        )
        return
    if holder is None or holder.since is None:
        return
    held = facts.now - holder.since
    is_working = holder.shipped_at is not None and facts.now - holder.shipped_at < facts.hung_after
    if held > facts.hung_after and not is_working:
        doing = f"; it is {holder.state}" if holder.state else ""
        yield problem(
            Cause.HUNG_RUN,
            f"another run has had the spool for {shown_duration(held)} and ships nothing: {holder.words}{doing}",
            severity=Severity.ERROR,
            then="Other runs step aside as long as it has the spool.",
            since=holder.since,
        )


def _asleep(facts: Observations, watch: WatchSeen, last: float | None) -> Iterator[Problem]:
    """Diagnose a watch that was stopped, or hangs, between two passes."""
    if watch.interval is None or any(disk.purpose == STATE_DIRECTORY for disk in facts.full):
        return  # without room for the ledger no pass is recorded
    moments = [moment for moment in (last, watch.since) if moment is not None]
    if not moments or facts.now - max(moments) <= _LATE_FACTOR * max(watch.interval, _WATCH_SECONDS) + _LATE_SECONDS:
        return
    doing = f"; it is {watch.state}" if watch.state else ""
    yield problem(
        Cause.NOT_RUN,
        f"the watch has looked at nothing for {shown_duration(facts.now - max(moments))}: {watch.words}{doing}",
        severity=Severity.WARNING if facts.waiting == 0 else Severity.ERROR,
        then="Nothing, until it goes on.",
        remedy="Let it continue if something has stopped it (`kill -CONT`); otherwise restart it.",
        since=max(moments),
    )


def claimed(facts: Observations) -> Iterator[Problem]:
    """Diagnose files that wait in the hands of an uploader."""
    late = facts.claimed
    if late is not None:
        yield problem(
            Cause.HUNG_RUN,
            f"{shown(facts, late.path)} has been claimed for {shown_duration(facts.now - late.since)}"
            f"{others(late.files)} and is not shipped, by {late.by}",
            then="If that uploader has ended, the next run ships it. Otherwise nobody else does.",
            remedy="Let it continue if something has stopped it (`kill -CONT`); otherwise end it.",
            since=late.since,
            path=absolute(facts, late.path),
            files=late.files,
        )


def not_run(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose a missing run, by the rhythm so far."""
    if facts.holder is not None or facts.prevented is not None:
        return
    last = last_moment(runs)
    if facts.watch is not None:
        yield from _asleep(facts, facts.watch, last)
        return
    pace = pace_of(runs[:50])
    if facts.starter is not None and not facts.starter.is_active and _is_missed(facts, last, pace):
        yield _stopped(facts, facts.starter, last)
        return
    if last is None:
        # Where the ledger cannot be written, no run is recorded however many there were.
        if not facts.waiting or any(disk.purpose == STATE_DIRECTORY for disk in facts.full):
            return
        sentence = "no run is recorded in this ledger, and files wait"
        if facts.not_writable:
            sentence += f"; this user may not write to {shown_name(facts.not_writable)}"
    else:
        # After a few runs there is no telling when the next is due.
        if pace is None or facts.now - last <= _LATE_FACTOR * pace.seconds + _LATE_SECONDS:
            return
        ago, usual = shown_duration(facts.now - last), shown_duration(pace.seconds)
        before = (
            f"runs used to start every {usual}" if pace.is_steady else f"two runs were never more than {usual} apart"
        )
        sentence = f"the last run was {ago} ago, and {before}"
    yield problem(
        Cause.NOT_RUN,
        sentence,
        severity=Severity.WARNING if facts.waiting == 0 or last is None else Severity.ERROR,
        then="Nothing, until something starts a run.",
        remedy=_how_to_run(facts, last) + (_ELSEWHERE if last is None else ""),
        since=last,
    )


def _how_to_run(facts: Observations, last: float | None) -> str:
    """The remedy for missing runs: some may start all the same, and end before they can record anything."""
    starter = facts.starter
    if starter is not None:
        user, unit = "--user " if starter.is_user else "", starter.unit.removesuffix(".timer")
        return (
            f"{shown_text(starter.unit)} is active. If it starts runs, they end before they are recorded, and "
            f"`journalctl {user}-u {shown_text(unit)}` says why."
        )
    remedy = remedy_of(Cause.NOT_RUN)
    if facts.not_writable:
        change = f"let it write to {shown_name(facts.not_writable)}, or name another state_dir"
        if last is None:  # It may be any directory above the one of the ledger, even the root of the file system.
            change = "name a state_dir that it may write to"
        remedy = f"If the runs are this user's, {change}. Otherwise: {remedy}"
    return remedy


def _is_missed(facts: Observations, last: float | None, pace: Pace | None) -> bool:
    """Whether nothing else starts runs: cron may, beside a unit that is not enabled."""
    patience = _STOPPED_SECONDS + (0.0 if pace is None else _LATE_FACTOR * pace.seconds)
    return last is None or facts.now - last > patience


def _stopped(facts: Observations, starter: Starter, last: float | None) -> Problem:
    ago = "no run is recorded yet" if last is None else f"the last run was {shown_duration(facts.now - last)} ago"
    return problem(
        Cause.NOT_RUN,
        f"{shown_text(starter.unit)}, which starts the runs, is stopped; {ago}",
        severity=Severity.WARNING if facts.waiting == 0 else Severity.ERROR,
        then="Nothing, until something starts a run.",
        remedy=f"Start it: {shown_text(starter.command)}",
        since=last,
    )


def dying(facts: Observations, runs: list[RunRow]) -> Iterator[Problem]:
    """Diagnose runs that are killed one after the other."""
    if facts.holder is not None or facts.prevented is not None:
        return
    dead = list(takewhile(did_not_end, runs))
    if len(dead) < _DEAD_RUNS:
        return
    since = dead[-1].started_at
    before = next(iter(finished(runs[len(dead) :])), None)
    if before is not None and before.finished_at is not None:
        # Where several share a spool the others may well be at work.
        if before.finished_at > since:
            return
        since = before.finished_at
    is_harmless = facts.waiting == 0 or any(row.shipped for row in dead)
    yield problem(
        Cause.NOT_RUN,
        f"no run has finished: the last {len(dead):,} were killed or interrupted",
        severity=Severity.WARNING if is_harmless else Severity.ERROR,
        then="Each run starts anew, and ships what it can until it is killed.",
        remedy="Find out what kills them: `journalctl -k` (out of memory), the service's journal (timeouts), the power "
        "supply.",
        since=since,
    )
