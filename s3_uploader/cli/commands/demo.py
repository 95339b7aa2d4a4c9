"""The command line of ``demo``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import DemoOptions
from s3_uploader.cli.frame import guarded
from s3_uploader.cli.options import takes


@click.command(short_help="Show a run with an embedded S3 server.")
@takes(DemoOptions)
def demo(options: DemoOptions) -> int:
    """Show a run: a spool, an S3 server inside this process, and the real command. Needs no account.

    \b
    Example:
      s3-uploader-cli demo --keep
    """
    from s3_uploader.cli.demo import demo as work

    return guarded(lambda: work(options))
