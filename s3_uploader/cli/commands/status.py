"""The command ``status`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.exit_codes import guarded
from s3_uploader.cli.options import configured, form_of


@click.command(short_help="Whether it is stuck: since when, why, and what comes next.")
@configured
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--plugin",
    "as_plugin",
    is_flag=True,
    help="For Nagios, Icinga and the like: one line with figures; exit code 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
)
@click.option("--exit-code", is_flag=True, help="End with 0 if all is well, 1 for attention, 2 if it is stuck.")
@click.option("--details", is_flag=True, help="Of a directory: all about each spool, and not one line.")
@click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")
def status(config_file: str, as_json: bool, as_plugin: bool, exit_code: bool, details: bool, watch: bool) -> int:
    """Whether it is stuck: since when, on which file, why, and what comes next.

    Then who has the lock, the backlog by location with its oldest age, failing files and the last runs. Of a directory
    of configurations: a summary and one line for each spool, the worst first. Changes nothing and may be called at any
    time, also by another user who may read the ledger.

    \b
    Examples:
      s3-uploader-cli status config.json
      s3-uploader-cli status config.json --json | jq -r '.problems[].cause'
      s3-uploader-cli status config.json --plugin
    """
    from s3_uploader.cli import overview
    from s3_uploader.cli import status as one
    from s3_uploader.cli.directory import each, is_directory

    if as_json + as_plugin + watch > 1:
        raise click.UsageError("--json, --plugin and --watch contradict each other.")
    many = is_directory(config_file)
    if as_plugin:
        return guarded(lambda: overview.plugin(config_file) if many else one.plugin(config_file))
    if watch:
        return guarded(lambda: overview.watch_directory(config_file) if many else overview.watch_file(config_file))
    if many and not as_json and not details:
        return guarded(lambda: overview.overview(config_file, exit_by_verdict=exit_code))
    return each(
        config_file,
        lambda path: one.status(path, as_json=as_json, exit_by_verdict=exit_code),
        headings=not as_json,
        form=form_of(as_json),
    )
