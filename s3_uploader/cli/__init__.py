"""The command line: ``s3-uploader-cli``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from s3_uploader.cli.names import COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    ``s3-uploader-cli CONFIG_FILE``, the form that cron starts every minute, needs no command-line parser and does not
    load one: that is a third of what a run with nothing to do costs.
    """
    if arguments is None:
        from s3_uploader.cli.process import prepare

        prepare()
        arguments = sys.argv[1:]
    if len(arguments) == 1 and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        try:
            from s3_uploader.cli.run import RunOptions, run

            return run(arguments[0], RunOptions())
        except KeyboardInterrupt:  # Ctrl-C before the run took over the signals, while modules are still imported
            return 130
    from s3_uploader.cli.commands import command_line

    return command_line(arguments)
