"""A directory of configurations: run all its spools at once, or apply another command to each in turn.

The exit code is the first of these that occurs: a signal's (130, 143), 2, 3, 75, 1, 0.
"""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from s3_uploader.cli.exit_codes import OK, SOME_FAILED
from s3_uploader.cli.frame import FileOptions, Options, guarded, load, together
from s3_uploader.cli.names import Form
from s3_uploader.cli.output import about_several, print_lines
from s3_uploader.config import Config
from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import ConfigError, UploaderError
from s3_uploader.core.text import counted, names_of, shown_name

AT_ONCE = 8
"""Most spools of a directory that run at the same time."""

_BYTES_IN_FLIGHT = 64 * 2**20
_WORST_FIRST = (130, 143, 129, 2, 3, 75, 1)


HUNG_SECONDS = 120.0
"""A run without a sign of life for this long is taken to hang."""
_LINK_SECONDS = 2.0
"""Timeout for following links in paths: a disk that does not answer must not delay the others."""


class Named(msgspec.Struct, frozen=True):
    """A configuration, the path of its file, and its name among those that are processed together."""

    path: str
    config: Config
    name: str


class Shared(msgspec.Struct, frozen=True):
    """A conflict between two configurations: the paths of their files, and what they share."""

    paths: tuple[str, str]
    sentence: str


def is_directory(config_file: str) -> bool:
    """Whether the path is a directory of configurations."""
    return os.path.isdir(config_file)


def files_in(directory: str) -> list[str]:
    """List the configuration files of a directory, sorted by name.

    A named pipe is none: each command would wait for a writer that never comes.

    :raises ConfigError: if there are none.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json") and not name.startswith("."))
        names = [name for name in names if not _is_pipe(os.path.join(directory, name))]
    except OSError as error:
        raise ConfigError(directory, [f"cannot be read: {error.strerror}"]) from None
    if not names:
        raise ConfigError(directory, ["contains no configuration file: none of its names ends in .json"])
    return [os.path.join(directory, name) for name in names]


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False  # whoever reads it says why not


def is_one_file(config_files: Sequence[str]) -> bool:
    """Whether a single file was given, and no directory."""
    return len(config_files) == 1 and not is_directory(config_files[0])


def files_of(config_files: Sequence[str]) -> list[str]:
    """List the given configuration files and those of the given directories, each once, however its path is written.

    :raises ConfigError: if a directory holds none.
    """
    found: dict[tuple[str, str], str] = {}
    for given in config_files:
        for path in files_in(given) if is_directory(given) else [given]:
            directory, name = os.path.split(path)
            found.setdefault((os.path.realpath(directory), name), path)
    return list(found.values())


def worst(codes: list[int]) -> int:
    """The exit code of all, from those of each."""
    return next((code for code in _WORST_FIRST if code in codes), max(codes, default=OK))


def each(
    config_file: str,
    options: Options,
    work: Callable[[str, Options], int],
    *,
    headings: bool = True,
    closing: bool = False,
    are_run_together: bool = False,
    form: Form = Form.TEXT,
) -> int:
    """Do a command's work for a configuration, or for each one of a directory in turn.

    A failure does not stop the others.

    :param headings: print the name of each file before its output.
    :param closing: say at the end which of them did not end well.
    :param are_run_together: also say which of them a run of the directory would refuse.
    :param form: the form of error messages.
    """
    if not is_directory(config_file):
        return guarded(lambda: work(config_file, options), form=form)

    def work_in_turn() -> int:
        paths = files_in(config_file)
        refused = guarded(lambda: _refuse_shared_of(paths, options), form=form) if are_run_together else OK
        return worst([refused, each_of(paths, options, work, headings=headings, closing=closing, form=form)])

    return guarded(work_in_turn, form=form)


def shared_of(paths: Sequence[str], options: FileOptions) -> list[Shared]:
    """What a run of all these files would refuse; what is wrong with a single one is told elsewhere."""
    loaded = []
    options = together(options, paths)
    for path, name in names_of(paths).items():
        with contextlib.suppress(UploaderError):
            loaded.append(Named(path, load(path, options), name))
    return _shared(loaded)


def _refuse_shared_of(paths: Sequence[str], options: FileOptions) -> int:
    found = shared_of(paths, options)
    if found:
        raise _conflict(found)
    return OK


def each_of(
    paths: Sequence[str],
    options: Options,
    work: Callable[[str, Options], int],
    *,
    headings: bool = True,
    closing: bool = False,
    form: Form = Form.TEXT,
) -> int:
    """Do a command's work for each of these in turn. A failure does not stop the others."""
    codes = []
    options = together(options, paths)
    with about_several() as sources:
        for number, path in enumerate(paths):
            if headings:
                print_lines([*[""] * bool(number), f"{shown_name(path)}:"])
                sys.stdout.flush()
            sources.now = os.path.basename(path)
            codes.append(_by_itself(path, lambda path=path: work(path, options), form, sources.now))  # type: ignore[misc]
            sys.stdout.flush()
    if closing:
        print_lines(["", closing_line(dict(zip(map(os.path.basename, paths), codes, strict=True)))])
    return worst(codes)


def closing_line(codes: dict[str, int]) -> str:
    """Sum up a command that did its work for several configurations: how many ended well, and which did not."""
    bad: dict[int, list[str]] = {}
    for name, code in codes.items():
        if code != OK:
            bad.setdefault(code, []).append(shown_name(name))
    parts = [f"{len(codes) - sum(map(len, bad.values())):,} ok"]
    in_order = sorted(bad, key=lambda code: _WORST_FIRST.index(code) if code in _WORST_FIRST else len(_WORST_FIRST))
    parts += [f"{', '.join(bad[code])}: exit code {code}" for code in in_order]
    return f"{counted(len(codes), 'spool')}: {'; '.join(parts)}."


def run_all(
    paths: Sequence[str],
    options: FileOptions,
    run: Callable[[Named, int, Callable[[], None]], int],
    *,
    form: Form = Form.TEXT,
    patience_seconds: float = HUNG_SECONDS,
) -> int:
    """Run every spool, a few at the same time, so that a slow one does not hold back the others.

    An invalid configuration does not stop the others. Two with the same spool or metrics file are not run; the others
    are.

    A run that gives no sign of life, as on a disk that does not answer, is abandoned when the others have ended.

    :param run: runs one spool within a number of bytes in memory, and returns its exit code; called on threads. Its
        last argument is a heartbeat, to be called at least every few seconds.
    :param patience_seconds: timeout for a sign of life.
    """
    loaded, codes = _loaded(paths, together(options, paths), form)
    waiting: queue.SimpleQueue[Named] = queue.SimpleQueue()
    for named in loaded:
        waiting.put(named)
    at_once = min(AT_ONCE, len(loaded))
    share = _BYTES_IN_FLIGHT // max(1, at_once)

    at_work: dict[str, float] = {}

    def work() -> None:
        while True:
            try:
                named = waiting.get_nowait()
            except queue.Empty:
                return

            def beat(path: str = named.path) -> None:
                at_work[path] = time.monotonic()

            beat()
            code = _by_itself(named.name, lambda named=named, beat=beat: run(named, share, beat), form, named.name)  # type: ignore[misc]
            codes.append(code)
            del at_work[named.path]

    threads = [threading.Thread(target=work, name=f"spool-{number}", daemon=True) for number in range(at_once)]
    for thread in threads:
        start_thread(thread)
    if not _joined(threads, at_work, patience_seconds=patience_seconds, is_work_left=lambda: not waiting.empty()):
        names = {named.path: named.name for named in loaded}
        for path in sorted(at_work):
            print(
                f"{shown_name(names[path])}: the run hangs, probably on a disk that does not answer. It was abandoned.",
                file=sys.stderr,
            )
        codes.append(SOME_FAILED)
    return worst(codes)


def _loaded(paths: Sequence[str], options: FileOptions, form: Form) -> tuple[list[Named], list[int]]:
    """Load the configurations; returns those that can be run, and the exit codes of the others."""
    codes: list[int] = []
    loaded: list[Named] = []
    for path, name in names_of(paths).items():

        def take(path: str = path, name: str = name) -> int:
            loaded.append(Named(path, load(path, options), name))
            return OK

        code = _by_itself(name, take, form, name)
        if code != OK:
            codes.append(code)

    def refuse() -> int:
        refuse_shared(loaded)
        return OK

    codes.append(guarded(refuse, form=form))
    return loaded, codes


def _joined(
    threads: Sequence[threading.Thread],
    at_work: dict[str, float],
    *,
    patience_seconds: float,
    is_work_left: Callable[[], bool],
) -> bool:
    """Wait for the threads; returns ``False`` if the remaining ones hang."""
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(min(1.0, patience_seconds))
        hung = [at for at in list(at_work.values()) if time.monotonic() - at > patience_seconds]
        alive = [thread for thread in threads if thread.is_alive()]
        if alive and len(hung) >= len(alive) and (not is_work_left() or len(alive) == len(threads)):
            return False
    return True


def _by_itself(path: str, work: Callable[[], int], form: Form, name: str) -> int:
    """Do the work for one configuration. An unexpected error is printed and does not stop the others."""
    try:
        return guarded(work, form=form, name=name)
    except Exception as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        # In one piece, so that the lines of several threads stay apart.
        sys.stderr.write(
            f"{shown_name(path)}: an unexpected error, {type(error).__name__}: {shown_name(str(error))} "
            f"({os.path.basename(place.filename)}, line {place.lineno})\n"
        )
        return SOME_FAILED


def refuse_shared(loaded: list[Named], *, follow_links: bool = True) -> None:
    """Remove configurations from ``loaded`` that conflict with each other.

    :param follow_links: compare paths after following links, which needs the disk.
    :raises ConfigError: if there are any.
    """
    found = _shared(loaded, follow_links=follow_links)
    if found:
        refused = {path for each in found for path in each.paths}
        loaded[:] = [named for named in loaded if named.path not in refused]
        raise _conflict(found)


def _conflict(found: Sequence[Shared]) -> ConfigError:
    places = {os.path.dirname(path) or os.curdir for each in found for path in each.paths}
    source = places.pop() if len(places) == 1 else "the configurations"
    return ConfigError(source, [each.sentence for each in found])


def _shared(loaded: Sequence[Named], *, follow_links: bool = True) -> list[Shared]:
    """The conflicts between configurations."""
    found = []
    for key in ("base_dir", "metrics_file"):
        values = {named.path: value for named in loaded if (value := getattr(named.config, key)) is not None}
        places = _real_paths(values) if follow_links else {path: os.path.abspath(each) for path, each in values.items()}
        first: dict[str, Named] = {}
        for named in loaded:
            if named.path not in places:
                continue
            other = first.setdefault(places[named.path], named)
            if other is not named:
                sentence = f"{key}: {other.name} and {named.name} have the same path, {values[named.path]}"
                found.append(Shared((other.path, named.path), sentence))
    return found


def _real_paths(values: dict[str, str]) -> dict[str, str]:
    """Follow the links of each path; a path stays as it is where that takes too long."""
    found = {name: os.path.abspath(value) for name, value in values.items()}

    def follow() -> None:
        for name, value in values.items():
            found[name] = os.path.realpath(value)

    thread = threading.Thread(target=follow, name="links", daemon=True)
    start_thread(thread)
    thread.join(_LINK_SECONDS)
    return dict(found)
