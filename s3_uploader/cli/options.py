"""Parameters that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from s3_uploader.cli.exit_codes import Form

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from s3_uploader.monitoring.log import Verbosity


def configurations(incomplete: str) -> list[CompletionItem]:
    """What stands for every configuration here, until the shell looks for them."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="json")]


class ConfigFile(click.Path):
    """A configuration file, or a directory of them; completed as such."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What click asks for while a shell completes."""
        return configurations(incomplete)


def _take_settings(context: click.Context, option: click.Parameter, settings: tuple[str, ...]) -> None:
    from s3_uploader.cli.settings import set_over_files

    set_over_files(settings)


_SET = click.option(
    "--set",
    metavar="KEY=VALUE",
    multiple=True,
    expose_value=False,
    callback=_take_settings,
    help="Set a key of the configuration, e.g. destination.port=2121; may be repeated.",
)


def _take_share(context: click.Context, option: click.Parameter, share: str | None) -> None:
    from s3_uploader.cli.settings import set_share

    if share is not None and not share.startswith("/"):
        from s3_uploader.core.errors import UsageProblem
        from s3_uploader.core.shares import parse

        try:
            parse(share)
        except UsageProblem as problem:
            raise click.BadParameter(str(problem), context, option) from None
    set_share(share)


shared = click.option(
    "--share",
    metavar="K/N",
    expose_value=False,
    callback=_take_share,
    help="Ship only this part of the files: N runs, from 0/N to N-1/N and on any machines, ship all. /N takes K from "
    "SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX.",
)
"""The option that says which share of the files a run ships."""

since_option = click.option(
    "--since", metavar="TIME", help="At or after: yesterday, monday, 2026-11-20, 2026-11-20T15:04, or 2h, 3d ago."
)
until_option = click.option("--until", metavar="TIME", help="Before that time.")
match_option = click.option("--match", metavar="GLOB", help="Only paths or keys that match, e.g. 'bedroom/*'.")
location_option = click.option("--location", metavar="NAME", help="Only this location.")

simulating = click.option(
    "--simulate-failures",
    type=click.FloatRange(0, 1),
    metavar="RATE",
    help="Rehearsal: make this share of the uploads (0 to 1) fail, with every kind of error there is.",
)


def configured(command: Callable[..., int]) -> Callable[..., int]:
    """The argument CONFIG_FILE, and the option that says what comes over the file."""
    return click.argument("config_file", type=ConfigFile())(_SET(command))


def configured_or_ledgers(command: Callable[..., int]) -> Callable[..., int]:
    """The same for a command that can do without a file, where it is given ledgers; these as ``ledgers``."""
    ledgers = click.option(
        "--ledgers",
        metavar="PATH",
        multiple=True,
        type=click.Path(),
        help="These ledgers, of any uploaders: files, or directories in which such are; may be repeated.",
    )
    return click.argument("config_file", type=ConfigFile(), required=False)(_SET(ledgers(command)))


def insist_on_one(config_file: str | None, ledgers: tuple[str, ...]) -> None:
    """Refuse a command line that names neither a configuration nor ledgers."""
    if config_file is None and not ledgers:
        raise click.UsageError("Missing argument 'CONFIG_FILE', or --ledgers.", click.get_current_context())


def several_configured(command: Callable[..., int]) -> Callable[..., int]:
    """The same for a command that takes several files, or directories of them, at once."""
    return click.argument("config_files", type=ConfigFile(), nargs=-1, required=True, metavar="CONFIG_FILE...")(
        _SET(command)
    )


def form_of(as_json: bool) -> Form:
    """In which form a command that has ``--json`` tells of an error."""
    return Form.JSON if as_json else Form.TEXT


def verbosity_of(*, verbose: bool, quiet: bool) -> Verbosity:
    """What ``--verbose`` and ``--quiet`` ask for."""
    from s3_uploader.monitoring.log import Verbosity

    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet contradict each other.")
    return Verbosity.VERBOSE if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL
