"""The command line for click: one module for each command, named like it.

A command's module is imported when it is called, so that a run started by a timer does not load the others.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import s3_uploader
from s3_uploader.cli.exit_codes import USAGE, finish_output, tell_of_lost_output
from s3_uploader.cli.help import Context
from s3_uploader.cli.names import COMMANDS, COMPLETION_VARIABLE
from s3_uploader.cli.options import configurations

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _RunByDefault(click.Group):
    """A group that takes a first argument that is not a command as the configuration file of ``run``."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return command(cmd_name) if cmd_name in COMMANDS else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if args and args[0] not in COMMANDS and args[0] not in own:
            self._refuse_misspelling(args[0])
            self._refuse_late_command(args)
            args = ["run", *args]
        return super().parse_args(ctx, args)

    @staticmethod
    def _refuse_misspelling(word: str) -> None:
        if word.startswith("-"):
            return
        from s3_uploader.cli.frame import nearest_command

        nearest = nearest_command(word)
        if nearest:
            raise click.UsageError(
                f"{word} is neither a command nor a configuration file. Did you mean {nearest}?", ctx=None
            )

    @staticmethod
    def _refuse_late_command(args: list[str]) -> None:
        """Refuse `CONFIG_FILE status`: it would be a run of two configurations, and upload the files of the first."""
        for word in args[1:]:
            if word in COMMANDS and not os.path.lexists(word):
                raise click.UsageError(
                    f"{word} is a command, which stands before the configuration file: "
                    f"s3-uploader-cli {word} {args[0]}",
                    ctx=None,
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return super().shell_complete(ctx, incomplete) + ([] if incomplete[:1] == "-" else configurations(incomplete))


def command(name: str) -> click.Command:
    """Import the command of that name."""
    found = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    assert isinstance(found, click.Command)
    for each in (found, *(found.commands.values() if isinstance(found, click.Group) else ())):
        each.context_class = Context
    return found


@click.group(cls=_RunByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(s3_uploader.__version__, prog_name="s3-uploader-cli")
def group() -> None:
    """Empty a spool directory into object storage without losing a byte.

    \b
    s3-uploader-cli CONFIG_FILE
        one run, as `run CONFIG_FILE`
    s3-uploader-cli COMMAND --help
        more about a command
    """


def command_line(arguments: Sequence[str]) -> int:
    """Parse the command line, run the command and return its exit code."""
    if COMPLETION_VARIABLE in os.environ:
        from s3_uploader.cli import completion as completing
        from s3_uploader.cli.output import write_text

        write_text(completing.answer(group))
        return 0
    try:
        code = _invoke(arguments)
        lost = finish_output()
    except OSError as error:
        # Commands handle their own errors; what remains is that their words cannot be written.
        lost = finish_output() or error
    return code if lost is None else tell_of_lost_output(lost)


def _invoke(arguments: Sequence[str]) -> int:
    try:
        result = group.main(args=list(arguments), prog_name="s3-uploader-cli", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except click.Abort as abort:
        if isinstance(abort.__cause__, EOFError):
            raise abort.__cause__ from None  # no interruption: a module could not be imported
        print("Aborted.", file=sys.stderr)
        return 130
    except SystemExit as ended:
        # Click exits with 1 if the reader has left (`| head`), which is no failure. A check that is stopped exits with
        # the code of the signal.
        if ended.code != 1:
            raise
        return 0
    return result if isinstance(result, int) else 0
