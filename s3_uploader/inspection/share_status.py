"""The state of a spool's shares: which have run, which are at work, and what is wrong with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from s3_uploader.core.findings import Cause, Problem, Severity
from s3_uploader.core.shares import Share
from s3_uploader.core.text import counted
from s3_uploader.health.diagnosis import diagnose
from s3_uploader.health.observations import HolderSeen, Observations
from s3_uploader.inspection.at_work import watch_seen
from s3_uploader.ledger import LedgerReader, RunRow
from s3_uploader.ledger.together import LedgerOfShares, shares_without_ledger
from s3_uploader.spool.lock_file import Holder

_MOST_RUNS = 1000
_NAMED = 5
_OTHERS_RAN = 2
"""A share is missing when all that are not have run this often since its last run."""
_OTHERS_RAN_LONG = 10
"""The same if most shares are missing: one may have been started again by hand."""


class ShareStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One share; ``last_run`` is ``None`` if it has not run, ``holder`` is ``None`` if no run is at work on it.

    :param watcher: the process that watches it, at work or between two passes.
    """

    share: Share
    last_run: RunRow | None = None
    holder: Holder | None = None
    watcher: Holder | None = None


def divided(ledger: LedgerReader | None) -> list[Share]:
    """The shares of the last division; none if the last runs shipped all files."""
    if not isinstance(ledger, LedgerOfShares) or ledger.division == 1:
        return []
    # A share that has just begun its very first run has no ledger yet.
    return [Share(index, ledger.division) for index in range(ledger.division)]


def shares_of(
    ledger: LedgerReader | None, holders: Mapping[Share, Holder], watched: Mapping[Share, Holder] = MappingProxyType({})
) -> tuple[ShareStatus, ...]:
    """The state of the shares of the last division; none if the last runs shipped all files.

    :param holders: the runs at work, by share.
    :param watched: the processes that watch shares.
    """
    every = divided(ledger)
    if not every or not isinstance(ledger, LedgerOfShares):
        return ()
    last = ledger.last_runs
    return tuple(
        ShareStatus(share=each, last_run=last.get(each), holder=holders.get(each), watcher=watched.get(each))
        for each in every
    )


def problems_of(
    facts: Observations, ledger: LedgerReader | None, shares: Sequence[ShareStatus], *, most_runs: int = _MOST_RUNS
) -> tuple[Problem, ...]:
    """Find all problems: those of the whole spool, and those of each share's runs."""
    if not shares or not isinstance(ledger, LedgerOfShares):
        return diagnose(facts)
    found: dict[Share, tuple[Problem, ...]] = {}
    for each in shares:
        part = ledger.current.get(each.share)
        if part is not None:
            runs = part.latest_runs(most=most_runs)
            own = msgspec.structs.replace(
                facts, runs=runs, holder=_seen(each, part, facts), watch=watch_seen(each.watcher, facts.now)
            )
            found[each.share] = diagnose(own)
    together = [*_not_run(ledger, shares)]
    alike = Counter(same for problems in found.values() for same in {*map(_same, problems)})
    for share, problems in found.items():
        for problem in problems:
            is_of_all = alike[_same(problem)] == len(found) > 1
            together.append(problem if is_of_all else _of_share(problem, share))
    first: dict[Cause, Problem] = {}
    # A share that is stuck counts for more than another one that only needs attention.
    for problem in sorted(together, key=lambda problem: problem.severity is not Severity.ERROR):
        first.setdefault(problem.cause, problem)
    return tuple(first.values())


def _seen(share: ShareStatus, ledger: LedgerReader, facts: Observations) -> HolderSeen | None:
    if share.holder is None:
        return None
    words, shipped_at = share.holder.described(now=facts.now), ledger.totals().last_shipped_at
    return HolderSeen(words=words, since=share.holder.since, shipped_at=shipped_at)


def unheard_in_words(ledger: LedgerReader) -> str:
    """A warning that shares are missing from the output; empty if all are included."""
    missing = shares_without_ledger(ledger)
    if not missing:
        return ""
    names = _names(missing)
    what = "no ledgers here: what they have" if len(missing) > 1 else "no ledger here: what it has"
    return f"{names[:1].upper()}{names[1:]} {what} shipped is not included."


def _not_run(ledger: LedgerOfShares, shares: Sequence[ShareStatus]) -> list[Problem]:
    """The problem that shares do not run, which the other shares do not show."""
    idle = [each for each in shares if each.holder is None and each.watcher is None]
    never = [each.share for each in idle if each.last_run is None]
    late = _late(idle, ledger)
    if not never and not late:
        return []
    if never:
        sentence = f"{_names(never)} not run so far, while others of the {counted(ledger.division, 'share')} have"
        since = None
    else:
        sentence = f"{_names([each.share for each in late])} not run as often as the others"
        since = min(map(_last_moment, late))
    missing = never or [each.share for each in late]
    return [
        Problem(
            cause=Cause.NOT_RUN,
            severity=Severity.WARNING,
            sentence=f"{sentence}; {'their' if len(missing) > 1 else 'its'} files stay in the spool",
            next="Nothing, until something starts a run of each share.",
            remedy=f"Start the service or job of this share, or a run with --share {missing[0]}.",
            since=since,
        )
    ]


def _names(shares: Sequence[Share]) -> str:
    if len(shares) == 1:
        return f"the share {shares[0]} has"
    names = ", ".join(map(str, shares[:_NAMED]))
    more = f" and {len(shares) - _NAMED:,} more" if len(shares) > _NAMED else ""
    return f"the shares {names}{more} have"


def _late(idle: Sequence[ShareStatus], ledger: LedgerOfShares) -> list[ShareStatus]:
    """The shares since whose last runs all the others have started some runs; several may have ended with a machine."""
    ended = sorted((each for each in idle if each.last_run is not None), key=_last_moment)
    recent = [ledger.current[each.share].runs(limit=_OTHERS_RAN_LONG) for each in ended]
    # The next one in order usually shows that there is none, so this takes no longer than reading the runs.
    for count in range(len(ended) - 1, 0, -1):
        since = _last_moment(ended[count - 1])
        wanted = _OTHERS_RAN if 2 * count <= len(ended) else _OTHERS_RAN_LONG
        if all(sum(_begun(run, since) for run in runs) >= wanted for runs in recent[count:]):
            return ended[:count]
    return []


def _last_moment(one: ShareStatus) -> float:
    assert one.last_run is not None
    return _moment(one.last_run)


def _begun(run: RunRow, since: float) -> int:
    """The number of runs in a row that started after a time."""
    if run.started_at > since:
        return run.ticks
    last = run.started_at if run.finished_at is None else run.finished_at - run.duration
    if run.ticks < 2 or last <= since:
        return 0
    return 1 + int((last - since) / ((last - run.started_at) / (run.ticks - 1)))


def _moment(run: RunRow) -> float:
    return run.started_at if run.finished_at is None else run.finished_at


def _same(problem: Problem) -> tuple[Cause, Severity, str]:
    """What is equal for problems that are the same."""
    return problem.cause, problem.severity, problem.sentence


def _of_share(problem: Problem, share: Share) -> Problem:
    return msgspec.structs.replace(problem, sentence=f"for the share {share}, {problem.sentence}")
