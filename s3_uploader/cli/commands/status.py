"""The command line of ``status``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import StatusOptions
from s3_uploader.cli.frame import guarded
from s3_uploader.cli.names import Form
from s3_uploader.cli.options import configured, form_of, takes


@click.command(short_help="Show whether a spool is stuck, since when, and why.")
@configured
@takes(StatusOptions)
def status(config_file: str, options: StatusOptions) -> int:
    """Show whether a spool is stuck: since when, on which file, why, and what happens next.

    Also prints the lock holder, the backlog by location with the age of its oldest file, failing files and the last
    runs. For a directory of configurations: a summary and one line for each spool, the worst first. Changes nothing.
    May be called at any time, also by another user who may read the ledger.

    \b
    Examples:
      s3-uploader-cli status config.json
      s3-uploader-cli status config.json --json | jq -r '.problems[].cause'
      s3-uploader-cli status config.json --plugin
    """
    from s3_uploader.cli import overview
    from s3_uploader.cli import status as one
    from s3_uploader.cli.directory import each, is_directory

    many = is_directory(config_file)
    if options.as_plugin:
        look = overview.plugin if many else one.plugin
        return guarded(lambda: look(config_file, options), form=Form.PLUGIN)
    if options.live:
        watch = overview.watch_directory if many else overview.watch_file
        return guarded(lambda: watch(config_file, options))
    if many and not options.as_json and not options.details:
        return guarded(lambda: overview.overview(config_file, options, exit_by_verdict=options.exit_by_verdict))
    return each(
        config_file,
        options,
        one.status,
        headings=not options.as_json,
        are_run_together=True,
        form=form_of(options.as_json),
    )
