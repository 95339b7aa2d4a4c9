"""The commands that look at spool and destination, as click sees them: ``check``, ``status``, ``schema``, ``demo``."""

from __future__ import annotations

import click

from s3_uploader.cli.exit_codes import guarded
from s3_uploader.cli.options import configured, form_of


@click.command(short_help="Prove that spool and destination can do what is needed.")
@configured
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(config_file: str, as_json: bool) -> int:
    """Prove, before the first delete, that spool and destination can do what is needed.

    Stores a small object of its own at the destination and removes it again.

    \b
    Example:
      s3-uploader-cli check /etc/s3-uploader/config.json
    """
    from s3_uploader.cli.check import check as work
    from s3_uploader.cli.directory import each

    return each(config_file, lambda path: work(path, as_json=as_json), headings=not as_json, form=form_of(as_json))


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


@click.command()
def schema() -> int:
    """The JSON Schema of the configuration file.

    \b
    Example, for an editor that knows schemas:
      s3-uploader-cli schema > s3-uploader.schema.json
    """
    import msgspec

    from s3_uploader import config

    print(msgspec.json.format(msgspec.json.encode(config.json_schema()), indent=2).decode())
    return 0


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
