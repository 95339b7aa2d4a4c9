"""The one table from an exception to its message and its exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from s3_uploader.cli.names import NO_MEMORY, Form
from s3_uploader.core.errors import (
    ConfigError,
    DestinationBusy,
    EngineUnavailable,
    LockHeld,
    NotMounted,
    SpoolError,
    StateError,
    StoreError,
    UploaderError,
    UsageProblem,
    lacks_descriptors,
    lacks_memory,
)
from s3_uploader.core.text import shown_name, shown_text

OK = 0
SOME_FAILED = 1
USAGE = 2
DESTINATION_UNUSABLE = 3
LOCK_TIMEOUT = 75
PLUGIN_UNKNOWN = 3
"""What monitoring systems take for a state that could not be found out."""

_EXIT_CODES: tuple[tuple[type[UploaderError], str, int], ...] = (
    (ConfigError, "configuration", USAGE),
    (NotMounted, "not_mounted", DESTINATION_UNUSABLE),
    (SpoolError, "spool", USAGE),
    (StateError, "state", USAGE),
    (EngineUnavailable, "engine", USAGE),
    (UsageProblem, "usage", USAGE),
    (LockHeld, "lock", LOCK_TIMEOUT),
    (DestinationBusy, "destination_busy", OK),
    (StoreError, "destination", DESTINATION_UNUSABLE),
)
"""Each error with its identifier in JSON and its exit code."""


def explain(error: UploaderError) -> tuple[list[str], int]:
    """The sentences for standard error, and the exit code of an error."""
    _, code = _kind(error)
    if isinstance(error, ConfigError):
        noun = "problem" if len(error.problems) == 1 else "problems"
        lines = [f"{shown_name(error.source)}: {len(error.problems)} {noun}"]
        lines += [f"  {shown_name(problem)}" for problem in error.problems]
        return lines + ([f"  {shown_text(error.hint)}"] if error.hint else []), code
    return [shown_text(str(error))], code


def _kind(error: UploaderError) -> tuple[str, int]:
    return next(((name, code) for kind, name, code in _EXIT_CODES if isinstance(error, kind)), ("other", SOME_FAILED))


def _tell(error: UploaderError, form: Form, name: str) -> int:
    """Print the error that ended the command; returns its exit code."""
    lines, code = explain(error)
    if error.is_repeated:
        return code
    if form is Form.PLUGIN:
        print(f"S3_UPLOADER UNKNOWN - {lines[0]}")
        return PLUGIN_UNKNOWN
    if form is Form.TEXT:
        if name and not isinstance(error, ConfigError):
            lines = [f"{shown_name(name)}: {lines[0]}", *lines[1:]]
        print(*lines, sep="\n", file=sys.stderr)
        return code
    fields: dict[str, object] = {"config": name} if name else {}
    fields |= {"error": _kind(error)[0], "message": error.message, "hint": error.hint}
    if isinstance(error, ConfigError):
        fields |= {"source": shown_name(error.source), "problems": list(map(shown_name, error.problems))}
    fields["exit_code"] = code
    if form is Form.JSON:
        from s3_uploader.cli.output import print_json

        print_json(fields)
    else:
        import time

        from s3_uploader.cli.output import json_bytes, utc_time

        head = {"time": utc_time(time.time()), "level": "error", "event": "command_failed"}
        print(json_bytes(head | fields).decode(), file=sys.stderr)
    return code


def ended_by(error: Exception, form: Form, name: str) -> int | None:
    """Tell of the error that ended a command; returns its exit code, or ``None`` if it is a fault of the program."""
    if isinstance(error, UploaderError):
        return _tell(error, form, name)
    if isinstance(error, BrokenPipeError):
        finish_output()
        return OK
    if isinstance(error, EOFError):
        cut_off = of_a_module_cut_off(error)
        return None if cut_off is None else _tell(cut_off, form, name)
    if not isinstance(error, OSError) and not lacks_memory(error) and not lacks_descriptors(error):
        return None
    from s3_uploader.cli.output import OutputLost

    lost = finish_output()
    if isinstance(error, OutputLost):
        lost = error
    if lost is not None:
        return tell_of_lost_output(lost)
    # The fault of the machine: a failing disk, no descriptors, no memory. If more is known about it, it already is
    # an error of ours.
    return _tell(refused_by_the_system(error), form, name)


def tell_of_lost_output(error: OSError) -> int:
    """Say on standard error that standard output cannot be written to; returns the exit code."""
    with contextlib.suppress(OSError):
        print(f"Standard output cannot be written: {error.strerror or error}.", file=sys.stderr, flush=True)
    return SOME_FAILED


def refused_by_the_system(error: Exception) -> UploaderError:
    """The error of a command that failed because of the machine."""
    if "thread" in str(error) and isinstance(error, RuntimeError):
        return UploaderError(
            "No thread can be started: memory or the limit of processes is used up. "
            "Files that were not shipped are kept."
        )
    hint = "Raise this user's limit of open files (ulimit -n)." if lacks_descriptors(error) else ""
    if hint and not isinstance(error, OSError):
        return UploaderError(f"A part of the program cannot be loaded: {error}.", hint=hint)
    if not isinstance(error, OSError):
        return UploaderError(NO_MEMORY)
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_nowhere():
        return UsageProblem(
            "The directory in which this command was started has been removed.", hint="Start it in another one."
        )
    reason = error.strerror or str(error) or type(error).__name__
    where = f": {shown_name(os.fsdecode(error.filename))}" if isinstance(error.filename, (str, bytes)) else ""
    return UploaderError(
        f"The system refused an operation: {reason}{where}. Files that were not shipped are kept.", hint=hint
    )


def of_a_module_cut_off(error: EOFError) -> UploaderError | None:
    """The error of a command that met a compiled module without its end; ``None`` if it met something else."""
    from s3_uploader.core.installation import remove_cut_off

    path = remove_cut_off(error)
    if not path:
        return None
    fact = f"The compiled module {shown_name(path)} is cut off; perhaps a disk was full when Python wrote it."
    if os.path.lexists(path):
        return UploaderError(fact, hint="Remove it: Python makes another one.")
    return UploaderError(f"{fact} It has been removed.", hint="Start the command again.")


def _is_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


@contextmanager
def to_whoever_reads() -> Iterator[None]:
    """Print; a reader that leaves early (`| head -1`) does not change the exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        finish_output()


def finish_output() -> OSError | None:
    """Flush standard output. A reader that leaves early (`| head`) is not a failure.

    :returns: why some of the output is lost, e.g. because its disk is full.
    """
    lost = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            from s3_uploader.cli.process import open_nowhere

            # Python must not try to flush into it once more.
            os.dup2(open_nowhere(), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                lost = error
    return lost
