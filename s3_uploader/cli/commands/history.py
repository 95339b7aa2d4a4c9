"""The command ``history`` as click sees it."""

from __future__ import annotations

import click

from s3_uploader.cli.options import configured, form_of, location_option, match_option, since_option, until_option


@click.command(short_help="What was shipped, from the ledger.")
@configured
@since_option
@until_option
@match_option
@location_option
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
