"""The command line of ``init``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import CheckOptions, InitOptions, UnitOptions
from s3_uploader.cli.frame import guarded
from s3_uploader.cli.options import takes


@click.command(short_help="Ask for spool and destination, write a configuration.")
@click.argument("config_file", type=click.Path(readable=False), default="s3-uploader.json")
@takes(InitOptions)
def init(config_file: str, options: InitOptions) -> int:
    """Ask for spool and destination, look at the spool, and write a configuration with comments.

    It proposes a layout and a settle time that suit the files in the spool. --from reads the INI file of
    zc.s3uploadqueue, the YAML file of s3, and the command line of jollyae. Without a terminal, or with --yes,
    nothing is asked.

    \b
    Examples:
      s3-uploader-cli init
      s3-uploader-cli init config.json --spool /srv/x --to s3://bucket/x --yes
    """
    from s3_uploader.cli.check import check
    from s3_uploader.cli.init import init as work
    from s3_uploader.cli.units import units as print_units

    return guarded(
        lambda: work(
            config_file,
            options,
            check=lambda path: check(path, CheckOptions()),
            units=lambda path: print_units(path, UnitOptions()),
        )
    )
