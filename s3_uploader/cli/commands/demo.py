"""The command ``demo`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import DemoOptions
from s3_uploader.cli.exit_codes import guarded
from s3_uploader.cli.options import takes


@click.command(short_help="Show the main job, with a server of its own.")
@takes(DemoOptions)
def demo(options: DemoOptions) -> int:
    """Show the main job: a spool, an S3 server inside this process, and a run. Needs no account.

    \b
    Example:
      s3-uploader-cli demo --keep
    """
    from s3_uploader.cli.demo import demo as work

    return guarded(lambda: work(options))
