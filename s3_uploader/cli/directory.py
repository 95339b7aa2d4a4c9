"""A directory of configurations: run all its spools at once, or do another command's work for each in turn.

The exit code is the first of these that any of them has: a signal's (130, 143), 2, 3, 75, 1, 0.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable

import msgspec

from s3_uploader.cli.exit_codes import OK, SOME_FAILED, Form, guarded
from s3_uploader.cli.settings import load, load_together
from s3_uploader.config import Config
from s3_uploader.core.errors import ConfigError
from s3_uploader.core.text import shown_name

AT_ONCE = 8
"""How many spools of a directory are run at the same time, at the most."""

_BYTES_IN_FLIGHT = 64 * 2**20
_WORST_FIRST = (130, 143, 129, 2, 3, 75, 1)


class Named(msgspec.Struct, frozen=True):
    """A configuration and the name of its file."""

    name: str
    config: Config


def is_directory(config_file: str) -> bool:
    """Whether what was named is a directory of configurations."""
    return os.path.isdir(config_file)


def files_in(directory: str) -> list[str]:
    """The configuration files of a directory, in the order of their names.

    :raises ConfigError: if there are none.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json") and not name.startswith("."))
    except OSError as error:
        raise ConfigError(directory, [f"cannot be read: {error.strerror}"]) from None
    if not names:
        raise ConfigError(directory, ["holds no configuration file, whose name would end in .json"])
    return [os.path.join(directory, name) for name in names]


def worst(codes: list[int]) -> int:
    """The exit code of all, from that of each."""
    return next((code for code in _WORST_FIRST if code in codes), max(codes, default=OK))


def each(config_file: str, work: Callable[[str], int], *, headings: bool = True, form: Form = Form.TEXT) -> int:
    """Do a command's work for the configuration, or for each of a directory in turn; what fails does not stop others.

    :param headings: name each file before what is printed about it.
    :param form: in which errors are told.
    """
    if not is_directory(config_file):
        return guarded(lambda: work(config_file), form=form)

    def all_of_them() -> int:
        codes = []
        paths = files_in(config_file)
        load_together(paths)
        for number, path in enumerate(paths):
            if headings:
                print(*[""] * bool(number), f"{shown_name(path)}:", sep="\n", flush=True)
            codes.append(_by_itself(path, lambda path=path: work(path), form))  # type: ignore[misc]
            sys.stdout.flush()
        return worst(codes)

    return guarded(all_of_them, form=form)


def run_all(directory: str, run: Callable[[Named, int], int], *, form: Form = Form.TEXT) -> int:
    """Run every spool of a directory, a few at the same time, so that a slow one does not hold back the others.

    A file that is no configuration does not stop the others, nor do two that have one spool or one metrics file: only
    these two are not run.

    :param run: runs one, with so many bytes in memory at the most, and returns its exit code; called on threads.
    """
    codes: list[int] = []
    loaded: list[Named] = []
    paths = files_in(directory)
    load_together(paths)
    for path in paths:

        def take(path: str = path) -> int:
            loaded.append(Named(os.path.basename(path), load(path)))
            return OK

        code = _by_itself(path, take, form)
        if code != OK:
            codes.append(code)

    def refuse() -> int:
        refuse_shared(directory, loaded)
        return OK

    codes.append(guarded(refuse, form=form))
    waiting: queue.SimpleQueue[Named] = queue.SimpleQueue()
    for named in loaded:
        waiting.put(named)
    at_once = min(AT_ONCE, len(loaded))
    share = _BYTES_IN_FLIGHT // max(1, at_once)

    def work() -> None:
        while True:
            try:
                named = waiting.get_nowait()
            except queue.Empty:
                return
            codes.append(_by_itself(named.name, lambda named=named: run(named, share), form))  # type: ignore[misc]

    threads = [threading.Thread(target=work, name=f"spool-{number}", daemon=True) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return worst(codes)


def _by_itself(name: str, work: Callable[[], int], form: Form) -> int:
    """Do the work for one configuration; not even what nobody thought of keeps the others from their turn."""
    try:
        return guarded(work, form=form, name=os.path.basename(name))
    except Exception as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        # In one piece, so that the lines of several threads stay apart.
        sys.stderr.write(
            f"{shown_name(name)}: an unexpected error, {type(error).__name__}: {shown_name(str(error))} "
            f"({os.path.basename(place.filename)}, line {place.lineno})\n"
        )
        return SOME_FAILED


def refuse_shared(directory: str, loaded: list[Named]) -> None:
    """Take configurations out of ``loaded`` that would get into each other's way.

    :raises ConfigError: if there are such.
    """
    problems = []
    refused: set[str] = set()
    for key in ("base_dir", "metrics_file"):
        first: dict[str, str] = {}
        for named in loaded:
            value = getattr(named.config, key)
            if value is None:
                continue
            other = first.setdefault(os.path.realpath(value), named.name)
            if other != named.name:
                problems.append(f"{key}: {other} and {named.name} have the same, {value}")
                refused |= {other, named.name}
    if problems:
        loaded[:] = [named for named in loaded if named.name not in refused]
        raise ConfigError(directory, problems)
