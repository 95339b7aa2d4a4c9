"""The command line of ``units``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import UnitOptions
from s3_uploader.cli.frame import guarded
from s3_uploader.cli.options import configured, form_of, takes


@click.command(short_help="Print systemd units or a crontab for a configuration.")
@configured
@takes(UnitOptions)
def units(config_file: str, options: UnitOptions) -> int:
    """Print systemd units or a crontab for a configuration, confined to what it needs.

    \b
    Examples:
      s3-uploader-cli units /etc/s3-uploader/config.json
      s3-uploader-cli units /etc/s3-uploader/config.json --kind watch --install
    """
    from s3_uploader.cli.units import units as work

    return guarded(lambda: work(config_file, options), form=form_of(options.as_json))
