"""The command ``audit`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.options import (
    configured_or_ledgers,
    form_of,
    insist_on_one,
    location_option,
    match_option,
    since_option,
    until_option,
)


@click.command(short_help="Hold the ledger against the destination.")
@configured_or_ledgers
@click.option("--spool", is_flag=True, help="Also tell of files in the spool that were shipped and are still there.")
@since_option
@until_option
@match_option
@location_option
@click.option(
    "--inventory",
    metavar="FILE",
    type=click.Path(),
    help="The manifest.json of an S3 Inventory, CSV or Parquet, in place of a listing.",
)
@click.option("--deep", is_flag=True, help="Look at every object on its own; read it where nothing else tells.")
@click.option("--json", "as_json", is_flag=True, help="Print each finding as a line of JSON, and the summary.")
@click.option("--progress/--no-progress", default=None, help="Show a progress bar. Default: on a terminal only.")
def audit(
    config_file: str | None,
    ledgers: tuple[str, ...],
    spool: bool,
    since: str | None,
    until: str | None,
    match: str | None,
    location: str | None,
    inventory: str | None,
    deep: bool,
    as_json: bool,
    progress: bool | None,
) -> int:
    """Hold the ledger against the destination: what was shipped must be there, unchanged.

    Prints what is missing or different. Exit code 0 if nothing is, 1 if something is or nothing was shipped there, 2 if
    there is no ledger, 3 if the destination cannot be read. Changes nothing there; needs the right to list the bucket
    and to read its objects.

    \b
    Examples:
      s3-uploader-cli audit config.json --since 30d
      s3-uploader-cli audit config.json --deep --spool --json > audit.jsonl
      s3-uploader-cli audit --ledgers /srv/ledgers --set bucket=readings
    """
    from s3_uploader.cli.directory import each
    from s3_uploader.cli.exit_codes import guarded

    insist_on_one(config_file, ledgers)
    if ledgers and spool:
        raise click.UsageError("--spool is about the spool of a configuration, and not about --ledgers.")

    def work(path: str | None) -> int:
        from s3_uploader.cli import audit as auditing
        from s3_uploader.cli.history import Selection

        selection = Selection.of(since=since, until=until, match=match, location=location)
        options = auditing.AuditOptions(
            ledgers=ledgers, inventory=inventory, deep=deep, spool=spool, as_json=as_json, progress=progress
        )
        return auditing.audit(path, selection, options)

    if config_file is None or ledgers:
        return guarded(lambda: work(config_file), form=form_of(as_json))
    return each(config_file, work, headings=not as_json, form=form_of(as_json))
