"""The command line: ``s3-uploader-cli``.

Ctrl-C is a traceback until :func:`main` is at work, so nothing that takes time is imported before.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_ANY_MODULE = 4 << 20
"""Bytes that are enough for any compiled module."""


def command() -> NoReturn:
    """Run the command line and end the process with its exit code.

    The interpreter is not taken apart first, because freeing everything it has loaded would be a twentieth of what a
    run with nothing to do costs, and the system frees it at once.
    """
    code = main()
    import contextlib

    threading = sys.modules.get("threading")
    if threading is None or all(each.daemon or each is threading.main_thread() for each in threading.enumerate()):
        # What is registered to be done at the end is done, and only then the streams are flushed, as Python does.
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or not there at all
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    ``s3-uploader-cli CONFIG_FILE``, the form that cron starts every minute, needs no command-line parser and does not
    load one: that is a third of what a run with nothing to do costs.
    """
    is_own_process = arguments is None
    try:
        if arguments is None:
            # Modules are never garbage. Collecting repeatedly while they are imported, and once more when the
            # interpreter ends, would be a tenth of the cost of a run with nothing to do.
            gc.disable()
            _keep_no_half_modules()
        from s3_uploader.cli.names import COMMANDS

        if arguments is None:
            from s3_uploader.cli.process import prepare

            prepare()
            arguments = sys.argv[1:]
        if len(arguments) == 1 and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            from s3_uploader.cli.run import RunOptions, run

            if is_own_process:
                _begin()
            return run(arguments[0], RunOptions())
        from s3_uploader.cli.commands import command_line

        if is_own_process:
            _begin()
        return command_line(arguments)
    except KeyboardInterrupt:  # Ctrl-C before the command took over the signals, while modules are still imported
        return 130
    except EOFError as error:
        if not is_own_process:
            raise
        return _cut_off(error)
    except Exception as error:
        if not is_own_process or not _lacks_memory(error):
            raise
    return _without_memory()


def _keep_no_half_modules() -> None:
    """Let Python keep no compiled modules where files may not be large enough for them.

    It does not notice that one is cut off, and no later start could import it.
    """
    import contextlib
    import resource

    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid to ask
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY and limit < _ANY_MODULE:
            sys.dont_write_bytecode = True


def _cut_off(error: EOFError) -> int:
    """Tell of a compiled module without its end."""
    from s3_uploader.cli.exit_codes import ended_by
    from s3_uploader.cli.names import Form

    code = ended_by(error, Form.PLUGIN if "--plugin" in sys.argv else Form.TEXT, "")
    if code is None:
        raise error
    return code


def _lacks_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    try:
        from s3_uploader.core.errors import lacks_memory
    except (ImportError, MemoryError) as another:
        # There may be no memory for that either. The words are the dynamic linker's.
        return isinstance(another, MemoryError) or "failed to map segment" in str(another)
    return lacks_memory(error)


def _without_memory() -> int:
    """Say that there is no memory left, not even for the modules of the command, with as little of it as possible."""
    is_plugin = "--plugin" in sys.argv
    head, number = ("S3_UPLOADER UNKNOWN - ", 1) if is_plugin else ("", 2)
    sentence = getattr(sys.modules.get("s3_uploader.cli.names"), "NO_MEMORY", "The system has no memory left.")
    try:  # noqa: SIM105 - nothing can be imported any more
        os.write(number, f"{head}{sentence}\n".encode())
    except OSError:
        pass
    return 3 if is_plugin else 1


def _begin() -> None:
    """Let Ctrl-C be for the command, and collect garbage again, but not among what has been imported."""
    from s3_uploader.cli.process import raise_interruptions

    raise_interruptions()
    gc.freeze()
    gc.enable()
