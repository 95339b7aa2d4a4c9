"""The command ``status``: prints the state of a spool for people, programs and monitoring plugins."""

from __future__ import annotations

from s3_uploader.cli.arguments import StatusOptions
from s3_uploader.cli.exit_codes import explain, refused_by_the_system, to_whoever_reads
from s3_uploader.cli.frame import FileOptions, load
from s3_uploader.cli.output import columns, cut, local_time, print_json, print_lines, table, wrapped, zone_name
from s3_uploader.cli.status_json import for_machines
from s3_uploader.cli.verdict import ATTENTION, OK, STUCK, UNKNOWN, calm, first_line, since, verdict
from s3_uploader.core.control import Clock
from s3_uploader.core.errors import UploaderError
from s3_uploader.core.text import counted, shown_duration, shown_name, shown_size, shown_text
from s3_uploader.inspection.at_work import AtWork
from s3_uploader.inspection.patience import standing_in_time
from s3_uploader.inspection.starter import Starters
from s3_uploader.inspection.status import SpoolStatus
from s3_uploader.monitoring.words import end_words, left_words

_PLUGIN = {OK: (0, "OK"), ATTENTION: (1, "WARNING"), STUCK: (2, "CRITICAL"), UNKNOWN: (3, "UNKNOWN")}
"""Exit code and word of the Monitoring Plugins' guidelines, which Nagios, Icinga and others follow."""


def status(config_file: str, options: StatusOptions) -> int:
    """Print the state of the spool; returns the exit code."""
    standing = look_at(config_file, options)
    with to_whoever_reads():
        if options.as_json:
            print_json(for_machines(standing))
        else:
            print_lines(for_people(standing, width=columns()))
    if options.exit_by_verdict:
        return exit_code_of(verdict(standing))
    error = standing.spool_error or standing.ledger_error
    return 0 if error is None else explain(error)[1]


def look_at(config_file: str, options: FileOptions, starters: Starters | None = None) -> SpoolStatus:
    """Find out the state of a configuration's spool.

    :param starters: the timers that are known already, shared by several calls.
    """
    configuration = load(config_file, options)
    return standing_in_time(configuration, clock=Clock(), starter=(starters or Starters()).of(config_file))


# -------------------------------------------------------------------------------------------------- for people


def for_people(standing: SpoolStatus, *, width: int | None = None) -> list[str]:
    """The state as lines: the verdict first, then what to do, then the details.

    :param width: of the terminal, to which sentences and tables are fitted; ``None`` leaves them as they are.
    """
    lines = wrapped(_with_stop(first_line(standing)), width, indent=2)
    for number, problem in enumerate(standing.problems):
        if number or verdict(standing) == UNKNOWN:
            also = _with_stop(f"  Also{since(problem, standing.now)}: {problem.sentence}")
            lines += wrapped(also, width, indent=4)
        lines += wrapped(f"  Next:  {problem.next}", width, indent=9)
        lines += wrapped(f"  To do: {shown_text(problem.remedy)}", width, indent=9)
    return lines + [part for line in _details(standing, width) for part in _fitted(line, width)]


def _fitted(line: str, width: int | None) -> list[str]:
    """Fit a line: a row of a table is cut, a sentence is wrapped."""
    is_row = line.startswith("  ") and "  " in line.strip()
    return [cut(line, width)] if is_row else wrapped(line, width, indent=4)


def _details(standing: SpoolStatus, width: int | None) -> list[str]:
    lines: list[str] = []
    lines += ["", f"Spool {shown_name(standing.base_dir)}", *_running_lines(standing)]
    lines += _share_lines(standing, width)
    if standing.writers_unseen_on:
        lines.append(f"Writers on other hosts are not seen ({standing.writers_unseen_on}): two runs look at each file.")
    lines += [f"Destination: {shown_text(sentence)}" for sentence in standing.endpoint_limits]
    lines += ["", *_backlog_lines(standing, width)]
    if standing.ledger_error is None:
        lines += ["", *_failing_lines(standing), "", *_run_lines(standing, width)]
    elif standing.problems:
        lines += ["", shown_text(str(standing.ledger_error))]
    if standing.ledger:
        lines += ["", f"Ledger: {shown_name(standing.ledger)}"]
    return lines


def _with_stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "…")) else sentence + "."


def _running_lines(standing: SpoolStatus) -> list[str]:
    at_work = standing.at_work
    if standing.spool_error is not None:
        return ["Running: unknown, because the spool cannot be used"]
    if at_work is None and standing.watcher is not None:
        watcher = standing.watcher.described(now=standing.now)
        return [f"Running: watched by {watcher}", "  It is between two passes."]
    if at_work is None:
        return ["Running: no" + _next_run(standing)]
    lines = ["Running: " + at_work.holder.described(now=standing.now)]
    if at_work.is_alive is False:
        lines.append("  The process has ended, and its lock with it.")
    elif at_work.doing:
        lines.append(f"  The process is {at_work.doing}.")
    lines += [f"  {sentence}" for sentence in _progress(at_work, standing.now)]
    return lines


def _share_lines(standing: SpoolStatus, width: int | None) -> list[str]:
    """A line for each share."""
    if not standing.shares:
        return []
    rows = []
    for each in standing.shares:
        last = each.last_run
        if each.holder is not None:
            doing = each.holder.described(now=standing.now)
        elif last is None:
            doing = "has not run"
        else:
            doing = shown_text(end_words(last.ended_by)) or "did not finish, or is still running"
        exit_code = "-" if last is None or last.exit_code is None else str(last.exit_code)
        rows.append((f"  {each.share}", "-" if last is None else local_time(last.started_at), exit_code, doing))
    heads = ("  share", f"last run ({zone_name()})", "exit", "state")
    return ["Shares:", *table(heads, rows, right=(2,), width=width)]


def _progress(at_work: AtWork, now: float) -> list[str]:
    sentences = []
    if at_work.shipped is not None:
        text = f"It has shipped {counted(at_work.shipped, 'file')} ({shown_size(at_work.shipped_bytes)}) so far"
        if at_work.shipped_at is not None:
            text += f", the last {shown_duration(now - at_work.shipped_at)} ago"
        sentences.append(text + ".")
    if at_work.open_files:
        names = ", ".join(map(shown_name, at_work.open_files))
        more = (at_work.open_count or 0) - len(at_work.open_files)
        sentences.append(f"It has open: {names}" + (f" and {more:,} more." if more > 0 else "."))
    return sentences


def _next_run(standing: SpoolStatus) -> str:
    if standing.next_run_at is None:
        return ""
    wait = standing.next_run_at - standing.now
    by = "" if standing.started_by is None else f" ({shown_text(standing.started_by.unit)})"
    return f"; the next run is expected in {shown_duration(wait)}{by}" if wait > 0 else f"; the next run is due{by}"


def _backlog_lines(standing: SpoolStatus, width: int | None) -> list[str]:
    waiting, now = standing.waiting, standing.now
    if waiting is None:
        return ["Waiting: unknown"]
    if not waiting.by_location:
        lines = ["Waiting: nothing" if waiting.is_complete else "Waiting: unknown"]
    else:
        rows = [
            (
                f"  {shown_name(row.location) or '-'}",
                f"{row.files:,}",
                f"{row.ready:,}",
                shown_size(row.bytes),
                shown_duration(now - row.oldest) if row.oldest is not None else "-",
            )
            for row in sorted(waiting.by_location.values(), key=lambda row: row.oldest or 0.0)
        ]
        lines = [
            "Waiting:" if waiting.is_complete else f"Waiting: more than {counted(waiting.files, 'file')}, of these:",
            *table(("  location", "files", "ready", "size", "oldest"), rows, right=(1, 2, 3, 4), width=width),
        ]
    if waiting.foreign:
        left = ", ".join(f"{number:,} {left_words(reason)}" for reason, number in waiting.foreign.items())
        lines.append("Left alone: " + left)
    return lines


def _failing_lines(standing: SpoolStatus) -> list[str]:
    count, now = standing.failing_count, standing.now
    if not count:
        return ["Failing: none"]
    lines = [f"Failing: {counted(count, 'file')}"]
    for row in standing.failing:
        due = "at the next run" if row.next_try_at <= now else f"in {shown_duration(row.next_try_at - now)}"
        lines.append(f"  {shown_name(row.path)}: {counted(row.attempts, 'attempt')}, next {due}")
        lines.append(f"    {shown_text(row.message)}")
    if count > len(standing.failing):
        lines.append(f"  … and {count - len(standing.failing):,} more")
    return lines


def _run_lines(standing: SpoolStatus, width: int | None) -> list[str]:
    if not standing.runs:
        return ["Runs: none is recorded"]
    rows = []
    is_folded = any(row.ticks > 1 for row in standing.runs)
    for row in standing.runs:
        ended = row.finished_at is not None
        outcome = end_words(row.ended_by) if ended else "did not finish, or is still running"
        rows.append(
            (
                "  " + local_time(row.started_at),
                *([f"{row.ticks:,}" if row.ticks > 1 else ""] if is_folded else []),
                shown_duration(row.duration) if ended else "-",
                f"{row.shipped:,}",
                shown_size(row.shipped_bytes),
                f"{row.failed:,}",
                "-" if row.exit_code is None else str(row.exit_code),
                shown_text(outcome + (f": {row.message}" if row.message else "")),
            )
        )
    times = ["times"] if is_folded else []
    heads = (f"  started ({zone_name()})", *times, "took", "shipped", "size", "failed", "exit", "outcome")
    return ["Last runs:", *table(heads, rows, right=range(1, len(heads) - 1), width=width)]


# -------------------------------------------------------------------------------------------------- for plugins


def plugin(config_file: str, options: FileOptions) -> int:
    """Print the line for the spool."""
    try:
        standing = look_at(config_file, options)
    except (UploaderError, OSError, MemoryError) as error:
        with to_whoever_reads():
            print_lines([unknown_line(error)])
        return exit_code_of(UNKNOWN)
    found = verdict(standing)
    text = on_one_line(plugin_text(standing))
    with to_whoever_reads():
        print_lines([f"S3_UPLOADER {plugin_word(found)} - {text} | {performance(standing)}"])
    return exit_code_of(found)


def unknown_line(error: UploaderError | OSError | MemoryError) -> str:
    """The plugin's line when the state cannot be found out."""
    if not isinstance(error, UploaderError):
        error = refused_by_the_system(error)
    return f"S3_UPLOADER {plugin_word(UNKNOWN)} - {on_one_line(str(error))}"


def exit_code_of(found: str) -> int:
    """The exit code of a verdict: 0, 1, 2, or 3 if it is unknown."""
    return _PLUGIN[found][0]


def plugin_word(found: str) -> str:
    """The plugins' word for a verdict."""
    return _PLUGIN[found][1]


def plugin_text(standing: SpoolStatus) -> str:
    """What is wrong in a few words."""
    if standing.problems:
        first = standing.problems[0]
        causes = ", ".join(problem.cause.value for problem in standing.problems)
        return f"{causes}{since(first, standing.now)}: {first.sentence}"
    return calm(standing) if standing.hidden_by is None else str(standing.hidden_by)


def on_one_line(text: str) -> str:
    """Make the text fit for a plugin's line, before the figures."""
    # What comes after a bar is taken for figures.
    return shown_text(text).replace("|", "/")


def performance(standing: SpoolStatus) -> str:
    """The figures of a spool."""
    waiting = standing.waiting
    figures = []
    if waiting is not None:
        oldest = 0.0 if waiting.oldest is None else max(standing.now - waiting.oldest, 0.0)
        size = sum(row.bytes for row in waiting.by_location.values())
        figures += [f"backlog_files={waiting.files}", f"backlog_bytes={size}B", f"oldest_waiting={oldest:.0f}s"]
    figures.append(f"failing_files={standing.failing_count}")
    if standing.runs:
        last = standing.runs[0].finished_at or standing.runs[0].started_at
        figures.append(f"last_run={max(standing.now - last, 0.0):.0f}s")
    return " ".join(figures)
