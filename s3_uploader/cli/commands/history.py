"""The command line of ``history``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import HistoryOptions
from s3_uploader.cli.options import configured, form_of, takes


@click.command(short_help="List what was shipped, from the ledger.")
@configured
@takes(HistoryOptions)
def history(config_file: str, options: HistoryOptions) -> int:
    """List what was shipped, from the ledger. The destination is not asked.

    \b
    Examples:
      s3-uploader-cli history config.json --since 1d --match 'den/*' --format csv
      s3-uploader-cli history config.json --totals day,location --since 7d
    """
    from s3_uploader.cli.directory import each
    from s3_uploader.cli.history import history as work

    return each(
        config_file,
        options,
        work,
        headings=options.form == "table",
        form=form_of(options.form == "json"),
    )
