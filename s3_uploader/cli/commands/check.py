"""The command line of ``check``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import CheckOptions
from s3_uploader.cli.options import configured, form_of, takes


@click.command(short_help="Check that the spool and the destination can do what a run needs.")
@configured
@takes(CheckOptions)
def check(config_file: str, options: CheckOptions) -> int:
    """Check that the spool and the destination can do what a run needs, before the first deletion.

    Stores a small test object at the destination and deletes it again.

    \b
    Example:
      s3-uploader-cli check /etc/s3-uploader/config.json
    """
    from s3_uploader.cli.check import check as work
    from s3_uploader.cli.directory import each

    return each(
        config_file,
        options,
        work,
        headings=not options.as_json,
        closing=not options.as_json,
        are_run_together=True,
        form=form_of(options.as_json),
    )
