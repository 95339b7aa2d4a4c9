"""The command line of ``check``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import CheckOptions
from s3_uploader.cli.options import configured, form_of, takes


@click.command(short_help="Prove that spool and destination can do what is needed.")
@configured
@takes(CheckOptions)
def check(config_file: str, options: CheckOptions) -> int:
    """Prove before the first deletion that spool and destination can do what is needed.

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
        form=form_of(options.as_json),
    )
