"""The one table from an exception to what a person reads and what the shell gets."""

from __future__ import annotations

import sys
from collections.abc import Callable

from s3_uploader.core.errors import (
    ConfigError,
    DestinationBusy,
    EngineUnavailable,
    LockHeld,
    SpoolError,
    StateError,
    StoreError,
    UploaderError,
    UsageProblem,
)
from s3_uploader.core.text import shown_name

OK = 0
SOME_FAILED = 1
USAGE = 2
DESTINATION_UNUSABLE = 3
LOCK_TIMEOUT = 75

_EXIT_CODES: tuple[tuple[type[UploaderError], int], ...] = (
    (ConfigError, USAGE),
    (SpoolError, USAGE),
    (StateError, USAGE),
    (EngineUnavailable, USAGE),
    (UsageProblem, USAGE),
    (LockHeld, LOCK_TIMEOUT),
    (DestinationBusy, OK),
    (StoreError, DESTINATION_UNUSABLE),
)


def explain(error: UploaderError) -> tuple[list[str], int]:
    """The sentences for standard error and the exit code that an error ends the program with."""
    code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), SOME_FAILED)
    if isinstance(error, ConfigError):
        noun = "problem" if len(error.problems) == 1 else "problems"
        lines = [f"{shown_name(error.source)}: {len(error.problems)} {noun}"]
        return lines + [f"  {shown_name(problem)}" for problem in error.problems], code
    return [str(error)], code


def guarded(work: Callable[[], int]) -> int:
    """Do the work of a command; an error of ours becomes sentences and an exit code, never a traceback."""
    try:
        return work()
    except UploaderError as error:
        lines, code = explain(error)
        print(*lines, sep="\n", file=sys.stderr)
        return code
    except BrokenPipeError:
        finish_output()
        return OK


def finish_output() -> None:
    """Write what is still buffered. A reader that has seen enough (`| head`) is no failure, and not told at the end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Python must not try to flush into it once more.
            import os

            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
