"""Counts and explains files that the layout does not recognise, and proposes a configuration that would ship them.

A scan skips a whole directory that is outside the layout. Here it is walked, within a budget, so that files are
counted and not directories.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from s3_uploader.core.findings import Stranger, Strangers
from s3_uploader.core.text import counted, shown_name
from s3_uploader.spool.layouts.base import Globs
from s3_uploader.spool.root import DIRECTORY, FILE, Names, SpoolRoot, is_hidden, is_temporary, kind_of, original_name

_OLD_SECONDS = 86400.0
"""Seconds after which an unmatched file is a problem, and not one that its producer is about to rename."""
EXAMPLES = 3
_KEPT, _KEPT_REASONS = 20, 200
_MOST_ENTRIES = 20_000
_MOST_SAMPLED = 2_000
_DEEPEST = 64
_FILE = re.compile(r"([0-9]{1,2})-.+\.dat", re.DOTALL)
_LEVELS = (("year", "YYYY", 4, 4), ("month", "MM", 1, 2), ("day", "DD", 1, 2), ("hour", "HH", 1, 2))
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DATED_FORM = "location/YYYY/MM/DD/HH/mm-topic.dat"
FORMS = {
    "dated": _DATED_FORM,
    "tree": "any file",
    "queue": "files directly in the spool, named by their URL-encoded key",
}
"""The form that each layout expects."""


def look_at(
    root: SpoolRoot,
    entries: Iterable[tuple[Names, str]],
    *,
    layout: str,
    globs: Globs,
    now: float,
    go_on: Callable[[], bool],
    is_complete: bool = True,
) -> Strangers:
    """Count the files among and below entries that a scan skipped.

    Hidden files and files kept out by ``include`` or ``exclude`` are not counted: they are meant to stay.

    :param layout: the name of the layout in the configuration.
    :param go_on: whether there is time for more.
    :param is_complete: whether ``entries`` are all skipped entries.
    """
    found = _Found(now=now)
    budget = _MOST_ENTRIES
    for directory, entry in entries:
        for names, name, status in files_below(root, directory, entry):
            budget -= 1
            if budget < 0 or not go_on():
                return found.summed_up(root.base_dir, layout, is_complete=False)
            if status is not None and globs.admits(names, original_name(name)):
                found.add((*names, name), why_not(layout, (*names, original_name(name))), status.st_mtime)
    return found.summed_up(root.base_dir, layout, is_complete=is_complete)


def why_not(layout: str, parts: Sequence[str]) -> str:
    """Say in a few words why the path does not match a layout."""
    if layout == "dated":
        return _why_not_dated(parts)
    if layout == "queue" and len(parts) > 1:
        return "in a directory, but a queue is flat"
    if any(map(is_temporary, parts)):
        return "a temporary name"
    return "no path that the layout recognises"


def matches(layout: str, parts: Sequence[str]) -> bool:
    """Whether a layout recognises the path. ``parts`` are the names of the directories and of the file."""
    if layout == "dated":
        return not _why_not_dated(parts)
    if any(map(is_temporary, parts)):
        return False
    return layout == "tree" or len(parts) == 1


def proposal(layout: str, paths: Sequence[Sequence[str]], *, base_dir: str) -> tuple[dict[str, object], int]:
    """The changes to the configuration that would ship these files, and how many of them would be shipped.

    Empty if no other layout recognises more than a few of them.
    """
    if layout != "dated" and paths and all(matches("dated", path) for path in paths):
        return {"layout": "dated"}, len(paths)
    first = paths[0] if paths else ()
    for depth in range(1, 4):
        if len(first) > depth and all(
            path[:depth] == first[:depth] and matches("dated", path[depth:]) for path in paths
        ):
            change: dict[str, object] = {"base_dir": "/".join((base_dir.rstrip("/"), *first[:depth]))}
            return change | ({} if layout == "dated" else {"layout": "dated"}), len(paths)
    if layout == "tree":
        return {}, 0
    taken = sum(matches("tree", path) for path in paths)
    change = {"layout": "tree"}
    if layout == "dated" and any(len(path) > 1 for path in paths):
        change["prune_empty_dirs"] = True
    return (change, taken) if taken else ({}, 0)


def as_members(change: dict[str, object]) -> str:
    """Format members of a JSON object as one would write them into the file."""
    return ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in change.items())


class _Found:
    """Collects results while the files are walked."""

    def __init__(self, *, now: float) -> None:
        self._now = now
        self._files = 0
        self._old = 0
        self._oldest: Stranger | None = None
        self._examples: dict[str, list[Stranger]] = {}
        self._reasons: Counter[str] = Counter()
        self._sampled: list[tuple[str, ...]] = []

    def add(self, parts: tuple[str, ...], why: str, mtime: float) -> None:
        self._files += 1
        self._old += self._now - mtime > _OLD_SECONDS
        stranger = Stranger(shown_name("/".join(parts)), why, mtime)
        if self._oldest is None or mtime < self._oldest.mtime:
            self._oldest = stranger
        if why in self._reasons or len(self._reasons) < _KEPT_REASONS:
            self._reasons[why] += 1
            alike = self._examples.setdefault(why, [])
            if len(alike) < _KEPT:
                alike.append(stranger)
        if len(self._sampled) < _MOST_SAMPLED:
            self._sampled.append(parts)

    def summed_up(self, base_dir: str, layout: str, *, is_complete: bool) -> Strangers:
        change, proposed = proposal(layout, self._sampled, base_dir=base_dir)
        return Strangers(
            files=self._files,
            is_complete=is_complete,
            old=self._old,
            oldest=self._oldest,
            examples=tuple(self._chosen()),
            proposal=as_members(change),
            proposed=self._files if proposed == len(self._sampled) else proposed,
        )

    def _chosen(self) -> Iterator[Stranger]:
        """Choose one example for each of the most frequent reasons, then more of the first."""
        by_path = {why: sorted(alike, key=lambda each: each.path) for why, alike in self._examples.items()}
        frequent = [by_path[why] for why, _ in self._reasons.most_common(EXAMPLES) if why in by_path]
        ranked = [each[place] for place in range(EXAMPLES) for each in frequent if place < len(each)]
        yield from ranked[:EXAMPLES]


def files_below(root: SpoolRoot, directory: Names, name: str) -> Iterator[tuple[Names, str, os.stat_result | None]]:
    """Walk the regular files that are not hidden, with their ``lstat``.

    ``None`` stands for other entries, which count against the budget.

    Unreadable entries are skipped: the scan has reported them.
    """
    if is_hidden(name):
        return
    try:
        status = root.stat(directory, name)
    except OSError:
        return
    if stat.S_ISREG(status.st_mode):
        yield directory, name, status
    waiting: list[Names] = [(*directory, name)] if stat.S_ISDIR(status.st_mode) else []
    while waiting:
        names = waiting.pop()
        try:
            for found in root.entries(names):
                kind = kind_of(found)
                if kind is DIRECTORY and not is_hidden(found.name) and len(names) < _DEEPEST:
                    waiting.append((*names, found.name))
                is_counted = kind is FILE and not is_hidden(found.name)
                yield names, found.name, found.stat(follow_symlinks=False) if is_counted else None
        except OSError:
            continue


def _why_not_dated(parts: Sequence[str]) -> str:
    """Say why the path does not match the layout ``dated``; empty if it does."""
    *directories, name = parts
    if len(directories) != 1 + len(_LEVELS):
        number = len(directories)
        if not number:
            return "directly in the spool, five directories expected"
        return f"{_counted(number)} {'directory' if number == 1 else 'directories'} deep, five expected"
    for value, (level, form, shortest, longest) in zip(directories[1:], _LEVELS, strict=True):
        if not (value.isascii() and value.isdigit() and shortest <= len(value) <= longest):
            return f"{level} {shown_name(value)}, {form} expected"
    if _FILE.fullmatch(name) is None:
        _, dot, ending = name.rpartition(".")
        if ending != "dat" or not dot:
            return f"{f'ends in .{shown_name(ending)}' if dot else 'has no ending'}, .dat expected"
        return "its name does not begin with a minute, as in 46-topic.dat"
    return ""


def _counted(number: int) -> str:
    return _COUNTS[number] if number < len(_COUNTS) else f"{number:,}"


def in_words(found: Strangers, *, layout: str, matching: int, base_dir: str) -> str:
    """Describe the findings in one sentence, with a few examples."""
    form = f"the layout {layout} ({FORMS[layout]})"
    number = f"{'' if found.is_complete else 'more than '}{counted(found.files, 'file')}"
    does = "does" if found.files == 1 and found.is_complete else "do"
    if matching:
        start = (
            f"{counted(matching, 'file')} in {shown_name(base_dir)} {'matches' if matching == 1 else 'match'} {form}"
        )
        start += f"; {number} {does} not, and no run ships {'it' if does == 'does' else 'them'}"
    elif does == "does":
        start = f"The only file in {shown_name(base_dir)} does not match {form}"
    else:
        start = f"None of {'the ' if found.is_complete else ''}{number} in {shown_name(base_dir)} matches {form}"
    examples = [f"{each.path} ({each.why})" for each in found.examples]
    more = ", …" if found.files > len(examples) or not found.is_complete else ""
    return f"{start}: {', '.join(examples)}{more}"


def remedy(found: Strangers, layout: str) -> str:
    """Say what a person can do about them. A queue gets other keys by another layout."""
    leave = "name what is to stay in exclude."
    if not found.proposal:
        if found.files == 1 and found.is_complete:
            return f"It has the name of an unfinished file. Let its producer rename it when it is done, or {leave}"
        return f"They have names of unfinished files. Let their producer rename them when they are done, or {leave}"
    if found.proposed >= found.files and found.is_complete:
        which = "it" if found.files == 1 else f"all {found.files:,}"
    else:
        which = f"{found.proposed:,} of them" if found.is_complete else "them"
    change = f"set {found.proposal} in the configuration"
    if layout == "queue":
        change = f"move such files into the spool itself, or {change}, which decodes no name (%2F)"
    return f"To ship {which}, {change}; {leave}"
