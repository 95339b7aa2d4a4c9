"""The command line of ``forget``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import ForgetOptions
from s3_uploader.cli.frame import guarded
from s3_uploader.cli.options import configured, form_of, takes


@click.command(short_help="Let the next run retry failing files.")
@configured
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@takes(ForgetOptions)
def forget(config_file: str, paths: tuple[str, ...], options: ForgetOptions) -> int:
    """Forget that files have failed, so that the next run treats them as new.

    A path is absolute, or relative to the spool or to the current directory. A directory stands for all files below it,
    and wildcards are allowed. To retry all failing files at once and keep the count of their attempts, use
    `run --retry`.

    \b
    Examples:
      s3-uploader-cli forget config.json bedroom/2026/11/20/15/46-topic.dat
      s3-uploader-cli forget config.json --all
    """
    from s3_uploader.cli.forget import forget as work

    return guarded(lambda: work(config_file, paths, options), form=form_of(options.as_json))
