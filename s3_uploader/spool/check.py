"""Checks this machine for ``check``: the spool's file system and permissions, and what its layout recognises."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from s3_uploader.core.errors import remedy_of
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.model import Candidate, Left
from s3_uploader.core.text import counted, shown_name
from s3_uploader.spool.layouts.base import Globs, Layout, ScanStopped
from s3_uploader.spool.layouts.strangers import EXAMPLES, FORMS, in_words, look_at, remedy
from s3_uploader.spool.mounts import foreign_file_system
from s3_uploader.spool.open_file import OpenFile, Removable, is_being_written, open_candidate, why_sealed
from s3_uploader.spool.probe import CONTENT, probe_in
from s3_uploader.spool.root import Names, SpoolRoot, is_hidden, taken_name

_PROBE = ".s3-uploader-check"
_SCAN_SECONDS = 3.0
_MOST_OPENED = 1000
_MOST_FILES = 100_000
_MOST_STRANGERS = 5000


def check_spool(root: SpoolRoot, *, layout: str, removes: bool = True) -> list[Finding]:
    """Check that files can be removed from the spool, and that writers can be detected there.

    :param removes: a run removes or moves what it has shipped.
    """
    sealed = why_sealed(root.descriptor)
    if sealed is not None:
        # A test file could not be removed again.
        return [
            Finding(Severity.ERROR, "spool", f"nothing can be removed from {root.base_dir}: {sealed[0]}.", sealed[1])
        ]
    name = f"{_PROBE}-{os.getpid()}"
    try:
        writer = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=root.descriptor
        )
    except OSError as error:
        return [
            Finding(
                Severity.ERROR,
                "spool",
                f"nothing can be created in {root.base_dir}, so nothing can be removed from it: {error.strerror}.",
                remedy_of(
                    error,
                    denied="Let the user that runs this program write to the spool and to the directories in it.",
                ),
            )
        ]
    finding = Finding(Severity.OK, "spool", f"{root.base_dir} can be read and written (layout {layout}).")
    try:
        reader = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root.descriptor)
        try:
            while_open = is_being_written(reader)
            os.close(writer)
            writer = -1
            after = is_being_written(reader)
        finally:
            os.close(reader)
    finally:
        if writer >= 0:
            os.close(writer)
        obstacle = _remove_in_two_steps(root, name)
    if obstacle:
        hint = "No file could be removed after its upload. Let the user that runs this program rename and remove files."
        finding = Finding(Severity.ERROR if removes else Severity.WARNING, "spool", obstacle, hint)
    return [finding, _writers(root, are_seen=while_open is True and after is False)]


def _writers(root: SpoolRoot, *, are_seen: bool) -> Finding:
    elsewhere = foreign_file_system(root.descriptor)
    if elsewhere:
        return _unseen(elsewhere)
    if are_seen:
        return Finding(Severity.OK, "writers", "a file that is still open for writing is detected.")
    return Finding(
        Severity.WARNING,
        "writers",
        "this file system does not show whether a file is open for writing.",
        "Files are still held back by their age and compared before and after the upload; a producer that "
        "pauses longer than settle_seconds in the middle of a file may have it shipped in two versions. Raise "
        "settle_seconds above its longest pause, or let it write elsewhere and rename into the spool.",
    )


def _remove_in_two_steps(root: SpoolRoot, name: str) -> str:
    """Remove a test file as a run does, with a rename first; returns what is wrong, or an empty text."""
    there, step = root.descriptor, "renamed"
    private = taken_name(name) or name
    try:
        try:
            os.rename(name, private, src_dir_fd=there, dst_dir_fd=there)
            name, step = private, "removed"
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        os.unlink(name, dir_fd=there)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=there)
        return f"the test file {name} in {root.base_dir} cannot be {step}: {error.strerror}."
    return ""


def check_files(root: SpoolRoot, scanned: Layout, *, removes: bool, monotonic: Callable[[], float]) -> list[Finding]:
    """Check which of the present files this user cannot read or remove, and whose writers it cannot detect.

    It looks at files at any depth, for about a second.

    :param removes: a run removes or moves what it has shipped.
    """
    until = monotonic() + _SCAN_SECONDS / 3
    reasons: dict[str, str] = {}
    obstacles: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    here = os.fstat(root.descriptor).st_dev
    removable = Removable(root)

    def skip(names: Names, name: str, reason: Left, detail: str) -> None:
        if reason is Left.UNREADABLE:
            obstacles[_unreadable(detail)].append("/".join((*names, name)))
        if monotonic() > until:
            raise ScanStopped

    with contextlib.suppress(ScanStopped):
        for found in itertools.islice(scanned.scan(root, skip), _MOST_OPENED):
            if monotonic() > until:
                break
            if not isinstance(found, Candidate):
                continue
            file = open_candidate(root, found)
            if not isinstance(file, OpenFile):
                skip(found.directory, found.name, *file)
                continue
            try:
                elsewhere = "" if file.fingerprint.device == here else foreign_file_system(file.descriptor)
                if elsewhere or not file.writers_are_seen:
                    reasons.setdefault(elsewhere, found.path)
                owner = os.fstat(file.descriptor).st_uid
                obstacle = removable.why_not(found.directory, owner=owner) if removes else None
                if obstacle is not None:
                    obstacles[f"cannot be removed, and would not be uploaded: {obstacle[0]}", obstacle[1]].append(
                        found.path
                    )
                elif removes and (sealed := why_sealed(file.descriptor, "it")):
                    # A run finds that out after the upload, which costs an ordinary file nothing.
                    obstacles[f"would be uploaded, but cannot be removed: {sealed[0]}", sealed[1]].append(found.path)
            finally:
                file.close()
    if foreign_file_system(root.descriptor):
        reasons.pop("", None)  # it has been said of all
    return [
        *(_obstructed(paths, *obstacle) for obstacle, paths in obstacles.items()),
        *(_unseen(reason, path) if reason else _of_others(path) for reason, path in reasons.items()),
    ]


def _unreadable(detail: str) -> tuple[str, str]:
    denied = os.strerror(errno.EACCES) in detail
    hint = "Let the user that runs this program read it, and write its directory." if denied else ""
    return f"cannot be read: {detail.removeprefix('unreadable: ')}", hint


def _obstructed(paths: list[str], fact: str, hint: str) -> Finding:
    others = f" (and {counted(len(paths) - 1, 'other entry', 'other entries')})" if len(paths) > 1 else ""
    return Finding(Severity.WARNING, "files", f"{shown_name(paths[0])}{others} {fact}.", hint)


_LOCAL_TIMES = Finding(
    Severity.WARNING,
    "layout",
    "the times in the paths are local ones of this machine, but the configuration takes them for UTC.",
    'Set "timezone": "local", or the name of the zone. Otherwise directories may be removed in the hour in which they '
    "are used, or be kept for hours, and the times in reports are wrong.",
)


def unseen_in_words(reason: str, path: str) -> str:
    """The warning about files that are shipped although their writers cannot be seen.

    :param reason: the type of the file system, or empty if this user may not see them.
    """
    if reason:
        return (
            f"The spool lies on {reason}, where open files of other hosts cannot be seen. Files wait until two runs "
            "have seen them unchanged. If a producer pauses longer within a file, it is shipped too early. Let it "
            "write elsewhere and rename into the spool."
        )
    return (
        f"This user cannot see whether somebody writes to files of other users, such as {path}. Run as the user that "
        "writes them, or give the service CAP_LEASE. Until then settle_seconds must be longer than the longest pause "
        "of a writer."
    )


def _of_others(path: str) -> Finding:
    return Finding(
        Severity.WARNING,
        "writers",
        f"open writers of other users' files (such as {shown_name(path)}) cannot be detected.",
        "Run as the producer's user, or give the service CAP_LEASE, to detect writers.",
    )


def _unseen(file_system: str, path: str = "") -> Finding:
    where = f"{shown_name(path)} lies on {file_system}" if path else f"the spool lies on {file_system}"
    return Finding(
        Severity.WARNING,
        "writers",
        f"{where}, where open files of other hosts cannot be seen.",
        "Files wait until two runs have seen them unchanged, settle_seconds apart, or nothing has changed for a minute "
        "more than that. A producer that pauses longer in the middle of a file has it shipped too early: let it write "
        "elsewhere and rename into the spool, or raise settle_seconds above its longest pause.",
    )


def check_layout(
    root: SpoolRoot,
    scanned: Layout,
    *,
    layout: str,
    timezone: str,
    globs: Globs,
    now: float,
    monotonic: Callable[[], float],
) -> list[Finding]:
    """Check how many files in the spool the layout recognises, and why not the others. Takes seconds at most.

    :param scanned: the layout itself, ``layout`` is its name.
    :param timezone: of the times in paths, as configured.
    """
    strangers: list[tuple[Names, str]] = []
    reasons: Counter[Left] = Counter()

    def skip(names: Names, name: str, reason: Left, detail: str) -> None:
        reasons[reason] += 1
        if reason is Left.UNMATCHED and len(strangers) <= _MOST_STRANGERS and not is_hidden(name):
            strangers.append((names, name))
        if monotonic() > until:
            raise ScanStopped

    examples: list[str] = []
    matching, in_local_time, is_complete = 0, 0, True
    until = monotonic() + _SCAN_SECONDS
    try:
        for found in scanned.scan(root, skip):
            if isinstance(found, Candidate):
                matching += 1
                in_local_time += timezone == "UTC" and _is_in_local_time(found)
                if len(examples) < EXAMPLES:
                    examples.append(shown_name(found.path))
            if matching >= _MOST_FILES or monotonic() > until:
                raise ScanStopped
    except ScanStopped:
        is_complete = False
    until = max(until, monotonic() + _SCAN_SECONDS / 3)
    others = look_at(
        root,
        strangers[:_MOST_STRANGERS],
        layout=layout,
        globs=globs,
        now=now,
        go_on=lambda: monotonic() < until,
        is_complete=is_complete and len(strangers) <= _MOST_STRANGERS,
    )
    findings = []
    if matching:
        findings.append(_recognised(matching, examples, layout=layout, is_complete=is_complete))
    if in_local_time > matching / 2:
        findings.append(_LOCAL_TIMES)
    if others.files:
        fact = in_words(others, layout=layout, matching=matching, base_dir=root.base_dir)
        findings.append(Finding(Severity.WARNING, "layout", fact, remedy(others, layout)))
    if not findings:
        findings += _nothing(root, layout, reasons, is_complete=is_complete)
    return findings


def _nothing(root: SpoolRoot, layout: str, reasons: Counter[Left], *, is_complete: bool) -> Iterator[Finding]:
    """What there is to say of a spool in which no file was found."""
    if reasons[Left.EXCLUDED]:
        excluded = f"{'' if is_complete else 'more than '}{counted(reasons[Left.EXCLUDED], 'file')}"
        fact = f"include and exclude leave no file to ship in {shown_name(root.base_dir)}; they keep out {excluded}."
        yield Finding(Severity.NOTE, "layout", fact)
    elif not reasons[Left.UNREADABLE]:
        fact = f"there is no file in {shown_name(root.base_dir)} yet; the layout {layout} expects {FORMS[layout]}."
        yield Finding(Severity.NOTE, "layout", fact)


def _recognised(matching: int, examples: list[str], *, layout: str, is_complete: bool) -> Finding:
    more = ", …" if matching > len(examples) else ""
    number = f"{'' if is_complete else 'more than '}{counted(matching, 'file')}"
    fits = "matches" if matching == 1 and is_complete else "match"
    fact = f"{number} {fits} the layout {layout} ({FORMS[layout]}): {', '.join(examples)}{more}"
    return Finding(Severity.OK, "layout", fact)


def _is_in_local_time(candidate: Candidate) -> bool:
    """Whether a file was written at the time in its path by this machine's clock on the wall, which is not UTC."""
    written = candidate.mtime_ns // 10**9
    offset = time.localtime(written).tm_gmtoff
    return bool(offset) and candidate.period_begin is not None and 0 <= written + offset - candidate.period_begin < 600


@contextlib.contextmanager
def probe_file(root: SpoolRoot) -> Iterator[tuple[str, int]]:
    """Make a small file in the spool for a moment; yields its name and size. No layout recognises the name.

    :raises OSError: if it cannot be made, or could not be removed.
    """
    if why_sealed(root.descriptor) is not None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    with probe_in(lambda: root.descriptor) as name:
        yield name, len(CONTENT)
