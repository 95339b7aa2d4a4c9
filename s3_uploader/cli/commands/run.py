"""The command line of ``run``."""

from __future__ import annotations

import click

from s3_uploader.cli.options import several_configured, takes
from s3_uploader.cli.run import RunOptions
from s3_uploader.cli.run import run as work


@click.command(short_help="Ship the files that are ready, once.")
@several_configured
@takes(RunOptions)
def run(config_files: tuple[str, ...], options: RunOptions) -> int:
    """Ship the files that are ready, once.

    With several configuration files or a directory of them, up to eight spools run at the same time.

    \b
    Example, for cron:
      * * * * * s3-uploader-cli run --quiet /etc/s3-uploader/config.json
    """
    return work(config_files[0], options, *config_files[1:])
