"""The command line of ``report``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import ReportOptions
from s3_uploader.cli.options import configured_or_ledgers, form_of, insist_on_one, takes


@click.command(short_help="Make an HTML page with charts of what was shipped.")
@configured_or_ledgers
@takes(ReportOptions)
def report(config_file: str | None, options: ReportOptions) -> int:
    """Make an HTML page with charts of shipped files, delays, backlog and failures.

    The page is one file and needs no network. It is made from the ledger. The destination is not asked.

    \b
    Examples:
      s3-uploader-cli report config.json -o report.html --since 30d
      s3-uploader-cli report --ledgers /srv/ledgers -o fleet.html --since 30d
    """
    from s3_uploader.cli.directory import each, is_directory
    from s3_uploader.cli.frame import guarded
    from s3_uploader.cli.report import report as work
    from s3_uploader.cli.report import report_each

    insist_on_one(config_file, options.ledgers)
    form = form_of(options.as_json)
    if config_file is None or options.ledgers:
        return guarded(lambda: work(config_file, options, output=options.output), form=form)
    if is_directory(config_file) and not options.as_json:
        return report_each(config_file, options, form=form)
    return each(
        config_file,
        options,
        lambda path, options: work(path, options, output=options.output),
        headings=False,
        form=form,
    )
