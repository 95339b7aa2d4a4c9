"""The command ``demo`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.exit_codes import guarded


@click.command(short_help="Show the main job, with a server of its own.")
@click.option("--keep", is_flag=True, help="Do not remove the demo's directory at the end.")
def demo(keep: bool) -> int:
    """Show the main job: a spool, an S3 server inside this process, and a run. Needs no account.

    \b
    Example:
      s3-uploader-cli demo --keep
    """
    from s3_uploader.cli.demo import demo as work

    return guarded(lambda: work(keep=keep))
