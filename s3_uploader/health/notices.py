"""What a run notices besides its work: files that are never finished, times in the future, a run that hangs.

The ledger keeps the notices from one run to the next. So it is known how long a problem has lasted, and it is reported
once an hour and not once a minute. A run imports this only if there is something to notice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.core.errors import LockHeld, StateError, UploaderError
from s3_uploader.core.events import Emit, Notice, StrangersFound
from s3_uploader.core.findings import Cause, Problem, Strangers
from s3_uploader.core.model import NOT_JSON, Candidate, Left, RunCounters, RunReport, Untouchable, overdue
from s3_uploader.core.procfs import state_of
from s3_uploader.core.text import ended, shown_duration, shown_name
from s3_uploader.health import MEMORY_NAME, MEMORY_PREFIX, NOTE_OF_FULL_DISK, NOTHING_SEEN
from s3_uploader.health.diagnosis import diagnose, hung_after
from s3_uploader.health.observations import FutureFiles, HolderSeen, Observations, OpenFileSeen
from s3_uploader.health.said import Said, Sayings
from s3_uploader.ledger import LEDGER_NAME, Ledger, RunRow
from s3_uploader.ledger.state_directory import own_ledger_path
from s3_uploader.spool.lock_file import NOTE_NAME
from s3_uploader.stores.base import Memory

_SAY_AGAIN_SECONDS = 3600.0
_FUTURE_SECONDS = 6 * 3600.0
"""How long a file from the future is remembered: the file is shipped at once, but the clock stays wrong."""
_STRANGERS_SECONDS = 900.0
"""How long the findings about unmatched files are valid: a large tree takes a moment to walk."""
_RUNS = 1000
_UNMATCHED = "unmatched"


class Seen(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The notices of runs so far. Paths are relative to the spool, in their printable form.

    :param not_finished: since when a file has continuously been open, or changing long after its period.
    :param future: files with times in the future, and when the last one was seen.
    :param strangers: unmatched files, and when they were last examined.
    :param untouchable: an example of what could not be read or removed.
    :param said: the problems that were reported.
    """

    not_finished: dict[str, float] = {}
    future: FutureFiles | None = None
    future_at: float = 0.0
    strangers: Strangers | None = None
    strangers_at: float = 0.0
    untouchable: Untouchable | None = None
    said: dict[str, Said] = {}

    @classmethod
    def recalled(cls, memory: Memory) -> Seen:
        """Recall the notices; none if they cannot be read."""
        with contextlib.suppress(*NOT_JSON):
            return msgspec.json.decode(memory.get(MEMORY_NAME) or NOTHING_SEEN, type=cls)
        return cls()

    def remember(self, memory: Memory) -> None:
        """Store the notices with the ledger's next commit, if they have changed."""
        text = msgspec.json.encode(self).decode()
        if text != (memory.get(MEMORY_NAME) or NOTHING_SEEN):
            memory.set(MEMORY_NAME, text)


def note(
    counters: RunCounters,
    memory: Memory,
    *,
    base_dir: str,
    now: float,
    emit: Emit,
    layout: str = "",
    look: Callable[[], Strangers] | None = None,
    is_first: bool = False,
    ever_shipped: bool = True,
    sayings: Sayings | None = None,
    says_again: bool = False,
) -> Observations:
    """Take note of what a run has seen, and report what has not been reported for a while.

    Returns the observations; :func:`problems_of` adds those of the ledger.

    :param is_first: no run is recorded yet.
    :param ever_shipped: some run has shipped a file.
    :param sayings: what this run has reported already.
    :param says_again: report everything, because a person is watching.
    """
    seen = Seen.recalled(memory)
    files = not_finished(counters.not_finished, seen.not_finished, now=now)
    seen.not_finished = {shown_name(file.path): file.since for file in files}
    _note_future(counters, seen, now)
    _note_strangers(counters, seen, look, now)
    seen.untouchable = counters.untouchable
    strangers = seen.strangers if seen.strangers is not None and seen.strangers.files else None
    matching = _matching(counters)
    facts = Observations(
        now=now,
        base_dir=base_dir,
        not_finished=files,
        future=seen.future,
        strangers=strangers,
        untouchable=seen.untouchable,
        are_all_strangers=not matching and not ever_shipped,
        layout=layout,
    )
    problems = diagnose(facts)
    event = None
    if strangers is not None:
        is_wrong = any(problem.cause is Cause.UNMATCHED for problem in problems)
        if is_wrong or is_first or not matching:
            level = "warning" if is_wrong else "info"
            event = StrangersFound(base_dir=base_dir, layout=layout, matching=matching, found=strangers, level=level)
    sayings = sayings or Sayings(seen.said, now=now, says_again=says_again)
    if strangers is not None:
        # They are reported at first, and again when they are old. In between they have not disappeared.
        sayings.keep(_UNMATCHED)
    _say(problems, seen, sayings, emit=emit, strangers=event)
    seen.remember(memory)
    return facts


def not_finished(
    left: Sequence[tuple[Candidate, Left]], before: Mapping[str, float], *, now: float
) -> list[OpenFileSeen]:
    """The overdue unfinished files, with since when.

    :param left: candidates that were left as busy or fresh.
    :param before: what earlier runs saw (:attr:`Seen.not_finished`).
    """
    files = []
    for candidate, reason in overdue(left, now):
        since = before.get(shown_name(candidate.path), now)
        is_open = reason is Left.BUSY
        if is_open:
            # It has been open since its last change at least, or somebody has just opened it to change it.
            since = min(since, candidate.mtime_ns / 1e9)
        files.append(OpenFileSeen(path=candidate.path, since=min(since, now), is_open=is_open))
    return files


def problems_of(facts: Observations, ledger: Ledger) -> tuple[Problem, ...]:
    """Find the problems at the end of a run from the ledger."""
    return diagnose(msgspec.structs.replace(facts, runs=ledger.latest_runs(most=_RUNS), failing=ledger.failing_kinds()))


def step_aside(config: Config, held: LockHeld, *, state_dir: str, now: float, emit: Emit) -> tuple[Problem, ...]:
    """Report that another run has the spool. It is a warning now and then if the run has had it for too long.

    Returns the problems.
    """
    shipped_at = None
    runs = []
    with contextlib.suppress(StateError), Ledger.open_readonly(os.path.join(state_dir, LEDGER_NAME)) as ledger:
        shipped_at = ledger.totals().last_shipped_at
        runs = ledger.runs(limit=20)
    facts = Observations(
        now=now,
        base_dir=config.base_dir,
        runs=runs,
        holder=HolderSeen(
            words=held.holder,
            since=held.held_since,
            shipped_at=shipped_at,
            state=state_of(held.pid) if held.pid else "",
        ),
        hung_after=hung_of(config),
    )
    problems = [problem for problem in diagnose(facts) if problem.cause is Cause.HUNG_RUN]
    if problems:
        is_due = _is_due(os.path.join(state_dir, NOTE_NAME), now)
        emit(Notice("warning" if is_due else "info", in_words(problems[0])))
    else:
        emit(Notice("info", str(held)))
    return tuple(problems)


def prevented(config: Config, error: UploaderError, *, environ: Mapping[str, str], now: float) -> tuple[Problem, ...]:
    """The problems if a run could not begin."""
    runs = []
    with contextlib.suppress(UploaderError), Ledger.open_readonly(own_ledger_path(config, environ=environ)) as ledger:
        runs = ledger.runs(limit=1)
    return diagnose(Observations(now=now, base_dir=config.base_dir, runs=runs, prevented=error))


def is_no_news(config: Config, error: UploaderError, *, environ: Mapping[str, str], now: float, emit: Emit) -> bool:
    """Whether an earlier run has recently reported why none can begin; ``False`` if nothing can be remembered."""
    try:
        path = own_ledger_path(config, environ=environ)
        if isinstance(error, StateError) and error.is_full:
            from s3_uploader.health import notes

            return not notes.is_due(os.path.dirname(path), NOTE_OF_FULL_DISK, now)
        if not os.path.exists(path):
            return False
        with Ledger.open(path, notice=lambda sentence: emit(Notice("warning", sentence))) as ledger:
            memory = ledger.endpoint_memory(prefix=MEMORY_PREFIX)
            seen = Seen.recalled(memory)
            sayings = Sayings(seen.said, now=now)
            is_due = sayings.is_due(f"begin {type(error).__name__}", error.message)
            seen.said = {**seen.said, **sayings.said}
            seen.remember(memory)
            return not is_due
    except UploaderError:
        return False


def problems_without_ledger(report: RunReport) -> tuple[Problem, ...]:
    """The problems at the end of a run of which only the report is known."""
    names = set(RunRow.__struct_fields__) & set(RunReport.__struct_fields__)
    finished_at = report.started_at + report.duration
    row = RunRow(
        id=0, pid=os.getpid(), host="", finished_at=finished_at, **{name: getattr(report, name) for name in names}
    )
    return diagnose(Observations(now=finished_at, base_dir=report.base_dir, runs=[row]))


def hung_of(config: Config) -> float:
    """Seconds after which a run of this configuration is suspected to hang."""
    return hung_after(max_runtime_seconds=config.max_runtime_seconds, drain_seconds=config.drain_seconds)


def in_words(problem: Problem) -> str:
    """Convert a problem to a line of the log."""
    sentence = problem.sentence[:1].upper() + problem.sentence[1:]
    return f"{ended(sentence)} {problem.remedy}".strip()


def _note_future(counters: RunCounters, seen: Seen, now: float) -> None:
    if counters.future_example is not None:
        candidate, seconds = counters.future_example
        since = now if seen.future is None or seen.future.since is None else seen.future.since
        seen.future = FutureFiles(
            files=counters.from_future, path=shown_name(candidate.path), seconds=seconds, since=since
        )
        seen.future_at = now
    elif not 0 <= now - seen.future_at < _FUTURE_SECONDS:
        seen.future, seen.future_at = None, 0.0


def _note_strangers(counters: RunCounters, seen: Seen, look: Callable[[], Strangers] | None, now: float) -> None:
    if not counters.strangers:
        seen.strangers, seen.strangers_at = None, 0.0
    elif look is not None and (seen.strangers is None or not 0 <= now - seen.strangers_at < _STRANGERS_SECONDS):
        seen.strangers, seen.strangers_at = look(), now


def _matching(counters: RunCounters) -> int:
    """The number of files that the layout recognised in this run."""
    waiting = sum(waiting.files for waiting in counters.waiting.values())
    return counters.shipped + waiting + counters.left[Left.REMEMBERED.value]


def _say(
    problems: Sequence[Problem], seen: Seen, sayings: Sayings, *, emit: Emit, strangers: StrangersFound | None
) -> None:
    if strangers is not None and sayings.is_due(_UNMATCHED, "files do not match the layout"):
        emit(strangers)
    for problem in problems:
        if problem.cause is not Cause.UNMATCHED:
            name = f"{problem.cause.value} {shown_name(problem.path or '')}"
            if sayings.is_due(name, problem.sentence):
                emit(Notice("warning", in_words(problem)))
    for said in sayings.over():
        emit(Notice("info", f"Resolved after {shown_duration(sayings.now - said.since)}: {ended(said.words)}"))
    seen.said = sayings.said


def _is_due(note: str, now: float) -> bool:
    """Whether to warn about the lock holder that the note describes.

    The modification time of the note says when the last warning was given. A user who may not change the note warns
    each time.
    """
    try:
        if 0 <= now - os.stat(note).st_mtime < _SAY_AGAIN_SECONDS:
            return False
        os.utime(note, (now, now))
    except OSError:
        return True
    return True
