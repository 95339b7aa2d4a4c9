"""The command line: ``s3-uploader-cli``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from s3_uploader.cli.names import COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    ``s3-uploader-cli CONFIG_FILE``, the form that cron starts every minute, needs no command-line parser and does not
    load one: that is a third of what a run with nothing to do costs.
    """
    is_own_process = arguments is None
    if arguments is None:
        from s3_uploader.cli.process import prepare

        prepare()
        arguments = sys.argv[1:]
    if len(arguments) == 1 and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        try:
            if is_own_process:
                # Modules stay. To look for garbage among them, again and again while they are imported and once more
                # when the interpreter ends, would be a tenth of what a run with nothing to do costs.
                gc.disable()
            from s3_uploader.cli.run import RunOptions, run

            if is_own_process:
                gc.freeze()
                gc.enable()
            return run(arguments[0], RunOptions())
        except KeyboardInterrupt:  # Ctrl-C before the run took over the signals, while modules are still imported
            return 130
    from s3_uploader.cli.commands import command_line

    return command_line(arguments)
