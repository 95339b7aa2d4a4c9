"""The commands that read the ledger, as click sees them: ``history``, ``report`` and ``audit``."""

from __future__ import annotations

import click

from s3_uploader.cli.options import configured, form_of

_SINCE = click.option(
    "--since", metavar="TIME", help="At or after: yesterday, monday, 2026-11-20, 2026-11-20T15:04, or 2h, 3d ago."
)
_UNTIL = click.option("--until", metavar="TIME", help="Before that time.")
_MATCH = click.option("--match", metavar="GLOB", help="Only paths or keys that match, e.g. 'bedroom/*'.")
_LOCATION = click.option("--location", metavar="NAME", help="Only this location.")


@click.command(short_help="What was shipped, from the ledger.")
@configured
@_SINCE
@_UNTIL
@_MATCH
@_LOCATION
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest.")
@click.option("--failed", is_flag=True, help="Failures instead: runs in which files failed, files that still fail.")
@click.option(
    "--totals",
    type=click.Choice(["day", "location", "day,location"]),
    help="Sums instead of files: by day (local time), by location, or both.",
)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def history(
    config_file: str,
    since: str | None,
    until: str | None,
    match: str | None,
    location: str | None,
    limit: int | None,
    failed: bool,
    totals: str | None,
    form: str,
    as_json: bool,
) -> int:
    """What was shipped, from the ledger; the destination is not asked.

    \b
    Examples:
      s3-uploader-cli history config.json --since 1d --match 'den/*' --format csv
      s3-uploader-cli history config.json --totals day,location --since 7d
    """
    from s3_uploader.cli.directory import each
    from s3_uploader.cli.history import Selection
    from s3_uploader.cli.history import history as work

    def select_and_print(path: str) -> int:
        selection = Selection.of(since=since, until=until, match=match, location=location, limit=limit)
        return work(path, selection, failed=failed, totals=totals, form="json" if as_json else form)

    is_table = form == "table" and not as_json
    return each(config_file, select_and_print, headings=is_table, form=form_of(as_json or form == "json"))


@click.command(short_help="What was shipped when, as one HTML page with charts.")
@configured
@click.option(
    "-o", "--output", metavar="FILE", help="Where it goes; - is standard output. Of a directory: a directory."
)
@click.option("--since", metavar="TIME", help="Begin of what is shown: monday, 2026-11-20, or 12h, 30d ago.")
@click.option("--until", metavar="TIME", help="Its end. Default: now.")
@click.option("--json", "as_json", is_flag=True, help="The numbers of the page as JSON.")
def report(config_file: str, output: str | None, since: str | None, until: str | None, as_json: bool) -> int:
    """What was shipped when, delays, backlog and failures, as one HTML page with charts.

    The page holds all it needs and asks no network. It is made from the ledger; the destination is not asked.

    \b
    Example:
      s3-uploader-cli report config.json -o report.html --since 30d
    """
    from s3_uploader.cli.directory import each, is_directory
    from s3_uploader.cli.report import output_in
    from s3_uploader.cli.report import report as work

    many = is_directory(config_file)

    def one(path: str) -> int:
        where = output_in(output, path) if many and not as_json else output
        return work(path, output=where, since=since, until=until, as_json=as_json)

    return each(config_file, one, headings=False, form=form_of(as_json))


@click.command(short_help="Hold the ledger against the destination.")
@configured
@click.option("--spool", is_flag=True, help="Also tell of files in the spool that were shipped and are still there.")
@_SINCE
@_UNTIL
@_MATCH
@_LOCATION
@click.option("--deep", is_flag=True, help="Look at every object on its own; read it where nothing else tells.")
@click.option("--json", "as_json", is_flag=True, help="Print each finding as a line of JSON, and the summary.")
@click.option("--progress/--no-progress", default=None, help="Show a progress bar. Default: on a terminal only.")
def audit(
    config_file: str,
    spool: bool,
    since: str | None,
    until: str | None,
    match: str | None,
    location: str | None,
    deep: bool,
    as_json: bool,
    progress: bool | None,
) -> int:
    """Hold the ledger against the destination: what was shipped must be there, unchanged.

    Prints what is missing or different. Exit code 0 if nothing is, 1 if something is or nothing was shipped there, 2 if
    there is no ledger, 3 if the destination cannot be read. Changes nothing; needs the right to list the bucket and to
    read its objects.

    \b
    Examples:
      s3-uploader-cli audit config.json --since 30d
      s3-uploader-cli audit config.json --deep --spool --json > audit.jsonl
    """
    from s3_uploader.cli.directory import each

    def work(path: str) -> int:
        from s3_uploader.cli import audit as auditing
        from s3_uploader.cli.history import Selection

        selection = Selection.of(since=since, until=until, match=match, location=location)
        options = auditing.AuditOptions(deep=deep, spool=spool, as_json=as_json, progress=progress)
        return auditing.audit(path, selection, options)

    return each(config_file, work, headings=not as_json, form=form_of(as_json))
