"""``status`` of a directory of configurations: one line for each spool, the worst first; and ``--watch``."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from s3_uploader.cli import status
from s3_uploader.cli.directory import AT_ONCE, files_in, shared_of, worst
from s3_uploader.cli.exit_codes import USAGE, explain, to_whoever_reads
from s3_uploader.cli.frame import FileOptions, together
from s3_uploader.cli.output import columns, cut, print_lines, takes_escapes, wrapped
from s3_uploader.cli.verdict import ATTENTION, OK, STUCK, UNKNOWN, WORST_FIRST
from s3_uploader.cli.verdict import verdict as verdict_of
from s3_uploader.core.errors import UploaderError, UsageProblem
from s3_uploader.core.text import counted, shown_duration, shown_name, shown_size, shown_text
from s3_uploader.inspection.starter import Starters
from s3_uploader.inspection.status import SpoolStatus

_SHORTEST_PAUSE = 2.0
_CLOSE_SECONDS = 0.5
_CLEAR = "\x1b[H\x1b[2J"
_WORDS = {STUCK: "stuck", UNKNOWN: "unknown", ATTENTION: "attention", OK: "ok"}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One spool of a directory: the name of its configuration, and its state or the error that hides it.

    :param conflict: what it shares with another configuration, so that a run of the directory refuses both.
    """

    name: str
    verdict: str
    standing: SpoolStatus | None = None
    error: str = ""
    conflict: str = ""
    exit_code: int = 0

    @property
    def sentence(self) -> str:
        """What is wrong, as a sentence; empty if nothing is."""
        if self.standing is None:
            return self.error
        if self.conflict and verdict_of(self.standing) == OK:
            return self.conflict
        if self.verdict == OK:
            return ""
        if self.standing.problems:
            return self.standing.problems[0].sentence
        return str(self.standing.hidden_by or "")


def look_at_all(directory: str, options: FileOptions) -> list[Seen]:
    """Look at the spools, several at the same time; sorted by verdict, the worst first, then by name."""
    from s3_uploader.stores.threads import ThreadPool

    paths = files_in(directory)
    options = together(options, paths)
    starters = Starters()
    pool = ThreadPool(name="look", count=AT_ONCE)
    try:
        looks = [pool.submit(functools.partial(_look_at, path, options, starters)) for path in paths]
        seen = [look.result() for look in looks]
    finally:
        pool.close(timeout=_CLOSE_SECONDS)
    seen = _with_conflicts(dict(zip(paths, seen, strict=True)), options)
    return sorted(seen, key=lambda each: (WORST_FIRST.index(each.verdict), each.name))


def _with_conflicts(seen: Mapping[str, Seen], options: FileOptions) -> list[Seen]:
    """Note which configurations a run of the directory would refuse because of each other."""
    found = dict(seen)
    for shared in shared_of(list(seen), options):
        for path in shared.paths:
            each = found[path]
            found[path] = msgspec.structs.replace(
                each,
                conflict=each.conflict or f"a run of the directory refuses it: {shared.sentence}",
                verdict=ATTENTION if each.verdict == OK else each.verdict,
                exit_code=worst([each.exit_code, USAGE]),
            )
    return list(found.values())


def _look_at(path: str, options: FileOptions, starters: Starters) -> Seen:
    name = os.path.basename(path).removesuffix(".json")
    try:
        standing = status.look_at(path, options, starters)
    except UploaderError as error:
        lines, code = explain(error)
        return Seen(name=name, verdict=UNKNOWN, error="; ".join(map(str.strip, lines)), exit_code=code)
    except Exception as error:  # no error, however unexpected, hides the other spools
        text = f"an unexpected error, {type(error).__name__}: {error}"
        return Seen(name=name, verdict=UNKNOWN, error=text, exit_code=1)
    found = standing.spool_error or standing.ledger_error
    code = 0 if found is None else explain(found)[1]
    return Seen(name=name, verdict=verdict_of(standing), standing=standing, exit_code=code)


def overview(directory: str, options: FileOptions, *, exit_by_verdict: bool) -> int:
    """Print a summary and a line for each spool."""
    seen = look_at_all(directory, options)
    width = columns()
    ill = next((each for each in seen if each.standing is not None and each.verdict != OK), None)
    with to_whoever_reads():
        print_lines(overview_lines(seen, columns=width))
        if ill is not None and width is not None:
            file = shown_name(os.path.join(directory, f"{ill.name}.json"))
            print_lines(["", *wrapped(f"What to do about one: s3-uploader-cli status {file}", width, indent=2)])
    if exit_by_verdict:
        return status.exit_code_of(seen[0].verdict)
    return worst([each.exit_code for each in seen])


def overview_lines(seen: Sequence[Seen], *, columns: int | None) -> list[str]:
    """The summary, and then a line for each spool; several for one for which the terminal is too narrow."""
    lines = [*wrapped(summary(seen), columns, indent=2), ""]
    width = max(len(shown_name(each.name)) for each in seen)
    said: dict[str, str] = {}
    for each in seen:
        start = f"{_WORDS[each.verdict].upper() if each.verdict == STUCK else _WORDS[each.verdict]:9}  "
        name = shown_name(each.name)
        figures = _figures(each)
        sentence = shown_text(each.sentence)
        # Thirty spools that share a bucket have one problem, which a person reads once. Programs read lines.
        first = said.setdefault(sentence, name)
        if columns is not None and sentence and first != name:
            sentence = f"as {first}"
        line = f"{start}{name:{width}}  {'; '.join(filter(None, (figures, sentence)))}".rstrip()
        if columns is None or len(line) <= columns:
            lines.append(line)
            continue
        # The problem is what the reader wants to know, so it is never cut.
        lines += wrapped(f"{start}{name}{'  ' if figures else ''}{figures}", columns, indent=2)
        lines += wrapped(f"  {sentence}", columns, indent=2) if sentence else []
    return lines


def summary(seen: Sequence[Seen]) -> str:
    """Summarise all spools in one sentence."""
    numbers = Counter(each.verdict for each in seen)
    parts = [
        f"{numbers[verdict]:,} {word}"
        for verdict, word in (
            (STUCK, "stuck"),
            (UNKNOWN, "unknown"),
            (ATTENTION, "need attention" if numbers[ATTENTION] != 1 else "needs attention"),
            (OK, "ok"),
        )
        if numbers[verdict]
    ]
    waiting = [
        each.standing.waiting for each in seen if each.standing is not None and each.standing.waiting is not None
    ]
    files = sum(one.files for one in waiting)
    size = sum(row.bytes for one in waiting for row in one.by_location.values())
    waits = f"; {counted(files, 'file')} ({shown_size(size)}) {'waits' if files == 1 else 'wait'}" if files else ""
    return f"{counted(len(seen), 'spool')}: {', '.join(parts)}{waits}."


def _figures(each: Seen) -> str:
    standing = each.standing
    if standing is None:
        return ""
    parts = []
    waiting = standing.waiting
    if waiting is not None and waiting.files:
        more = "" if waiting.is_complete else "more than "
        old = "" if waiting.oldest is None else f", oldest {shown_duration(standing.now - waiting.oldest)}"
        parts.append(f"{more}{waiting.files:,} waiting{old}")
    if standing.at_work is not None:
        parts.append("running")
    elif standing.watcher is not None:
        parts.append("watched")
    elif standing.runs:
        last = standing.runs[0].finished_at or standing.runs[0].started_at
        parts.append(f"last run {shown_duration(standing.now - last)} ago")
    elif standing.ledger_error is None:
        parts.append("no run yet")
    return "; ".join(parts)


def live(lines: Callable[[], list[str]]) -> int:
    """Show the lines anew every two seconds until Ctrl-C, below one another where the screen cannot be cleared.

    :raises UsageProblem: without a terminal.
    """
    if not sys.stdout.isatty():
        raise UsageProblem("--watch needs a terminal.", hint="Use --json for programs.")
    clear = _CLEAR if takes_escapes() else "\n"
    try:
        while True:
            began = time.monotonic()
            width, rows = shutil.get_terminal_size()
            shown = [cut(line, width) for line in lines()]
            if len(shown) > rows - 2:
                shown = [*shown[: rows - 3], f"… and {len(shown) - rows + 3:,} lines more"]
            clock = time.strftime("%H:%M:%S %Z")
            print_lines([f"{clear}{cut(f'{clock}, every 2 s; press Ctrl-C to stop', width)}", *shown])
            sys.stdout.flush()
            # A slow refresh must not keep the machine busy.
            time.sleep(max(_SHORTEST_PAUSE, 3 * (time.monotonic() - began)))
    except KeyboardInterrupt:
        return 0


def watch_directory(directory: str, options: FileOptions) -> int:
    """The overview, live."""
    return live(lambda: overview_lines(look_at_all(directory, options), columns=columns()))


def watch_file(config_file: str, options: FileOptions) -> int:
    """One spool, live."""
    return live(lambda: status.for_people(status.look_at(config_file, options), width=columns()))


# -------------------------------------------------------------------------------------------------- for plugins


def plugin(directory: str, options: FileOptions) -> int:
    """Print the plugin's line with all figures, then one line for each spool in trouble."""
    try:
        seen = look_at_all(directory, options)
    except (UploaderError, OSError, MemoryError) as error:
        with to_whoever_reads():
            print_lines([status.unknown_line(error)])
        return status.exit_code_of(UNKNOWN)
    with to_whoever_reads():
        print_lines(plugin_lines(seen))
    return status.exit_code_of(seen[0].verdict)


def plugin_lines(seen: Sequence[Seen]) -> list[str]:
    """The summary with the figures of all spools, each under its own name, and a line for each spool in trouble."""
    bad = [each for each in seen if each.verdict != OK]
    text = summary(seen)
    if bad:
        names = ", ".join(shown_name(each.name) for each in bad[:5]) + (", …" if len(bad) > 5 else "")
        text = f"{text[:-1]}: {names}"
    figures = [f"spools={len(seen)}"]
    figures += [f"{word}={sum(each.verdict == verdict for each in seen)}" for verdict, word in _WORDS.items()]
    for each in seen:
        if each.standing is not None:
            # A label may hold neither quotes nor an equals sign.
            name = shown_name(each.name).replace("'", "_").replace("=", "_")
            for figure in status.performance(each.standing).split():
                label, _, value = figure.partition("=")
                figures.append(f"'{name}.{label}'={value}")
    first = f"S3_UPLOADER {status.plugin_word(seen[0].verdict)} - {status.on_one_line(text)} | {' '.join(figures)}"
    lines = [first]
    for each in bad:
        said = each.error if each.standing is None else status.plugin_text(each.standing)
        if each.conflict and each.sentence == each.conflict:
            said = each.conflict
        lines.append(f"{status.on_one_line(f'{each.name}: {status.plugin_word(each.verdict)} - {said}')}")
    return lines
